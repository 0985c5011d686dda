"""What the data file says of graphs, against what it is read by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fitcheck.runtimes.llamacpp as room
from fitcheck.models.families.language.known_models import known_language_model, language_entry
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.builds import parse_build
from fitcheck.runtimes.llamacpp.caches import layer_caches
from fitcheck.runtimes.llamacpp.graph_traits import has_trait
from fitcheck.units import GIB

FOLDER = Path(room.__file__).parent
TRAITS = {
    name: said
    for name, said in json.loads((FOLDER / "data" / "graph_traits.json").read_text()).items()
    if isinstance(said, dict)
}


@pytest.mark.parametrize("name", TRAITS)
def test_every_trait_is_asked_for_and_names_architectures_of_llama_cpp(name: str) -> None:
    assert any(f'"{name}"' in file.read_text() for file in FOLDER.glob("*.py"))
    kinds = json.loads((FOLDER.parents[1] / "models/families/language/data/architectures.json").read_text())
    assert set(TRAITS[name]["architectures"]) <= set(kinds["llama.cpp"])


def test_a_trait_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        has_trait(known_language_model("llama-3.1-8b"), "no_such_trait")


def test_an_indexer_keeps_one_head_of_keys_a_layer_that_has_one() -> None:
    architecture = known_language_model("glm-5")
    options = LlamaOptions(context=8192, sequences=1)
    found = estimate(architecture, mixture_table(architecture, "Q4_K_M"), options, vram=[80 * GIB] * 8)
    assert found.kv_cache == 78 * 8192 * (576 + 128) * 2
    before = options.with_(build=parse_build("2026-05"))  # llama.cpp had none then
    assert layer_caches(architecture, before)[0].indexer == 0


@pytest.mark.parametrize(
    ("told", "count"),
    [
        ({"attention.indexer.types": [True, False, False] * 26}, 26),
        ({"context_length": 1 << 20}, 3 + 18),  # GLM 5.2's first files do not say it
        ({}, 78),
    ],
)
def test_layers_that_choose_for_themselves(told: dict[str, Any], count: int) -> None:
    metadata = {**language_entry("glm-5").metadata, **{f"glm-dsa.{key}": value for key, value in told.items()}}
    architecture = architecture_from_gguf(metadata)
    assert sum(block.indexes for block in architecture.blocks) == count
    held = layer_caches(architecture, LlamaOptions(context=8192, sequences=1))
    assert sum(one.indexer for one in held) == count * 8192 * 128 * 2

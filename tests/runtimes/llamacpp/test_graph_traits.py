"""What the data file says of graphs, against what it is read by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fitcheck.runtimes.llamacpp as room
from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate
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


def test_what_is_not_counted_is_said() -> None:
    architecture = known_language_model("glm-5")
    found = estimate(architecture, mixture_table(architecture, "Q4_K_M"), LlamaOptions(), vram=[80 * GIB] * 8)
    assert any("indexer" in one for one in found.assumptions)

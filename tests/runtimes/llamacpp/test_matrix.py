"""Against llama.cpp over architectures and placements: cells of benchmarks/llamacpp_probe/printed.json.

The whole matrix is run by hand (matrix.py, five seconds without llama.cpp); here are the cells that once were far off.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fitcheck.data_files import load
from fitcheck.errors import NotModelledError
from fitcheck.models.families.language.architecture import defaults, traits
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate

PROBE = Path(__file__).parents[3] / "benchmarks" / "llamacpp_probe"
HYBRID = ("qwen3.5-27b", "falcon-h1-7b", "granite-4-tiny", "lfm2-1.2b", "nemotron-nano-9b-v2")
CELLS = [
    *(f"{name} {way}" for name in HYBRID for way in ("full", "partial", "two")),
    "qwen3-next-80b partial",
    "qwen3.5-27b q8",
    "phi-3-mini partial",
    "command-r7b nofa",
    "smollm3-3b partial",
    "olmo-3-7b partial",
    "deepseek-v2-lite partial",
    "deepseek-v3 partial",
    "mistral-small-4-119b nofa",
    "glm-5 full",
    "glm-5 two",
    "glm-5 q8",
    "qwen3-30b-a3b full",
    "qwen3-30b-a3b two",
    "gpt-oss-20b experts",
    "llama-4-maverick two",
]


@pytest.mark.parametrize("cell", CELLS)
def test_every_buffer_is_the_one_printed(cell: str) -> None:
    sys.path.append(str(PROBE))
    from matrix import compared, shapes

    theirs = json.loads((PROBE / "printed.json").read_text())["cells"][cell]
    name, _, way = cell.rpartition(" ")
    shape = next(one for one in shapes() if one["name"] == name)
    assert len(theirs) >= 4
    share, words = compared(shape, way, theirs)
    assert share <= 0.002, words


CUT = [
    "qwen3-30b-a3b: two workers",
    "qwen3-30b-a3b: worker and card, experts on host",
    "gemma-3-4b: two workers and card",
    "gpt-oss-20b: worker, experts on host",
    "llama-3.1-8b: worker and card, q8_0 cache",
    "qwen3-30b-a3b: tensor, four cards",
    "qwen3-30b-a3b: tensor, partial",
    "llama-3.1-8b: tensor, three cards",
    "gemma-3-4b: tensor, 3 to 1",
    "qwen3-next-80b: tensor, four cards",
    "lfm2-1.2b: tensor, partial",
]


@pytest.mark.parametrize("cell", CUT)
def test_workers_and_cards_that_share_tensors_are_as_printed(cell: str) -> None:
    sys.path.append(str(PROBE))
    from cut import compared, shape_named

    theirs = json.loads((PROBE / "cut.json").read_text())[cell]
    name, _, place = cell.partition(": ")
    assert any(device.startswith("RPC0") or device.endswith("total") for device in theirs)
    share, words = compared(shape_named(name), place, theirs)
    assert share <= 0.0002, words


def test_cards_do_not_share_states_of_which_that_is_not_known() -> None:
    keys = {"block_count": 2, "embedding_length": 512, "feed_forward_length": 1024, "vocab_size": 512}
    keys |= {"wkv.head_size": 64, "context_length": 512}
    metadata = {"general.architecture": "rwkv6", **{f"rwkv6.{key}": value for key, value in keys.items()}}
    architecture = architecture_from_gguf(metadata)
    options = LlamaOptions(sequences=1, split_mode="tensor")
    with pytest.raises(NotModelledError, match="share the states of rwkv6"):
        estimate(architecture, mixture_table(architecture, "Q4_K_M"), options, [24 << 30] * 2)


TABLE = [
    *("deepseek32 full", "deepseek32 nofa", "falcon full", "gpt2 full", "starcoder partial", "mpt nofa"),
    *("exaone-moe full", "lfm2moe full", "mamba partial"),
]


@pytest.mark.parametrize("cell", TABLE)
def test_architectures_that_the_catalog_lacks_are_as_printed(cell: str) -> None:
    sys.path.append(str(PROBE))
    from matrix import compared
    from table import shape_of

    name, _, way = cell.rpartition(" ")
    share, words = compared(shape_of(name), way, json.loads((PROBE / "table.json").read_text())[cell])
    assert share <= 0.0005, words


BLOOM = {
    "block_count": 4,
    "embedding_length": 1024,
    "feed_forward_length": 4096,
    "attention.head_count": 16,
    "attention.head_count_kv": 16,
    "attention.layer_norm_epsilon": 1e-5,
    "vocab_size": 32000,
    "context_length": 2048,
}


def test_an_architecture_that_nobody_held_is_said_to_be_a_likeness() -> None:
    sys.path.append(str(PROBE))
    from matrix import shapes
    from table import SHAPES

    held = {shape["metadata"]["general.architecture"] for shape in shapes()} | set(SHAPES) | {"kimi-linear"}
    rest = set(defaults()["architectures"]) - held
    likenesses = {name for name in rest if traits(name).get("mixer") == "rwkv"}  # wide whatever their name
    unheld = set(load("runtimes.llamacpp", "graph_traits")["never_held"]["architectures"])
    assert rest - likenesses == unheld
    metadata = {"general.architecture": "bloom", **{f"bloom.{key}": value for key, value in BLOOM.items()}}
    architecture = architecture_from_gguf(metadata)
    result = estimate(architecture, mixture_table(architecture, "Q4_K_M"), LlamaOptions(sequences=1), [24 << 30])
    assert any("bloom is a likeness" in words for words in result.assumptions)
    assert result.card_totals[0].high - result.card_totals[0].low > 2 * 0.4 * result.cards[0].compute

"""Against llama.cpp over architectures and placements: cells of benchmarks/llamacpp_probe/printed.json.

The whole matrix is run by hand (matrix.py, five seconds without llama.cpp); here are the cells that once were far off.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

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
    "llama-4-scout full",
    "gemma-4-e4b partial",
    "gemma-4-e2b q8",
    "gemma-4-26b-a4b full",
    "gemma-4-26b-a4b experts",
    "gemma-3n-e2b partial",
    "hunyuan-7b partial",
    "nemotron-3-super-120b-a12b experts",
    "kimi-linear-48b-a3b partial",
    "laguna-xs.2 experts",
    "llama-3.3-nemotron-super-49b nofa",
    "step-3.5-flash two",
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
    *("exaone-moe full", "lfm2moe full", "mamba partial", "afmoe full", "laguna partial", "plamo2 full", "plamo3 nofa"),
    *("grok full", "dbrx nofa", "dream nofa", "bloom full", "granite_swa partial", "jamba full", "mellum full"),
    *("cohere2moe full", "olmo nofa", "smallthinker nofa", "minicpm3 nofa", "qwen nofa", "step35 partial"),
]


@pytest.mark.parametrize("cell", TABLE)
def test_architectures_that_the_catalog_lacks_are_as_printed(cell: str) -> None:
    sys.path.append(str(PROBE))
    from matrix import compared
    from table import shape_of

    name, _, way = cell.rpartition(" ")
    share, words = compared(shape_of(name), way, json.loads((PROBE / "table.json").read_text())[cell])
    assert share <= 0.0005, words


def test_every_architecture_but_those_of_rwkv_was_held() -> None:
    sys.path.append(str(PROBE))
    from matrix import shapes
    from table import SHAPES

    held = {shape["metadata"]["general.architecture"] for shape in shapes()} | set(SHAPES)
    rest = set(defaults()["architectures"]) - held
    assert {traits(name).get("mixer") for name in rest} == {"rwkv"}  # wide whatever their name


def test_layers_that_read_anothers_cache_read_it_where_that_lies() -> None:
    """Gemma 4 E2B on two cards: the second one copies the caches of the first, layer by layer."""
    sys.path.append(str(PROBE))
    from matrix import asked, shapes, table_of
    from run import options_of, predicted

    shape = next(one for one in shapes() if one["name"] == "gemma-4-e2b")
    theirs = json.loads((PROBE / "printed.json").read_text())["cells"]["gemma-4-e2b two"]
    case = asked(shape, "two")
    options, _, cards = options_of(case)
    ours = predicted(case, table_of(shape), options, cards)
    assert theirs["CUDA1 compute"] > 400
    assert ours["CUDA1 compute"] == pytest.approx(theirs["CUDA1 compute"], rel=0.0005)


def test_grok_runs_without_flash_attention_whatever_is_asked() -> None:
    sys.path.append(str(PROBE))
    from matrix import asked, table_of
    from run import options_of, predicted
    from table import shape_of

    shape, found = shape_of("grok"), []
    for way in ("full", "nofa"):
        case = asked(shape, way)
        options, _, cards = options_of(case)
        found.append(predicted(case, table_of(shape), options, cards))
    assert found[0] == found[1]
    assert found[0]["CUDA0 compute"] > 200

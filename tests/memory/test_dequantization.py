"""The committed byte counts are what diffusers' functions do today."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fitcheck.data_files import load
from fitcheck.memory.dequantization import cost

SCRIPT = Path(__file__).parents[2] / "scripts" / "trace_dequantization.py"


@pytest.mark.parametrize("name", ["Q8_0", "Q6_K", "Q4_K"])
def test_traced_bytes_match_the_data_file(name: str) -> None:
    spec = importlib.util.spec_from_file_location("trace_dequantization", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.measure(name) == load("memory", "dequantization")["types"][name]


def test_unquantized_weights_cost_nothing_and_untraced_types_the_most() -> None:
    assert cost("BF16").peak_bytes == 0
    assert cost("IQ1_S").peak_bytes == max(
        row["peak_bytes"] for row in load("memory", "dequantization")["types"].values()
    )

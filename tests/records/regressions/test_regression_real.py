"""Pairs that were measured in turns on one H100: the verdict agrees with everything that was measured, pooled."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fitcheck.records.regressions.comparison import compare
from fitcheck.records.regressions.intake import read_records
from fitcheck.records.regressions.noise import Noise
from fitcheck.records.regressions.tracked_runs import run_of

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("regression_pairs", ROOT / "benchmarks" / "regression_pairs.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # dataclasses look their module up
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def pairs(benchmark: ModuleType) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = benchmark.real()["pairs"]
    return found


def test_every_verdict_agrees_with_the_pooled_values(pairs: dict[str, dict[str, Any]]) -> None:
    assert set(pairs) == {"sensenova-u1-8b-mot", "sdxl", "sd1.5", "llama-3.1-8b"}
    for model, table in pairs.items():
        assert [metric for metric, row in table.items() if not row["agrees"]] == [], model
    timed = [table[name] for table in pairs.values() for name in table if name == "seconds" or "tokens" in name]
    assert len(timed) == 5
    assert all(min(row["values"]) >= 12 for row in timed)
    for row in timed:
        assert row["interval"][0] <= row["pooled"] <= row["interval"][1]


def test_what_was_found(pairs: dict[str, dict[str, Any]]) -> None:
    def verdicts(model: str) -> dict[str, str]:
        return {metric: row["verdict"] for metric, row in pairs[model].items()}

    policies, releases, builds = (verdicts(name) for name in ("sensenova-u1-8b-mot", "sdxl", "llama-3.1-8b"))
    # the ring reserves a third less and is as fast, as far as thirty passes in twelve processes can tell
    assert (policies["reserved"], policies["seconds"]) == ("improvement", "cannot tell")
    # diffusers 0.42.1 allocates 19 MiB more than 0.35.2 while it decodes
    assert (releases["allocated"], releases["seconds"]) == ("regression", "cannot tell")
    # llama.cpp of November 2026 generates 11 % faster than that of August 2025 and holds 34 MiB more
    assert (builds["tokens_per_second tg128"], builds["process"]) == ("improvement", "regression")
    assert pairs["llama-3.1-8b"]["tokens_per_second tg128"]["ratio"] == pytest.approx(1.115, abs=0.01)


def test_a_handful_of_runs_says_the_same_of_the_builds(benchmark: ModuleType) -> None:
    pair = next(one for one in benchmark.PAIRS if one.model == "llama-3.1-8b")
    records = read_records([ROOT / "results" / "h100-sxm5-80gb" / pair.model], 1_800_000_000.0, flagged=True).records
    old, new = benchmark.sides(pair, [run_of(record) for record in records])
    assert (len(old), len(new)) == (12, 12)
    for start in (0, 4, 7):
        some = (sorted(side, key=lambda run: run.created)[start : start + 5] for side in (old, new))
        before, after = list(next(some)), list(next(some))
        found = {one.metric.name: one.verdict.value for one in compare(before, after, Noise(before, after))}
        assert found["tokens_per_second tg128"] == "improvement", start
        assert found["process"] == "regression"
        assert found["buffer kv CUDA0"] == "unchanged"

"""Runs and record files made from the complete records of ``record_samples``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from record_samples import NOW, common, make_pass, samples
from record_samples import model as a_model

from fitcheck.records import schema
from fitcheck.records.regressions.tracked_runs import TrackedRun, run_of

DAY = 86_400


def a_record(
    *totals: float, revision: str = "pr241", day: int = -100, mode: str = "low", **changes: Any
) -> schema.PassRecord:
    runtime = schema.RuntimeUsed(name="sensenova", revision=revision, mode=mode, policy="upstream", prefetch=0)
    values = {"created": NOW + day * DAY, "runtime": runtime} | changes
    return make_pass(samples=samples(*(totals or (100.0, 101.0, 99.0))), **values)


def a_run(*totals: float, across: tuple[str, ...] = (), **changes: Any) -> TrackedRun:
    return run_of(a_record(*totals, **changes), across)


def steady(revision: str, slower: float = 1.0, count: int = 5, day: int = -100, **changes: Any) -> list[TrackedRun]:
    """Runs that differ by up to 2 %."""
    jitter = (0.99, 1.0, 1.01, 1.004, 0.996)
    return [
        a_run(100 * slower * jitter[n % 5], 101 * slower * jitter[n % 5], revision=revision, day=day + n, **changes)
        for n in range(count)
    ]


def memory(**values: Any) -> schema.Memory:
    return schema.Memory(**values)


__all__ = ["DAY", "NOW", "a_model", "a_record", "a_run", "common", "memory", "steady"]

"""Runs made from the complete records of ``record_samples``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fitcheck.records import schema
from fitcheck.records.regressions.runs import Run, run_of
from tests.records.record_samples import NOW, make_pass, samples

MakeRun = Callable[..., Run]
DAY = 86_400


@pytest.fixture
def make_run() -> MakeRun:
    def make(*totals: float, revision: str = "pr241", day: int = -100, mode: str = "low", **changes: Any) -> Run:
        runtime = schema.Runtime(name="sensenova", revision=revision, mode=mode, policy="upstream", prefetch=0)
        values = {"created": NOW + day * DAY, "runtime": runtime} | changes
        return run_of(make_pass(samples=samples(*(totals or (100.0, 101.0, 99.0))), **values))

    return make

"""Runs the engine on the scaled-down model, for the tests beside this file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.engines.sensenova.engine import PictureEngine
from bench.job import Job
from bench.told import LoadReport, PassReport
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.streaming import Streaming, placement_of

MODEL = "sensenova-u1-8b-mot"
T2I = Workload(Task.T2I, 64, 64, steps=2, cfg=4.0, prompt_tokens=12)


class Watch:
    """An observer that keeps what it is told."""

    def __init__(self, metered: bool = True) -> None:
        self.metered = metered
        self.phases: list[str] = []
        self.steps = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.phases.append(name)
        yield

    def step(self, seconds: float) -> None:
        assert seconds >= 0
        self.steps += 1


def run(
    placement: Streaming, workload: Workload = T2I, tier: str = "BF16", model: str = MODEL, seed: int = 0
) -> tuple[LoadReport, PassReport, Watch, PictureEngine]:
    engine = PictureEngine(Job(model, tier, placement_of(placement), workload, device="cpu", seed=seed, tiny=True))
    watch = Watch()
    load = engine.load(watch)
    return load, engine.run(watch), watch, engine

"""A whole runtime in one file: a family of one model, a placement of two modes, an engine that really computes.

Nothing shipped knows it: ``install`` adds a line to each registry, which is all that a new runtime needs outside its
own folders. docs/adding-a-runtime.md was written from it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

from bench.engines.base import Driver
from bench.engines.registry import register as register_driver
from bench.job import Job
from bench.told import LoadReport, Observer, PassReport
from fitcheck.errors import ModelError
from fitcheck.hardware.machine import Machine
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory, Phase, peak
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models import catalog
from fitcheck.models.families import registry as families
from fitcheck.models.families.base import Family, Found, Recognized
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.records.run import Run
from fitcheck.runtimes import registry as runtimes
from fitcheck.runtimes.base import Ask, Change, Placement, Runtime, Support, Wanted
from fitcheck.runtimes.options import between, names, option, read
from fitcheck.runtimes.recorded import ask_of
from fitcheck.speed.duration import Duration
from fitcheck.speed.overlap import duration_of
from fitcheck.speed.passes import Pass, Streamed, Work
from fitcheck.speed.rates import Calibration
from fitcheck.units import GIB, MIB, Interval

NAME, SLUG = "toy", "toy-2b"
WHOLE, STREAMED = "whole", "streamed"
LAYERS, WIDTH = 16, 8192
CONTEXT = 400 * MIB
PROCESS = 1 * GIB


@dataclass(frozen=True, slots=True)
class ToyArchitecture:
    """Square layers, as many as there are."""

    family: str = NAME
    context_length: int | None = None

    def cache_bytes(self, context: int) -> int:
        return 0


def _table(kind: str) -> TensorTable:
    return TensorTable(Tensor(f"layers.{index}.weight", (WIDTH, WIDTH), kind, "mlp", index) for index in range(LAYERS))


class ToyFamily(Family):
    name = NAME
    tasks = (Task.T2I,)

    def __init__(self) -> None:
        tiers = tuple(
            Tier(kind, table, "safetensors", repository="toy/toy-2b", disk_bytes=table.nbytes)
            for kind, table in ((kind, _table(kind)) for kind in ("BF16", "Q8_0"))
        )
        self._model = Model(SLUG, "Toy 2B", ToyArchitecture(), tiers, self.tasks, (NAME,), "toy/toy-2b", "MIT")

    def recognize(self, found: Found) -> Recognized | None:
        return None

    def slugs(self) -> Sequence[str]:
        return (SLUG,)

    def get(self, slug: str) -> Model:
        return self._model


@dataclass(frozen=True, slots=True)
class ToyOptions:
    mode: tuple[str, ...] = option((), "Modes, comma separated: whole,streamed.", parse=names)
    steps: int = option(4, "Steps; default 4.", type=int)
    batch: int = option(1, "Pictures at once; default 1.", type=int)
    toy_ahead: int = option(1, "Layers copied ahead; default 1.", type=int)


class Toy(Runtime):
    name = NAME
    families = (NAME,)
    options = ToyOptions
    modes: ClassVar[Mapping[str, str]] = {WHOLE: "all layers on the card", STREAMED: "one layer at a time"}

    def asks(self, model: Model, tiers: Sequence[Tier], wanted: Wanted, machine: Machine) -> Iterator[Ask]:
        options = read(ToyOptions, wanted)
        between("steps", options.steps, 1, 100)
        between("batch", options.batch, 1, 64)
        between("toy_ahead", options.toy_ahead, 0, LAYERS)
        unknown = set(options.mode) - set(self.modes)
        if unknown:
            raise ModelError(f"--mode: {min(unknown)!r} is no mode of {NAME}; choose from {', '.join(self.modes)}.")
        workload = Workload(Task.T2I, 1024, 1024, steps=options.steps, cfg=1.0, batch=options.batch)
        for tier in tiers:
            for mode in options.mode or tuple(self.modes):
                settings = (("toy_ahead", options.toy_ahead),) if mode == STREAMED else ()
                yield Ask(model, tier, Placement(NAME, "1", mode, settings), workload, machine)

    def footprint(self, ask: Ask) -> Footprint:
        layer = ask.tier.tensors.nbytes // LAYERS
        live = 2 * 2 * ask.workload.batch * _tokens(ask.workload) * WIDTH
        window = 0 if ask.placement.mode == WHOLE else layer * (1 + ask.placement.get("toy_ahead", 1))
        resident = layer * LAYERS if ask.placement.mode == WHOLE else 0
        phases = (Phase("load", resident, 0, 0, 0, 0), Phase("denoise", resident, window, 0, live, 0))
        most = peak(phases).allocated
        held = Interval(most, most, round(1.02 * most))
        memory = CardMemory(phases, held, held, held + Interval.exactly(CONTEXT), held + Interval.exactly(CONTEXT))
        idle = CardMemory((Phase("idle", 0, 0, 0, 0, 0),), *(Interval.exactly(0),) * 4)
        cards = tuple(memory if index == ask.gpu else idle for index in range(len(ask.machine.gpus)))
        weights = 0 if ask.placement.mode == WHOLE else ask.tier.tensors.nbytes
        host = HostMemory(0, weights, PROCESS, Interval.exactly(weights + PROCESS))
        return Footprint(cards, host, ask.tier.disk_bytes, ("toy layers are square",))

    def duration(self, ask: Ask, footprint: Footprint, calibration: Calibration | None = None) -> Duration | None:
        tokens = ask.workload.batch * _tokens(ask.workload)
        work = Work(2.0 * tokens * ask.tier.tensors.elements, 0.0, float(ask.tier.tensors.nbytes), 0.0, LAYERS)
        bytes_ = 0 if ask.placement.mode == WHOLE else ask.tier.tensors.nbytes
        plan = (Pass(work, ask.workload.steps, "all", waited=Streamed(bytes_, LAYERS, LAYERS)),)
        return duration_of(plan, ask.card.card, ask.card.link, pinned=False, calibration=calibration)

    def platform(self, ask: Ask) -> Support | None:
        card = ask.card.card
        if card.vendor == "NVIDIA":
            return None
        return Support(Verdict.UNKNOWN, Constraint.RUNTIME, f"{card.name}: nobody has tried the toy on it.")

    def changes(self, ask: Ask, wanted: Wanted) -> Iterator[Change]:
        if ask.placement.mode == WHOLE:
            placement = Placement(NAME, "1", STREAMED, (("toy_ahead", 1),))
            yield Change("--mode streamed", replace(ask, placement=placement))

    def commands(self, ask: Ask) -> tuple[str, ...]:
        return (f"toy run --mode {ask.placement.mode} --steps {ask.workload.steps}",)

    def ask_of(self, run: Run) -> Ask | None:
        mode = run.cell.mode or ""
        settings = (("toy_ahead", 1),) if mode == STREAMED else ()
        if mode not in self.modes:
            return None
        return ask_of(run, Placement(NAME, run.cell.revision or "", mode, settings), self.families)


def _tokens(workload: Workload) -> int:
    return workload.width * workload.height // 256


class ToyEngine:
    """A few products of numbers in place of a card's."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.table = catalog.get(job.model).tier_named(job.tier).tensors

    def load(self, observer: Observer) -> LoadReport:
        with observer.phase("load"):
            started = time.perf_counter()
            self.weights = [index / (1 + index) for index in range(64)]
        took = time.perf_counter() - started
        size = self.table.nbytes
        return LoadReport("synthetic", len(self.table), self.table.digest, size, 0, 0, 0, 0, took)

    def run(self, observer: Observer) -> PassReport:
        total, steps = 1.0, []
        with observer.phase("denoise"):
            for _ in range(self.job.workload.steps):
                started = time.perf_counter()
                total += sum(weight * total for weight in self.weights) % 1.0
                steps.append(time.perf_counter() - started)
                observer.step(steps[-1])
        digest = hashlib.sha256(f"{total:.6f}".encode()).hexdigest()
        seconds = {"denoise": sum(steps)}
        return PassReport(seconds, tuple(steps), {"denoise": 0}, {"denoise": 0}, None, None, digest, (1,), True, "none")

    def resize(self, workload: Workload) -> None:
        self.job = replace(self.job, workload=workload)

    def close(self) -> None:
        self.weights = []


class ToyDriver(Driver):
    name = NAME
    dtype = "BF16"

    def tasks(self, request: object, model: Model) -> tuple[str, ...]:
        return ("t2i",)

    def build(self, job: Job) -> ToyEngine:
        return ToyEngine(job)


FAMILY, RUNTIME, DRIVER = ToyFamily(), Toy(), ToyDriver()
_HERE = "tests.contract.toy"


def install() -> None:
    """The three lines that a runtime with a family and an engine of its own adds to the registries."""
    families.register(NAME, _HERE)
    runtimes.register(NAME, _HERE)
    register_driver(NAME, _HERE)


@contextmanager
def installed() -> Iterator[None]:
    """The toy registered for a while."""
    from bench.engines import registry as drivers

    before = [dict(one.MODULES) for one in (families, runtimes, drivers)]
    install()
    try:
        yield
    finally:
        for one, modules in zip((families, runtimes, drivers), before, strict=True):
            one.MODULES.clear()
            one.MODULES.update(modules)
            one.get.cache_clear()
        catalog.get.cache_clear()

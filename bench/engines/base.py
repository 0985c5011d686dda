"""The seam between the bench's protocol and what it measures: one folder a runtime, and nothing outside it knows which.

A ``Driver`` lives in the parent and in the measured process and never imports torch: it turns a request into jobs, says
what a job is in words and in a record, and builds the ``Engine``, which lives in the measured process alone. A runtime
that is a program of its own is measured from outside instead: its driver takes the target as it was typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.job import Job, Request, require_names
from bench.told import LoadReport, Observer, PassReport
from fitcheck.errors import ModelError, OptionError
from fitcheck.hardware.machine import Machine
from fitcheck.models import catalog
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Workload
from fitcheck.runtimes import registry as runtimes
from fitcheck.runtimes.base import Wanted

if TYPE_CHECKING:
    from bench.meters import NvmlCard
    from fitcheck.models.tensors import TensorTable
    from fitcheck.records.schema import LlmRecord


class Engine(Protocol):
    """One job in the process that is measured. Raises InputError for a job that cannot run."""

    def load(self, observer: Observer) -> LoadReport:
        """Weights made or read, and put where the placement says. Runs once."""
        ...

    def run(self, observer: Observer) -> PassReport:
        """One pass of the workload."""
        ...

    def resize(self, workload: Workload) -> None:
        """The next passes run another workload with the weights where they are; an engine may not be able to."""
        ...

    def close(self) -> None:
        """Give memory back; the engine cannot run again."""
        ...


@dataclass(frozen=True, slots=True)
class PrintedNumber:
    """One number that a program printed beside the estimate's, in MiB."""

    name: str
    printed: float
    predicted: float

    @property
    def error(self) -> float:
        """(predicted − printed) / printed."""
        return self.predicted / self.printed - 1


@dataclass(frozen=True, slots=True)
class FromOutside:
    """What a program measured from outside gave: its records, and its own account of memory beside the estimate."""

    records: tuple[LlmRecord, ...]
    compared: tuple[PrintedNumber, ...] = ()


class Driver(Protocol):
    """What a runtime offers the bench. A class that inherits from this gets the defaults that are written out here.

    ``name`` is the runtime's; ``unheard`` names those of its options that a measurement cannot follow; ``several``
    those of which a list makes a job each, the first varying slowest; ``dtype`` is what it computes in, as records say
    it. ``alone`` says in words how a target that is measured from outside is run.
    """

    name: str
    unheard: frozenset[str] = frozenset()
    several: tuple[str, ...] = ("mode",)
    dtype: str | None = None
    alone: str = ""

    def takes(self, target: str) -> bool:
        """Whether ``target`` is no catalog model but something this program runs as a whole."""
        return False

    def measure(
        self, target: Path, request: Request, repeats: int, card: NvmlCard | None, root: Path | None = None
    ) -> FromOutside:
        """Runs ``target`` with the program and measures it from outside; what was measured is kept raw under ``root``
        before it becomes a record. Raises InputError."""
        raise OptionError(f"{target}: {self.name} is not measured from outside.")

    def jobs(self, request: Request) -> tuple[Job, ...]:
        """Every job of a request, each once, in the order asked. Raises InputError for what does not exist or makes no
        sense."""
        model = catalog.get(request.target)
        found: dict[Job, None] = {}
        for tier in self.tiers(request, model):
            for task in self.tasks(request, model):
                for job in self._jobs(request, model, tier, task):
                    self.check(job)
                    found[job] = None
        return tuple(found)

    def _jobs(self, request: Request, model: Model, tier: Tier, task: str) -> list[Job]:
        runtime = runtimes.get(self.name)
        filled = request.with_defaults(self.defaults(request, task))
        asks = [
            ask
            for options in filled.variants(self.several)
            for ask in runtime.asks(model, (tier,), Wanted(task, (tier.name,), self.name, options), Machine(()))
        ]
        return [self._job(request, model, ask.tier, ask.placement, ask.workload) for ask in asks]

    def _job(self, request: Request, model: Model, tier: Tier, placement: Any, workload: Any) -> Job:
        return Job(model.slug, tier.name, placement, workload, request.device, request.gguf, request.seed, request.tiny)

    def tiers(self, request: Request, model: Model) -> Sequence[Tier]:
        """The tiers asked for, else the model's first. Raises ModelError for one that it does not have."""
        found = []
        for name in request.tiers or (model.tiers[0].name,):
            tier = model.tier(name)
            if tier is None:
                known = ", ".join(tier.name for tier in model.tiers)
                raise ModelError(f"--tier: {model.slug} has no tier {name!r}; choose from {known}.")
            found.append(tier)
        return found

    def tasks(self, request: Request, model: Model) -> Sequence[str]:
        """The tasks asked for, else the model's first. Raises InputError for one that it does not have."""
        if request.tasks is None:
            return (model.tasks[0].value,)
        require_names("--task", request.tasks)
        known = [task.value for task in model.tasks]
        for name in request.tasks:
            if name not in known:
                raise ModelError(f"--task: {name!r} is not a task of {model.name}; choose from {', '.join(known)}.")
        return request.tasks

    def defaults(self, request: Request, task: str | None = None) -> dict[str, Any]:
        """Options of the runtime where the bench takes another default than a question does; without a ``task`` those
        that hold for every one."""
        return {}

    def check(self, job: Job) -> None:
        """Raises InputError for a job that cannot run: found before a process is started for it."""
        return

    def label(self, job: Job) -> str:
        """A job in a few words."""
        return ("tiny " if job.tiny else "") + f"{job.tier} {job.placement.mode} {job.workload.task.value}"

    def probe_steps(self, job: Job) -> int | None:
        """Steps that are enough for the peak of memory, where that is fewer than the job's."""
        return None

    def tier(self, job: Job) -> Tier | None:
        """The tier as the job runs it, for the estimate; ``None`` where the estimate's data does not describe it."""
        return None if job.tiny else catalog.get(job.model).tier(job.tier)

    def table(self, job: Job) -> TensorTable:
        """The tensors that the job runs with."""
        tier = self.tier(job)
        if tier is None:
            raise ModelError(f"tier: {job.model} has no tier {job.tier!r} that {self.name} knows the tensors of.")
        return tier.tensors

    def environment(self, job: Job) -> dict[str, str]:
        """Variables set in the measured process before torch is imported; those of the user win."""
        return {}

    def build(self, job: Job) -> Engine:
        """The engine, in the measured process. Raises InputError for a job that cannot run."""
        ...

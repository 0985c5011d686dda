"""One measured run in short: what was run, on which card, and what came of it. No pydantic, so that a check can read
thousands of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.models.workload import Task, Workload
from fitcheck.records.sizes import USED, used_sizes

Sizes = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class CellKey:
    """A cell without its card: what has to be equal for two runs to be runs of the same thing."""

    model: str
    tier: str
    task: str
    sizes: Sizes
    runtime: str
    revision: str | None
    policy: str | None
    mode: str | None

    @classmethod
    def of(
        cls,
        model: str,
        tier: str,
        workload: Workload,
        runtime: str,
        revision: str | None = None,
        policy: str | None = None,
        mode: str | None = None,
    ) -> CellKey:
        """The key of a cell; of the workload only the sizes that its task uses."""
        sizes = sizes_of(used_sizes(workload), workload.task)
        return cls(model, tier, workload.task.value, sizes, runtime, revision, policy, mode)


@dataclass(frozen=True, slots=True)
class TokenTest:
    """Tokens a second of one test: ``prompt`` tokens read, ``new`` ones generated, or both, after ``depth`` cached."""

    prompt: int
    new: int
    depth: int
    rate: float

    @property
    def name(self) -> str:
        """``tokens_per_second pp512``, ``tokens_per_second tg128 @4096``: what histories call it."""
        parts = (f"pp{self.prompt}" if self.prompt else "", f"tg{self.new}" if self.new else "")
        return f"tokens_per_second {'+'.join(filter(None, parts))}" + (f" @{self.depth}" if self.depth else "")


@dataclass(frozen=True, slots=True)
class Run:
    """One pass or token test in short. Bytes and seconds; ``seconds`` is the median of the timed runs, ``None`` for a
    probe, which ran fewer steps than its workload. ``cap`` is the memory limit that a larger card was given, in bytes;
    ``works`` and ``fails`` the caps between which a search ended; ``warm`` says that passes came before the measured
    ones, of this size or of another that the same process ran, ``bench`` that fitcheck's own bench ran it.

    ``cards`` of the kind took part; ``before`` is what the card held before the run, ``requested`` what an allocation
    asked for that failed; ``ram`` the system memory in all. ``machine`` tells machines apart without naming any;
    ``own`` marks runs of this user. ``tests`` and ``settings`` are those of a program that reports tokens a second.
    """

    id: str
    card: str
    card_memory: int | None
    cell: CellKey
    weights: str
    outcome: str
    created: int
    cap: int | None = None
    samples: int = 0
    seconds: float | None = None
    step_seconds: float | None = None
    allocated: int | None = None
    reserved: int | None = None
    process: int | None = None
    device: int | None = None
    context: int | None = None
    rss: int | None = None
    pinned: int | None = None
    streamed: int | None = None
    link_rate: float | None = None
    joules: float | None = None
    prompt_tokens: int | None = None
    attention: str | None = None
    compute_capability: str | None = None
    warm: bool = False
    bench: bool = True
    works: int | None = None
    fails: int | None = None
    cards: int = 1
    before: int | None = None
    requested: int | None = None
    ram: int | None = None
    machine: str | None = None
    own: bool = False
    tests: tuple[TokenTest, ...] = ()
    settings: Sizes = ()

    @property
    def limited(self) -> bool:
        """Whether it ran under a limit, or searched for one."""
        return bool(self.cap is not None or self.works or self.fails)

    @property
    def workload(self) -> Workload:
        """The workload that was run."""
        sizes = dict(self.cell.sizes) | {"prompt_tokens": self.prompt_tokens}
        return Workload(Task(self.cell.task), **sizes)

    def setting(self, name: str, default: Any = None) -> Any:
        """One of the program's settings; ``default`` where the record does not state it."""
        return next((value for key, value in self.settings if key == name and value is not None), default)

    @property
    def kind(self) -> tuple[object, ...]:
        """All that decides which cell it is a run of, and nothing of what came of it."""
        tests = tuple((test.prompt, test.new, test.depth) for test in self.tests)
        software = (self.attention, self.compute_capability, self.settings, self.warm, self.bench)
        return self.cell, self.card, self.card_memory, self.cap, self.cards, self.prompt_tokens, software, tests

    @property
    def ran_out_under(self) -> int | None:
        """The largest limit in bytes, context included, under which it ran out of card memory, never more than the card
        has; ``None`` for none."""
        limit = self.fails or (self.cap if self.outcome == "oom-gpu" else None)
        return limit if limit is None or not self.card_memory else min(limit, self.card_memory)

    @property
    def ran_short(self) -> bool:
        """Whether it ran out of card memory under a limit, or a search found one under which it does."""
        return bool((self.outcome != "ok" or self.fails) and self.ran_out_under)

    @property
    def on_card(self) -> int | None:
        """Bytes that the run took of its card: the driver's count for the process, else what the card held more than
        before; ``None`` where neither was seen, where there are several cards, or where the allocator held more: the
        meter is read some times a second, and the peak fell between two readings."""
        if self.cards > 1:
            return None
        seen = self.process or (0 if self.before is None else (self.device or 0) - self.before)
        return seen if seen > 0 and seen >= max(self.reserved or 0, self.allocated or 0) else None


# all that a run is but who tells of it: a handle makes a new record, with another id, of the same measurement
_MEASUREMENT = attrgetter(*(one.name for one in fields(Run) if one.name not in ("id", "machine", "own")))


def once(runs: Sequence[Run], more: Sequence[Run]) -> tuple[Run, ...]:
    """``runs``, and those of ``more`` that are neither of these nor of one another under another name."""
    cards = {run.card for run in more}
    ids, known = {run.id for run in runs}, {_MEASUREMENT(run) for run in runs if run.card in cards}
    found = list(runs)
    for run in more:
        measurement = _MEASUREMENT(run)
        if run.id not in ids and measurement not in known:
            ids.add(run.id)
            known.add(measurement)
            found.append(run)
    return tuple(found)


def sizes_of(values: Mapping[str, Any], task: Task) -> Sizes:
    """The sizes that a task uses, as hashable pairs in a fixed order; absent ones are left out."""
    return tuple((name, tuples(values[name])) for name in USED[task] if values.get(name) is not None)


def tuples(value: Any) -> Any:
    """Lists of lists as tuples of tuples."""
    return tuple(tuples(inner) for inner in value) if isinstance(value, list | tuple) else value

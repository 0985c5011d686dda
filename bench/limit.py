"""The smallest card on which a cell still runs: bisection over the memory cap, each probe in a fresh process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.engines import registry
from bench.job import Job
from bench.meters import NvmlCard
from bench.results_table import on_card
from bench.runner import CellRun, Listener, MeasuringProtocol, run_cell
from fitcheck.errors import MeasurementError
from fitcheck.records import schema
from fitcheck.units import MIB

RESOLUTION = 128 * MIB


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: the cap in bytes and how it ended."""

    cap: int
    outcome: str


@dataclass(frozen=True, slots=True)
class LimitSearch:
    """Result of a search. ``works`` is the smallest cap that ran, ``fails`` the largest that did not; ``run`` the probe
    at ``works``, or the uncapped one when nothing smaller ran."""

    run: CellRun
    works: int | None
    fails: int | None
    probes: tuple[Attempt, ...]

    @property
    def limit(self) -> schema.Limit:
        """As a record holds it; ``attempts`` counts the uncapped run too."""
        return schema.Limit(works=self.works, fails=self.fails, attempts=len(self.probes) + 1)


def bracket(run: CellRun, process: int | None) -> tuple[int, int]:
    """(too little, enough) from an uncapped run: tensors and context must fit, and all that was held surely does.

    Raises InputError when the run has no such numbers.
    """
    allocated, reserved = run.end.get("allocated"), run.end.get("reserved")
    context = run.end.get("context") or (run.ready.get("context") or {}).get("after_matmul")
    if allocated is None or reserved is None or context is None:
        raise MeasurementError(
            "bench limit needs a GPU whose memory NVML and PyTorch both report; this run gave no such numbers."
        )
    return allocated + context, max(reserved + context, process or 0)


def search(
    low: int, high: int, works: Callable[[int], bool], resolution: int = RESOLUTION, ceiling: int | None = None
) -> tuple[int | None, int | None, list[Attempt]]:
    """(smallest cap that works, largest that fails, probes); the two lie at most ``resolution`` bytes apart.

    ``low`` is expected to fail and ``high`` to work. Neither is taken on trust: an end that the bisection arrives at is
    tried, and the bracket moves on in doubling steps where the expectation was wrong, never above ``ceiling``.
    """
    tried: dict[int, bool] = {}

    def attempt(cap: int) -> bool:
        if cap not in tried:
            tried[cap] = works(cap)
        return tried[cap]

    def result(best: int | None, fails: int | None) -> tuple[int | None, int | None, list[Attempt]]:
        return best, fails, [Attempt(cap, "ok" if good else "oom") for cap, good in tried.items()]

    step = resolution
    while True:
        while high - low > resolution:
            middle = _between(low, high, resolution)
            low, high = (low, middle) if attempt(middle) else (middle, high)
        if not attempt(high):
            if ceiling is not None and high >= ceiling:
                return result(None, high)
            low, high = high, high + step if ceiling is None else min(ceiling, high + step)
        elif low <= 0:
            return result(high, None)
        elif attempt(low):
            low, high = max(0, low - step), low
        else:
            return result(high, low)
        step *= 2


def _between(low: int, high: int, resolution: int) -> int:
    """The middle, on the grid of the resolution when that lies strictly inside."""
    middle = (low + high) // 2
    rounded = middle // resolution * resolution
    return rounded if low < rounded < high else middle


Runner = Callable[[Job, MeasuringProtocol], CellRun]


def find_limit(
    cell: Job, base: MeasuringProtocol, card: NvmlCard | None, run: Runner, resolution: int = RESOLUTION
) -> LimitSearch:
    """Bisects the cap of ``cell``. ``run`` measures one cell under one protocol.

    Raises InputError when the cell does not run uncapped for another reason than memory.
    """
    probe = replace(base, warmup=0, repeats=1, steps_run=registry.of(cell).probe_steps(cell))
    first = run(cell, replace(probe, cap=None))
    if first.outcome == "oom-gpu":
        return LimitSearch(first, None, None, ())
    if first.outcome != "ok":
        raise MeasurementError(f"the cell does not run at all: {first.outcome}; {first.message}")
    memory = card.memory() if card else None
    low, high = bracket(first, _process_bytes(first))
    runs: dict[int, CellRun] = {}

    def works(cap: int) -> bool:
        runs[cap] = run(cell, replace(probe, cap=cap))
        if runs[cap].outcome not in ("ok", "oom-gpu"):
            raise MeasurementError(f"a probe ended otherwise than by memory: {runs[cap].outcome}; {runs[cap].message}")
        return runs[cap].outcome == "ok"

    best, fails, probes = search(low, high, works, resolution, memory[0] if memory else None)
    return LimitSearch(first if best is None else runs[best], best, fails, tuple(probes))


def _process_bytes(run: CellRun) -> int | None:
    from bench.assemble import record_of

    return on_card(record_of(run, None))


def default_runner(card: NvmlCard | None, listener: Listener, deadline: float | None) -> Runner:
    """Runs each probe in a fresh process on ``card``; raises Stopped at ``deadline`` (monotonic seconds)."""
    return lambda cell, protocol: run_cell(cell, protocol, card, listener, deadline)

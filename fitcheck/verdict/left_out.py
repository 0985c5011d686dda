"""What calibration is worth: every measured cell predicted as a check would say it that knows all records but its own.

The cell is left out as a whole, on every machine, so that no repeat of it is among the records that predict it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from fitcheck.dataclass_later import dataclass
from fitcheck.records.run import Run
from fitcheck.records.run_index import Index
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.speed.rates import Calibration
from fitcheck.speed.timing import Timing
from fitcheck.units import Interval
from fitcheck.verdict.evidence import ask_of, is_bounded
from fitcheck.verdict.known_records import known_of
from fitcheck.verdict.seconds_evidence import relative


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One timing of a cell: median measured seconds of its runs (of a token where ``name`` is a rate), and what is
    predicted ``without`` any record and ``with_others``."""

    name: str
    runtime: str
    cell: str
    measured: float
    without: float
    with_others: Interval[float]

    @property
    def errors(self) -> tuple[float, float]:
        """Relative errors without records and with the others, as absolute values."""
        return abs(self.without / self.measured - 1), abs(self.with_others.best / self.measured - 1)

    @property
    def covered(self) -> bool:
        """Whether the measured seconds lie inside the calibrated interval."""
        return self.with_others.low <= self.measured <= self.with_others.high


@dataclass(frozen=True, slots=True)
class Worth:
    """Errors of one timing in one runtime over all cells left out: medians and worst, without records and with them,
    how many lie inside the calibrated interval, and its median width, high over low end."""

    runtime: str
    name: str
    rows: int
    without: float
    with_others: float
    worst_without: float
    worst_with: float
    covered: int
    width: float


def worth(rows: Sequence[LeftOut]) -> list[Worth]:
    """One line a runtime and timing."""
    found = []
    for runtime, name in sorted({(row.runtime, row.name) for row in rows}):
        mine = [row for row in rows if (row.runtime, row.name) == (runtime, name)]
        without, with_others = ([row.errors[end] for row in mine] for end in (0, 1))
        medians, worst = (median(without), median(with_others)), (max(without), max(with_others))
        width = median(row.with_others.high / row.with_others.low for row in mine)
        found.append(Worth(runtime, name, len(mine), *medians, *worst, sum(row.covered for row in mine), width))
    return found


def left_out(index: Index, *, same_machine: bool = False) -> list[LeftOut]:
    """Every cell of ``index`` that was timed on a card as it is, in a fixed order; predicted for a machine of which
    nothing is known, or for ``same_machine`` that it was timed on."""
    cells: dict[tuple[str, object], list[tuple[Run, Ask]]] = {}
    for run in sorted(index.rows, key=lambda run: run.id):
        ask = ask_of(run)
        if ask is not None and run.outcome == "ok" and not is_bounded(ask):
            cells.setdefault((run.card, registry.get(run.cell.runtime).alike(ask)), []).append((run, ask))
    return [row for mine in cells.values() for row in _rows(index, mine, same_machine=same_machine)]


def _rows(index: Index, mine: Sequence[tuple[Run, Ask]], *, same_machine: bool) -> Iterator[LeftOut]:
    real = [(run, ask) for run, ask in mine if run.cap is None]
    if not real:
        return
    ids, (first, ask) = {run.id for run, _ in mine}, real[0]
    others = Index(tuple(run for run in index.rows if run.id not in ids), index.links)
    runtime, known = registry.get(ask.placement.runtime), known_of(others, ask.machine, ask.model)
    if known is None:
        return
    known = replace(known, machine=first.machine) if same_machine else known
    footprint = runtime.footprint(ask)
    calibration = known.of(runtime, ask, footprint)[1]
    duration, linked = runtime.duration(ask, footprint, calibration), runtime.timings(ask, calibration)
    for name, (measured, plain) in _measured(runtime, real).items():
        span, best = (
            relative(duration, name),
            plain * _changed(calibration, name, linked[name], runtime.timings(ask)[name]),
        )
        cell = " ".join((ask.model.slug, ask.tier.name, str(ask.workload.task), ask.placement.mode))
        interval = Interval.exactly(best) if span is None else span.scaled(best)
        yield LeftOut(name, runtime.name, cell, measured, plain, interval)


def _changed(calibration: Calibration, name: str, linked: Timing, plain: Timing) -> float:
    """How many times as long as without any record a cell takes, by what link records say of copies and by the rest."""
    ratio = calibration.ratio(name)
    return (1.0 if ratio is None else ratio.best) * linked.seconds({}) / plain.seconds({})


def _measured(runtime: Runtime, runs: Sequence[tuple[Run, Ask]]) -> dict[str, tuple[float, float]]:
    """(Median measured, predicted) seconds by timing of the cell. Of several tests of a rate the first."""
    seen: dict[str, list[tuple[float, float]]] = {}
    for run, ask in runs:
        names = set(runtime.timings(ask))
        for one in runtime.observed(run, ask):
            if one.name in names:
                seen.setdefault(one.name, []).append((one.seconds, one.timing.seconds({})))
    found = {}
    for name, pairs in seen.items():
        same = [seconds for seconds, predicted in pairs if predicted == pairs[0][1]]
        found[name] = (median(same), pairs[0][1])
    return found

"""Predicted against measured: others' published rows and this project's records beside what the estimator says.

No row tests itself. What was measured of its own cell, or of its whole machine, is left out of the answer it is
compared with: calibrations, levels of its generation, widths of intervals. Where a constant cannot be left out the row
is ``fitted`` (the constant was fitted on it, or an input inferred from it) or sets a ``width``; such rows are summed up
apart. Runs of the same cell on the same machine are one row, their median.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from statistics import median

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.footprint import Footprint
from fitcheck.records.run import Run
from fitcheck.records.run_index import Index, build
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Measured
from fitcheck.speed.generations import left_out
from fitcheck.speed.rates import Calibration
from fitcheck.speed.timing import WHOLE
from fitcheck.units import GIB, Interval
from fitcheck.verdict.evidence import ask_of, is_bounded
from fitcheck.verdict.known_records import calibration_of


class Leave(StrEnum):
    """What is left out of the answer that a row is compared with."""

    CELL = "cell"
    MACHINE = "machine"


class Part(StrEnum):
    """What a row had to do with the answer it is compared with."""

    BLIND = "blind"
    WIDTH = "sets a width"
    FITTED = "fitted on"


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """One quantity of one measured cell; ``model`` is its slug. ``unit`` is GiB or s; ``published`` holds the measured
    value, the median of ``runs`` of them. ``fitted`` says that the row tests nothing, ``part`` why, ``left_out`` what
    its answer does not know."""

    origin: str
    source: str
    model: str
    cell: str
    quantity: str
    unit: str
    predicted: float
    low: float
    high: float
    published: float
    fitted: bool
    part: str = Part.BLIND
    left_out: str = Leave.CELL
    machine: str = ""
    task: str = ""
    mode: str = ""
    vendor: str = ""
    runtime: str = ""
    runs: int = 1

    @property
    def error(self) -> float:
        """Relative: predicted over measured, minus one."""
        return self.predicted / self.published - 1

    @property
    def covered(self) -> bool:
        """Whether the measured value lies inside the interval."""
        return self.low <= self.published <= self.high

    @property
    def width(self) -> float | None:
        """High over low end; ``None`` where the interval reaches down to nothing."""
        return self.high / self.low if self.low > 0 else None


def published_rows(leave: Leave = Leave.CELL) -> list[AccuracyRow]:
    """Every published row that a runtime models, beside the estimate."""
    measured = [one for runtime in registry.every() for one in runtime.published()]
    return together([row for one in measured for row in _published(one, leave)])


def recorded_rows(root: Path, leave: Leave = Leave.CELL) -> list[AccuracyRow]:
    """Every pass record under ``root``, beside the estimate; seconds calibrated on the records of other cells of the
    card, where the machine is not left out."""
    return indexed_rows(index_of(root), leave)


def indexed_rows(index: Index, leave: Leave = Leave.CELL, only: str | None = None) -> list[AccuracyRow]:
    """``recorded_rows`` of the runs of an index, of one card's alone where ``only`` names it."""
    passes = [run for run in index.rows if run.outcome == "ok" and not run.tests and run.card == (only or run.card)]
    cells = [(run, ask) for run in passes if (ask := ask_of(run)) is not None and not is_bounded(ask)]
    rows: list[AccuracyRow] = []
    for run, ask in cells:
        one = _measured(run, ask, leave)
        if run.cap is None:
            rows += list(_memory(one, "record", leave))
        elif run.works is None and run.allocated is not None:
            rows.append(_capped_row(one, leave))
        if run.works and run.fails:
            rows.append(_limit_row(run, one, leave))
        if run.seconds is not None and run.cap is None:
            rows += list(_recorded_time(run, one, index, leave))
    return together(rows)


def together(rows: Iterable[AccuracyRow]) -> list[AccuracyRow]:
    """Rows of the same quantity of the same cell on the same machine as one: medians of all their numbers."""
    groups: dict[tuple[str, ...], list[AccuracyRow]] = {}
    for row in rows:
        groups.setdefault((row.origin, row.machine, row.model, row.cell, row.quantity), []).append(row)
    return [_one_of(group) for group in groups.values()]


_WORST = (Part.BLIND, Part.WIDTH, Part.FITTED)


def _one_of(group: Sequence[AccuracyRow]) -> AccuracyRow:
    numbers = ("predicted", "low", "high", "published")
    middle = {name: median(getattr(row, name) for row in group) for name in numbers}
    part = max((Part(row.part) for row in group), key=_WORST.index)
    return replace(group[0], **middle, part=part, fitted=part is not Part.BLIND, runs=sum(row.runs for row in group))


# quantity, its name among a measurement's fields, and where a footprint has it
_MEMORY: tuple[tuple[str, str, Callable[[Footprint, int], Interval[int]]], ...] = (
    ("allocated", "allocated", lambda found, gpu: found.cards[gpu].allocated),
    ("reserved", "reserved", lambda found, gpu: found.cards[gpu].reserved),
    ("on the card", "on_card", lambda found, gpu: found.cards[gpu].card),
    ("host RSS", "host", lambda found, gpu: found.host.total),
)


def _memory(one: Measured, origin: str, leave: Leave) -> Iterator[AccuracyRow]:
    footprint = registry.get(one.ask.placement.runtime).footprint(one.ask)
    for quantity, name, part_of in _MEMORY:
        value = getattr(one, name)
        if value is not None:
            yield _row(one, origin, (quantity, name), "GiB", part_of(footprint, one.ask.gpu), value, leave)


def _row(
    one: Measured,
    origin: str,
    quantity: tuple[str, str],
    unit: str,
    span: Interval[int] | Interval[float],
    value: float,
    leave: Leave,
) -> AccuracyRow:
    """``quantity`` as it is called and as the measurement's tags name it."""
    scale, ask, part = GIB if unit == "GiB" else 1, one.ask, _part(one, quantity[1], leave)
    return AccuracyRow(
        origin,
        one.source,
        ask.model.slug,
        one.name,
        quantity[0],
        unit,
        span.best / scale,
        span.low / scale,
        span.high / scale,
        value / scale,
        fitted=part is not Part.BLIND,
        part=part,
        left_out=leave,
        machine=one.machine,
        task=ask.workload.task.value + ("-think" if ask.workload.think else ""),
        mode=ask.placement.mode,
        vendor=ask.card.card.vendor,
        runtime=ask.placement.runtime,
    )


def _part(one: Measured, quantity: str, leave: Leave) -> Part:
    if quantity in one.fitted or (leave is Leave.CELL and quantity in one.levels):
        return Part.FITTED
    return Part.WIDTH if quantity in one.widens else Part.BLIND


def _published(one: Measured, leave: Leave) -> Iterator[AccuracyRow]:
    """The rows of one published measurement, asked as somebody would who has not seen it."""
    blind = replace(one, ask=_without_machine(one) if leave is Leave.MACHINE else _without_cell(one, one.name))
    yield from _memory(blind, "published", leave)
    if one.seconds is not None:
        span = _duration(blind.ask, None)
        if span is not None:
            yield _row(blind, "published", ("seconds", "seconds"), "s", span, one.seconds, leave)


def _without_cell(one: Measured, name: str) -> Ask:
    return replace(one.ask, process=replace(one.ask.process, left_out=name))


def _without_machine(one: Measured) -> Ask:
    """The same question where nothing of the machine, nor of its card's generation, was measured."""
    ask = _without_cell(one, one.machine)
    gpu = ask.card
    card = replace(gpu.card, architecture=left_out(gpu.card.architecture))
    gpus = tuple(replace(gpu, card=card) if index == ask.gpu else other for index, other in enumerate(ask.machine.gpus))
    return replace(ask, machine=replace(ask.machine, gpus=gpus))


def _measured(run: Run, ask: Ask, leave: Leave) -> Measured:
    """A run as a measurement, with what its runtime's constants rest on of it. Context and host process were fitted on
    records of this kind; how many layers more than its rule says mode ``fast`` may keep is a margin that capped runs
    set, and which replay bounds the smallest card was chosen on limit records; how far calibrated seconds scatter was
    chosen on the cells, each left out."""
    rests = registry.get(ask.placement.runtime).rests_on(run.id)
    one = Measured(
        run.id,
        _name(run, ask),
        ask,
        run.allocated,
        run.reserved,
        on_card=run.on_card,
        host=registry.get(ask.placement.runtime).host_bytes(run),
        seconds=run.seconds,
        fitted=frozenset({"on_card", "host", "smallest"}) | rests.fitted,
        widens=frozenset({"capped", "seconds"} if leave is Leave.CELL else {"capped"}) | rests.widens,
        machine=run.card,
    )
    return replace(one, ask=_without_cell(one, one.name if leave is Leave.CELL else run.card))


def _name(run: Run, ask: Ask) -> str:
    work, placement = ask.workload, ask.placement
    policy = f"/{run.cell.policy}" if run.cell.policy and run.cell.policy != "upstream" else ""
    size = f"{work.width}x{work.height}" + (f"x{work.frames}" if work.frames > 1 else "")
    parts = [run.card, ask.model.name, ask.tier.name, placement.revision, str(work.task)]
    parts += [f"{size} {work.steps} steps cfg {work.cfg:g}"]
    parts += [f"under {run.cap / GIB:.2f} GiB"] if run.cap is not None else []
    return " ".join([*parts, placement.mode + policy])


def _capped_row(one: Measured, leave: Leave) -> AccuracyRow:
    """Tensors under a cap; what is reserved there says little, because the allocator gives cache back."""
    memory = registry.get(one.ask.placement.runtime).footprint(one.ask).cards[one.ask.gpu]
    return _row(one, "record", ("allocated under a cap", "capped"), "GiB", memory.capped, one.allocated or 0, leave)


def _limit_row(run: Run, one: Measured, leave: Leave) -> AccuracyRow:
    """The smallest cap that works lies between the largest that failed and the smallest that did: of those sizes the
    one nearest to the prediction stands beside it, so that a row's error is what no resolution of a bisection excuses.
    """
    required = registry.get(one.ask.placement.runtime).footprint(one.ask).cards[one.ask.gpu].required
    nearest = min(max(required.best, run.fails or 0), run.works or 0)
    return _row(one, "record", ("smallest card", "smallest"), "GiB", required, nearest, leave)


def _duration(ask: Ask, calibration: Calibration | None) -> Interval[float] | None:
    runtime = registry.get(ask.placement.runtime)
    found = runtime.duration(ask, runtime.footprint(ask), calibration)
    return None if found is None else found.seconds


def _recorded_time(run: Run, one: Measured, index: Index, leave: Leave) -> Iterator[AccuracyRow]:
    """Seconds as a check would say them who knows the card's records of other cells; without the machine, as it would
    say them of a card that nobody sent records of."""
    calibration = None
    if leave is Leave.CELL:
        others = Index(tuple(other for other in index.rows if other.cell != run.cell), index.links)
        calibration = calibration_of(one.ask, others)
        if calibration.ratio(WHOLE) is None:
            return
    span = _duration(one.ask, calibration)
    if span is not None and run.seconds is not None:
        yield _row(one, "record", ("seconds", "seconds"), "s", span, run.seconds, leave)


def index_of(root: Path) -> Index:
    """The records below a results folder that may be published."""
    from fitcheck.records.validate import publishable

    return build(record.model_dump(mode="json", exclude_none=True) for record in publishable(root))

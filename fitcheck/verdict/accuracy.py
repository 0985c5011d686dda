"""Predicted against measured: others' published rows and this project's records beside what the estimator says.

A row is ``fitted`` when a constant that enters its prediction was fitted on it, or an input was inferred from it; such
rows are summed up apart, because they cannot test the estimator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from fitcheck.memory.footprint import Footprint
from fitcheck.records.evidence import Index, build
from fitcheck.records.run import Run
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Figure, Measured, Runtime
from fitcheck.speed.rates import Calibration, calibrated_spread
from fitcheck.units import GIB, Interval
from fitcheck.verdict.evidence import ask_of, calibration_for, compute_factor


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """One quantity of one measured cell; ``model`` is its slug. ``unit`` is GiB or s; ``published`` holds the measured
    value."""

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

    @property
    def error(self) -> float:
        """Relative: predicted over measured, minus one."""
        return self.predicted / self.published - 1

    @property
    def covered(self) -> bool:
        """Whether the measured value lies inside the interval."""
        return self.low <= self.published <= self.high


@dataclass(frozen=True, slots=True)
class AccuracySummary:
    """Absolute relative errors of one quantity; ``covered`` is ``None`` for exact figures without an interval."""

    origin: str
    quantity: str
    rows: int
    median: float
    worst: float
    covered: int | None
    fitted: bool


def summarize(rows: Sequence[AccuracyRow]) -> list[AccuracySummary]:
    """Median and worst absolute error by origin and quantity; rows that were fitted on stand apart."""
    found = []
    for key in sorted({(row.origin, row.quantity, row.fitted) for row in rows}):
        part = [row for row in rows if (row.origin, row.quantity, row.fitted) == key]
        errors = [abs(row.error) for row in part]
        covered = sum(row.covered for row in part)
        found.append(AccuracySummary(key[0], key[1], len(part), median(errors), max(errors), covered, key[2]))
    return found


def figure_summaries() -> list[AccuracySummary]:
    """Published figures beside the runtimes' own; exact ones have no interval."""
    groups: dict[tuple[str, bool], list[Figure]] = {}
    for runtime in registry.every():
        for one in runtime.figures():
            groups.setdefault((one.quantity, one.fitted), []).append(one)
    return [_figure_summary(*key, part) for key, part in groups.items()]


def _figure_summary(quantity: str, fitted: bool, part: Sequence[Figure]) -> AccuracySummary:
    errors = [abs(one.error) for one in part]
    covered = [one.covered for one in part if one.covered is not None]
    inside = sum(covered) if covered else None
    return AccuracySummary("published", quantity, len(errors), median(errors), max(errors), inside, fitted)


def published_rows() -> list[AccuracyRow]:
    """Every published row that a runtime models, beside the estimate."""
    rows: list[AccuracyRow] = []
    for runtime in registry.every():
        measured = list(runtime.published())
        rows += [row for one in measured for row in _memory_rows(runtime, one, "published")]
        rows += _published_times(runtime, measured)
    return rows


def recorded_rows(root: Path) -> list[AccuracyRow]:
    """Every pass record under ``root``, beside the estimate; seconds calibrated on ``link`` records and on runs that no
    streaming slowed."""
    index, rows = _index(root), []
    cells = [(run, ask) for run in index.rows if run.outcome == "ok" and (ask := ask_of(run)) is not None]
    for run, ask in cells:
        if run.cap is None:
            rows += list(_memory_rows(registry.get(ask.placement.runtime), _measured(run, ask), "record"))
        elif run.works is None and run.allocated is not None:
            rows.append(_capped_row(registry.get(ask.placement.runtime), run, ask))
    for run, ask in cells:
        if run.works and run.fails:
            rows.append(_limit_row(registry.get(ask.placement.runtime), run, ask))
    return rows + _recorded_times(cells, index)


def _measured(run: Run, ask: Ask) -> Measured:
    return Measured(
        run.id, _name(ask), ask, run.allocated, run.reserved, on_card=run.process, host=run.rss, seconds=run.seconds
    )


def _name(ask: Ask) -> str:
    work, placement = ask.workload, ask.placement
    parts = [ask.model.name, ask.tier.name, placement.revision, str(work.task)]
    parts += [f"{work.width}x{work.height} cfg {work.cfg:g}", placement.mode]
    return " ".join(parts)


def _row(
    one: Measured,
    origin: str,
    quantity: str,
    unit: str,
    span: Interval[int] | Interval[float],
    value: float,
    fitted: bool,
) -> AccuracyRow:
    scale = GIB if unit == "GiB" else 1
    ends = (span.best / scale, span.low / scale, span.high / scale)
    slug = one.ask.model.slug
    return AccuracyRow(origin, one.source, slug, one.name, quantity, unit, *ends, value / scale, fitted)


def _memory_rows(runtime: Runtime, one: Measured, origin: str) -> Iterator[AccuracyRow]:
    footprint = runtime.footprint(one.ask)
    memory = footprint.cards[one.ask.gpu]
    if one.allocated is not None:
        yield _row(one, origin, "allocated", "GiB", memory.allocated, one.allocated, one.fitted)
    if one.reserved is not None:
        yield _row(one, origin, "reserved", "GiB", memory.reserved, one.reserved, one.fitted)
    if one.on_card is not None:
        yield _row(one, origin, "on the card", "GiB", memory.card, one.on_card, True)
    if one.host is not None:
        yield _row(one, origin, "host RSS", "GiB", footprint.host.total, one.host, True)


def _capped_row(runtime: Runtime, run: Run, ask: Ask) -> AccuracyRow:
    """Tensors under a cap; what is reserved there says little, because the allocator gives cache back. The capped runs
    set how many layers more than its rule says mode ``fast`` may keep."""
    allocated = runtime.footprint(ask).cards[ask.gpu].allocated
    return _row(_measured(run, ask), "record", "allocated under a cap", "GiB", allocated, run.allocated or 0, True)


def _limit_row(runtime: Runtime, run: Run, ask: Ask) -> AccuracyRow:
    """The smallest cap that works lies between the largest that failed and the smallest that did: of those sizes the
    one nearest to the prediction stands beside it, so that a row's error is what no resolution of a bisection excuses.
    """
    required = runtime.footprint(ask).cards[ask.gpu].required
    fails, works = run.fails or 0, run.works or 0
    nearest = min(max(required.best, fails), works)
    return _row(_measured(run, ask), "record", "smallest card", "GiB", required, nearest, True)


def _duration(
    runtime: Runtime, ask: Ask, calibration: Calibration | None, footprint: Footprint | None = None
) -> Interval[float] | None:
    found = runtime.duration(ask, footprint or runtime.footprint(ask), calibration)
    return None if found is None else found.seconds


def _published_times(runtime: Runtime, measured: Sequence[Measured]) -> Iterable[AccuracyRow]:
    """Published seconds after calibration on the rows that calibrate: the machines' own compute, nothing else. Only of
    what those rows share: their task, without a prompt of its own length."""
    anchors = [one for one in measured if one.calibrates and one.seconds is not None]
    if not anchors:
        return
    anchor = anchors[0]
    for one in measured:
        if (
            one.seconds is None
            or one.ask.workload.task is not anchor.ask.workload.task
            or one.ask.workload.prompt_tokens
        ):
            continue
        reference = _duration(runtime, _as(anchor, one), None)
        if reference is None or anchor.seconds is None:
            continue
        factor = anchor.seconds / reference.best
        span = _duration(runtime, one.ask, Calibration(factor, calibrated_spread(), records=1))
        if span is not None:
            yield _row(one, "published", "seconds", "s", span, one.seconds, one.calibrates)


def _as(anchor: Measured, one: Measured) -> Ask:
    """The calibrating cell's mode for another row's model, tier, sizes and revision."""
    placement = replace(one.ask.placement, mode=anchor.ask.placement.mode)
    return replace(one.ask, placement=placement)


def _recorded_times(cells: Sequence[tuple[Run, Ask]], index: Index) -> list[AccuracyRow]:
    """Seconds as a check would say them who knows the card's link records and its other unstreamed runs.

    An unstreamed run is predicted from the other ones of its tier. One that alone calibrates its tier is fitted.
    """
    rows = []
    for run, ask in cells:
        if run.seconds is None or run.cap is not None:
            continue
        others = Index(tuple(one for one in index.rows if one.id != run.id), index.links)
        siblings = [one for one in others.rows if (one.card, one.cell.tier) == (run.card, run.cell.tier)]
        alone = compute_factor(run) is not None and not any(compute_factor(one) is not None for one in siblings)
        calibration = calibration_for(ask.card.card, ask.tier.name, index if alone else others)
        if calibration is None or calibration.spread is None:
            continue
        span = _duration(registry.get(ask.placement.runtime), ask, calibration)
        if span is not None:
            rows.append(_row(_measured(run, ask), "record", "seconds", "s", span, run.seconds, alone))
    return rows


def _index(root: Path) -> Index:
    from fitcheck.records.validate import publishable

    return build(record.model_dump(mode="json", exclude_none=True) for record in publishable(root))

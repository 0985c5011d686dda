"""Predicted against measured: others' published rows and this project's records beside what the estimator says.

A row is ``fitted`` when a constant that enters its prediction was fitted on it, or an input was inferred from it; such
rows are summed up apart, because they cannot test the estimator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fitcheck.hardware.machine import Link
from fitcheck.models.workload import Task
from fitcheck.records.evidence import Index, build
from fitcheck.runtimes.sensenova.estimate import estimate
from fitcheck.runtimes.sensenova.seconds import seconds
from fitcheck.runtimes.sensenova.streaming import upstream
from fitcheck.speed.rates import Calibration, calibrated_spread
from fitcheck.units import GIB, Interval
from fitcheck.verdict.evidence import calibration_for, runs_in_full
from fitcheck.verdict.measured import MeasuredCell, published_cells, recorded_cells

# Host-to-device rate of the published H100 (facts of 2026-08); not fitted to any row here.
_PUBLISHED_LINK = 54e9
# The one published row that published seconds are calibrated on.
_CALIBRATION_SECONDS = 20.894


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of one measured cell. ``unit`` is GiB or s; ``published`` holds the measured value."""

    origin: str
    source: str
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
        return self.low <= self.published <= self.high


@dataclass(frozen=True, slots=True)
class Summary:
    origin: str
    quantity: str
    rows: int
    median: float
    worst: float
    covered: int | None
    fitted: bool


def language_summaries() -> list[Summary]:
    """llama.cpp's printed buffers and exact GGUF file sizes against ours; these are exact figures without intervals."""
    from fitcheck.runtimes.llamacpp import published as llamacpp

    rows, _ = llamacpp.llamacpp_accuracy()
    sizes, _ = llamacpp.file_size_accuracy()
    found = [*llamacpp.summarize(rows), *llamacpp.summarize(sizes)]
    words = {"mainline": "llama.cpp", "fork": "ik_llama.cpp", "file": "GGUF", "file, rounded": "GGUF (rounded)"}
    return [
        Summary("published", f"{words[one.engine]} {one.quantity}", one.count, one.median, one.worst, None, False)
        for one in found
    ]


def summarize(rows: Sequence[Row]) -> list[Summary]:
    """Median and worst absolute error by origin and quantity; rows that were fitted on stand apart."""
    found = []
    for key in sorted({(row.origin, row.quantity, row.fitted) for row in rows}):
        part = [row for row in rows if (row.origin, row.quantity, row.fitted) == key]
        errors = [abs(row.error) for row in part]
        origin, quantity, fitted = key
        covered = sum(row.covered for row in part)
        found.append(Summary(origin, quantity, len(part), median(errors), max(errors), covered, fitted))
    return found


def published_rows() -> list[Row]:
    """Every published SenseNova row that fitcheck models, beside the estimate."""
    cells = list(published_cells())
    rows = [row for cell in cells for row in _memory_rows(cell)]
    return rows + [row for cell in cells for row in _published_time(cell)]


def recorded_rows(root: Path) -> list[Row]:
    """Every pass record under ``root``, beside the estimate; seconds calibrated on ``link`` and mode ``full``."""
    cells = list(recorded_cells(root))
    rows = [row for cell in cells if not cell.capped for row in _memory_rows(cell)]
    rows += [row for cell in cells if cell.limit for row in _limit_rows(cell)]
    return rows + _recorded_times(cells, root)


def _row(
    cell: MeasuredCell, quantity: str, unit: str, span: Interval[int] | Interval[float], measured: float, fitted: bool
) -> Row:
    scale = GIB if unit == "GiB" else 1
    values = (span.best / scale, span.low / scale, span.high / scale)
    return Row(cell.origin, cell.source, cell.name, quantity, unit, *values, measured / scale, fitted)


def _memory_rows(cell: MeasuredCell) -> Iterable[Row]:
    footprint = estimate(cell.architecture, cell.tier, cell.workload, cell.placement, cell.device, cell.process)
    if cell.allocated is not None:
        yield _row(cell, "allocated", "GiB", footprint.allocated, cell.allocated, cell.inferred)
    if cell.reserved is not None:
        yield _row(cell, "reserved", "GiB", footprint.reserved, cell.reserved, cell.inferred)
    if cell.on_card is not None:
        yield _row(cell, "on the card", "GiB", footprint.card, cell.on_card, True)
    if cell.host is not None:
        yield _row(cell, "host RSS", "GiB", footprint.host.total, cell.host, True)


def _limit_rows(cell: MeasuredCell) -> Iterable[Row]:
    """The smallest cap that works; it is known to the resolution of its bisection."""
    if cell.limit is None:
        return
    footprint = estimate(cell.architecture, cell.tier, cell.workload, cell.placement, cell.device, cell.process)
    yield _row(cell, "smallest card", "GiB", footprint.required, cell.limit[1], True)


def _duration(
    cell: MeasuredCell, calibration: Calibration | None, link: Link | None = None, mode: str | None = None
) -> Interval[float] | None:
    placement = cell.placement if mode is None else upstream(mode, cell.placement.revision)
    found = seconds(
        cell.architecture,
        cell.tier.tensors,
        cell.workload,
        placement,
        cell.card,
        link or Link(cell.card.pcie_generation, cell.card.pcie_lanes),
        kept_share=estimate(cell.architecture, cell.tier, cell.workload, placement, cell.device).kept_share,
        calibration=calibration,
    )
    return None if found is None else found.seconds


def _published_time(cell: MeasuredCell) -> Iterable[Row]:
    """Published seconds of plain t2i after calibration on the one row of mode ``full``."""
    if cell.seconds is None or cell.workload.task is not Task.T2I or cell.workload.prompt_tokens:
        return
    reference = _duration(cell, None, mode="full")
    if reference is None:
        return
    factor = _CALIBRATION_SECONDS / reference.best
    span = _duration(cell, Calibration(factor, calibrated_spread(), records=1), Link(measured_pinned=_PUBLISHED_LINK))
    if span is not None:
        yield _row(cell, "seconds", "s", span, cell.seconds, cell.seconds == _CALIBRATION_SECONDS)


def _recorded_times(cells: Sequence[MeasuredCell], root: Path) -> list[Row]:
    """Seconds as a check would say them who knows the card's link records and its other runs in mode ``full``.

    A run in mode ``full`` is predicted from the other ones of its tier. One that alone calibrates its tier is fitted.
    """
    index, rows = _index(root), []
    for cell in cells:
        if cell.seconds is None or cell.capped:
            continue
        others = Index(tuple(row for row in index.rows if row.id != cell.source), index.links)
        siblings = [row for row in runs_in_full(cell.card.slug, others) if row.cell.tier == cell.tier.name]
        alone = cell.placement.mode == "full" and not siblings
        calibration, _ = calibration_for(cell.card, cell.tier, index if alone else others)
        if calibration is None or calibration.spread is None:
            continue
        span = _duration(cell, calibration)
        if span is not None:
            rows.append(_row(cell, "seconds", "s", span, cell.seconds, alone))
    return rows


def _index(root: Path) -> Index:
    from fitcheck.records import store

    return build(record.model_dump(mode="json", exclude_none=True) for record in store.load(root))

"""Accuracy in sum: errors, coverage and widths by quantity, and whether they got worse than a kept baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.runtimes import registry
from fitcheck.runtimes.figures import Figure
from fitcheck.verdict.accuracy import AccuracyRow, Leave, Part
from fitcheck.verdict.left_out import Worth

# what rounding of a kept figure may hide, as a share
_ROUNDING = 0.0006


@dataclass(frozen=True, slots=True)
class AccuracySummary:
    """Absolute relative errors of one quantity; ``covered`` is ``None`` for exact figures without an interval,
    ``width`` the median of high over low ends. ``part`` and ``left_out`` as rows have them."""

    origin: str
    quantity: str
    rows: int
    median: float
    worst: float
    covered: int | None
    fitted: bool
    part: str = Part.BLIND
    left_out: str = ""
    width: float | None = None

    @property
    def key(self) -> str:
        """What tells it from other summaries in a kept baseline."""
        return " | ".join((self.origin, self.quantity, self.part, self.left_out))


def summarize(rows: Sequence[AccuracyRow]) -> list[AccuracySummary]:
    """Errors by origin, runtime and quantity; rows that test nothing stand apart."""
    groups = _grouped(rows, lambda row: (row.origin, f"{row.runtime} {row.quantity}".strip()))
    return [_summary(key[0], key[1], part) for key, part in groups.items()]


def by_cell_kind(rows: Iterable[AccuracyRow]) -> list[AccuracySummary]:
    """Blind rows by vendor, runtime, task and mode, all their quantities together, as ``quantity``."""
    blind = [row for row in rows if row.part == Part.BLIND]
    groups = _grouped(blind, lambda row: (row.origin, f"{row.vendor} {row.runtime} {row.task} {row.mode}"))
    return [_summary(key[0], key[1], part) for key, part in groups.items()]


Key = tuple[str, ...]


def _grouped(
    rows: Iterable[AccuracyRow], key_of: Callable[[AccuracyRow], tuple[str, str]]
) -> dict[Key, list[AccuracyRow]]:
    groups: dict[Key, list[AccuracyRow]] = {}
    for row in rows:
        groups.setdefault((*key_of(row), row.part, row.left_out), []).append(row)
    return dict(sorted(groups.items()))


def _summary(origin: str, name: str, part: Sequence[AccuracyRow]) -> AccuracySummary:
    errors = [abs(row.error) for row in part]
    widths = [row.width for row in part if row.width is not None]
    first = part[0]
    return AccuracySummary(
        origin,
        name,
        len(part),
        median(errors),
        max(errors),
        sum(row.covered for row in part),
        first.fitted,
        first.part,
        first.left_out,
        median(widths) if widths else None,
    )


def same_machine_summaries(found: Iterable[Worth]) -> list[AccuracySummary]:
    """What a check says who has measured other cells on the machine. How far predictions scatter was chosen on these
    cells, each left out, so they set the width."""
    return [
        AccuracySummary(
            "record",
            f"{one.runtime} {one.name}, others of the machine known",
            one.rows,
            one.with_others,
            one.worst_with,
            one.covered,
            fitted=True,
            part=Part.WIDTH,
            left_out=Leave.CELL,
            width=one.width,
        )
        for one in found
    ]


def figure_summaries() -> list[AccuracySummary]:
    """Published figures beside the runtimes' own; exact ones have no interval."""
    return summarize_figures(published_figures())


def published_figures() -> Iterator[Figure]:
    """What every runtime says beside others' figures."""
    return (one for runtime in registry.every() for one in runtime.figures())


def summarize_figures(figures: Iterable[Figure]) -> list[AccuracySummary]:
    """Errors by quantity; of figures that were fitted on and of others apart."""
    return [one for one, _ in figures_in_sum(figures)]


def figures_in_sum(figures: Iterable[Figure]) -> list[tuple[AccuracySummary, Figure]]:
    """The same, each with the figure that is furthest off."""
    groups: dict[tuple[str, bool], list[Figure]] = {}
    for one in figures:
        groups.setdefault((one.quantity, one.fitted), []).append(one)
    return [(_figure_summary(*key, part), max(part, key=lambda one: abs(one.error))) for key, part in groups.items()]


def _figure_summary(quantity: str, fitted: bool, part: Sequence[Figure]) -> AccuracySummary:
    errors = [abs(one.error) for one in part]
    covered = [one.covered for one in part if one.covered is not None]
    widths = [one.high / one.low for one in part if one.low and one.high is not None]
    return AccuracySummary(
        "published",
        quantity,
        len(errors),
        median(errors),
        max(errors),
        sum(covered) if covered else None,
        fitted,
        Part.FITTED if fitted else Part.BLIND,
        "",
        median(widths) if widths else None,
    )


def kept(summaries: Iterable[AccuracySummary]) -> dict[str, Any]:
    """Summaries as a baseline keeps them."""
    return {one.key: {name: _rounded(value) for name, value in asdict(one).items()} for one in summaries}


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def worse(found: Iterable[AccuracySummary], baseline: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence for each figure that is worse than in ``baseline``: a larger median or worst error, a smaller share
    inside, a wider interval, rows or whole lines that are gone. Lines that are new are no fault."""
    now = {one.key: one for one in found}
    faults: list[str] = []
    for key, before in baseline.items():
        one = now.get(key)
        if one is None:
            faults.append(f"{key}: no rows any more, {before['rows']} before")
        else:
            faults += [f"{key}: {fault}" for fault in _faults(one, before)]
    return faults


def before_and_after(found: Iterable[AccuracySummary], baseline: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each summary that differs from the baseline, for better or worse, and for each new one."""
    lines = []
    for key, now in kept(found).items():
        before = baseline.get(key)
        if before is None or any(now[name] != before[name] for name in _COMPARED):
            lines.append(f"{key}: {'new' if before is None else _written(before)} -> {_written(now)}")
    return lines


_COMPARED = ("rows", "median", "worst", "covered", "width")


def _written(one: Mapping[str, Any]) -> str:
    inside = "" if one["covered"] is None else f", {one['covered']} of {one['rows']} inside"
    width = "" if one["width"] is None else f", width {one['width']:.2f}"
    return f"{one['rows']} rows, median {one['median']:.2%}, worst {one['worst']:.2%}{inside}{width}"


def _faults(one: AccuracySummary, before: Mapping[str, Any]) -> Iterable[str]:
    if one.rows < before["rows"]:
        yield f"{one.rows} rows, {before['rows']} before"
    for name in ("median", "worst"):
        value, was = getattr(one, name), before[name]
        if value > was + _ROUNDING:
            yield f"{name} error {value:.2%}, {was:.2%} before"
    if before["covered"] is not None:
        inside, was = (one.covered or 0) / one.rows, before["covered"] / before["rows"]
        if inside < was - _ROUNDING:
            yield f"{inside:.1%} inside the interval, {was:.1%} before"
    if before["width"] is not None and one.width is not None and one.width > before["width"] * 1.02:
        yield f"median width {one.width:.2f}, {before['width']:.2f} before"

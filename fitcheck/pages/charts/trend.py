"""One metric over the runs of a series: points, the level between changes, where it changed, and what is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from markupsafe import Markup, escape

from fitcheck.pages.formats import kind_of, write
from fitcheck.pages.metric_names import metric_name

WIDTH, HEIGHT = 400, 150
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 26, 22
# what a picture of this width can show apart
MOST_POINTS = 120
_LABELLED = 6


def trend(track: Mapping[str, Any]) -> Markup:
    """The picture of a track of ``report.track_document``; of long histories the newest part."""
    skipped = max(len(track["points"]) - MOST_POINTS, 0)
    values = [float(point["value"]) for point in track["points"][skipped:]]
    cuts = [(one["index"] - skipped, one["judgement"]) for one in track["changes"] if one["index"] > skipped]
    low, high = _range(values)

    def x(index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / len(values)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - min(max(value, low), high)) / (high - low)

    bounds = [0, *(cut for cut, _ in cuts), len(values)]
    parts = [*_expected(track.get("expected"), x(bounds[-2] - 0.5), low, high, y), *_ends(values, track["unit"], y)]
    for start, end in pairwise(bounds):
        level = y(median(values[start:end]))
        parts.append(f'<path class="c-level" d="M{x(start - 0.4):.1f} {level:.1f}H{x(end - 0.6):.1f}"/>')
    parts += [part for place, cut in enumerate(cuts) for part in _change(*cut, x, label=place >= len(cuts) - _LABELLED)]
    dots = "".join(f"M{x(index):.1f} {y(value):.1f}h0" for index, value in enumerate(values))
    parts.append(f'<path class="c-points" d="{dots}"/>')
    dates = [write(point["created"], "date") for point in (track["points"][skipped], track["points"][-1])]
    parts.append(f'<text class="c-day" x="{LEFT}" y="{HEIGHT - 6}">{dates[0]}</text>')
    if dates[1] != dates[0]:
        parts.append(f'<text class="c-day c-last" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}">{dates[1]}</text>')
    return Markup(  # noqa: S704 - every text is escaped or made of numbers
        f'<svg class="trend" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words(track))}">'
        f"{''.join(parts)}</svg>"
    )


def words(track: Mapping[str, Any]) -> str:
    """What the picture shows, in a sentence."""
    kind, points = kind_of(track["unit"]), track["points"]
    said = f"{metric_name(track['metric'])} over {len(points)} runs, {write(points[-1]['value'], kind)} in the newest"
    for one in track["changes"][-_LABELLED:]:
        said += f"; {one['judgement']['verdict']} on {one['date']}, {write(one['judgement'].get('ratio'), 'change')}"
    return f"{said}."


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The axis: all values with some air, and never so narrow that equal runs look apart."""
    low, high = min(values), max(values)
    air = max(0.12 * (high - low), 0.01 * high)
    return low - air, high + air


def _expected(expected: Mapping[str, Any] | None, start: float, low: float, high: float, y: Any) -> list[str]:
    """The interval of the latest level, as far as the axis reaches."""
    if expected is None or expected["high"] < low or expected["low"] > high:
        return []
    upper, lower = y(expected["high"]), y(expected["low"])
    width, height = WIDTH - RIGHT - start, max(lower - upper, 1)
    return [f'<rect class="c-band" x="{start:.1f}" y="{upper:.1f}" width="{width:.1f}" height="{height:.1f}"/>']


def _ends(values: Sequence[float], unit: str, y: Any) -> list[str]:
    """Grid lines at the highest and the lowest value, with what they are."""
    kind, parts = kind_of(unit), []
    for value, above in ((max(values), True), (min(values), False)):
        level = y(value)
        parts.append(f'<path class="c-grid" d="M{LEFT} {level:.1f}H{WIDTH - RIGHT}"/>')
        if above or write(value, kind) != write(max(values), kind):
            place = level - 4 if above else level + 11
            parts.append(f'<text class="c-tick" x="{LEFT}" y="{place:.1f}">{escape(write(value, kind))}</text>')
    return parts


def _change(index: int, judgement: Mapping[str, Any], x: Any, *, label: bool) -> list[str]:
    place, name = x(index - 0.5), judgement["verdict"].replace(" ", "-")
    parts = [f'<path class="c-change t-{name}" d="M{place:.1f} {TOP - 8}V{HEIGHT - BOTTOM}"/>']
    if label and judgement.get("ratio") is not None:
        end = " c-last" if place > WIDTH * 0.8 else " c-first" if place < WIDTH * 0.2 else ""
        text = escape(write(judgement["ratio"], "change"))
        parts.append(f'<text class="c-said t-{name}{end}" x="{place:.1f}" y="{TOP - 12}">{text}</text>')
    return parts

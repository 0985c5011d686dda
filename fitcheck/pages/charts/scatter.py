"""Predicted against measured: two log-log panels with the line of agreement and each prediction's interval.

Drawn by hand, like the other pictures: colours are classes, which a strict Content-Security-Policy and two colour
schemes ask for, and a page that changes after every record does not wait a second for a drawing library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

from markupsafe import Markup, escape

from fitcheck.dataclass_later import dataclass

WIDTH, HEIGHT = 750, 360
_PANEL, _LEFT, _RIGHT, _TOP, _BOTTOM = 375, 58, 12, 30, 46
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_LABELS = (1, 2, 5)
# round, square, diamond, two triangles: colour is not the only thing that tells quantities apart
_MARKS = (
    "m-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0",
    "m-3-3h6v6h-6z",
    "m0-4.2l4.2 4.2-4.2 4.2-4.2-4.2z",
    "m0-4l3.7 6.6h-7.4z",
    "m0 4l3.7-6.6h-7.4z",
)
_COLOURS = 5
_LINE = 15

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Panel:
    """A square of two equal logarithmic axes that starts ``left`` in the picture and shows ``low`` to ``high``."""

    left: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """The place of a measured value."""
        return self.left + _LEFT + (_PANEL - _LEFT - _RIGHT) * self._part(value)

    def y(self, value: float) -> float:
        """The place of a predicted value."""
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * self._part(value)

    def _part(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return log(inside / self.low) / log(self.high / self.low)


def scatter(rows: Rows) -> Markup:
    """The picture of all rows: memory at the left, seconds at the right."""
    parts = []
    for place, (unit, name) in enumerate((("GiB", "Memory, GiB"), ("s", "Time, seconds"))):
        left = place * _PANEL
        parts.append(f'<text x="{left + _LEFT}" y="18" font-size="14">{name}</text>')
        mine = [row for row in rows if row["unit"] == unit and row["published"] > 0]
        parts += _drawn(mine, left) if mine else []
    return Markup(  # noqa: S704 - every text is escaped or made of numbers
        f'<svg class="scatter" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Predicted against measured memory '
        f'and time; the table below has every row." font-size="12">{"".join(parts)}</svg>'
    )


def _drawn(rows: Rows, left: float) -> list[str]:
    values = [row[key] for row in rows for key in ("low", "high", "published", "predicted") if row[key] > 0]
    panel = _Panel(left, 0.8 * min(values), 1.25 * max(values))
    parts, quantities = _axes(panel), sorted({row["quantity"] for row in rows})
    shown = [(quantity, fitted) for quantity in quantities for fitted in (False, True)]
    shown = [one for one in shown if any((row["quantity"], row["fitted"]) == one for row in rows)]
    for line, (quantity, fitted) in enumerate(shown):
        index = quantities.index(quantity) % _COLOURS
        colour = f"q{index + 1}" if len(quantities) > 1 else "q4"
        part = [row for row in rows if (row["quantity"], row["fitted"]) == (quantity, fitted)]
        parts += _marks(panel, part, colour, _MARKS[index], fitted=fitted)
        parts += _legend(panel, len(shown) - line, quantity, colour, _MARKS[index], fitted=fitted)
    return parts


def _axes(panel: _Panel) -> list[str]:
    """Two axes with ticks and names, and the line on which prediction and measurement agree."""
    x0, x1, y0, y1 = panel.x(panel.low), panel.x(panel.high), panel.y(panel.low), panel.y(panel.high)
    middle, lines = (y0 + y1) / 2, f"M{x0:.1f} {y1:.1f}V{y0:.1f}H{x1:.1f}M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"
    parts = [
        f'<path class="s-rule" fill="none" d="{lines}"/>',
        f'<text x="{(x0 + x1) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">measured</text>',
        f'<text x="{panel.left + 12:.1f}" y="{middle:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 {panel.left + 12:.1f} {middle:.1f})">predicted</text>',
    ]
    for value in (one for one in _ticks(panel) if panel.low <= one <= panel.high):
        at, up = panel.x(value), panel.y(value)
        parts.append(f'<text x="{at:.1f}" y="{y0 + 16:.1f}" text-anchor="middle">{value:g}</text>')
        parts.append(f'<text x="{x0 - 6:.1f}" y="{up + 4:.1f}" text-anchor="end">{value:g}</text>')
    return parts


def _ticks(panel: _Panel) -> Sequence[float]:
    """Round values; of more than six decades only the powers of ten."""
    wide = panel.high / panel.low > 10**3
    small = tuple(digit / 10**power for power in (3, 2, 1) for digit in _LABELS)
    large = (5000, 10000, 20000, 50000, 100000)
    return [one for one in (*small, *_TICKS, *large) if not wide or f"{one:e}".startswith("1.0")]


def _marks(panel: _Panel, rows: Rows, colour: str, mark: str, *, fitted: bool) -> list[str]:
    """The intervals, then the marks over them: hollow where they helped to fit the estimator."""
    spans = "".join(
        f"M{panel.x(row['published']):.1f} {panel.y(row['low']):.1f}V{panel.y(row['high']):.1f}" for row in rows
    )
    dots = "".join(f"M{panel.x(row['published']):.1f} {panel.y(row['predicted']):.1f}{mark}" for row in rows)
    fill = "paper" if fitted else colour
    return [f'<path class="s-{colour}" fill="none" d="{spans}"/>', f'<path class="s-{colour} f-{fill}" d="{dots}"/>']


def _legend(panel: _Panel, from_below: int, quantity: str, colour: str, mark: str, *, fitted: bool) -> list[str]:
    x, y = panel.x(panel.high) - 8, panel.y(panel.low) - _LINE * from_below + 8
    fill, words = "paper" if fitted else colour, f"{quantity}{', fitted on' if fitted else ''}"
    return [
        f'<path class="s-{colour} f-{fill}" d="M{x:.1f} {y - 4:.1f}{mark}"/>',
        f'<text x="{x - 10:.1f}" y="{y:.1f}" text-anchor="end" font-size="10.5">{escape(words)}</text>',
    ]

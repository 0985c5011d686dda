"""Memory over the run: categories stacked by phase, the card as a whole with its interval, the usable line, records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from fitcheck.pages.words import CATEGORIES
from fitcheck.units import GIB, format_gib, format_span

WIDTH, HEIGHT = 280, 230
LEFT, RIGHT, TOP, BOTTOM = 30, 8, 16, 34
_STEPS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200)
_HAIRLINE = 0.4
_SHORT = {"read image back": "read back", "cache and context": "in all"}


def scale_of(cells: Sequence[Mapping[str, Any]], usable: int) -> float:
    """The top of the axis in GiB, shared by the panels of one picture.

    It shows the usable line unless that lies so far above everything needed that the stacks would vanish.
    """
    highest = max(float(cell["card"]["high"]) for cell in cells) / GIB
    line = usable / GIB
    return 1.06 * (max(highest, line) if line <= 3 * highest else highest) or 1.0  # nothing lies on no card


def panel(
    cell: Mapping[str, Any], usable: Mapping[str, int], top: float, measured: Sequence[Mapping[str, Any]]
) -> Markup:
    """One cell. ``top`` is the axis' end in GiB, ``measured`` the ``memory`` blocks of records of this cell."""
    inner, floor = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM
    high = floor - TOP

    def y(size: float) -> float:
        return floor - min(1.0, size / GIB / top) * high

    phases = cell["phases"]
    step = inner / (len(phases) + 1)
    width = _n(step * 0.72)
    stacks: dict[str, str] = dict.fromkeys(CATEGORIES, "")
    labels, dots = [], []
    for index, phase in enumerate(phases):
        x = LEFT + step * index + step * 0.14
        for name, part in _stack(phase, x, width, y):
            stacks[name] += part
        labels.append(_label(x + step * 0.36, phase["name"], peak=phase["name"] == cell["peak"]))
        for memory in measured:
            dots += _dots(memory, phase["name"], x + step * 0.36, y)
    x = LEFT + step * len(phases) + step * 0.14
    labels.append(_label(x + step * 0.36, "in all"))
    for memory in measured:
        # what else is on the card is no part of the prediction
        whole = memory.get("process", memory.get("device"))
        if whole is not None:
            dots.append(_diamond(x + step * 0.36, y(whole)))
    parts = [
        *_grid(top, y),
        *(f'<path class="k-{name}" d="{path}"/>' for name, path in stacks.items() if path),
        f'<g class="c-phase">{"".join(labels)}</g>',
        *_whole(cell, x, width, y),
        *dots,
        *_line(usable, top, y),
    ]
    return Markup(  # noqa: S704 - every text below is escaped, the rest is numbers
        f'<svg class="memory" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_words(cell, usable))}">'
        f"{''.join(parts)}</svg>"
    )


def _n(value: float) -> str:
    """A coordinate to a tenth, as short as it goes."""
    return f"{value:.1f}".removesuffix(".0")


def _words(cell: Mapping[str, Any], usable: Mapping[str, int]) -> str:
    span = format_span(format_gib(cell["card"]["low"]), format_gib(cell["card"]["high"]))
    return (
        f"The card holds {format_gib(cell['card']['best'])} in all ({span}), most of it during {cell['peak']}; "
        f"{format_gib(usable['best'])} can be used."
    )


def _grid(top: float, y: Any) -> list[str]:
    step = next(one for one in _STEPS if top / one <= 5)
    texts, grid, value = "", "", 0.0
    while value <= top:
        level = y(value * GIB)
        grid += f"M{LEFT} {level:.0f}H{WIDTH - RIGHT}"
        texts += f'<text x="{LEFT - 5}" y="{level + 3:.0f}">{value:g}</text>'
        value += step
    return [f'<path class="c-grid" d="{grid}"/>', f'<g class="c-tick">{texts}</g>']


def _stack(phase: Mapping[str, Any], x: float, width: str, y: Any) -> Iterator[tuple[str, str]]:
    """(Category, path) of each part of a column; what is too small to see is a hairline."""
    base = 0
    for name in CATEGORIES:
        size = phase[name]
        if size > 0:
            lower = y(base)
            upper = min(y(base + size), lower - _HAIRLINE)
            yield name, f"M{x:.0f} {_n(upper)}h{width}V{_n(lower)}h-{width}z"
        base += size


def _whole(cell: Mapping[str, Any], x: float, width: str, y: Any) -> list[str]:
    span, middle = cell["card"], x + float(width) / 2
    top, bottom = _n(y(span["high"])), _n(y(span["low"]))
    left = f"{middle - 5:.0f}"
    return [
        f'<path class="c-whole" d="M{x:.0f} {_n(y(span["best"]))}h{width}V{_n(y(0))}h-{width}z"/>',
        f'<path class="c-whisker" d="M{middle:.0f} {top}V{bottom}M{left} {top}h10M{left} {bottom}h10"/>',
    ]


def _line(usable: Mapping[str, int], top: float, y: Any) -> list[str]:
    """The usable line with its uncertainty as a band, or an arrow when it is above the picture."""
    end = WIDTH - RIGHT
    number = f'<tspan data-n="report.machine.usable_vram.best:gib">{format_gib(usable["best"])}</tspan>'
    text = f"usable {number}"
    if usable["best"] / GIB > top:
        return [f'<text class="c-usable" x="{end}" y="{TOP - 5}">↑ {text}, above this picture</text>']
    level, upper, lower = y(usable["best"]), y(usable["high"]), y(usable["low"])
    return [
        f'<path class="c-band" d="M{LEFT} {_n(upper)}H{end}V{_n(lower)}H{LEFT}z"/>',
        f'<path class="c-limit" d="M{LEFT} {_n(level)}H{end}"/>',
        f'<text class="c-usable" x="{end}" y="{_n(max(level - 4, 9))}">{text}</text>',
    ]


def _dots(memory: Mapping[str, Any], phase: str, x: float, y: Any) -> list[str]:
    return [
        f'<circle class="c-measured" cx="{x:.1f}" cy="{y(part["allocated"]):.1f}" r="3.2"/>'
        for part in memory.get("phases") or ()
        if part["name"] == phase.replace(" ", "-") and part.get("allocated") is not None
    ]


def _diamond(x: float, level: float) -> str:
    points = f"{x:.1f},{level - 4:.1f} {x + 4:.1f},{level:.1f} {x:.1f},{level + 4:.1f} {x - 4:.1f},{level:.1f}"
    return f'<polygon class="c-measured" points="{points}"/>'


def _label(x: float, text: str, *, peak: bool = False) -> str:
    mark = ' class="c-peak"' if peak else ""
    return f'<text{mark} x="{x:.0f}" y="{HEIGHT - BOTTOM + 14}">{escape(_SHORT.get(text, text))}</text>'

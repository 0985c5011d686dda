"""Memory over the run: categories stacked by phase, the card as a whole with its interval, the usable line, records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from fitcheck.pages.words import CATEGORIES
from fitcheck.units import GIB, format_gib, format_span

WIDTH, HEIGHT = 280, 230
LEFT, RIGHT, TOP, BOTTOM = 30, 8, 16, 34
_STEPS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200)
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
    parts = _grid(top, y)
    for index, phase in enumerate(phases):
        x = LEFT + step * index + step * 0.14
        parts += _stack(phase, x, step * 0.72, y)
        peak = " c-peak" if phase["name"] == cell["peak"] else ""
        parts.append(_label(x + step * 0.36, floor + 14, phase["name"], f"c-phase{peak}"))
        for memory in measured:
            parts += _dots(memory, phase["name"], x + step * 0.36, y)
    x = LEFT + step * len(phases) + step * 0.14
    parts += _whole(cell, x, step * 0.72, y)
    parts.append(_label(x + step * 0.36, floor + 14, "in all", "c-phase"))
    for memory in measured:
        # what else is on the card is no part of the prediction
        whole = memory.get("process", memory.get("device"))
        if whole is not None:
            parts.append(_diamond(x + step * 0.36, y(whole)))
    parts += _line(usable, top, y)
    return Markup(  # noqa: S704 - every text below is escaped, the rest is numbers
        f'<svg class="memory" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_words(cell, usable))}">'
        f"{''.join(parts)}</svg>"
    )


def _words(cell: Mapping[str, Any], usable: Mapping[str, int]) -> str:
    span = format_span(format_gib(cell["card"]["low"]), format_gib(cell["card"]["high"]))
    return (
        f"{cell['tier']} in mode {cell['mode']}: the card holds {format_gib(cell['card']['best'])} in all ({span}), "
        f"most of it during {cell['peak']}; {format_gib(usable['best'])} can be used."
    )


def _grid(top: float, y: Any) -> list[str]:
    step = next(one for one in _STEPS if top / one <= 5)
    parts, grid, value = [], "", 0.0
    while value <= top:
        level = y(value * GIB)
        grid += f"M{LEFT} {level:.0f}H{WIDTH - RIGHT}"
        parts.append(f'<text class="c-tick" x="{LEFT - 5}" y="{level + 3:.0f}">{value:g}</text>')
        value += step
    return [f'<path class="c-grid" d="{grid}"/>', *parts]


def _stack(phase: Mapping[str, Any], x: float, width: float, y: Any) -> list[str]:
    parts, base = [], 0
    for name in CATEGORIES:
        size = phase[name]
        if size > 0:
            upper = y(base + size)
            height = max(y(base) - upper, 0.4)
            parts.append(f'<path class="k-{name}" d="M{x:.0f} {upper:.1f}h{width:.0f}v{height:.1f}h-{width:.0f}z"/>')
        base += size
    return parts


def _whole(cell: Mapping[str, Any], x: float, width: float, y: Any) -> list[str]:
    span, middle = cell["card"], x + width / 2
    top, bottom, floor = y(span["high"]), y(span["low"]), y(0)
    bar = y(span["best"])
    path = f"M{middle:.0f} {top:.1f}V{bottom:.1f}M{middle - 5:.0f} {top:.1f}h10M{middle - 5:.0f} {bottom:.1f}h10"
    return [
        f'<rect class="c-whole" x="{x:.0f}" y="{bar:.1f}" width="{width:.0f}" height="{floor - bar:.1f}"/>',
        f'<path class="c-whisker" d="{path}"/>',
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
        f'<rect class="c-band" x="{LEFT}" y="{upper:.1f}" width="{end - LEFT}" height="{lower - upper:.1f}"/>',
        f'<line class="c-limit" x1="{LEFT}" x2="{end}" y1="{level:.1f}" y2="{level:.1f}"/>',
        f'<text class="c-usable" x="{end}" y="{max(level - 4, 9):.1f}">{text}</text>',
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


def _label(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{escape(_SHORT.get(text, text))}</text>'

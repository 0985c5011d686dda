"""Predicted against measured, drawn with matplotlib and made fit for a page: no inline styles, colours by class.

A strict Content-Security-Policy refuses style attributes, and a page has two colour schemes: matplotlib draws in
stand-in colours, and each is turned into a class that the stylesheet knows.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

VERSION = 1
_SVG = "http://www.w3.org/2000/svg"
# stand-ins: matplotlib writes them literally, no other element has them
_CLASSES = {
    "#010101": "ink",
    "#020202": "rule",
    "#030303": "q1",
    "#040404": "q2",
    "#050505": "q3",
    "#060606": "q4",
    "#080808": "q5",
    "#070707": "paper",
}
_BY_CLASS = {name: colour for colour, name in _CLASSES.items()}
_MARKERS = "osD^v"


def key_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """24 hex digits that change with the rows and with how they are drawn (``VERSION``)."""
    return hashlib.sha256(json.dumps([VERSION, rows]).encode()).hexdigest()[:24]


def scatter(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Two log-log panels, memory and seconds, with the line of agreement and each prediction's interval."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "fitcheck",
        "font.size": 11,
        "font.family": "sans-serif",
        "text.color": _BY_CLASS["ink"],
        "axes.edgecolor": _BY_CLASS["rule"],
        "axes.labelcolor": _BY_CLASS["ink"],
        "xtick.color": _BY_CLASS["ink"],
        "ytick.color": _BY_CLASS["ink"],
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(10.4, 5.0))
        axes = figure.subplots(1, 2)
        for axis, unit, name in ((axes[0], "GiB", "Memory, GiB"), (axes[1], "s", "Time, seconds")):
            _draw(axis, [row for row in rows if row["unit"] == unit], name)
        figure.tight_layout()
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return Markup(_clean(out.getvalue(), key_of(rows)))  # noqa: S704 - drawn here from numbers


def _draw(axis: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_title(name, loc="left")
    axis.set_xlabel("measured")
    axis.set_ylabel("predicted")
    axis.spines[["top", "right"]].set_visible(False)
    if not rows:
        return
    values = [row[key] for row in rows for key in ("low", "high", "published")]
    ends = (0.8 * min(value for value in values if value > 0), 1.25 * max(values))
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ticks = [one for one in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if ends[0] <= one <= ends[1]]
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(FixedLocator(ticks))
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        side.set_minor_locator(NullLocator())
    axis.plot(ends, ends, color=_BY_CLASS["rule"], linewidth=1, zorder=1)
    quantities = sorted({row["quantity"] for row in rows})
    for index, quantity in enumerate(quantities):
        colour = _BY_CLASS[f"q{index % 5 + 1}" if len(quantities) > 1 else "q4"]
        for fitted in (False, True):
            part = [row for row in rows if row["quantity"] == quantity and row["fitted"] is fitted]
            if part:
                _marks(axis, part, colour, _MARKERS[index % 5], fitted, quantity)
    axis.legend(frameon=False, loc="lower right", fontsize=10, handletextpad=0.3)


def _marks(axis: Any, rows: Sequence[Mapping[str, Any]], colour: str, marker: str, fitted: bool, quantity: str) -> None:
    x = [row["published"] for row in rows]
    axis.vlines(x, [row["low"] for row in rows], [row["high"] for row in rows], color=colour, linewidth=1, zorder=2)
    axis.plot(
        x,
        [row["predicted"] for row in rows],
        marker,
        markersize=6,
        markerfacecolor=_BY_CLASS["paper"] if fitted else colour,
        markeredgecolor=colour,
        linestyle="none",
        zorder=3,
        label=f"{quantity}{', fitted on' if fitted else ''}",
    )


def _clean(text: str, key: str) -> str:
    """matplotlib's document as an inline element: style attributes become classes and presentation attributes."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(text)  # noqa: S314 - written by matplotlib a moment ago
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        classes = []
        for declaration in filter(None, element.attrib.pop("style", "").split(";")):
            name, _, value = (part.strip() for part in declaration.partition(":"))
            if value in _CLASSES:
                classes.append(f"{'f' if name == 'fill' else 's'}-{_CLASSES[value]}")
            elif name == "font":
                element.set("font-size", re.search(r"([\d.]+)px", value)[1])  # type: ignore[index]
            elif name not in ("font-family", "line-height"):
                element.set(name, value)
        if classes:
            element.set("class", " ".join(classes))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("class", "scatter")
    root.set("data-key", key)
    root.set("role", "img")
    root.set("aria-label", "Predicted against measured memory and time; the table below has every row.")
    return ElementTree.tostring(root, encoding="unicode")

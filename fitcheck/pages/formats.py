"""How a value of a document is written: one name a kind, each made of ``fitcheck.units`` functions.

A span is ``{"low": …, "best": …, "high": …}``. ``None`` is unknown and is written so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fitcheck import units

UNKNOWN = "unknown"
VERDICTS = {"fits": "Fits", "tight": "Tight", "unknown": "Unknown", "no": "No"}
# verdicts by their first letter, as which a site keeps them
WORDS = {word[0]: word for word in VERDICTS}


def _span(one: Callable[[float], str]) -> Callable[[Any], str]:
    return lambda value: units.format_span(one(value["low"]), one(value["high"]))


def _speeds(value: Any) -> str:
    low, _, high = units.format_speeds(units.Interval(value["low"], value["best"], value["high"]))
    return f"{units.format_span(low, high)} tokens/s"


FORMATS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "verdict": VERDICTS.__getitem__,
    "count": lambda value: f"{value:,}",
    "number": lambda value: f"{value:g}",
    "gib": units.format_gib,
    "gib2": lambda value: units.format_gib(value, 2),
    "gib_span": _span(units.format_gib),
    "gib2_span": _span(lambda value: units.format_gib(value, 2)),
    "ram": lambda value: f"{value // units.GIB} GB",
    "gb": lambda value: units.format_gb(value, 1),
    "seconds": units.format_seconds,
    "seconds_span": lambda value: units.format_time_span(value["low"], value["high"]),
    "speed_span": _speeds,
    "date": units.format_date,
    "percent": lambda value: units.format_percent(value, 2),
    "error": lambda value: units.format_percent(value, 2, signed=True),
    "flops": lambda value: units.format_rate(value, "FLOP"),
    "bandwidth": lambda value: units.format_rate(value, "B"),
    "dollars": units.format_dollars,
    "dollars2": lambda value: f"${value:,.2f}" if value < 100 else units.format_dollars(value),
    "times": lambda value: f"× {value:.1f}",
    "watts": lambda value: f"{value:g} W",
    "capability": lambda value: ".".join(map(str, value)),
    "quantity": lambda value: f"{value:.2f}",
    "amount": lambda value: f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}",
    "change": units.format_change,
}
_KINDS = {"s": "seconds", "bytes": "gib2"}


def kind_of(unit: str) -> str:
    """The format of a metric by its unit; ``amount`` for one whose unit is written behind it."""
    return _KINDS.get(unit, "amount")


def write(value: Any, name: str) -> str:
    """``value`` in the format called ``name``; unknown stays unknown."""
    return UNKNOWN if value is None else FORMATS[name](value)


def speed(row: Any) -> str:
    """How fast a row of a list is: tokens a second where it has a rate, else the time."""
    return write(row["pace"], "speed_span") if row["pace"] else write(row["seconds"], "seconds_span")


def quickness(row: Any) -> str:
    """The number by which rows sort from fast to slow: seconds, or tokens a second below zero."""
    if row["pace"]:
        return f"{-row['pace']['best']:g}"
    return f"{row['seconds']['best']:g}" if row["seconds"] else ""


def resolve(document: Any, path: str) -> Any:
    """The value at a dotted path: ``"report.cells.0.card.best"``. A part of ``None`` is ``None`` as a whole."""
    value = document
    for part in path.split("."):
        if value is None:
            return None
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def raw(value: Any) -> str:
    """The machine-readable form beside the written one."""
    if value is None:
        return ""
    return ".".join(map(str, value)) if isinstance(value, list) else str(value)


def rounded(value: Any) -> Any:
    """Numbers of a JSON twin to seven digits: more is noise that takes a third of the file."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list | tuple) else value

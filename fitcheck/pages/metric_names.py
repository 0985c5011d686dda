"""What a history's metric is called where people read it; ``fitcheck.records.regressions.metrics`` names them."""

from __future__ import annotations

import re
from collections.abc import Callable

from fitcheck.units import MIB

_FIXED = {
    "allocated": "allocated on the card",
    "reserved": "reserved on the card",
    "process": "the process on the card",
    "card_peak": "taken of the card",
    "pinned_rounded": "pinned system memory",
    "rss": "system memory of the process",
    "context": "driver's context on the card",
    "seconds": "time of a run",
    "step_seconds": "time of a step",
    "load_seconds": "time to load",
    "joules": "energy of a run",
    "memory_bytes_per_second": "bandwidth of card memory",
}
_DIRECTIONS = {"host-to-device": "to the card", "device-to-host": "from the card"}


def _size(count: str) -> str:
    return f"{int(count) / MIB:.4g} MiB"


def _tokens(found: re.Match[str]) -> str:
    parts = [f"prompt of {found[1]}"] if found[1] else []
    parts += [f"answer of {found[2]}"] if found[2] else []
    parts += [f"behind {found[3]} in the cache"] if found[3] else []
    return f"speed, {', '.join(parts)}" if parts else found[0]


_PATTERNS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"tokens_per_second (?:pp(\d+))?\+?(?:tg(\d+))?(?: @(\d+))?"), _tokens),
    (re.compile(r"buffer (\S+) (\S+)"), lambda found: f"{found[1]} buffer, {found[2]}"),
    (
        re.compile(r"(host-to-device|device-to-host) (pinned|pageable) (\d{1,18})"),
        lambda found: f"copies {_DIRECTIONS[found[1]]}, {found[2]}, {_size(found[3])} each",
    ),
    (re.compile(r"matmul (\S+) (\S+)"), lambda found: f"{found[1]} matrix product, {found[2]}"),
    (
        re.compile(r"dequantization (\S+) (\S+) (\d{1,18})"),
        lambda found: f"{found[1]} to {found[2]}, {_size(found[3])} each",
    ),
)


def metric_name(metric: str) -> str:
    """``"card_peak"`` -> ``"taken of the card"``; a name that is none of ours stays as it is."""
    if metric in _FIXED:
        return _FIXED[metric]
    read = ((pattern.fullmatch(metric), said) for pattern, said in _PATTERNS)
    return next((said(found) for found, said in read if found is not None), metric)

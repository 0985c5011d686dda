"""Bytes, sizes and intervals: parsed once, formatted once.

Bytes are plain ``int`` everywhere else. VRAM and RAM are printed in GiB (2^30), files and disks in GB (10^9), and each
printed number says which.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Generic, TypeVar

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
GB = 10**9

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Interval(Generic[N]):
    """A quantity with its uncertainty: ``low <= best <= high``, all in the same unit."""

    low: N
    best: N
    high: N

    def __post_init__(self) -> None:
        if not self.low <= self.best <= self.high:
            raise ValueError(f"interval out of order: {self.low} <= {self.best} <= {self.high}")

    @classmethod
    def exactly(cls, value: N) -> Interval[N]:
        """An interval without width: low, best and high are ``value``."""
        return cls(value, value, value)

    def __add__(self, other: Interval[N]) -> Interval[N]:
        return Interval(self.low + other.low, self.best + other.best, self.high + other.high)

    def at_most(self, limit: N) -> Interval[N]:
        """The same with no end above ``limit``."""
        return Interval(min(self.low, limit), min(self.best, limit), min(self.high, limit))

    def shift(self, amount: N) -> Interval[N]:
        """All three bounds moved by ``amount``, which is in the interval's own unit."""
        return Interval(self.low + amount, self.best + amount, self.high + amount)

    def scaled(self: Interval[float], factor: float) -> Interval[float]:
        """Every end times a positive factor."""
        return Interval(self.low * factor, self.best * factor, self.high * factor)


_MEMORY = re.compile(r"\s*(\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"\s*(\d{1,9})\s*[x×*,]\s*(\d{1,9})\s*", re.IGNORECASE)


def parse_memory(text: str, what: str) -> int:
    """``"12GB"``, ``"12 GiB"`` or ``"12"`` -> bytes, always binary: VRAM and RAM modules are sold in powers of two.

    A number without a unit means GiB. Raises InputError naming ``what`` otherwise, also for zero and beyond 1 PiB.
    """
    return _parse(text, what, "memory", binary=True)


def parse_disk(text: str, what: str) -> int:
    """``"13GB"`` or ``"13"`` -> 13,000,000,000 bytes: files and disks are sold and listed in powers of ten, so only
    ``"13GiB"`` is binary.

    A number without a unit means GB. Raises InputError naming ``what`` otherwise, also for zero and beyond 1 PiB.
    """
    return _parse(text, what, "disk space", binary=False)


def _parse(text: str, what: str, kind: str, *, binary: bool) -> int:
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise OptionError(f"{what}: {text!r} is not an amount of {kind}; write it like 12GB or 11.5GiB.")
    number, prefix, i = match.groups()
    bare = not prefix and not i and "b" not in text.lower()
    base = 1024.0 if binary or i else 1000.0
    value = round(float(number) * base ** _POWERS["g" if bare else prefix.lower()])
    if not 0 < value <= 1 << 50:
        raise OptionError(f"{what}: {text!r} is outside the range from 1 byte to 1 PiB; write it like 12GB.")
    return value


def parse_size(text: str, what: str) -> tuple[int, int]:
    """``"2048x1536"`` -> (width, height) in pixels. Raises InputError naming ``what`` otherwise."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise OptionError(f"{what}: {text!r} is not a size; write it as WIDTHxHEIGHT, like 2048x2048.")
    return int(match.group(1)), int(match.group(2))


def format_gib(count: float, digits: int = 1) -> str:
    """Bytes as binary gigabytes with the unit, for memory: "11.5 GiB"."""
    return f"{count / GIB:.{digits}f} GiB"


def format_gb(count: float, digits: int = 2) -> str:
    """Bytes as decimal gigabytes with the unit, for files and disks: "9.36 GB"."""
    return f"{count / GB:.{digits}f} GB"


def format_seconds(seconds: float) -> str:
    """3 significant figures below a minute, then minutes and seconds, then hours and minutes."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


_TIME_UNITS = (("s", 1.0, 120.0), ("min", 60.0, 2 * 3600.0), ("h", 3600.0, math.inf))


def format_times(low: float, *more: float) -> tuple[str, ...]:
    """Times of one interval, each with the unit that suits its middle, so that they compare at a glance: ``("2.0 h",
    "14 h")``, never minutes beside hours. Two significant figures or more."""
    middle = math.sqrt(low * more[-1]) if more else low
    unit, size = next((unit, size) for unit, size, most in _TIME_UNITS if middle < most)
    return tuple(f"{_figure(one / size)} {unit}" for one in (low, *more))


def _figure(value: float) -> str:
    """Two significant figures of a number below ten, whole numbers from there on."""
    return f"{value:.2g}" if value < 0.995 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def format_time_span(low: float, high: float, between: str = " – ") -> str:
    """Two times as one range: ``"16 – 43 s"``, ``"2.8 – 7.5 min"``."""
    first, last = format_times(low, high)
    return format_span(first, last, between)


def format_speeds(rate: Interval[float]) -> tuple[str, str, str]:
    """Low, best and high of a rate that people read, like tokens a second: whole numbers from ten on, below it as many
    decimals as keep the low end from reading zero."""
    digits = 0 if rate.low >= 10 else max(1, -math.floor(math.log10(rate.low))) if rate.low > 0 else 1
    return f"{rate.low:.{digits}f}", f"{rate.best:.{digits}f}", f"{rate.high:.{digits}f}"


def format_span(low: str, high: str, between: str = " – ") -> str:
    """Two formatted ends as one range: equal ends once, a shared unit once: ``"18 – 30 s"``."""
    if low == high:
        return low
    number, _, unit = low.partition(" ")
    if high.endswith(f" {unit}") and high.count(" ") == low.count(" ") == 1:
        return f"{number}{between}{high}"
    return f"{low}{between}{high}"


def format_percent(share: float, digits: int = 1, *, signed: bool = False) -> str:
    """A share of 1 as per cent, "12.3%"; ``signed`` writes the plus of a gain too."""
    return f"{share:{'+' if signed else ''}.{digits}%}"


def format_change(ratio: float) -> str:
    """A ratio as a signed change, ``"+4.2 %"``, from a doubling on as ``"2.10x"``."""
    return f"{ratio:.2f}x" if ratio >= 2 else f"{100 * (ratio - 1):+.1f} %"


def format_date(seconds: float) -> str:
    """Unix seconds as a UTC day, ``"2026-11-22"``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def format_timestamp(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_rate(per_second: float, what: str) -> str:
    """``"58.3 TFLOP/s"`` for ``"FLOP"``, ``"504 GB/s"`` for ``"B"``: three significant figures, decimal prefixes."""
    scale, prefix = next(
        ((scale, prefix) for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if per_second >= scale), (1.0, "")
    )
    value = per_second / scale
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {prefix}{what}/s"


def format_dollars(amount: float) -> str:
    """US dollars without cents, thousands apart: "$1,599"."""
    return f"${amount:,.0f}"

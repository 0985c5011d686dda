"""llama.cpp builds as points in time: what the memory of a run depends on changed on known dates.

A build is given as ``b7079``, ``2026-03`` or ``2026-03-14``; build numbers are turned into dates between published
anchors. The fork ik_llama.cpp left mainline in August 2024 and is a build of its own.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError

FORK = "ik_llama.cpp"
_NUMBER = re.compile(r"b?(\d{3,6})")
_YEAR = 365.25  # days
_DATE = re.compile(r"(20\d\d)-(\d\d)(?:-(\d\d))?")
_MOST_AHEAD = timedelta(days=365)  # of the newest build known; what is further ahead is a slip of the pen


def _data() -> dict[str, Any]:
    return load("runtimes.llamacpp", "llamacpp_builds")


@dataclass(frozen=True, slots=True)
class Build:
    """``day`` is when the build was made; ``fork`` is True for ik_llama.cpp."""

    day: date
    fork: bool = False
    text: str = ""

    def has(self, change: str) -> bool:
        """Whether a change of ``data/llamacpp_builds.json`` is in this build; the fork has those before it left."""
        return day_of_change(change) <= (_forked() if self.fork else self.day)

    def years_before(self, change: str) -> float:
        """Years that the build was made before a change; 0 after it."""
        return max((day_of_change(change) - self.day).days / _YEAR, 0.0)

    def __str__(self) -> str:
        return FORK if self.fork else self.text or self.day.isoformat()


@cache
def day_of_change(change: str) -> date:
    """When a change of ``data/llamacpp_builds.json`` came into llama.cpp."""
    return date.fromisoformat(_data()["changes"][change]["date"])


@cache
def _forked() -> date:
    return date.fromisoformat(_data()["forked"])


@cache
def newest_build() -> Build:
    """The newest build this version of fitcheck was checked against."""
    return Build(date.fromisoformat(_data()["newest"]), text="newest")


@cache
def builds_in_use() -> tuple[Build, ...]:
    """Older builds that people still run, oldest first."""
    return tuple(Build(date.fromisoformat(day), text=day) for day in _data()["in_use"])


def parse_build(text: str | None) -> Build:
    """``None`` is the newest known build. Raises OptionError for what is neither a number, a date nor the fork, and for
    what is far ahead of the newest one known."""
    found, newest = _parsed(text), newest_build().day
    if found.day > newest + _MOST_AHEAD:
        raise OptionError(f"--build: {text!r} is more than a year after the newest build that is known, of {newest}.")
    return found


def _parsed(text: str | None) -> Build:
    if text is None or text.strip().lower() in ("", "newest", "latest"):
        return newest_build()
    name = text.strip().lower()
    if name in (FORK, "ik", "ik_llama"):
        return Build(date(2025, 5, 1), fork=True, text=FORK)
    match = _DATE.fullmatch(name)
    if match:
        year, month, day = match.groups()
        try:
            return Build(date(int(year), int(month), int(day or 15)), text=name)
        except ValueError:
            raise OptionError(f"--build: {text!r} is not a date; write it like 2026-03 or b9272.") from None
    number = _NUMBER.fullmatch(name)
    if number is None:
        raise OptionError(f"--build: {text!r} is not a llama.cpp build; write b9272, 2026-03 or ik_llama.cpp.")
    return Build(_day_of(int(number.group(1))), text=f"b{number.group(1)}")


def _day_of(number: int) -> date:
    known = load("runtimes.llamacpp", "llamacpp_build_numbers")["anchors"]
    anchors = [(int(name[1:]), date.fromisoformat(day)) for name, day, _ in known]
    low, high = anchors[-2], anchors[-1]
    for left, right in pairwise(anchors):
        if number <= right[0]:
            low, high = left, right
            break
    share = (number - low[0]) / (high[0] - low[0])
    days = round((high[1] - low[1]).days * share)
    return min(max(low[1] + timedelta(days=days), date(2023, 6, 1)), date(2035, 1, 1))

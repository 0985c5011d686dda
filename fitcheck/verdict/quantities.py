"""How we know, by quantity: card memory, system memory, seconds, and the rates that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.records.run import Run
from fitcheck.units import Interval
from fitcheck.verdict.implied import MAJORITY

ESTIMATED, CALIBRATED, MEASURED = LEVELS = ("estimated", "calibrated", "measured")
_MOST_IDS = 20
_MANY = 20  # from here on ends are percentiles, so that one odd record does not set them

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Quantity:
    """How one number is known: its level, how many records it rests on, why, and which records (the first 20)."""

    level: str = ESTIMATED
    records: int = 0
    note: str = "model only, no record of this card"
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """How a cell is known. ``memory`` on the card, ``host`` memory, ``seconds``; ``rates`` by name where seconds are
    made of them. ``level``, ``records`` and ``note`` are those of the weaker of memory and seconds, which an answer
    speaks of."""

    memory: Quantity = Quantity()
    host: Quantity = Quantity()
    seconds: Quantity = Quantity()
    rates: tuple[tuple[str, Quantity], ...] = ()
    timed: bool = True

    @property
    def weakest(self) -> Quantity:
        """The quantity that the whole is known no better than."""
        return weakest((self.seconds, self.memory) if self.timed else (self.memory,))

    @property
    def named(self) -> tuple[tuple[str, Quantity], ...]:
        """Every quantity under the name that people read: seconds in one, or the rates that they are made of."""
        timed = (self.rates or (("seconds", self.seconds),)) if self.timed else ()
        return ("card memory", self.memory), ("system memory", self.host), *timed

    @property
    def level(self) -> str:
        """Estimated, calibrated or measured."""
        return self.weakest.level

    @property
    def records(self) -> int:
        """How many records it rests on."""
        return self.weakest.records

    @property
    def note(self) -> str:
        """Why, in words."""
        return self.weakest.note


def weakest(found: Iterable[Quantity]) -> Quantity:
    """The one with the lowest level; the first of several."""
    return min(found, key=lambda one: LEVELS.index(one.level))


def quantity(level: str, runs: Sequence[Run], note: str) -> Quantity:
    """What ``runs`` say. ``note`` says the rest; that weights are synthetic is said here: memory and time of the same
    shapes hold, what comes out does not."""
    ids = tuple(run.id for run in runs[:_MOST_IDS])
    count = sum(run.weights != "real" for run in runs)
    whose = "" if not count else "; synthetic weights" if count == len(runs) else f"; {count} with synthetic weights"
    return Quantity(level, len(runs), note + whose, ids)


def counted(number: int, noun: str) -> str:
    """``"1 record"``, ``"3 records"``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def says(number: int) -> str:
    """What so many do: ``"says"`` of one."""
    return "says" if number == 1 else "say"


def span(values: Sequence[float], least: float) -> Interval[float]:
    """Median and range of those that agree, or their 5th and 95th percentile where there are many; ``least`` is the
    relative half-width of one more run."""
    from statistics import median, quantiles  # which a check without records does without

    middle, values = median(values), _agreeing(values)
    cuts = quantiles(values, n=20, method="inclusive") if len(values) >= _MANY else values
    return Interval(min(*cuts, middle * (1 - least)), middle, max(*cuts, middle * (1 + least)))


def span_of_bytes(values: Sequence[int]) -> Interval[int]:
    """The same of sizes, in whole bytes."""
    found = span(values, load("verdict", "evidence")["memory"]["run"])
    return Interval(int(found.low), round(found.best), round(found.high))


def apart(values: Sequence[float]) -> str:
    """That records contradict each other, or most of them the rest, as the end of a note; empty where they do not."""
    from statistics import median

    least, middle, most = min(values), median(values), max(values)
    if least <= 0 or max(most / middle, middle / least) <= _contradiction():
        return ""
    if odd := len(values) - len(_agreeing(values)):
        return f"; {odd} of them contradicted by the others"
    return f"; they contradict each other by a factor of {most / least:.1f}"


def _agreeing(values: Sequence[float]) -> Sequence[float]:
    """Those near the median where they are a clear majority, else all."""
    from statistics import median

    middle, far = median(values), _contradiction()
    near = [value for value in values if middle <= far * value and value <= far * middle]
    return near if len(near) >= MAJORITY * (len(values) - len(near)) else values


MORE_LESS, LONGER_QUICKER = ("times as much", "times less"), ("times as long", "times quicker")


def against(
    values: Sequence[float],
    estimate: Interval[int] | Interval[float] | None,
    words: tuple[str, str] = MORE_LESS,
) -> str:
    """That the estimate contradicts what was measured, as the end of a note; empty where it does not, or where there is
    none. ``words`` compare what is more, and what is less."""
    from statistics import median

    middle = median(values)
    if estimate is None or estimate.low <= 0 or middle <= 0:
        return ""
    if middle > _contradiction() * estimate.high:
        return f"; {middle / estimate.high:.1f} {words[0]} as is estimated at most"
    if middle * _contradiction() < estimate.low:
        return f"; {estimate.low / middle:.1f} {words[1]} than is estimated at least"
    return ""


def _contradiction() -> float:
    return float(load("verdict", "evidence")["contradiction"]["factor"])

"""Seconds as a function of how far each part of them is off, so that a record can say which part that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isfinite

from fitcheck.dataclass_later import dataclass

LAUNCHES = "launches"
WHOLE = "seconds"  # the name of a duration that is not made of rates

# part → seconds that are measured over those that are predicted
Factors = Mapping[str, float]
# how far a part's factor is moved to see what it changes
_STEP = 0.02


@dataclass(frozen=True, slots=True)
class Strand:
    """``count`` passes of one kind at the best estimate, in seconds each: ``work`` on the card by part, ``launches`` on
    the host beside it, copies ``ahead`` that hide behind both, and copies that are ``waited`` for."""

    count: float
    work: tuple[float, ...]
    launches: float = 0.0
    ahead: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Strands one after the other. ``parts`` names their work, ``link`` the copies; ``exponent`` is how work and
    launches combine (speed/data/rates.json)."""

    parts: tuple[str, ...]
    strands: tuple[Strand, ...]
    link: str = ""
    exponent: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """The parts that take any time here."""
        sums = [sum(one.work[index] for one in self.strands) for index in range(len(self.parts))]
        found = [name for name, amount in zip(self.parts, sums, strict=True) if amount]
        if any(one.launches for one in self.strands):
            found.append(LAUNCHES)
        if any(one.ahead or one.waited for one in self.strands):
            found.append(self.link)
        return tuple(found)

    def seconds(self, factors: Factors) -> float:
        """Seconds where each part takes ``factors`` times as long as predicted; parts not named as predicted."""
        work = [factors.get(name, 1.0) for name in self.parts]
        launches, link, exponent = factors.get(LAUNCHES, 1.0), factors.get(self.link, 1.0), self.exponent
        total = 0.0
        for one in self.strands:
            device = sum(factor * amount for factor, amount in zip(work, one.work, strict=True))
            host = launches * one.launches
            busy = device + host if exponent == 1.0 else _combined(device, host, exponent)
            total += one.count * (max(busy, link * one.ahead) + link * one.waited)
        return total

    @property
    def copies(self) -> Timing:
        """The copies alone, one after the other."""
        nothing = (0.0,) * len(self.parts)
        alone = (Strand(one.count, nothing, waited=one.ahead + one.waited) for one in self.strands)
        return replace(self, strands=tuple(alone))

    def shares(self, factors: Factors) -> dict[str, float]:
        """By how much of a per cent the seconds grow when a part grows by one per cent, by part."""
        now = self.seconds(factors)
        found = {}
        for name in self.names:
            moved = self.seconds({**factors, name: factors.get(name, 1.0) * (1 + _STEP)})
            found[name] = (moved / now - 1) / _STEP if now else 0.0
        return found


def _combined(device: float, host: float, exponent: float) -> float:
    """The host issues kernels while the card works: together nearly the longer of the two."""
    longer, shorter = (device, host) if device >= host else (host, device)
    return longer * (1 + (shorter / longer) ** exponent) ** (1 / exponent) if longer else 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """Measured ``seconds`` of what ``timing`` predicts. ``name`` is which of a cell's timings it is a measurement of;
    a name that no cell's timing has tells of parts alone."""

    name: str
    timing: Timing
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether both are times that something can take."""
        return isfinite(self.seconds) and self.seconds > 0 and self.timing.seconds({}) > 0


def whole(name: str, seconds: float) -> Timing:
    """Seconds of which nothing is known but how many: one part."""
    return Timing((name,), (Strand(1, (seconds,)),))


def merged(strands: Iterable[Strand]) -> tuple[Strand, ...]:
    """Strands that are alike counted together."""
    alike: dict[tuple[tuple[float, ...], float, float, float], float] = {}
    for one in strands:
        single = one.work, one.launches, one.ahead, one.waited
        alike[single] = alike.get(single, 0.0) + one.count
    return tuple(Strand(count, *single) for single, count in alike.items())

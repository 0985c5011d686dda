"""Which of a row of revisions brought a change, from noisy measurements: probabilistic bisection.

After each measurement every place of the change has a probability: that of the measurements so far if the revisions
before it share one level and the rest another, with both levels and the noise unknown (flat and scaled inverse
chi-squared priors, integrated out). The next measurement goes where the change lies to either side with even odds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fitcheck.records.regressions.statistics import Scale

SURE = 0.97


@dataclass(slots=True)
class Bisection:
    """``count`` revisions, oldest first: the first is known to be good, the last bad. ``prior``: what is known of one
    measurement's standard deviation, as a logarithm."""

    count: int
    prior: Scale
    measured: list[tuple[int, float]] = field(default_factory=list)
    skipped: set[int] = field(default_factory=set)

    def add(self, index: int, value: float) -> None:
        """A measurement of the revision at ``index``: positive, in the metric's unit."""
        self.measured.append((index, math.log(value)))

    def skip(self, index: int) -> None:
        """The revision at ``index`` cannot be measured."""
        self.skipped.add(index)

    def odds(self) -> list[float]:
        """Probability that the first bad revision is the one at index 1, 2, … ``count`` - 1."""
        weights = [self._weight(place) for place in range(1, self.count)]
        highest = max(weights)
        scaled = [math.exp(weight - highest) for weight in weights]
        total = sum(scaled)
        return [weight / total for weight in scaled]

    def _weight(self, place: int) -> float:
        sides: tuple[list[float], list[float]] = ([], [])
        for index, value in self.measured:
            sides[index >= place].append(value)
        squares, weight = self.prior.df * self.prior.sd**2, 0.0
        for side in sides:
            if side:
                mean = sum(side) / len(side)
                squares += sum((value - mean) ** 2 for value in side)
                weight -= math.log(len(side)) / 2
        freedom = self.prior.df + len(self.measured) - sum(bool(side) for side in sides)
        return weight - freedom / 2 * math.log(squares)

    def next(self) -> int | None:
        """The index to measure next: the two ends first; None when the first bad revision is known well enough or
        nothing is left to measure."""
        seen = {index for index, _ in self.measured}
        for end in (0, self.count - 1):
            if end not in seen:
                return end
        odds = self.odds()
        if max(odds) >= SURE or self.count <= 2:
            return None
        below, choices = 0.0, []
        for index in range(1, self.count):
            below += odds[index - 1]  # the probability that this revision is bad
            if index not in self.skipped:
                choices.append((abs(below - 0.5), index))
        return min(choices)[1] if choices else None

    def found(self) -> tuple[int, float]:
        """The likeliest first bad index, and its probability."""
        odds = self.odds()
        best = max(range(len(odds)), key=odds.__getitem__)
        return best + 1, odds[best]

    def candidates(self, mass: float = 0.95) -> list[int]:
        """The fewest indices that hold the change with the probability ``mass``, in order."""
        odds = self.odds()
        chosen: list[int] = []
        for place in sorted(range(len(odds)), key=odds.__getitem__, reverse=True):
            chosen.append(place + 1)
            if sum(odds[index - 1] for index in chosen) >= mass:
                break
        return sorted(chosen)

    def sides(self) -> tuple[list[float], list[float]]:
        """Logarithms measured before the likeliest change and after it."""
        place = self.found()[0]
        before: Sequence[float] = [value for index, value in self.measured if index < place]
        after: Sequence[float] = [value for index, value in self.measured if index >= place]
        return list(before), list(after)

"""Which of a row of revisions brought a change, from noisy measurements: probabilistic bisection.

After each measurement every place of the change has a probability: that of the measurements so far if the revisions
before it share one level and the rest another, with both levels and the noise unknown (flat and scaled inverse
chi-squared priors, integrated out). The next measurement goes where the change lies to either side with even odds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from statistics import fmean, median

from fitcheck.dataclass_later import dataclass
from fitcheck.records.regressions.statistics import Scale, median_variance

SURE = 0.97
# errors that the ends' levels are apart before the search begins
APART = 4.0
# how much nearer to even odds a new revision has to be, or one that was measured is measured again: a choice, anything
# from 0.1 to 0.3 finds as often
NEW = 0.2


@dataclass(slots=True)
class Bisection:
    """``count`` revisions, oldest first: the first is known to be good, the last bad. ``prior``: standard deviation of
    the logarithm of one timed value on the machine at hand. Never more than ``most`` revisions are measured; one that
    leaves doubt is measured again, ``most_runs`` runs in all."""

    count: int
    prior: Scale
    most: int = 12
    most_runs: int = 48
    measured: list[tuple[int, float]] = field(default_factory=list)
    skipped: set[int] = field(default_factory=set)
    _squares: float = 0.0
    _df: int = 0
    _factors: list[float] = field(default_factory=list)

    def add(self, index: int, values: Sequence[float]) -> None:
        """A run of the revision at ``index``: its timed values, positive, in the metric's unit."""
        logs = [math.log(value) for value in values]
        mean = fmean(logs)
        self.measured.append((index, median(logs)))
        self._squares += sum((log - mean) ** 2 for log in logs)
        self._df += len(logs) - 1
        self._factors.append(median_variance(len(logs)))

    def _scale(self) -> Scale:
        """Standard deviation of a run's median."""
        value = self.prior.pooled(self._squares, self._df, 4.0)
        return Scale(value.sd * math.sqrt(fmean(self._factors)), value.df)

    def _apart(self, good: Sequence[float], bad: Sequence[float]) -> bool:
        """Whether the levels of the two ends are known: a level that is off misleads every later step."""
        if not good or not bad:
            return False
        error = self._scale().sd * math.sqrt(1 / len(good) + 1 / len(bad))
        return abs(fmean(bad) - fmean(good)) > APART * error

    @property
    def steps(self) -> int:
        """Revisions that were tried."""
        return len({index for index, _ in self.measured} | self.skipped)

    def skip(self, index: int) -> None:
        """The revision at ``index`` cannot be measured."""
        self.skipped.add(index)

    def odds(self) -> list[float]:
        """Probability that the first bad revision is the one at index 1, 2, … ``count`` - 1."""
        scale = self._scale()
        weights = [self._weight(place, scale) for place in range(1, self.count)]
        highest = max(weights)
        scaled = [math.exp(weight - highest) for weight in weights]
        total = sum(scaled)
        return [weight / total for weight in scaled]

    def _weight(self, place: int, scale: Scale) -> float:
        sides: tuple[list[float], list[float]] = ([], [])
        for index, value in self.measured:
            sides[index >= place].append(value)
        squares, weight = scale.df * scale.sd**2, 0.0
        for side in sides:
            if side:
                mean = sum(side) / len(side)
                squares += sum((value - mean) ** 2 for value in side)
                weight -= math.log(len(side)) / 2
        freedom = scale.df + len(self.measured) - sum(bool(side) for side in sides)
        return weight - freedom / 2 * math.log(squares)

    def next(self) -> int | None:
        """The index to measure next: the two ends in turns until they are apart; None when the first bad revision is
        known well enough or no run is left."""
        if len(self.measured) >= self.most_runs:
            return None
        seen = {index for index, _ in self.measured}
        ends = {end: [value for index, value in self.measured if index == end] for end in (0, self.count - 1)}
        fewest = min(ends, key=lambda end: len(ends[end]))
        if not self._apart(*ends.values()) and len(ends[fewest]) < self.most_runs // 4:
            return fewest
        odds = self.odds()
        if max(odds) >= SURE:
            return None
        allowed = range(1, self.count) if self.steps < self.most else sorted(seen - {0})
        below, choices = 0.0, []
        for index in range(1, self.count):
            below += odds[index - 1]  # the probability that this revision is bad
            if index in allowed and index not in self.skipped:
                choices.append((abs(below - 0.5) + (0.0 if index in seen else NEW), index))
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

    def medians(self) -> tuple[float, float]:
        """The levels before the likeliest change and after it, in the metric's unit."""
        place = self.found()[0]
        before = median(value for index, value in self.measured if index < place)
        after = median(value for index, value in self.measured if index >= place)
        return math.exp(before), math.exp(after)

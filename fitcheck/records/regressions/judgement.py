"""What can be said about one metric of one series on two sides, as data."""

from __future__ import annotations

from enum import StrEnum

from fitcheck.dataclass_later import dataclass
from fitcheck.records.regressions.explanations import Explanation
from fitcheck.records.regressions.metrics import Metric
from fitcheck.records.regressions.tracked_series import Series, VersionChange, causes


class SeriesVerdict(StrEnum):
    """``explained``: worse, but something other than the versions accounts for it. ``acknowledged``: a regression that
    was accepted with a reason."""

    REGRESSION = "regression"
    EXPLAINED = "explained"
    ACKNOWLEDGED = "acknowledged"
    UNCLEAR = "cannot tell"
    IMPROVEMENT = "improvement"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Limits:
    """``effect``: the smallest ratio - 1 that matters, what "unchanged" and the wanted repeats refer to. ``least``: no
    alarm for less than this, however sure. ``level``: the one-sided error of one comparison. ``discovery``: the share
    of false ones among all changes found together (Benjamini-Hochberg)."""

    effect: float = 0.05
    least: float = 0.02
    level: float = 0.01
    discovery: float = 0.05


@dataclass(frozen=True, slots=True)
class Side:
    """Runs of one side: their number, the timed values in them, the median run in the metric's unit, first and last
    time in UTC seconds, and record ids."""

    runs: int
    values: int
    value: float
    first: int
    last: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the estimator says of the newer side, and the ratio that it expects between the sides, if it knows both.
    ``missed``: the newer side is worse than even the pessimistic end, by more than the effect that matters."""

    low: float
    best: float
    high: float
    ratio: float | None
    missed: bool = False


@dataclass(frozen=True, slots=True)
class SeriesJudgement:
    """``ratio`` is candidate to baseline with its interval; for exact memory the interval is the ratio itself. ``p`` is
    one-sided, ``q`` adjusted for all comparisons made together; ``repeats`` are runs a side to be sure of the wished
    effect."""

    series: Series
    metric: Metric
    verdict: SeriesVerdict
    reason: str
    baseline: Side | None = None
    candidate: Side | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    q: float | None = None
    rank: float | None = None
    repeats: int | None = None
    changes: tuple[VersionChange, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    notes: tuple[str, ...] = ()
    expected: Expected | None = None

    @property
    def confounded(self) -> bool:
        """Whether more than one thing that could be the cause changed between the sides."""
        return len(causes(self.changes)) > 1

    @property
    def alarm(self) -> bool:
        """Whether it is a regression that nothing explains and nobody acknowledged."""
        return self.verdict is SeriesVerdict.REGRESSION

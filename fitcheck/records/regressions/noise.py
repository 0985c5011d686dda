"""How much equal runs differ, learnt from repeats: for each card and workload, drawn towards the card's, and that
towards what this project's own records show (``data/timing_noise.json``).

Two levels count. Values within a run share its process, its machine and its temperature; runs of the same state differ
by more than that. A comparison rests on runs, so it is their scatter that decides, corrected for how many values each
run is the median of.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import field
from functools import cache
from pathlib import Path
from statistics import fmean

from fitcheck.dataclass_later import dataclass
from fitcheck.records.regressions.metrics import Metric
from fitcheck.records.regressions.statistics import LEAST_SD, Scale, median_variance
from fitcheck.records.regressions.tracked_runs import TrackedRun
from fitcheck.records.regressions.tracked_series import Series, State

DATA = Path(__file__).parents[1] / "data" / "timing_noise.json"
# a level above counts at most as much as this many repeats: a choice, no fit
_PRIOR_WEIGHT = 4.0
_MOST_RESIDUALS = 2000

Group = tuple[str, str, str]


@dataclass(slots=True)
class Squares:
    """Sums of squared deviations of logarithms: of runs from their state's mean and of values from their run's."""

    runs: float = 0.0
    runs_df: int = 0
    values: float = 0.0
    values_df: int = 0
    factors: float = 0.0
    repeated: int = 0
    residuals: list[float] = field(default_factory=list)

    def add(self, runs: Sequence[tuple[float, ...]]) -> None:
        """Runs of one state, each the positive values that it measured."""
        middles = []
        for values in runs:
            logs = [math.log(value) for value in values]
            mean = fmean(logs)
            self.values += sum((log - mean) ** 2 for log in logs)
            self.values_df += len(logs) - 1
            middles.append(_median(logs))
        if len(middles) > 1:
            mean, stretch = fmean(middles), math.sqrt(len(middles) / (len(middles) - 1))
            self.runs += sum((log - mean) ** 2 for log in middles)
            self.runs_df += len(middles) - 1
            self.factors += sum(median_variance(len(values)) for values in runs)
            self.repeated += len(runs)
            self.residuals += [(log - mean) * stretch for log in middles]

    def merge(self, other: Squares) -> None:
        """Adds the other's sums, degrees of freedom and counts to this one in place."""
        self.runs += other.runs
        self.runs_df += other.runs_df
        self.values += other.values
        self.values_df += other.values_df
        self.factors += other.factors
        self.repeated += other.repeated

    @property
    def factor(self) -> float:
        """Mean variance of a run's median in units of a value's, over the repeated runs."""
        return self.factors / self.repeated if self.repeated else 0.0


def _median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


@dataclass(frozen=True, slots=True)
class Spread:
    """``run``: scatter of runs that are each a median whose variance is ``factor`` times a value's; ``value``: scatter
    of values within a run. ``pool``: residuals of runs in units of their standard deviation."""

    run: Scale
    value: Scale
    factor: float
    pool: tuple[float, ...] = ()

    def of(self, counts: Sequence[int]) -> float:
        """Standard deviation of the runs of a side whose medians are over ``counts`` values."""
        mine = fmean(median_variance(count) for count in counts)
        own = math.sqrt(max(self.run.sd**2 + self.value.sd**2 * (mine - self.factor), 0.0))
        if mine < self.factor:  # more values a run: that helps down to what is known of values, no further
            own = min(self.run.sd, max(own, self.value.sd * math.sqrt(mine)))
        return max(own, LEAST_SD)

    def below(self, found: Squares) -> Spread:
        """This spread as the prior of what was ``found`` on the level below."""
        run = self.run.pooled(found.runs, found.runs_df, _PRIOR_WEIGHT)
        weight = min(self.run.df, _PRIOR_WEIGHT)
        factor = (weight * self.factor + found.runs_df * found.factor) / (weight + found.runs_df)
        value = self.value.pooled(found.values, found.values_df, _PRIOR_WEIGHT)
        return Spread(run, value, factor, _pool(found.residuals) or self.pool)


def _pool(residuals: Sequence[float]) -> tuple[float, ...]:
    size = math.sqrt(fmean(residual**2 for residual in residuals)) if residuals else 0.0
    return tuple(residual / size for residual in residuals[:_MOST_RESIDUALS]) if size > 0 else ()


class Noise:
    """What was learnt from groups of runs of any series, states and cards. Runs of one state are repeats
    within a group only: two sides that nothing tells apart must not explain their own difference away."""

    def __init__(self, *groups: Iterable[TrackedRun]) -> None:
        self._cards: dict[tuple[str, str], Squares] = defaultdict(Squares)
        self._groups: dict[Group, Squares] = defaultdict(Squares)
        self._ranges: dict[tuple[str, ...], float] = defaultdict(float)
        self._known: dict[Group, Spread] = {}
        for runs in groups:
            self._learn(runs)
        for (card, _, name), squares in self._groups.items():
            self._cards[card, name].merge(squares)

    def _learn(self, runs: Iterable[TrackedRun]) -> None:
        repeats: dict[tuple[Series, State, Metric], list[tuple[float, ...]]] = defaultdict(list)
        for run in runs:
            for found in run.measured.values():
                repeats[run.series, run.state, found.metric].append(found.values)
        for (series, _, metric), values in repeats.items():
            if metric.exact:
                self._learn_range(series, metric, [value for run in values for value in run])
            else:
                self._groups[series.card, series.workload, metric.name].add(values)

    def _learn_range(self, series: Series, metric: Metric, values: Sequence[float]) -> None:
        width = max(values) - min(values)
        for key in ((series.id, metric.name), (series.placement, metric.name)):
            self._ranges[key] = max(self._ranges[key], width)

    def spread(self, series: Series, metric: Metric) -> Spread:
        """The scatter of a metric's runs in this series."""
        key = series.card, series.workload, metric.name
        if key not in self._known:
            card = default(metric.unit).below(self._cards.get((series.card, metric.name), Squares()))
            self._known[key] = card.below(self._groups.get(key, Squares()))
        return self._known[key]

    def tolerance(self, series: Series, metric: Metric) -> float:
        """Bytes by which two runs of an exact metric may differ: the allocator's step, or as much as repeats of one
        state of this series, or of this program and placement, differed."""
        keys = ((series.id, metric.name), (series.placement, metric.name))
        return max(float(metric.step or 0), *(self._ranges.get(key, 0.0) for key in keys))


@cache
def default(unit: str) -> Spread:
    """The scatter where nobody repeated anything: what this project's own records of that unit show; the scatter of
    seconds stands in for units that none of them has."""
    scales = json.loads(DATA.read_bytes())["units"]
    found = scales.get(unit, scales["s"])
    return Spread(Scale(found["run_sd"], found["run_df"]), Scale(found["value_sd"], found["value_df"]), found["factor"])

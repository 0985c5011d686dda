"""Change points of a series over time: when it changed, by how much, and what changed with it.

Optimal partitioning by penalized least squares (ruptures' KernelCPD with the linear kernel), on logarithms whose lone
outliers were pulled in; then each change found is judged like any comparison. There a change has to last for two
points: a lone last one is for ``comparison``. In a history of fewer than seven points each change of versions is judged
instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import median
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.records.regressions.comparison import expected_of, judge, settle
from fitcheck.records.regressions.judgement import Expected, Limits, SeriesJudgement, SeriesVerdict
from fitcheck.records.regressions.metrics import Metric
from fitcheck.records.regressions.noise import Noise
from fitcheck.records.regressions.statistics import Scale
from fitcheck.records.regressions.tracked_runs import Expectation, TrackedRun, by_series
from fitcheck.records.regressions.tracked_series import Series, Values

_WINDOW = 7
_DAY = 86_400
_PULLED = 3.0
# what a scale from differences of neighbours is worth beside one from repeats, as a share of the points
_DIFFERENCE_SHARE = 0.5
# median absolute deviation of a normal distribution -> standard deviation
_NORMAL_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Point:
    """``value`` of one run in the metric's unit; ``created`` UTC seconds."""

    created: int
    value: float
    id: str


@dataclass(frozen=True, slots=True)
class Track:
    """One metric of one series over time: its points, a judgement at each index where it changed, and what is expected
    of its latest level."""

    series: Series
    metric: Metric
    points: tuple[Point, ...]
    changes: tuple[tuple[int, SeriesJudgement], ...]
    notes: tuple[str, ...] = ()
    expected: Expected | None = None


def tracks(
    runs: Sequence[TrackedRun],
    noise: Noise,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    expectation: Expectation | None = None,
) -> list[Track]:
    """Every metric of every series, oldest point first."""
    found: list[Track] = []
    for series, members in by_series(runs).items():
        members = in_turns(members)
        notes = tuple(backwards(members))
        metrics = dict.fromkeys(one.metric for run in members for one in run.measured.values())
        found += [_track(series, metric, members, noise, limits, expectation, notes) for metric in metrics]
    return _settled(found, limits)


def _track(
    series: Series,
    metric: Metric,
    members: Sequence[TrackedRun],
    noise: Noise,
    limits: Limits,
    expectation: Expectation | None,
    notes: tuple[str, ...],
) -> Track:
    runs = [run for run in members if metric.name in run.measured]
    values = [run.measured[metric.name].value for run in runs]
    if metric.exact:
        cuts = exact_changes(values, noise.tolerance(series, metric))
    elif len(runs) < _WINDOW:
        cuts = [at for at in range(1, len(runs)) if runs[at].state.versions != runs[at - 1].state.versions]
    else:
        spread = noise.spread(series, metric)
        counts = [len(run.measured[metric.name].values) for run in runs]
        cuts = change_points([math.log(value) for value in values], Scale(spread.of(counts), spread.run.df))
    points = tuple(Point(run.created, value, run.id) for run, value in zip(runs, values, strict=True))
    bounds = [0, *cuts, len(runs)]
    changes = []
    for start, cut, end in zip(bounds, bounds[1:], bounds[2:], strict=False):
        changes.append((cut, judge(series, metric, runs[start:cut], runs[cut:end], noise, limits, expectation)))
    latest = bounds[-2]
    expected = expected_of(metric, runs[:latest], runs[latest:], expectation, limits)
    return Track(series, metric, points, tuple(changes), notes, expected)


def _settled(found: Sequence[Track], limits: Limits) -> list[Track]:
    """All changes of all tracks adjusted together; what turns out to be none, or too unsure, is dropped."""
    judged = settle([judgement for track in found for _, judgement in track.changes], limits)
    left = iter(judged)
    none = (SeriesVerdict.UNCLEAR, SeriesVerdict.UNCHANGED)
    return [
        replace(track, changes=tuple((cut, one) for cut, one in changes if one.verdict not in none))
        for track in found
        for changes in [[(cut, next(left)) for cut, _ in track.changes]]
    ]


def exact_changes(values: Sequence[float], tolerance: float) -> list[int]:
    """Indices at which a value that should repeat exactly leaves what it was since the last such index."""
    cuts, start = [], 0
    for index in range(1, len(values)):
        if abs(values[index] - median(values[start:index])) > tolerance:
            cuts.append(index)
            start = index
    return cuts


def change_points(logs: Sequence[float], prior: Scale) -> list[int]:
    """Indices at which a new level begins. ``logs``: logarithms, oldest first; ``prior``: what is known of one point's
    standard deviation. The points themselves tell theirs too, by the differences of neighbours. None are found in
    fewer than seven points."""
    if len(logs) < _WINDOW:
        return []
    import numpy as np
    from ruptures.detection.kernelcpd import KernelCPD

    signal = np.asarray(logs, dtype=float)
    scale = _scale(signal, prior)
    signal = _pull_in(signal, scale.sd)
    # a split lowers the squares by the variance times the square of its own test statistic
    penalty = (_threshold(len(signal), round(scale.df, 1)) * scale.sd) ** 2
    fitted = KernelCPD(kernel="linear", min_size=2).fit(signal.reshape(-1, 1))
    return [int(cut) for cut in fitted.predict(pen=penalty)[:-1]]


def _scale(signal: Any, prior: Scale) -> Scale:
    import numpy as np

    differences = np.diff(signal)
    bound = _PULLED * _NORMAL_MAD * float(np.median(np.abs(differences)))
    # pulled in, a step counts no more than any outlier; the median alone would miss that noise has long tails
    own = math.sqrt(float(np.mean(np.clip(differences, -bound, bound) ** 2)) / 2)
    df = _DIFFERENCE_SHARE * len(signal)
    pooled = prior.pooled(df * own**2, df, max(4.0, min(prior.df, df)))
    return Scale(max(pooled.sd, 1e-6), pooled.df)


def _pull_in(signal: Any, sd: float) -> Any:
    """Lone outliers at three standard deviations from the median of the seven points around them."""
    import numpy as np

    half = _WINDOW // 2
    padded = np.pad(signal, half, mode="edge")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, _WINDOW), axis=1)
    return np.clip(signal, middle - _PULLED * sd, middle + _PULLED * sd)


@lru_cache(maxsize=4096)
def _threshold(count: int, df: float) -> float:
    """Test statistic that a flat history exceeds somewhere in one of 200 cases: a two-sided test at as many places as
    are nearly independent, which grow with the logarithm of the length (the statistic of all splits is an
    Ornstein-Uhlenbeck process in the logarithm of the odds of the two lengths)."""
    from scipy import stats

    places = 1 + 4 * math.log(count)
    return float(stats.t.isf(0.005 / 2 / places, max(df, 1.0)))


def in_turns(runs: Sequence[TrackedRun]) -> list[TrackedRun]:
    """``runs``, oldest day first. Versions that were measured on one day stand one after the other, the lower number or
    the one seen earlier first: to measure two in turns, so that nothing that drifts favours either, is no downgrade."""
    seen: dict[tuple[int, Values], int] = {}
    for run in runs:
        seen.setdefault((run.created // _DAY, run.state.versions), run.created)

    def place(run: TrackedRun) -> tuple[int, list[tuple[int, ...]], int, int]:
        day, versions = run.created // _DAY, run.state.versions
        return day, [_number(value) for _, value in versions], seen[day, versions], run.created

    return sorted(runs, key=place)


def backwards(runs: Sequence[TrackedRun]) -> Iterator[str]:
    """Where a version is lower than an earlier record's: a downgrade, or a clock that went backwards."""
    newest: dict[str, tuple[tuple[int, ...], str]] = {}
    told = set()
    for run in runs:
        for name, value in run.state.versions:
            number = _number(value)
            if name in newest and number < newest[name][0] and name not in told:
                told.add(name)
                yield f"{name} {value} comes after {newest[name][1]}: a downgrade, or a clock went backwards"
            if number and (name not in newest or number > newest[name][0]):
                newest[name] = number, value


def _number(version: str) -> tuple[int, ...]:
    """Numbers of a dotted version; none of a name or a commit."""
    match = re.match(r"v?(\d{1,9}(?:\.\d{1,9})+)", version)
    return tuple(map(int, match.group(1).split("."))) if match else ()

"""Two sides against each other, series by series: memory exactly, everything else with statistics."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from fitcheck.records.regressions.explanations import explain
from fitcheck.records.regressions.judgement import Expected, Limits, SeriesJudgement, SeriesVerdict, Side
from fitcheck.records.regressions.metrics import Metric, MetricValues
from fitcheck.records.regressions.noise import Noise
from fitcheck.records.regressions.statistics import RANK_LEVEL, Shift, false_discovery, rank_test, repeats_needed, shift
from fitcheck.records.regressions.tracked_runs import Expectation, TrackedRun, by_series
from fitcheck.records.regressions.tracked_series import Series, VersionChange, causes, changed

# whether runs finished at all, and a cell of which nothing can be compared
OUTCOME, EVERYTHING = Metric("outcome", ""), Metric("everything", "")


def compare(
    baseline: Sequence[TrackedRun],
    candidate: Sequence[TrackedRun],
    noise: Noise,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    expectation: Expectation | None = None,
) -> list[SeriesJudgement]:
    """A judgement for each metric of each series of the candidate, p values adjusted over all of them.

    ``noise`` should have learnt from all runs there are, both sides among them.
    """
    old = by_series(baseline)
    found: list[SeriesJudgement] = []
    for series, runs in by_series(candidate).items():
        if series in old:
            found += judge_series(series, old[series], runs, noise, limits, expectation)
        else:
            found += _without_baseline(series, runs, list(old), noise, limits, expectation)
    return settle(found, limits)


def judge_series(
    series: Series,
    old: Sequence[TrackedRun],
    new: Sequence[TrackedRun],
    noise: Noise,
    limits: Limits,
    expectation: Expectation | None = None,
) -> Iterator[SeriesJudgement]:
    """One series' metrics, before p values are adjusted: see ``settle``."""
    failed = _outcome(series, old, new)
    if failed is not None:
        yield failed
    for metric in _metrics(new):
        before, after = _with(old, metric), _with(new, metric)
        if before:
            yield judge(series, metric, before, after, noise, limits, expectation)
        else:
            yield _unclear(series, metric, after, "the baseline did not measure it")


def judge(
    series: Series,
    metric: Metric,
    old: Sequence[TrackedRun],
    new: Sequence[TrackedRun],
    noise: Noise,
    limits: Limits,
    expectation: Expectation | None = None,
) -> SeriesJudgement:
    """One metric that all runs of both sides measured, before p values are adjusted."""
    found = (_exactly if metric.exact else _statistically)(series, metric, old, new, noise, limits)
    notes = (*found.notes, *_oddities(old, new))
    return replace(found, notes=notes, expected=_expected(metric, old, new, expectation))


def settle(found: Sequence[SeriesJudgement], limits: Limits) -> list[SeriesJudgement]:
    """Adjust the p values of everything judged together; a change that does not survive that is none we can tell."""
    tested = [index for index, judgement in enumerate(found) if judgement.p is not None]
    adjusted = false_discovery([found[index].p or 0.0 for index in tested])
    settled = list(found)
    for index, q in zip(tested, adjusted, strict=True):
        settled[index] = _settled(replace(found[index], q=q), limits)
    return settled


def _settled(judgement: SeriesJudgement, limits: Limits) -> SeriesJudgement:
    changing = judgement.verdict in (SeriesVerdict.REGRESSION, SeriesVerdict.EXPLAINED, SeriesVerdict.IMPROVEMENT)
    if changing and (judgement.q or 0.0) > limits.discovery:
        reason = f"looks like a change, but not among so many comparisons (adjusted p {judgement.q:.2g})"
        return replace(judgement, verdict=SeriesVerdict.UNCLEAR, reason=_and_repeats(reason, judgement.repeats, limits))
    return judgement


def _metrics(runs: Sequence[TrackedRun]) -> list[Metric]:
    return list(dict.fromkeys(found.metric for run in runs for found in run.measured.values()))


def _with(runs: Sequence[TrackedRun], metric: Metric) -> list[TrackedRun]:
    return [run for run in runs if metric.name in run.measured]


def _side(metric: Metric, runs: Sequence[TrackedRun]) -> Side:
    found = [run.measured[metric.name] for run in runs]
    times = [run.created for run in runs]
    return Side(
        len(runs),
        sum(len(one.values) for one in found),
        float(median(one.value for one in found)),
        min(times),
        max(times),
        tuple(run.id for run in runs),
    )


def _outcome(series: Series, old: Sequence[TrackedRun], new: Sequence[TrackedRun]) -> SeriesJudgement | None:
    """Runs that used to finish and do not any more need no statistics."""
    before, after = ([run.record.outcome.result for run in runs] for runs in (old, new))
    if all(result == "ok" for result in after) or "ok" not in before:
        return None
    bad = sorted({result for result in after if result != "ok"})
    count = sum(result != "ok" for result in after)
    reason = f"{count} of {len(after)} runs did not finish ({', '.join(bad)}); the baseline finished"
    verdict = SeriesVerdict.REGRESSION if "ok" not in after else SeriesVerdict.UNCLEAR
    changes = changed([run.state for run in old], [run.state for run in new])
    return SeriesJudgement(series, OUTCOME, verdict, reason, changes=changes)


def _exactly(
    series: Series, metric: Metric, old: Sequence[TrackedRun], new: Sequence[TrackedRun], noise: Noise, limits: Limits
) -> SeriesJudgement:
    before, after = _side(metric, old), _side(metric, new)
    difference, tolerance = after.value - before.value, noise.tolerance(series, metric)
    changes = changed([run.state for run in old], [run.state for run in new])
    ratio = after.value / before.value
    why = f"{_bytes(difference)} where equal runs differ by at most {_bytes(tolerance, sign=False)}"
    if abs(difference) <= tolerance:
        verdict = SeriesVerdict.UNCHANGED
    else:
        verdict = SeriesVerdict.REGRESSION if difference > 0 else SeriesVerdict.IMPROVEMENT
        why += _blame(changes)
    return SeriesJudgement(series, metric, verdict, why, before, after, ratio, ratio, ratio, changes=changes)


def _statistically(
    series: Series, metric: Metric, old: Sequence[TrackedRun], new: Sequence[TrackedRun], noise: Noise, limits: Limits
) -> SeriesJudgement:
    spread = noise.spread(series, metric)
    sides = [[run.measured[metric.name] for run in runs] for runs in (old, new)]
    before, after = ([math.log(found.value) for found in side] for side in sides)
    sds = tuple(spread.of([len(found.values) for found in side]) for side in sides)
    moved = shift(before, after, (sds[0], sds[1]), spread.run.df, spread.pool, limits.level)
    moved = replace(moved, rank=_rank(sides[0], sides[1], moved))
    needed = repeats_needed(max(sds), limits.effect, limits.level)
    changes = changed([run.state for run in old], [run.state for run in new])
    judgement = SeriesJudgement(
        series,
        metric,
        SeriesVerdict.UNCLEAR,
        "",
        _side(metric, old),
        _side(metric, new),
        math.exp(moved.value),
        math.exp(moved.low),
        math.exp(moved.high),
        moved.p,
        rank=moved.rank,
        repeats=needed,
        changes=changes,
    )
    return _decide(judgement, moved, old, new, limits)


def _rank(old: Sequence[MetricValues], new: Sequence[MetricValues], moved: Shift) -> float | None:
    """The rank test over runs; with one run a side over its timed values, which can only speak against a change."""
    if moved.rank is not None or max(len(old), len(new)) > 1:
        return moved.rank
    return rank_test(old[0].values, new[0].values)


def _decide(
    judgement: SeriesJudgement, moved: Shift, old: Sequence[TrackedRun], new: Sequence[TrackedRun], limits: Limits
) -> SeriesJudgement:
    worse = (moved.value > 0) is not judgement.metric.higher
    size, bound = abs(moved.value), math.log1p(limits.effect)
    sure = moved.low > 0 or moved.high < 0
    if sure and size >= math.log1p(limits.least) and not _against(moved):
        if not worse:
            return replace(judgement, verdict=SeriesVerdict.IMPROVEMENT, reason=f"better{_blame(judgement.changes)}")
        reasons = explain(old, new, size)
        covering = [reason.text for reason in reasons if reason.covers]
        verdict = SeriesVerdict.EXPLAINED if covering else SeriesVerdict.REGRESSION
        text = f"worse, but {covering[0]}: measure again" if covering else f"worse{_blame(judgement.changes)}"
        return replace(judgement, verdict=verdict, reason=text, explanations=reasons)
    if -bound < moved.low and moved.high < bound:
        return replace(judgement, verdict=SeriesVerdict.UNCHANGED, reason=f"within {limits.effect:.0%} for sure")
    return replace(judgement, reason=_and_repeats(_doubt(moved, judgement, limits), judgement.repeats, limits))


def _against(moved: Shift) -> bool:
    return moved.rank is not None and moved.rank > RANK_LEVEL


def _doubt(moved: Shift, judgement: SeriesJudgement, limits: Limits) -> str:
    old, new = judgement.baseline, judgement.candidate
    if _against(moved):
        return f"the medians differ but the runs' ranks do not (p {moved.rank:.2g})"
    if moved.low > 0 or moved.high < 0:
        return f"a change of less than {limits.least:.0%} or an unclear one"
    if old is not None and new is not None and min(old.runs, new.runs) == 1:
        return "one run on a side, and equal runs differ by too much"
    return "equal runs differ by too much"


def _and_repeats(reason: str, repeats: int | None, limits: Limits) -> str:
    if repeats is None:
        return f"{reason}; no number of repeats would show {limits.effect:.0%}: steady the machine first"
    return f"{reason}; to see {limits.effect:.0%}, make {repeats} runs on each side, each in a fresh process"


def _blame(found: Sequence[VersionChange]) -> str:
    if not found:
        return "; nothing that records state has changed"
    named = "; ".join(str(change) for change in found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
    several = len(causes(found)) > 1
    return f", confounded: {named} changed together" if several else f" since {named}"


def _oddities(old: Sequence[TrackedRun], new: Sequence[TrackedRun]) -> Iterator[str]:
    if max(run.created for run in new) < min(run.created for run in old):
        day = datetime.datetime.fromtimestamp(max(run.created for run in new), datetime.UTC).date()
        yield f"the candidate ({day}) is older than the baseline: the sides are swapped, or a clock went backwards"
    for side, runs in (("baseline", old), ("candidate", new)):
        if len({run.state.versions for run in runs}) > 1:
            yield f"the {side} holds runs of several versions"
    digests = [
        {output.digest for run in runs if (output := getattr(run.record, "output", None))} for runs in (old, new)
    ]
    if digests[0] and digests[1] and not digests[0] & digests[1]:
        yield "the output is another one: the two sides do not compute the same"


def _expected(
    metric: Metric, old: Sequence[TrackedRun], new: Sequence[TrackedRun], expectation: Expectation | None
) -> Expected | None:
    after = None if expectation is None else expectation(new[-1].record, metric.name)
    if expectation is None or after is None:
        return None
    before = expectation(old[-1].record, metric.name) if old else None
    ratio = after.best / before.best if before is not None and before.best > 0 else None
    return Expected(after.low, after.best, after.high, ratio)


def _without_baseline(
    series: Series,
    runs: Sequence[TrackedRun],
    known: Sequence[Series],
    noise: Noise,
    limits: Limits,
    expectation: Expectation | None,
) -> Iterator[SeriesJudgement]:
    why = f"no baseline of this cell: {nearest(series, known)}"
    yield SeriesJudgement(series, EVERYTHING, SeriesVerdict.UNCLEAR, why, candidate=_runs(runs))
    for metric in _metrics(runs):
        new = _with(runs, metric)
        expected = _expected(metric, [], new, expectation)
        if expected is not None:
            yield _promised(_unclear(series, metric, new, why), expected)


def _runs(runs: Sequence[TrackedRun]) -> Side:
    times = [run.created for run in runs]
    return Side(len(runs), 0, 0.0, min(times), max(times), tuple(run.id for run in runs))


def _promised(judgement: SeriesJudgement, expected: Expected) -> SeriesJudgement:
    """Without a baseline, a run may still miss what the estimator says its release does."""
    side, higher = judgement.candidate, judgement.metric.higher
    value = side.value if side else expected.best
    missed = value < expected.low if higher else value > expected.high
    if not missed:
        return replace(judgement, expected=expected)
    bound = expected.low if higher else expected.high
    reason = f"no baseline, but worse than what is expected of this version even at the pessimistic end ({bound:.4g})"
    return replace(judgement, verdict=SeriesVerdict.REGRESSION, reason=reason, expected=expected)


def _unclear(series: Series, metric: Metric, runs: Sequence[TrackedRun], reason: str) -> SeriesJudgement:
    return SeriesJudgement(series, metric, SeriesVerdict.UNCLEAR, reason, candidate=_side(metric, runs))


def nearest(series: Series, known: Sequence[Series]) -> str:
    """Which of the known series is most like this one, and what tells them apart, in words."""
    if not known:
        return "there is none of any"
    closest = min(known, key=lambda other: len(series.differences(other)))
    parts = [
        f"{name} is {new or 'not stated'}, there {old or 'not stated'}"
        for name, (new, old) in series.differences(closest).items()
    ]
    return f"the nearest differs in {'; '.join(parts[:3])}" + (f" and {len(parts) - 3} more" if len(parts) > 3 else "")


def _bytes(count: float, sign: bool = True) -> str:
    plus = "+" if sign and count > 0 else ""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= size:
            return f"{plus}{count / size:.2f} {unit}"
    return f"{plus}{count:.0f} bytes"

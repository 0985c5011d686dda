"""Pairs that were measured in turns on one H100 (results/): the verdict beside all timed values pooled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fitcheck.records.regressions.comparison import compare
from fitcheck.records.regressions.intake import read_records
from fitcheck.records.regressions.judgement import Limits, SeriesJudgement, SeriesVerdict
from fitcheck.records.regressions.noise import Noise
from fitcheck.records.regressions.tracked_runs import TrackedRun, by_series, run_of
from fitcheck.verdict.promise import Promises

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Pair:
    """Two versions of one cell: which records are its, by what they differ, and the older one's value of it."""

    model: str
    change: str
    old: str
    across: tuple[str, ...] = ()
    since: int = 0


PAIRS = (
    Pair("sensenova-u1-8b-mot", "runtime.policy", "upstream", ("runtime.policy", "runtime.prefetch"), 1_795_716_000),
    Pair("sdxl", "diffusers", "0.35.2", since=1_795_716_000),
    Pair("sd1.5", "diffusers", "0.35.2"),
    Pair("llama-3.1-8b", "runtime.commit", "4227c9be4268ac844921b90f31595f81236bd317", since=1_795_716_000),
)
# pooled values of at least so many a side are tested, fewer have to lie apart
POOLED_LEVEL, POOLED_LEAST = 0.01, 10


def real() -> dict[str, Any]:
    """Every metric with noise of each pair: the verdict on the runs beside a rank test over all timed values."""
    # first prompts of a process are slow, which validation flags as a spread: here they are taken in
    taken = read_records([ROOT / "results"], time.time(), flagged=True)
    found = {pair.model: _pair(pair, [run_of(record, pair.across) for record in taken.records]) for pair in PAIRS}
    rows = [row for table in found.values() for row in table.values()]
    return {"pairs": found, "met": bool(rows) and all(row["agrees"] for row in rows)}


def _pair(pair: Pair, runs: Sequence[TrackedRun]) -> dict[str, Any]:
    old, new = sides(pair, runs)
    judged = compare(old, new, Noise(runs), expectation=Promises(run.record for run in runs if run not in new))
    return {one.metric.name: _beside_pooled(one, old, new) for one in judged}


def sides(pair: Pair, runs: Sequence[TrackedRun]) -> tuple[list[TrackedRun], list[TrackedRun]]:
    """The older and the newer runs of the one cell that was measured in both versions."""
    mine = [run for run in runs if run.created >= pair.since and run.series.get("model") == pair.model]
    series = [
        of for of in by_series(mine).values() if len({dict(run.state.versions).get(pair.change) for run in of}) == 2
    ]
    (cell,) = series
    old = [run for run in cell if dict(run.state.versions).get(pair.change) == pair.old]
    return old, [run for run in cell if run not in old]


def _beside_pooled(one: SeriesJudgement, old: Sequence[TrackedRun], new: Sequence[TrackedRun]) -> dict[str, Any]:
    """Whether a comparison agrees with what all values of both sides say together."""
    from scipy.stats import mannwhitneyu

    name = one.metric.name
    before, after = ([value for run in runs for value in run.measured[name].values] for runs in (old, new))
    ratio = float(np.median(after) / np.median(before))
    if min(len(before), len(after)) >= POOLED_LEAST and len({*before, *after}) > 1:
        p = float(mannwhitneyu(before, after).pvalue)
    else:
        p = 0.0 if max(before) < min(after) or max(after) < min(before) else 1.0
    better = ratio > 1 if one.metric.higher else ratio < 1
    sided = {SeriesVerdict.IMPROVEMENT: better, SeriesVerdict.REGRESSION: not better}
    if one.verdict in sided:
        agrees = sided[one.verdict] and p < POOLED_LEVEL
    elif one.verdict is SeriesVerdict.UNCHANGED:
        agrees = abs(ratio - 1) < Limits().effect
    else:
        agrees = p >= POOLED_LEVEL or abs(ratio - 1) < Limits().effect
    row = {
        "verdict": one.verdict.value,
        "ratio": one.ratio,
        "interval": [one.low, one.high],
        "runs": [len(old), len(new)],
    }
    return row | {"pooled": ratio, "p": p, "values": [len(before), len(after)], "agrees": bool(agrees)}

"""How well regressions are found: simulated, published and scripted ones, against the bars.

    python benchmarks/regressions.py [--only simulation points published real scale bisect] [--rounds 1000] [--json]

simulation  5 repeats a side, 2 % spread: false alarms at most 1 % a series, slowdowns of 5 % found in 80 %, 10 % 99 %
points      50-point histories with a 6 % step: its place within one point in 95 %
published   SenseNova-U1's PR 241 and PR 243 are found, sized and dated; reversed, they raise the alarm; what was
            measured before them, called by the name after them, raises it in every cell without a baseline
real        pairs that were measured in turns on one H100 (results/): the verdict agrees with all timed values pooled
scale       10,000 series of 200 points in 60 s on 2 cores with at most 2 GB
bisect      64 revisions, 3 % noise, one 8 % step: found in 95 %, in at most 12 revisions tried

Noise is drawn from the timed passes of the records in results/ (their residuals, scaled to the spread), and, for
comparison, from a normal distribution. Before each comparison the noise of the card and workload was learnt from ten
earlier states of five repeats each, drawn likewise. Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
from regression_pairs import real

from fitcheck.records import schema
from fitcheck.records.regressions.bisection import Bisection
from fitcheck.records.regressions.comparison import compare
from fitcheck.records.regressions.history import change_points, tracks
from fitcheck.records.regressions.intake import read_records
from fitcheck.records.regressions.judgement import SeriesJudgement, SeriesVerdict
from fitcheck.records.regressions.noise import Noise, Squares, default
from fitcheck.records.regressions.statistics import Scale
from fitcheck.records.regressions.tracked_runs import TrackedRun, by_series, run_of
from fitcheck.verdict.promise import Promises

ROOT = Path(__file__).parents[1]
PUBLISHED = "published_sensenova_u1.csv"
SPREAD = 0.02
LEARNT_STATES = 10
Draw = Callable[[int], Any]


def residuals() -> Any:
    """Logarithms of the timed passes in results/ around their record's mean, scaled to the spread. Shape (n,)."""
    found: list[float] = []
    for record in read_records([ROOT / "results"], time.time()).records:
        seconds = run_of(record).measured.get("seconds")
        if seconds is not None and len(seconds.values) > 1:
            logs = np.log(seconds.values)
            found += list((logs - logs.mean()) * math.sqrt(len(logs) / (len(logs) - 1)))
    return np.asarray(found) / np.std(found) * SPREAD


def draws(seed: int) -> dict[str, Draw]:
    generator, ours = np.random.default_rng(seed), residuals()
    return {
        "our records' noise": lambda count: generator.choice(ours, count),
        "normal noise": lambda count: generator.standard_normal(count) * SPREAD,
    }


def record(revision: str, created: int, totals: Sequence[float], **changes: Any) -> schema.PassRecord:
    values: dict[str, Any] = {
        "created": created,
        "source": schema.Source(tool="fitcheck-bench"),
        "machine": schema.MachineInfo(os="linux"),
        "software": schema.Software(torch="2.11.0"),
        "model": schema.ModelRef(slug="simulated", tier="Q8_0", weights="synthetic", tensor_digest="ab" * 32),
        "runtime": schema.RuntimeUsed(name="sensenova", revision=revision, mode="low"),
        "workload": schema.WorkloadSizes(task="t2i", width=2048, height=2048, steps=8, cfg=1.0),
        "card": schema.CardInfo(slug="h100-sxm5-80gb", name="NVIDIA H100", vendor="nvidia"),
        "protocol": schema.Protocol(name="simulation", version=1, warmup=0, repeats=max(len(totals), 1)),
        "samples": tuple(schema.Sample(total=float(total)) for total in totals),
        "memory": schema.Memory(),
        "outcome": schema.Outcome(result="ok"),
    }
    return schema.PassRecord(**(values | changes))


def side(
    draw: Draw, revision: str, within: bool, slower: float = 1.0, created: int = 1_790_000_000
) -> list[TrackedRun]:
    """Five repeats: passes of one process, or one pass in each of five."""
    totals = 10 * slower * np.exp(draw(5))
    groups = [totals] if within else [[total] for total in totals]
    return [run_of(record(revision, created + place, group)) for place, group in enumerate(groups)]


def simulation(rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    shares = ((0.0, 3 * rounds), (0.05, rounds), (0.1, rounds))  # rare alarms need more rounds to be counted
    for name, draw in draws(1).items():
        for within in (False, True):
            where = f"{name}, {'one process' if within else 'five processes'} a side"
            found[where] = {f"{slow:.0%}": rate(draw, within, slow, n) for slow, n in shares}
    bars = [row for where, row in found.items() if where.startswith("our")]
    met = all(row["0%"] <= 0.01 and row["5%"] >= 0.8 and row["10%"] >= 0.99 for row in bars)
    return {"alarms": found, "rounds": rounds, "met": met}


def rate(draw: Draw, within: bool, slowdown: float, rounds: int) -> float:
    """Share of comparisons that raise an alarm."""
    alarms = 0
    for number in range(rounds):
        if number % 20 == 0:
            repeats = 5 if within else 1
            past = [
                run
                for state in range(LEARNT_STATES)
                for _ in range(repeats)
                for run in side(draw, f"past{state}", within, created=1_780_000_000)
            ]
        old, new = side(draw, "old", within), side(draw, "new", within, 1 + slowdown)
        alarms += any(one.alarm for one in compare(old, new, Noise(past, old, new)))
    return alarms / rounds


def points(rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, draw in draws(2).items():
        for repeats in (5, 1):
            prior = _prior(draw, repeats)
            generator = np.random.default_rng(3)
            near = quiet = 0
            for _ in range(rounds):
                flat = np.median(draw(50 * repeats).reshape(50, repeats), axis=1)
                quiet += not change_points(flat, prior)
                place = int(generator.integers(5, 46))
                stepped = flat + np.where(np.arange(50) >= place, math.log(1.06), 0.0)
                cuts = change_points(stepped, prior)
                near += len(cuts) == 1 and abs(cuts[0] - place) <= 1
            found[f"{name}, {repeats} repeats a point"] = {"within one": near / rounds, "quiet if flat": quiet / rounds}
    met = all(row["within one"] >= 0.95 for where, row in found.items() if where.startswith("our"))
    return {"histories": found, "rounds": rounds, "met": met}


def _prior(draw: Draw, repeats: int) -> Scale:
    squares = Squares()
    for _ in range(LEARNT_STATES):
        squares.add([tuple(np.exp(draw(repeats))) for _ in range(5)])
    spread = default("s").below(squares).below(squares)
    return Scale(spread.of([repeats]), spread.run.df)


def published_runs(reverse: bool = False) -> list[TrackedRun]:
    """The tables of PR 241 and PR 243 as records: no repeats, no noise stated. ``reverse`` swaps before and after."""
    (table,) = (ROOT / "fitcheck").rglob(PUBLISHED)
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if " PR 24" in row["source"] and "table" in row["source"]]
    return [_published(row, reverse) for row in rows]


def _published(row: dict[str, str], reverse: bool) -> TrackedRun:
    revision, when = row["revision_note"].split(";")
    late = (when == "after") is not reverse
    noon = int(time.mktime(time.strptime(f"{row['date']} UTC", "%Y-%m-%d %Z")))
    memory = {name: row[f"{name}_gib"] for name in ("allocated", "reserved")}
    made = record(
        revision,
        noon if late else noon - 86_400,
        [float(row["seconds"])] if row["seconds"] else [],
        model=schema.ModelRef(slug=row["model"].lower(), tier="BF16", weights="real"),
        runtime=schema.RuntimeUsed(
            name="sensenova", revision=revision, mode=row["vram_mode"], attention=row["attn_backend"]
        ),
        workload=schema.WorkloadSizes(
            task=cast("Any", row["task"]),
            width=2048,
            height=2048,
            steps=50,
            cfg=float(row["cfg"]),
            references=((2048, 2048),) if row["task"] == "editing" else None,  # ref_tokens=4029
        ),
        memory=schema.Memory(
            **cast("dict[str, Any]", {name: round(float(gib) * 2**30) for name, gib in memory.items() if gib})
        ),
    )
    return run_of(made)


def published() -> dict[str, Any]:
    found: dict[str, Any] = {}
    alarms: dict[str, str] = {}
    for reverse in (False, True):
        runs = published_runs(reverse)
        for track in tracks(runs, Noise(runs)):
            for cut, one in track.changes:
                name = f"{track.series.get('workload.task')} {track.series.get('runtime.mode')} {track.metric.name}"
                if reverse:
                    alarms[name] = one.verdict.value
                else:
                    date = time.strftime("%Y-%m-%d", time.gmtime(track.points[cut].created))
                    found[name] = _said(one) | {"date": date}
    slow = ("t2i balanced seconds", "t2i low seconds")
    hungry = [
        f"{task} {mode} {metric}"
        for task in ("t2i", "editing")
        for mode in ("fast", "balanced", "low")
        for metric in ("allocated", "reserved")
    ]
    wanted = [*slow, *hungry]
    met = all(found.get(name, {}).get("verdict") == SeriesVerdict.IMPROVEMENT for name in wanted)
    met &= all(alarms.get(name) == SeriesVerdict.REGRESSION for name in wanted)
    missing = [name for name in wanted if name not in found or name not in alarms]
    promise = promises(wanted)
    met &= not promise["kept and alarmed"] and not promise["quiet cells"]
    return {"changes": found, "reversed": alarms, "missing": missing, "without a baseline": promise, "met": met}


def promises(wanted: Sequence[str]) -> dict[str, Any]:
    """Without a baseline: each version as it was measured, which must raise no alarm, and each newer one with what the
    older one measured, which must by one metric at least."""
    runs = published_runs()
    wrong = [name for run in runs for name in _alarms(run)]
    quiet: list[str] = []
    cells: list[str] = []
    for old, new in by_series(runs).values():
        lost = {"samples": old.record.samples, "memory": old.record.memory}  # type: ignore[union-attr]
        alarms = _alarms(run_of(new.record.model_copy(update=lost)))
        changed = [name for name in map(_name(new), old.measured) if name in wanted]
        quiet += [name for name in changed if name not in alarms]
        cells += [new.series.title] if changed and not set(changed) & set(alarms) else []
    kept = sum(len(run.measured) for run in runs)
    return {"kept": kept, "kept and alarmed": wrong, "quiet metrics": quiet, "quiet cells": cells}


def _alarms(run: TrackedRun) -> list[str]:
    found = compare([], [run], Noise(), expectation=Promises())
    return [_name(run)(one.metric.name) for one in found if one.alarm]


def _name(run: TrackedRun) -> Callable[[str], str]:
    return lambda metric: f"{run.series.get('workload.task')} {run.series.get('runtime.mode')} {metric}"


def _said(one: SeriesJudgement) -> dict[str, Any]:
    sides = (one.baseline, one.candidate)
    return {
        "verdict": one.verdict.value,
        "ratio": round(one.ratio or 0.0, 4),
        "interval": [round(one.low or 0.0, 3), round(one.high or 0.0, 3)],
        "values": [side.value for side in sides if side is not None],
        "changes": [str(change) for change in one.changes],
    }


def scale(series: int, length: int) -> dict[str, Any]:
    start = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        shares = list(pool.map(_histories, [(seed, series // 8, length) for seed in range(8)]))
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = max(share["peak"] for share in shares) * 2 + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found, stepped = sum(share["found"] for share in shares), sum(share["stepped"] for share in shares)
    return {
        "series": 8 * (series // 8),
        "points": length,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_bytes": peak,
        "steps found": found / stepped,
        "false": sum(share["false"] for share in shares) / (8 * (series // 8) - stepped),
        "met": seconds <= 60 and peak <= 2e9,
    }


def _histories(job: tuple[int, int, int]) -> dict[str, float]:
    """Whole tracks, from runs to judgements: each tenth history has a step of 6 % somewhere."""
    seed, count, length = job
    generator = np.random.default_rng(seed)
    found = stepped = false = 0
    template = record("r", 1_700_000_000, [1.0])
    for start in range(0, count, 50):
        runs, steps = [], set()
        for number in range(start, min(start + 50, count)):
            values = np.exp(generator.standard_normal(length) * SPREAD)
            if number % 10 == 0:
                values[int(generator.integers(5, length - 5)) :] *= 1.06
            series_runs = _runs_of(template, seed * count + number, values)
            steps |= {series_runs[0].series} if number % 10 == 0 else set()
            runs += series_runs
        for track in tracks(runs, Noise(runs)):
            found += bool(track.changes) and track.series in steps
            false += bool(track.changes) and track.series not in steps
        stepped += len(steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"found": found, "stepped": stepped, "false": false, "peak": peak}


def _runs_of(template: schema.PassRecord, number: int, values: Any) -> list[TrackedRun]:
    """Runs of one series, built without the cost of validating two million records."""
    from fitcheck.records.regressions.metrics import Metric, MetricValues
    from fitcheck.records.regressions.tracked_series import Series

    first = run_of(template)
    series = Series((("model", f"m{number}"), *(part for part in first.series.parts if part[0] != "model")))
    seconds = Metric("seconds", "s")
    return [
        TrackedRun(
            template.model_copy(update={"created": 1_700_000_000 + 86_400 * day}),
            f"{number:08d}{day:04d}",
            series,
            first.state,
            {"seconds": MetricValues(seconds, (float(value),))},
        )
        for day, value in enumerate(values)
    ]


def bisect(rounds: int) -> dict[str, Any]:
    generator = np.random.default_rng(5)
    found: dict[str, Any] = {}
    for repeats in (1, 3, 5):
        right, steps, runs = 0, [], []
        for _ in range(rounds):
            place = int(generator.integers(1, 64))
            search = Bisection(64, default("s").value)
            while (index := search.next()) is not None:
                slower = 1.08 if index >= place else 1.0
                search.add(index, list(slower * np.exp(generator.standard_normal(repeats) * 0.03)))
            right += search.found()[0] == place
            steps.append(search.steps)
            runs.append(len(search.measured))
        found[f"{repeats} timed passes a run"] = {
            "found": right / rounds,
            "most revisions": max(steps),
            "mean revisions": round(float(np.mean(steps)), 1),
            "mean runs": round(float(np.mean(runs)), 1),
            "most runs": max(runs),
        }
    met = all(row["found"] >= 0.95 and row["most revisions"] <= 12 for row in found.values())
    return {"searches": found, "rounds": rounds, "met": met}


PARTS = ("simulation", "points", "published", "real", "scale", "bisect")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--json", action="store_true", help="the results as JSON")
    options = parser.parse_args()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "simulation": lambda: simulation(options.rounds),
        "points": lambda: points(options.rounds),
        "published": published,
        "real": real,
        "scale": lambda: scale(10_000, 200),
        "bisect": lambda: bisect(options.rounds),
    }
    results = {name: parts[name]() for name in options.only}
    print(json.dumps(results, indent=None if options.json else 2))
    return 0 if all(result["met"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

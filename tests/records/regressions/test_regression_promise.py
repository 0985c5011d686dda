"""What the estimator expects beside what records hold, and a version that misses it without a baseline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from regression_runs import a_model, a_record, memory, steady

from fitcheck.records import schema
from fitcheck.records.importers.common import Given
from fitcheck.records.regressions.comparison import compare
from fitcheck.records.regressions.history import tracks
from fitcheck.records.regressions.judgement import SeriesVerdict
from fitcheck.records.regressions.metrics import measured
from fitcheck.records.regressions.noise import Noise
from fitcheck.records.regressions.regression_report import row
from fitcheck.records.regressions.tracked_runs import Promise, run_of
from fitcheck.runtimes.llamacpp import llama_bench
from fitcheck.units import GIB, Interval
from fitcheck.verdict.promise import Promises

ROOT = Path(__file__).parents[3]
# SenseNova-U1 docs/gpu_mem_profiler.md and the tables of PR 241 and PR 243: 2048 x 2048, 50 steps, cfg 4, BF16, H100
SECONDS = {"balanced": {"v0": 61.352, "pr241": 31.456}, "low": {"v0": 82.939, "pr241": 51.535}}
ALLOCATED = {"balanced": {"pr241": 5.64, "phase-aware": 3.32}, "low": {"pr241": 4.92, "phase-aware": 2.60}}


def published(mode: str, revision: str, seconds: float = 40.0, gib: float = 4.0, day: int = -100) -> schema.PassRecord:
    return a_record(
        seconds,
        mode=mode,
        revision=revision,
        day=day,
        model=a_model(tier="BF16"),
        workload=schema.WorkloadSizes(task="t2i", width=2048, height=2048, steps=50, cfg=4.0),
        card=schema.CardInfo(slug="h100-sxm5-80gb", name="NVIDIA H100", vendor="nvidia"),
        memory=memory(allocated=round(gib * GIB)),
        protocol=schema.Protocol(name="b", version=1, warmup=1, repeats=1),
    )


def alarms(record: schema.AnyRecord, metric: str) -> bool:
    found = compare([], [run_of(record)], Noise(), expectation=Promises())
    return any(one.alarm for one in found if one.metric.name == metric)


@pytest.mark.parametrize("mode", SECONDS)
def test_branch_streaming_that_is_lost_again_is_found_without_a_baseline(mode: str) -> None:
    assert not alarms(published(mode, "pr241", SECONDS[mode]["pr241"]), "seconds")
    assert alarms(published(mode, "pr241", SECONDS[mode]["v0"]), "seconds")
    assert not alarms(published(mode, "v0", SECONDS[mode]["v0"]), "seconds")


@pytest.mark.parametrize("mode", ALLOCATED)
def test_phase_aware_weights_that_stay_are_found_without_a_baseline(mode: str) -> None:
    after, before = (ALLOCATED[mode][revision] for revision in ("phase-aware", "pr241"))
    assert not alarms(published(mode, "phase-aware", gib=after), "allocated")
    assert alarms(published(mode, "phase-aware", gib=before), "allocated")
    assert not alarms(published(mode, "pr241", gib=before), "allocated")


def test_the_expected_and_the_measured_change_stand_side_by_side() -> None:
    old = [run_of(published("balanced", "v0", 61.352 * jitter)) for jitter in (1.0, 1.01, 0.99)]
    new = [run_of(published("balanced", "pr241", 31.456 * jitter, day=-90)) for jitter in (1.0, 1.01, 0.99)]
    (one,) = [one for one in compare(old, new, Noise(old, new), expectation=Promises()) if one.metric.name == "seconds"]
    assert one.verdict is SeriesVerdict.IMPROVEMENT
    assert one.expected is not None
    assert one.ratio == pytest.approx(one.expected.ratio, rel=0.05)
    assert "expected: 29 to 37 s, a change of -50.0 %" in row(one)[-1]


def test_an_unclear_comparison_is_decided_by_a_missed_promise_and_only_then() -> None:
    old, new = ([run_of(published("balanced", "pr241", s, day=d))] for s, d in ((31.0, -100), (42.0, -90)))
    plain = compare(old, new, Noise(old, new))
    held = compare(old, new, Noise(old, new), expectation=Promises())
    assert [one.verdict for one in plain if one.metric.name == "seconds"] == [SeriesVerdict.UNCLEAR]
    (one,) = [one for one in held if one.metric.name == "seconds"]
    assert one.verdict is SeriesVerdict.REGRESSION
    assert one.reason.startswith("cannot be told from the baseline, but worse than what is expected")
    # a baseline that missed it as well says nothing of the new version
    old = [run_of(published("balanced", "pr241", 41.0))]
    (one,) = [one for one in compare(old, new, Noise(old, new), expectation=Promises()) if one.metric.name == "seconds"]
    assert one.verdict is SeriesVerdict.UNCLEAR
    assert any("worse than what is expected" in note for note in one.notes)


def test_an_expectation_that_other_records_miss_holds_nobody_to_it() -> None:
    other = [published("low", "pr241", 95.0 + n, day=-50 - n) for n in range(4)]
    promise = Promises(other)(published("balanced", "pr241", 48.0), "seconds")
    assert promise is not None
    assert (promise.kept, promise.known, promise.binding) == (0, 4, False)
    found = compare([], [run_of(published("balanced", "pr241", 48.0))], Noise(), expectation=Promises(other))
    assert not any(one.alarm for one in found)
    assert Promise(Interval(1.0, 2.0, 3.0), 9, 10).binding
    assert Promise(Interval(1.0, 2.0, 3.0), 0, 2).binding


def test_a_history_holds_its_latest_level_to_what_is_expected() -> None:
    runs = [run_of(published("balanced", "pr241", 60.0 + n / 10, day=-50 + n)) for n in range(3)]
    (track,) = [one for one in tracks(runs, Noise(runs), expectation=Promises()) if one.metric.name == "seconds"]
    assert track.changes == ()
    assert track.expected is not None
    assert track.expected.missed


def test_tokens_a_second_of_each_test_and_the_process_are_expected() -> None:
    line = json.loads((ROOT / "benchmarks/llamacpp_h100/one_card.jsonl").read_text("utf-8").splitlines()[0])
    content = "\n".join(json.dumps(one) for one in line["rows"]).encode()
    (imported,) = llama_bench.read(content, "rows", Given(file_time=0, model="llama-3.1-8b", tier="Q4_K_M"))
    record = imported.record
    names = [name for name in measured(record) if name.startswith("tokens")]
    assert names == ["tokens_per_second pp512", "tokens_per_second tg128"]
    spans = [Promises()(record, name) for name in names]
    assert all(span is not None and 100 < span.span.low < span.span.high < 30_000 for span in spans)
    assert Promises()(record, "process") is not None


def a_pipeline(revision: str, **memory_values: Any) -> schema.PassRecord:
    return a_record(
        1.0,
        model=schema.ModelRef(slug="sdxl", tier="fp16", weights="synthetic"),
        runtime=schema.RuntimeUsed(name="diffusers", revision=revision, mode="none"),
        workload=schema.WorkloadSizes(task="t2i", width=1024, height=1024, steps=4, cfg=5.0),
        memory=memory(**memory_values),
    )


def test_a_pipeline_is_expected_of_the_release_that_is_known_alone() -> None:
    known = Promises()(a_pipeline("0.42.1"), "allocated")
    assert known is not None
    assert 6 * GIB < known.span.low < known.span.high < 12 * GIB
    assert Promises()(a_pipeline("0.35.2"), "allocated") is None


def test_what_this_release_does_not_know_is_not_expected() -> None:
    promises = Promises()
    for record in (
        a_record(1.0, model=a_model(slug="nobodys-model")),
        a_record(1.0, revision="pr999"),
        a_record(1.0, runtime=schema.RuntimeUsed(name="other-program")),
        a_record(1.0, card=None),
        a_record(1.0, workload=schema.WorkloadSizes(task="t2i")),
        a_record(1.0, outcome=schema.Outcome(result="oom-gpu")),
    ):
        assert promises(record, "seconds") is None
    assert promises(a_record(1.0), "joules") is None


def test_a_promise_costs_nothing_where_nobody_has_one() -> None:
    old, new = steady("v1"), steady("v2", day=-50)
    with_, without = (compare(old, new, Noise(old, new), expectation=one) for one in (Promises(), None))
    assert [one.verdict for one in with_] == [one.verdict for one in without]

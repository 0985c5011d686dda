"""Two sides: verdicts, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from regression_runs import a_run, common, memory, steady

from fitcheck.records import schema
from fitcheck.records.regressions.comparison import EVERYTHING, compare, settle
from fitcheck.records.regressions.judgement import Limits, SeriesJudgement, SeriesVerdict
from fitcheck.records.regressions.noise import Noise
from fitcheck.records.regressions.regression_report import sentence
from fitcheck.records.regressions.tracked_runs import Promise, TrackedRun
from fitcheck.units import GIB, MIB, Interval

PAST = [run for revision in ("a", "b", "c", "d") for run in steady(revision, day=-300)]


def judged(
    old: list[TrackedRun], new: list[TrackedRun], metric: str = "seconds", past: list[TrackedRun] = PAST
) -> SeriesJudgement:
    found = compare(old, new, Noise(past, old, new))
    return next(one for one in found if one.metric.name == metric)


def test_a_slowdown_is_found_sized_and_blamed() -> None:
    one = judged(steady("v1"), steady("v2", 1.1, day=-50))
    assert one.verdict is SeriesVerdict.REGRESSION
    assert one.ratio == pytest.approx(1.1, rel=0.01)
    assert one.low is not None
    assert one.high is not None
    assert 1.0 < one.low < 1.1 < one.high
    assert "runtime.revision v1 -> v2" in one.reason


def test_reversed_it_is_an_improvement() -> None:
    assert judged(steady("v2", 1.1), steady("v1", day=-50)).verdict is SeriesVerdict.IMPROVEMENT


def test_equal_sides_raise_no_alarm() -> None:
    assert judged(steady("v1"), steady("v2", day=-50)).verdict is SeriesVerdict.UNCHANGED


def test_the_outcome_in_one_sentence() -> None:
    one = judged(steady("v1"), steady("v2", 1.1, day=-50))
    assert sentence([one]) == "REGRESSION: 1 regression, in one series."
    other = replace(one, series=replace(one.series, parts=(*one.series.parts, ("cap", "1"))))
    assert sentence([one, other]) == "REGRESSION: 2 regression, in 2 series."
    assert sentence([]) == "Nothing was compared."


def test_one_run_a_side_cannot_tell_a_few_percent_and_says_how_many_would() -> None:
    one = judged([a_run(100.0, revision="v1")], [a_run(104.0, revision="v2")], past=[])
    assert one.verdict is SeriesVerdict.UNCLEAR
    assert one.repeats is not None
    assert one.repeats > 5
    assert f"make {one.repeats} runs" in one.reason


def test_higher_is_better_for_rates() -> None:
    def rate(value: float, revision: str) -> TrackedRun:
        rates = (schema.TokenRate(prompt_tokens=0, new_tokens=128, mean=value, samples=(value, value * 1.001)),)
        made = schema.LlmRecord(
            **common(),
            model=schema.ModelRef(slug="m", tier="Q4_K", weights="real", tensor_digest="ab" * 32),
            runtime=schema.RuntimeUsed(name="llama.cpp", version=revision),
            protocol=schema.Protocol(name="llama-bench", version=0, warmup=1, repeats=2),
            settings=schema.LlmSettings(gpu_layers=99),
            rates=rates,
            outcome=schema.Outcome(result="ok"),
        )
        from fitcheck.records.regressions.tracked_runs import run_of

        return run_of(made)

    wobble = (1.0, 1.002, 0.998, 1.001, 0.999)
    old, new = [rate(50 * w, "b1") for w in wobble], [rate(40 * w, "b2") for w in wobble]
    assert judged(old, new, "tokens_per_second tg128", past=[]).verdict is SeriesVerdict.REGRESSION
    assert judged(new, old, "tokens_per_second tg128", past=[]).verdict is SeriesVerdict.IMPROVEMENT


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        (0, SeriesVerdict.UNCHANGED),
        (512, SeriesVerdict.UNCHANGED),
        (1024, SeriesVerdict.REGRESSION),
        (-1024, SeriesVerdict.IMPROVEMENT),
    ],
)
def test_allocated_memory_is_judged_to_the_block(more: int, verdict: SeriesVerdict) -> None:
    old = a_run(memory=memory(allocated=6 * GIB))
    new = a_run(memory=memory(allocated=6 * GIB + more), revision="v2")
    assert judged([old], [new], "allocated").verdict is verdict


def test_reserved_memory_may_differ_by_a_segment() -> None:
    old = a_run(memory=memory(reserved=7 * GIB))
    assert (
        judged([old], [a_run(memory=memory(reserved=7 * GIB + 2 * MIB))], "reserved").verdict is SeriesVerdict.UNCHANGED
    )
    assert (
        judged([old], [a_run(memory=memory(reserved=7 * GIB + 4 * MIB))], "reserved").verdict
        is SeriesVerdict.REGRESSION
    )


def test_memory_that_repeats_do_not_reproduce_gets_their_tolerance() -> None:
    past = [a_run(memory=memory(reserved=7 * GIB + shift), day=-200 + n) for n, shift in enumerate((0, 12 * MIB))]
    old, new = a_run(memory=memory(reserved=7 * GIB)), a_run(memory=memory(reserved=7 * GIB + 10 * MIB), revision="v2")
    assert judged([old], [new], "reserved", past=[]).verdict is SeriesVerdict.REGRESSION
    assert judged([old], [new], "reserved", past=past).verdict is SeriesVerdict.UNCHANGED


def test_what_others_held_on_the_card_is_no_part_of_the_peak() -> None:
    old = a_run(memory=memory(device=8 * GIB, device_before=GIB))
    new = a_run(memory=memory(device=9 * GIB, device_before=2 * GIB), revision="v2")
    assert judged([old], [new], "card_peak").verdict is SeriesVerdict.UNCHANGED


def power(clock: float, *reasons: str) -> schema.Power:
    return schema.Power(sm_clock_mean=clock, throttle_reasons=reasons or None)


def test_a_lower_clock_explains_a_slowdown_before_anybody_is_blamed() -> None:
    old = steady("v1", power=power(1980))
    slow = steady("v2", 1.1, day=-50, power=power(1800))
    one = judged(old, slow)
    assert one.verdict is SeriesVerdict.EXPLAINED
    assert not one.alarm
    assert "1800 MHz" in one.reason


def test_a_clock_that_is_hardly_lower_explains_nothing() -> None:
    one = judged(steady("v1", power=power(1980)), steady("v2", 1.3, day=-50, power=power(1940)))
    assert one.verdict is SeriesVerdict.REGRESSION
    assert not any(reason.covers for reason in one.explanations)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"power": power(1980, "hw-thermal-slowdown")}, "throttled"),
        ({"memory": memory(allocated=6 * GIB, device_before=3 * GIB)}, "something else held"),
        ({"memory": memory(allocated=6 * GIB, swap=4 * GIB)}, "swapped"),
        ({"transfer": schema.Transfer(pcie_generation=3)}, "PCIe generation"),
    ],
)
def test_other_explanations(changes: dict[str, Any], word: str) -> None:
    calm: dict[str, Any] = {
        "power": power(1980),
        "memory": memory(allocated=6 * GIB),
        "transfer": schema.Transfer(pcie_generation=4),
    }
    one = judged(steady("v1", **calm), steady("v2", 1.15, day=-50, **(calm | changes)))
    assert one.verdict is SeriesVerdict.EXPLAINED
    assert word in one.reason


def test_two_changes_at_once_are_said_to_be_confounded() -> None:
    driver = common()["software"].model_copy(update={"torch": "2.10.0"})
    one = judged(steady("v1"), steady("v2", 1.1, day=-50, software=driver))
    assert one.confounded
    assert "confounded" in one.reason


def test_a_run_that_does_not_finish_any_more_is_a_regression() -> None:
    failed = a_run(revision="v2", outcome=schema.Outcome(result="oom-gpu"))
    found = compare(steady("v1"), [failed], Noise())
    assert [(one.metric.name, one.verdict) for one in found] == [("outcome", SeriesVerdict.REGRESSION)]
    assert "oom-gpu" in found[0].reason


def test_another_cell_cannot_be_told_and_the_difference_is_named() -> None:
    capped = schema.Protocol(
        name="b", version=1, warmup=1, repeats=3, cap=schema.Cap(bytes=12 * GIB, enforced_by="allocator-fraction")
    )
    (one,) = compare(steady("v1"), [a_run(protocol=capped)], Noise())
    assert one.metric == EVERYTHING
    assert one.verdict is SeriesVerdict.UNCLEAR
    assert "cap is" in one.reason


def test_a_candidate_older_than_its_baseline_is_said() -> None:
    one = judged(steady("v1", day=-50), steady("v2", day=-90))
    assert any("clock went backwards" in note for note in one.notes)


def test_a_release_is_held_to_its_promise_without_a_baseline() -> None:
    def promise(record: schema.AnyRecord, metric: str) -> Promise | None:
        return Promise(Interval(30.0, 31.5, 33.0)) if metric == "seconds" else None

    found = compare([], [a_run(61.4)], Noise(), expectation=promise)
    assert [one.verdict for one in found if one.metric.name == "seconds"] == [SeriesVerdict.REGRESSION]
    kept = compare([], [a_run(32.0)], Noise(), expectation=promise)
    assert not any(one.alarm for one in kept)


def test_expectation_and_measurement_stand_side_by_side() -> None:
    def promise(record: schema.AnyRecord, metric: str) -> Promise | None:
        assert isinstance(record, schema.PassRecord)
        return Promise(Interval.exactly(100.0 if record.runtime.revision == "v1" else 50.0))

    found = compare(steady("v1"), steady("v2", 0.5, day=-50), Noise(PAST), expectation=promise)
    one = next(one for one in found if one.metric.name == "seconds")
    assert one.expected is not None
    assert one.expected.ratio == 0.5


def test_many_comparisons_need_more_than_one_would() -> None:
    one = judged(steady("v1"), steady("v2", 1.1, day=-50))
    doubtful = replace(one, p=0.008)
    quiet = replace(one, p=0.5, verdict=SeriesVerdict.UNCHANGED)
    assert settle([doubtful], Limits())[0].verdict is SeriesVerdict.REGRESSION
    assert settle([doubtful, *[quiet] * 50], Limits())[0].verdict is SeriesVerdict.UNCLEAR

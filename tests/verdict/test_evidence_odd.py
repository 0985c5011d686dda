"""Records that contradict themselves, the model's own weights, or all that is likely: shown, and never the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from evidence_records import MODEL, PLAIN, best, cell, report, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.memory.weighing import Verdict
from fitcheck.records.run import once
from fitcheck.records.run_index import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB, Interval
from fitcheck.verdict.check import check
from fitcheck.verdict.quantities import against, apart, span

ALL = tuple((one.placement.mode, one.tier.name) for one in PLAIN.cells)


def sizes(mode: str, unit: int = 1) -> dict[str, Any]:
    """What a run of a mode takes, in bytes of ``unit``."""
    memory = cell(PLAIN, mode).memory
    found = {"allocated": memory.allocated, "reserved": memory.reserved, "process": memory.card}
    return {name: span.best // unit for name, span in found.items()}


@pytest.mark.parametrize("unit", [1 << 10, 1 << 20, 10**9])
@pytest.mark.parametrize("mode", ["low", "full"])
def test_sizes_in_other_units_are_left_out_and_said(mode: str, unit: int) -> None:
    found = report(Index((run(mode, times=1.1, **sizes(mode, unit)),)))
    for other, tier in ALL:
        assert cell(found, other, tier).memory == cell(PLAIN, other, tier).memory
        assert cell(found, other, tier).verdict is cell(PLAIN, other, tier).verdict
    own = cell(found, mode).evidence
    assert own.memory.level == "estimated"
    assert own.memory.note == "model only; 1 record of this cell left out, with less than its weights take"
    assert own.seconds.level == "measured", "its time may be right"


def test_what_is_left_out_is_told_beside_what_is_not() -> None:
    right = run("full", number=1, **sizes("full"))
    found = cell(report(Index((right, run("full", **sizes("full", 1 << 20))))), "full")
    assert found.memory.card.best == right.process
    assert found.evidence.memory.note == (
        "1 record of this cell on this card; 1 record of this cell left out, with less than its weights take"
    )


@pytest.mark.parametrize("changes", [{"cap": 4096}, {"works": 4096, "fails": 2048}])
def test_a_limit_that_not_even_the_weights_go_into_bounds_nothing(changes: dict[str, Any]) -> None:
    found = report(Index((run("low", **changes), run("full", **changes))))
    for mode, tier in ALL:
        assert cell(found, mode, tier).memory == cell(PLAIN, mode, tier).memory


def test_a_reading_that_missed_the_peak_measures_nothing() -> None:
    found = cell(report(Index((run("full", allocated=15 * GIB, reserved=16 * GIB, process=2 * GIB),))), "full")
    assert found.memory.card == cell(PLAIN, "full").memory.card
    assert found.verdict is Verdict.NO


def test_nothing_runs_out_beyond_what_its_card_has() -> None:
    found = cell(report(Index((run("low", cap=1 << 45, outcome="oom-gpu", seconds=None),))), "low")
    assert found.memory.required.best == 12 * GIB


@pytest.mark.parametrize(("mode", "own"), [("low", True), ("full", False)])
def test_a_lone_context_far_from_the_model_widens_and_moves_nothing(mode: str, own: bool) -> None:
    taken = sizes(mode)["reserved"] + 9 * GIB
    odd, plain = run(mode, reserved=sizes(mode)["reserved"], process=taken), cell(PLAIN, "low").memory
    found = cell(report(Index((odd,))), "low")
    if own:
        assert found.memory.card.best == taken
        return
    assert (found.memory.card.best, found.memory.required.best) == (plain.card.best, plain.required.best)
    assert found.memory.card.high > plain.card.high + GIB
    assert found.evidence.memory.level == "calibrated"
    assert found.evidence.memory.note.endswith("says, which is far from the model and widens the range")
    several = [replace(odd, id=f"r{n}", machine=f"m{n}") for n in range(3)]
    assert cell(report(Index(tuple(several))), "low").memory.card.best > plain.card.best + GIB


def test_a_lone_process_far_from_the_model_widens_and_moves_nothing() -> None:
    plain = cell(PLAIN, "low").footprint.host.total
    odd = run("balanced", rss=plain.best + 40 * GIB)
    found = cell(report(Index((odd,))), "low")
    assert found.footprint.host.total.best == plain.best
    assert found.footprint.host.total.high > plain.high + GIB
    several = Index(tuple(replace(odd, id=f"r{n}", machine=f"m{n}") for n in range(3)))
    assert cell(report(several), "low").footprint.host.total.best > plain.best + GIB


@pytest.mark.parametrize("bench", [True, False])
@pytest.mark.parametrize("changes", [{"rss": 1 << 24}, {"rss": 1 << 49, "ram": 64 * GIB}])
def test_system_memory_that_cannot_be_is_left_out(changes: dict[str, Any], bench: bool) -> None:
    for mode in ("low", "balanced"):
        found = cell(report(Index((run(mode, bench=bench, **changes),))), "low")
        assert found.footprint.host == cell(PLAIN, "low").footprint.host
        assert found.evidence.host.level == "estimated"


def test_one_run_that_starved_on_a_larger_machine_leaves_a_smaller_one_possible() -> None:
    """Other programs may have held what it lacked."""
    starved = run("low", outcome="oom-host", seconds=None, ram=128 * GIB)
    again = replace(starved, id="again", machine="other")
    for index, verdict in ((Index((starved,)), Verdict.TIGHT), (Index((starved, again)), Verdict.NO)):
        machine = machine_for(find_card("RTX 4070"), ram=48 * GIB)
        one = check(MODEL, machine, Wanted(tiers=("Q4_K_S",)), index=index, advise=False)
        assert cell(one, "low").verdict is verdict


def test_a_lone_time_a_thousand_times_off_is_the_cells_and_nobody_elses() -> None:
    found = report(Index((run("full", times=1000.0),)))
    for mode in ("low", "balanced", "fast"):
        assert best(cell(found, mode)) == pytest.approx(best(cell(PLAIN, mode)), rel=0.25)
    own = cell(found, "full")
    assert best(own) == pytest.approx(1000 * best(cell(PLAIN, "full")))
    assert "times as long as is estimated at most" in own.evidence.seconds.note


def test_a_lone_time_that_is_likely_enough_speaks_for_other_cells() -> None:
    found = report(Index((run("full", times=3.0),)))
    assert best(cell(found, "fast")) > 2 * best(cell(PLAIN, "fast"))


@pytest.mark.parametrize(
    ("values", "estimate", "words"),
    [
        ((10.0,), Interval(9.0, 10.0, 11.0), ""),
        ((16.0,), Interval(9.0, 10.0, 11.0), ""),
        ((33.0, 30.0, 40.0), Interval(9.0, 10.0, 11.0), "; 3.0 times as much as is estimated at most"),
        ((3.0,), Interval(9.0, 10.0, 11.0), "; 3.0 times less than is estimated at least"),
        ((0.0,), Interval(9.0, 10.0, 11.0), ""),
        ((9.0,), None, ""),
    ],
)
def test_what_the_estimate_contradicts_is_said(
    values: tuple[float, ...], estimate: Interval[float] | None, words: str
) -> None:
    assert against(values, estimate) == words


@pytest.mark.parametrize(("right", "left_out"), [(2, False), (3, True), (6, True)])
def test_one_that_a_clear_majority_of_the_cells_records_contradicts_widens_nothing(right: int, left_out: bool) -> None:
    """Sizes of all of them are of one machine, so that no other part of the evidence tells them apart."""
    near = [replace(run("low", number=n, times=2.0, process=4 * GIB), machine="m") for n in range(right)]
    wrong = replace(run("low", number=9, times=2000.0, process=400 * GIB, card_memory=None), machine="m")
    found = cell(report(Index((*near, wrong))), "low")
    assert found.seconds is not None
    assert found.memory.card.best == 4 * GIB
    assert found.seconds.best == pytest.approx(2 * best(cell(PLAIN, "low")))
    for known, high, limit in (
        (found.evidence.memory, found.memory.card.high, 5 * GIB),
        (found.evidence.seconds, found.seconds.high, 3 * best(cell(PLAIN, "low"))),
    ):
        assert (high < limit) is left_out
        words = "; 1 of them contradicted by the others" if left_out else "; they contradict each other by a factor of"
        assert words in known.note


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((10.0, 14.0), ""),
        ((1.0, 2.0, 2.1), "; they contradict each other by a factor of 2.1"),
        ((2.0, 2.1, 4.2), "; they contradict each other by a factor of 2.1"),
        ((1.0, 2.0, 2.1, 2.2), "; 1 of them contradicted by the others"),
        ((0.0, 2.0), ""),
    ],
)
def test_records_that_contradict_each_other_are_told(values: tuple[float, ...], words: str) -> None:
    assert apart(values) == words


def test_of_many_records_the_few_at_the_ends_set_no_end() -> None:
    values = [float(value) for value in range(100, 120)]
    assert span([*values[:-1], 140.0], 0.0) == Interval(100.0 + 0.95, 109.5, 118.0 + 0.05 * 22)
    few = span([*values[:10], 140.0], 0.0)
    assert (few.low, few.high) == (100.0, 140.0)


def test_one_measurement_under_two_names_counts_once() -> None:
    """`fitcheck submit --as` makes a second record of one run, credited and with another id."""
    failed = run("low", outcome="oom-gpu", seconds=None)
    credited = replace(failed, id="credited", machine="with a handle", own=True)
    second = replace(credited, id="second", created=failed.created + 60)
    assert once((), (failed, credited)) == (failed,)
    assert once((failed,), (replace(failed, rss=1),)) == (failed,), "a file that was changed and keeps its id"
    assert (Index((failed,)) + Index((credited,))).rows == (failed,)
    assert (Index((failed,)) + Index((second, second))).rows == (failed, second)
    assert cell(report(Index((failed,)) + Index((credited,))), "low").verdict is Verdict.TIGHT
    assert cell(report(Index((failed,)) + Index((second,))), "low").verdict is Verdict.NO


odd = st.fixed_dictionaries(
    {"times": st.floats(1e-6, 1e6)},
    optional={name: st.integers(0, 1 << 50) for name in ("process", "allocated", "reserved", "rss", "cap", "works")},
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(ALL), odd)
def test_no_single_run_takes_down_or_saves_another_cell(where: tuple[str, str], changes: dict[str, Any]) -> None:
    found = report(Index((run(*where, **changes),)))
    for key in ALL:
        if key != where:
            was, now = cell(PLAIN, *key).verdict, cell(found, *key).verdict
            assert (now is Verdict.NO) == (was is Verdict.NO), key

"""What failures, limits and runs say of cells that need more or less, and that one wrong record takes none down."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evidence_records import PLAIN, TIERS, cell, report, run
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.memory.weighing import Verdict
from fitcheck.models.workload import Task, Workload
from fitcheck.records.run import Run
from fitcheck.records.run_index import Index
from fitcheck.units import GIB
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.implied import Need, at_least_as_large

MODES = ("low", "balanced", "fast", "full")
WORSE = (Verdict.FITS, Verdict.TIGHT, Verdict.NO)
LESS = "of cells that need no more ran out of card memory"


def failed(mode: str, number: int = 0, tier: str = "Q4_K_S") -> Run:
    return replace(run(mode, tier, number, outcome="oom-gpu", seconds=None), id=f"out-{mode}-{tier}-{number}")


def limit(mode: str, tier: str = "Q4_K_S", *, works: int | None = None, fails: int | None = None) -> Run:
    one = run(mode, tier, cap=works or fails, works=works, fails=fails, outcome="ok" if works else "oom-gpu")
    return replace(one, id=f"limit-{mode}-{tier}")


def need(one: Cell) -> Need:
    return Need(one.ask, one.memory)


def test_two_failures_of_balanced_leave_no_mode_that_needs_more() -> None:
    assert [cell(PLAIN, mode).verdict for mode in ("balanced", "fast")] == [Verdict.FITS, Verdict.FITS]
    found = report(Index((failed("balanced"), failed("balanced", 1))))
    assert [cell(found, mode).verdict for mode in MODES] == [Verdict.FITS, *[Verdict.NO] * 3]
    fast = cell(found, "fast")
    assert fast.judgement.gist == f"does not run, 2 records {LESS}"
    assert fast.reason == f"2 records {LESS} on such a card, which the sizes alone do not explain."
    assert (fast.evidence.memory.level, fast.evidence.memory.records) == ("calibrated", 2)
    assert fast.evidence.memory.note == f"2 records {LESS} on this card"
    assert cell(found, "low").memory == cell(PLAIN, "low").memory, "it needs less, of which that says nothing"


def test_one_failure_leaves_what_needs_more_possible() -> None:
    found = report(Index((failed("balanced"),)))
    assert [cell(found, mode).verdict for mode in ("balanced", "fast")] == [Verdict.TIGHT, Verdict.TIGHT]
    assert cell(found, "fast").judgement.gist == f"may run, but 1 record {LESS}"
    both = cell(report(Index((failed("balanced"), failed("fast")))), "fast")
    assert both.verdict is Verdict.NO
    assert both.reason.startswith("2 records of it or of cells that need no more ran out of card memory")


def test_a_larger_tier_is_bound_by_a_smaller_one_and_not_the_other_way() -> None:
    small, large = ((failed("fast", n, tier) for n in range(2)) for tier in TIERS)
    assert cell(report(Index(tuple(small))), "fast", "Q8_0").verdict is Verdict.NO
    assert cell(report(Index(tuple(large))), "fast", "Q4_K_S").memory == cell(PLAIN, "fast").memory


def test_a_wrong_failure_among_runs_takes_nothing_down_and_is_said() -> None:
    ran = tuple(run("balanced", number=number) for number in range(3))
    found = cell(report(Index((failed("low"), *ran))), "fast")
    assert found.verdict is Verdict.FITS
    assert found.memory == cell(PLAIN, "fast").memory
    assert f"1 record {LESS} on this card, which those that ran contradict" in found.evidence.memory.note


def test_failures_of_a_cell_that_needs_less_than_one_that_ran_leave_it_possible() -> None:
    ran = run("balanced", process=5 * GIB)
    found = cell(report(Index((failed("low"), failed("low", 1), ran))), "low")
    assert found.verdict is Verdict.TIGHT
    assert found.evidence.memory.note == (
        "tensors estimated, the driver's context as 1 record of this card say; "
        "2 records of this cell ran out of card memory on this card; "
        "1 record of cells that need at least as much ran, which contradicts that"
    )


def test_a_limit_bounds_what_needs_more_from_below_and_what_needs_less_from_above() -> None:
    short = cell(report(Index((limit("low", fails=9 * GIB),))), "balanced")
    assert short.memory.required.low == short.memory.required.best == 9 * GIB
    assert short.evidence.memory.note == "one that needs no more did not within 9.0 GiB"
    index = Index((limit("fast", works=3 * GIB, fails=2 * GIB),))
    enough = cell(report(index), "low")
    assert enough.memory.required.high == 3 * GIB
    assert enough.evidence.memory.note == "one that needs at least as much ran within 3.0 GiB"


def test_limits_of_cells_that_contradict_each_other_are_said() -> None:
    index = Index((limit("low", works=4 * GIB, fails=3 * GIB), limit("balanced", fails=2 * GIB)))
    assert "contradict" not in cell(report(index), "balanced").evidence.memory.note
    index = Index((limit("balanced", works=4 * GIB), limit("low", fails=6 * GIB)))
    found = cell(report(index), "balanced")
    assert found.memory.required.high == 4 * GIB
    assert found.evidence.memory.note == "it ran within 4.0 GiB, which 1 record contradicts"


SMALL = Workload(Task.EDITING, 1024, 1024, 8, 1.0, references=((512, 512),))


@pytest.mark.parametrize(
    ("change", "larger"),
    [
        ({"steps": 1}, True),
        ({"width": 2048, "height": 512}, True),
        ({"height": 512}, False),
        ({"references": ((512, 512), (64, 64))}, True),
        ({"references": ()}, False),
        ({"cfg": 4.0}, True),
        ({"batch": 2}, True),
    ],
)
def test_workloads_are_ordered_by_what_takes_memory(change: dict[str, object], larger: bool) -> None:
    assert at_least_as_large(SMALL.with_(**change), SMALL) is larger


def test_one_task_says_nothing_of_another() -> None:
    assert not at_least_as_large(replace(SMALL, task=Task.INTERLEAVE, images=4), SMALL)


CELLS = {(one.placement.mode, one.tier.name): one for one in PLAIN.cells}


@settings(max_examples=12, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(CELLS)), st.integers(1, 2), min_size=1, max_size=3))
def test_what_needs_at_least_as_much_is_never_better_off(out: dict[tuple[str, str], int]) -> None:
    """Whatever ran out of memory: along the estimator's order verdicts only get worse, no record makes one better, and
    what needs less than all that failed stays as it was."""
    runs = [failed(mode, number, tier) for (mode, tier), count in out.items() for number in range(count)]
    found = report(Index(tuple(runs)))
    rank = {key: WORSE.index(cell(found, *key).verdict) for key in CELLS}
    for key, one in CELLS.items():
        below = [other for other in CELLS if need(one).covers(need(CELLS[other]))]
        assert rank[key] == max(rank[other] for other in below)
        assert rank[key] >= WORSE.index(one.verdict)
        if not any(other in out for other in below):
            assert cell(found, *key).memory == one.memory

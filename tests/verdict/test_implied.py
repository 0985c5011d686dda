"""What failures, limits and runs say of cells that need more or less, and that one wrong record takes none down."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evidence_records import CARD, MODEL, PLAIN, TIERS, cell, report, run
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.memory.weighing import Verdict
from fitcheck.models.workload import Task, Workload
from fitcheck.records.run import Run
from fitcheck.records.run_index import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check
from fitcheck.verdict.implied import CellNeed, at_least_as_large

MODES = ("low", "balanced", "fast", "full")
WORSE = (Verdict.FITS, Verdict.TIGHT, Verdict.NO)
LESS = "of cells that need no more ran out of card memory"


def failed(mode: str, number: int = 0, tier: str = "Q4_K_S") -> Run:
    return replace(run(mode, tier, number, outcome="oom-gpu", seconds=None), id=f"out-{mode}-{tier}-{number}")


def limit(mode: str, tier: str = "Q4_K_S", *, works: int | None = None, fails: int | None = None) -> Run:
    one = run(mode, tier, cap=works or fails, works=works, fails=fails, outcome="ok" if works else "oom-gpu")
    return replace(one, id=f"limit-{mode}-{tier}")


def need(one: Cell) -> CellNeed:
    return CellNeed(one.ask, one.memory)


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
    small, large = (Index(tuple(failed("fast", number, tier) for number in range(2))) for tier in TIERS)
    assert cell(report(small), "fast", "Q8_0").verdict is Verdict.NO
    assert cell(report(large), "fast", "Q4_K_S").memory == cell(PLAIN, "fast").memory


def test_a_smaller_picture_that_ran_out_binds_a_larger_one_and_not_the_other_way() -> None:
    usual = failed("balanced").cell
    sizes = dict(usual.sizes)
    small, large = (
        Index(tuple(replace(failed("balanced", n), cell=replace(usual, sizes=tuple((sizes | {"width": w}).items())))
                    for n in range(2)))
        for w in (1024, 4096)
    )  # fmt: skip
    assert sizes["width"] == 2048
    assert cell(report(small), "balanced").verdict is Verdict.NO
    assert cell(report(large), "balanced").memory == cell(PLAIN, "balanced").memory


def test_a_cell_covers_what_needs_less_at_the_least_and_with_room() -> None:
    one = need(cell(PLAIN, "balanced"))
    memory = one.memory
    assert one.covers(one)
    for name in ("required", "card"):
        span = getattr(memory, name)
        more = replace(one, memory=replace(memory, **{name: replace(span, best=span.best + 1, high=span.high + 1)}))
        assert more.covers(one)
        assert not one.covers(more), name


def test_a_wrong_failure_among_runs_takes_nothing_down_and_is_said() -> None:
    ran = tuple(run("balanced", number=number) for number in range(3))
    found = cell(report(Index((failed("low"), *ran))), "fast")
    assert found.verdict is Verdict.FITS
    assert found.memory == cell(PLAIN, "fast").memory
    assert f"1 record {LESS} on this card, which those that ran contradict" in found.evidence.memory.note


def test_two_runs_beside_a_failure_are_no_majority() -> None:
    ran = tuple(run("balanced", number=number) for number in range(2))
    found = cell(report(Index((failed("low"), *ran))), "fast")
    assert found.verdict is Verdict.TIGHT
    assert "contradict" not in found.evidence.memory.note, "none of these runs needs as much as this cell"
    own = report(Index((failed("balanced"), *ran)))
    assert cell(own, "balanced").memory.card.best > 10 * GIB
    assert cell(own, "balanced").evidence.memory.note.endswith("ran, which contradicts that")


def test_runs_under_a_limit_are_no_runs_on_the_card() -> None:
    capped = tuple(run("balanced", number=number, cap=8 * GIB) for number in range(3))
    assert cell(report(Index((failed("low"), *capped))), "fast").verdict is Verdict.TIGHT


def test_one_card_says_nothing_of_how_several_share_a_cell() -> None:
    one = machine_for(find_card(CARD), ram=128 * GIB)
    two, wanted = replace(one, gpus=one.gpus * 2), Wanted(tiers=("Q4_K_S",))
    index = Index((failed("balanced"), failed("balanced", 1)))
    plain, found = (check(MODEL, two, wanted, index=known, advise=False) for known in (None, index))
    assert cell(found, "fast").memory == cell(plain, "fast").memory


def test_failures_of_a_cell_that_needs_less_than_one_that_ran_leave_it_possible() -> None:
    ran = run("balanced", process=5 * GIB)
    found = cell(report(Index((failed("low"), failed("low", 1), ran))), "low")
    assert found.verdict is Verdict.TIGHT
    assert found.evidence.memory.note == (
        "tensors estimated, the driver's context as 1 record of this card says; "
        "2 records of this cell ran out of card memory on this card; "
        "1 record of cells that need at least as much ran, which contradicts that"
    )


def test_a_limit_bounds_what_needs_more_from_below_and_what_needs_less_from_above() -> None:
    short = cell(report(Index((limit("low", fails=9 * GIB),))), "balanced")
    assert short.memory.required.low == short.memory.required.best == 9 * GIB
    assert short.evidence.memory.note == "one that needs no more did not within 9.0 GiB"
    plain, most = cell(PLAIN, "low").memory.required, round(3.8 * GIB)
    enough = cell(report(Index((limit("fast", works=most, fails=2 * GIB),))), "low")
    assert plain.best < most < plain.high
    assert enough.memory.required == replace(plain, high=most)
    assert enough.evidence.memory.note == "one that needs at least as much ran within 3.8 GiB"
    less = round(3.5 * GIB)  # and more than the weights that it keeps
    lower = cell(report(Index((limit("fast", works=less),))), "low").memory.required
    assert less < plain.best
    assert lower == replace(plain, high=plain.best), "another cell's luck makes no estimate smaller"


def test_a_run_of_what_needs_more_bounds_what_needs_less_by_what_it_took() -> None:
    plain, found = cell(PLAIN, "low"), cell(report(Index((run("balanced", process=4 * GIB),))), "low")
    assert plain.memory.required.best < 4 * GIB < plain.memory.required.high
    assert found.memory.required.high == 4 * GIB
    assert found.evidence.memory.note.endswith("one that needs at least as much ran within 4.0 GiB")
    larger = cell(report(Index((run("low", process=4 * GIB),))), "balanced")
    assert "ran within" not in larger.evidence.memory.note


def test_limits_of_cells_that_contradict_each_other_are_said() -> None:
    index = Index((limit("low", works=4 * GIB, fails=3 * GIB), limit("balanced", fails=2 * GIB)))
    balanced = cell(report(index), "balanced")
    assert "contradict" not in balanced.evidence.memory.note
    assert balanced.memory.required == cell(PLAIN, "balanced").memory.required, "what needs less ran within 4 GiB"
    own = run("low", cap=round(3.7 * GIB), outcome="oom-gpu", seconds=None)
    denied = cell(report(Index((own, limit("fast", works=round(3.6 * GIB))))), "low")
    assert denied.memory.required.best == round(3.7 * GIB)
    assert denied.memory.required.high == cell(PLAIN, "low").memory.required.high
    assert denied.evidence.memory.note == "it did not within 3.7 GiB, which 1 record contradicts"
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
    other = SMALL.with_(**change)
    assert at_least_as_large(other, SMALL) is larger
    assert at_least_as_large(SMALL, other) is (not larger or change.keys() <= {"steps", "width", "height"})


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

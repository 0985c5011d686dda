"""What records change in a check, by quantity: a cell's own replace, the card's correct."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from evidence_records import CARD, MODEL, NOTHING, PLAIN, TIERS, best, cell, link, report, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.memory.weighing import Verdict
from fitcheck.records.run import CellKey, Run
from fitcheck.records.run_index import Index, accepted
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict import evidence
from fitcheck.verdict.check import check
from fitcheck.verdict.evidence import ask_of
from fitcheck.verdict.known_records import calibration_of, concerning, known_of
from fitcheck.verdict.left_out import left_out, worth

# 1: records of any mode calibrate every mode


def test_eighteen_records_that_are_three_times_slower_change_every_cell() -> None:
    modes = ("fast", "balanced", "low")
    records = [run(mode, tier, number, 3.0) for mode in modes for tier in TIERS for number in range(3)]
    index = Index(tuple(records))
    for mode in ("full", *modes):
        one, plain = cell(report(index), mode), cell(PLAIN, mode)
        assert best(one) == pytest.approx(3 * best(plain), rel=0.1)
        level = "calibrated" if mode == "full" else "measured"
        assert one.evidence.seconds.level == level
    full = cell(report(index), "full").evidence.seconds
    assert (full.records, len(full.ids)) == (18, 18)
    assert full.note.startswith("model corrected by 18 records of this card")


def test_records_of_one_card_change_no_card_of_another_architecture() -> None:
    index = Index((run("low", times=3.0),))
    assert report(index, "RTX 3060 12 GB").to_json() == report(None, "RTX 3060 12 GB").to_json()


def test_a_card_of_the_same_architecture_borrows_the_correction_and_keeps_its_width() -> None:
    index = Index(tuple(run(mode, number=n, times=3.0) for n, mode in enumerate(("full", "fast", "balanced", "low"))))
    found, plain = (cell(report(one, "RTX 4090"), "full") for one in (index, None))
    assert found.seconds is not None
    assert plain.seconds is not None
    assert 1.1 * plain.seconds.best < found.seconds.best < 3 * plain.seconds.best
    assert found.seconds.high / found.seconds.best == pytest.approx(plain.seconds.high / plain.seconds.best)
    assert found.evidence.seconds.level == "calibrated"
    assert "other card of its architecture" in found.evidence.seconds.note
    assert (found.evidence.memory.level, found.evidence.host.level) == ("estimated", "estimated")


# 2: a record of the very cell replaces what it measured


def test_a_record_of_the_cell_is_the_answer() -> None:
    found = cell(report(Index((run("low", seconds=99.0, process=20 * GIB),))), "low")
    assert best(found) == pytest.approx(99.0)
    assert found.memory.card.best == 20 * GIB
    assert found.verdict is not Verdict.FITS
    assert (found.evidence.level, found.evidence.records) == ("measured", 1)
    assert found.evidence.memory.ids == ("low-Q4_K_S-0",)
    assert found.evidence.host.level == "estimated"


def test_of_several_records_the_median_and_their_range_count() -> None:
    took, held = (30.0, 10.0, 11.0), (5 * GIB, 6 * GIB, 7 * GIB)
    records = [run("low", number=n, seconds=a, process=b) for n, (a, b) in enumerate(zip(took, held, strict=True))]
    found = cell(report(Index(tuple(records))), "low")
    assert found.seconds is not None
    assert (found.seconds.low, found.seconds.best, found.seconds.high) == pytest.approx((9.19, 11.0, 30.0), rel=0.01)
    assert (found.memory.card.low, found.memory.card.best, found.memory.card.high) == (5 * GIB, 6 * GIB, 7 * GIB)
    assert "contradict each other by a factor of 3.0" in found.evidence.seconds.note
    assert "contradict" not in found.evidence.memory.note


def test_synthetic_weights_speak_for_memory_and_time_and_say_so() -> None:
    found = cell(report(Index((run("low", seconds=50.0, process=5 * GIB, weights="synthetic"),))), "low")
    assert best(found) == pytest.approx(50.0)
    assert found.memory.card.best == 5 * GIB
    assert found.evidence.level == "measured"
    assert found.evidence.seconds.note.endswith("synthetic weights")
    assert found.evidence.memory.note.endswith("synthetic weights")


def test_a_probe_measures_memory_and_no_time() -> None:
    found = cell(report(Index((run("low", seconds=None, process=5 * GIB),))), "low")
    assert found.memory.card.best == 5 * GIB
    assert (found.evidence.memory.level, found.evidence.seconds.level) == ("measured", "estimated")
    assert found.seconds == cell(PLAIN, "low").seconds
    assert found.evidence.level == "estimated"


def test_tensors_that_take_more_need_a_larger_card() -> None:
    plain = cell(PLAIN, "low").memory
    more = plain.allocated.best + GIB
    found = cell(
        report(Index((run("low", allocated=more, reserved=more + GIB, process=more + 2 * GIB),))), "low"
    ).memory
    assert (found.allocated.best, found.reserved.best, found.card.best) == (more, more + GIB, more + 2 * GIB)
    assert found.required.best == plain.required.best + GIB


def test_host_memory_is_measured_by_the_program_and_corrected_by_the_bench() -> None:
    plain = cell(PLAIN, "low").footprint.host.total
    own = cell(report(Index((run("low", rss=plain.best + GIB, bench=False),))), "low")
    assert own.footprint.host.total.best == plain.best + GIB
    assert own.evidence.host.level == "measured"
    bench = cell(report(Index((run("low", rss=plain.best + GIB, bench=True),))), "low")
    assert bench.evidence.host.level == "calibrated"
    assert bench.footprint.host.total.best > plain.best + GIB // 2


def test_a_lone_record_of_the_cell_that_the_card_contradicts_widens_and_does_not_replace() -> None:
    others = [
        run(mode, tier, n) for n, (mode, tier) in enumerate((m, t) for m in ("full", "fast", "balanced") for t in TIERS)
    ]
    found = cell(report(Index((*others, run("low", number=9, times=3.0)))), "low")
    plain = best(cell(PLAIN, "low"))
    assert best(found) == pytest.approx(plain, rel=0.1)
    assert found.seconds is not None
    assert found.seconds.high >= 3 * plain * 0.99
    assert found.evidence.seconds.level == "calibrated"
    assert "the one record of this cell says" in found.evidence.seconds.note
    agreed = cell(report(Index((*others, *(run("low", number=n, times=3.0) for n in (9, 10))))), "low")
    assert best(agreed) == pytest.approx(3 * plain)


def test_a_lone_size_that_the_cards_others_contradict_widens_and_does_not_replace() -> None:
    near = [
        run(mode, "Q8_0", process=cell(PLAIN, mode, "Q8_0").memory.card.best) for mode in ("low", "balanced", "fast")
    ]
    odd, plain = run("low", process=9 * GIB), cell(PLAIN, "low").memory.card.best
    found = cell(report(Index((*near, odd))), "low")
    assert found.memory.card.best == pytest.approx(plain, rel=0.1)
    assert found.memory.card.high == 9 * GIB
    assert found.evidence.memory.level == "calibrated"
    assert "the one record of this cell says 9.0 GiB" in found.evidence.memory.note
    assert cell(report(Index((*near[:2], odd))), "low").memory.card.best == 9 * GIB, "two others are no majority"


def test_two_records_that_contradict_each_other_widen_the_rest_to_what_both_say() -> None:
    found, plain = cell(report(Index((run("low"), run("balanced", times=6.0)))), "fast"), best(cell(PLAIN, "fast"))
    assert found.seconds is not None
    assert found.seconds.low < plain < best(found) < 6 * plain < found.seconds.high
    assert found.evidence.seconds.note.endswith("they contradict each other, which widens the range")


# 5: link records alone


def test_link_records_alone_change_what_streams_and_nothing_else() -> None:
    found = report(Index((), (link(1, 5e9),)))
    for mode in ("full", "low"):
        one, plain = cell(found, mode), cell(PLAIN, mode)
        changed = one.duration != plain.duration
        assert changed == (mode == "low")
        assert one.evidence.seconds.level == ("calibrated" if changed else "estimated")
        assert one.evidence.memory.level == "estimated"
        assert one.evidence.level == "estimated"
    assert cell(found, "low").evidence.seconds.ids == ("1",)
    assert cell(found, "full").evidence.seconds.note == NOTHING


def test_every_link_record_of_the_card_counts() -> None:
    """Three machines: copies go by the median one."""
    one, three = (
        cell(report(Index((), tuple(link(n, rate) for n, rate in enumerate(rates)))), "low").duration
        for rates in ((10e9,), (10e9, 5e9, 20e9))
    )
    assert one is not None
    assert three is not None
    assert three.part("streaming") == pytest.approx(one.part("streaming"))
    assert three.seconds is not None
    assert one.seconds is not None
    assert three.seconds.high > one.seconds.high


def test_the_context_of_a_card_is_what_its_records_say() -> None:
    plain = cell(PLAIN, "low").memory
    runs = []
    for number, mode in enumerate(("full", "balanced", "fast")):
        memory = cell(PLAIN, mode).memory
        more = memory.card.best - memory.reserved.best
        runs.append(run(mode, number=number, reserved=memory.reserved.best, process=memory.reserved.best + 2 * more))
    found = cell(report(Index(tuple(runs))), "low")
    beside = plain.card.best - plain.reserved.best
    assert 1.5 * beside < found.memory.card.best - found.memory.reserved.best < 2 * beside
    assert found.memory.required.best - plain.required.best == found.memory.card.best - plain.card.best
    assert found.evidence.memory.level == "calibrated"
    assert found.evidence.memory.note == "tensors estimated, the driver's context as 3 records of this card say"


# Whatever anybody sends


STRANGE: tuple[dict[str, Any], ...] = (
    {"card": "card-of-nobody"},
    {"cell": replace(run("low").cell, runtime="program-of-nobody")},
    {"cell": replace(run("low").cell, mode="mode-of-nobody")},
    {"cell": replace(run("low").cell, model="model-of-nobody")},
    {"cell": replace(run("low").cell, tier="Q9_9")},
    {"cell": replace(run("low").cell, task="task-of-nobody")},
    {"cell": replace(run("low").cell, sizes=(("images", 0), ("width", 0), ("height", 0)))},
    {"cell": replace(run("low").cell, task="interleave", sizes=(("images", 0),))},
    {"seconds": 0.0},
    {"seconds": float("nan")},
    {"seconds": float("inf")},
    {"seconds": None, "allocated": 0, "reserved": 0, "process": 0, "device": 0, "rss": 0},
    {"outcome": "killed", "seconds": None},
    {"cap": 0},
    {"cap": 1, "works": 1, "fails": 2},
    {"cards": 64},
    {"attention": "attention-of-nobody"},
    {"card_memory": 0, "outcome": "oom-gpu", "seconds": None},
    {"streamed": 1, "link_rate": 0.0},
)


@pytest.mark.parametrize("changes", STRANGE, ids=[f"{min(one)} {number}" for number, one in enumerate(STRANGE)])
def test_no_record_takes_an_answer_down(changes: dict[str, Any]) -> None:
    found = report(Index((run("low", **changes), run("balanced", times=1.1, number=5))))
    assert len(found.cells) == len(PLAIN.cells)
    assert found.to_json()["cells"]
    assert cell(found, "balanced").evidence.seconds.level == "measured"


values = st.fixed_dictionaries(
    {},
    optional={
        "times": st.floats(0.01, 100),
        "process": st.integers(0, 1 << 60),
        "allocated": st.integers(0, 1 << 60),
        "reserved": st.integers(0, 1 << 60),
        "rss": st.integers(0, 1 << 60),
        "outcome": st.sampled_from(["ok", "oom-gpu", "oom-host", "error"]),
        "cap": st.integers(0, 1 << 45),
        "works": st.integers(0, 1 << 45),
        "fails": st.integers(0, 1 << 45),
        "bench": st.booleans(),
        "weights": st.sampled_from(["real", "synthetic"]),
    },
)
records = st.lists(
    st.tuples(st.sampled_from(["full", "fast", "balanced", "low"]), st.sampled_from(TIERS), values), max_size=6
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(records)
def test_intervals_are_in_order_whatever_records_say(found: list[tuple[str, str, dict[str, Any]]]) -> None:
    index = Index(tuple(run(mode, tier, n, **changes) for n, (mode, tier, changes) in enumerate(found)))
    for one in report(index).cells:
        memory = one.memory
        assert all(low <= high for low, high in ((memory.required.best, memory.card.best), (0, memory.card.low)))
        assert one.seconds is not None
        assert 0 <= one.seconds.low <= one.seconds.best <= one.seconds.high
        assert one.evidence.level in ("estimated", "calibrated", "measured")
        failed = any(mode == one.placement.mode and tier == one.tier.name for mode, tier, _ in found)
        assert failed or one.evidence.memory.level != "measured"


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(["full", "fast", "balanced", "low"]), min_size=4, max_size=4),
    st.sampled_from([3.0, 1 / 3]),
)
def test_one_wrong_record_among_five_moves_no_answer_by_a_tenth(modes: list[str], factor: float) -> None:
    honest = [run(mode, TIERS[n % 2], n, 1.4) for n, mode in enumerate(modes)]
    odd = run("low", "Q8_0", 9, 1.4 * factor)
    before, after = (report(Index(tuple(found))) for found in (honest, [*honest, odd]))
    for one in before.cells:
        same = cell(after, one.placement.mode, one.tier.name)
        assert best(same) == pytest.approx(best(one), rel=0.1)


# Our own records


def of_runtime(name: str) -> Index:
    """Our own records of one runtime, and those of the link."""
    return Index(tuple(row for row in accepted().rows if row.cell.runtime == name), accepted().links)


def test_calibration_helps_on_our_own_records() -> None:
    (seconds,) = worth(left_out(of_runtime("sensenova")))
    assert seconds.rows >= 35
    assert seconds.with_others < 0.6 * seconds.without
    assert seconds.worst_with < seconds.worst_without
    assert seconds.covered >= 0.9 * seconds.rows


def test_nine_in_ten_cells_lie_inside_on_the_machine_that_measured_the_others() -> None:
    """Of pictures, which take four seconds, `fitcheck accuracy --check` says so."""
    for found in worth(left_out(of_runtime("llama.cpp"), same_machine=True)):
        assert found.rows >= 10
        assert found.covered >= 0.9 * found.rows, found
        if found.name == "generation":
            assert found.with_others < found.without
        else:  # rates of prompts were fitted on these very ten rows, so that the model without them is not blind
            assert found.without < 0.08
            assert found.with_others < 0.11
        assert found.width < 3


def test_records_are_the_cells_that_they_say() -> None:
    """Record → ask → record."""
    for row in accepted().rows:
        ask = ask_of(row)
        if ask is None or row.tests:
            continue
        named = registry.get(row.cell.runtime).recorded(ask.placement)
        identity = (named["name"], named["revision"], named["policy"], named["mode"])
        again = CellKey.of(ask.model.slug, ask.tier.name, ask.workload, *identity)
        assert replace(again, sizes=()) == replace(row.cell, sizes=())


def test_what_concerns_a_page_gives_the_same_answer_as_all_records() -> None:
    card, index = find_card("H100 SXM"), accepted()
    machine = machine_for(card)
    asked = check(MODEL, machine, Wanted(tiers=("Q8_0",)), index=index, advise=False)
    shown = check(MODEL, machine, Wanted(tiers=("Q8_0",)), index=concerning(index, card, MODEL), advise=False)
    assert asked.to_json() == shown.to_json()


def test_without_records_there_is_nothing_to_know() -> None:
    machine = machine_for(find_card(CARD))
    assert known_of(None, machine, MODEL) is None
    assert known_of(Index(), machine, MODEL) is None
    assert known_of(Index((run("low", card="h100-sxm5-80gb"),)), machine, MODEL) is None
    assert calibration_of(cell(PLAIN, "low").ask, Index()).ratios == ()
    assert PLAIN.cells[0].evidence.note == NOTHING


def test_own_records_speak_for_the_own_machine() -> None:
    """What one machine's link and host are is known on it, and less sure on others with the card."""
    mine = [run("low", tier, n, 1.5, machine="mine", own=True) for n, tier in enumerate(TIERS)]
    detected = replace(machine_for(find_card(CARD)), detected=True)
    here, elsewhere = (
        check(MODEL, machine, Wanted(tiers=("Q4_K_S",)), index=Index(tuple(mine)), advise=False)
        for machine in (detected, machine_for(find_card(CARD)))
    )
    narrow, wide = cell(here, "balanced").seconds, cell(elsewhere, "balanced").seconds
    assert narrow is not None
    assert wide is not None
    assert narrow.high / narrow.low < wide.high / wide.low


def test_what_a_kind_of_run_is_gets_asked_once_however_many_sent_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Run] = []

    def counted(one: Run) -> object:
        asked.append(one)
        return identified(one)

    identified = evidence._identified
    monkeypatch.setattr(evidence, "_identified", counted)
    many = [run("low", number=number, times=2.0) for number in range(1500)]
    found = cell(report(Index((*many, run("fast")))), "low")
    assert len(asked) == 2
    assert found.evidence.seconds.level == "measured"
    assert 500 <= found.evidence.seconds.records <= 1000, "some of very many say the same"
    assert best(found) == pytest.approx(2 * best(cell(PLAIN, "low")), rel=0.01)

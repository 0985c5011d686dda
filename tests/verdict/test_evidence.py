"""What records change in a check, by quantity: a cell's own replace, the card's correct, failures and limits bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.records.run import CellKey, Run, TokenTest
from fitcheck.records.run_index import Index, LinkRow, accepted
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.check import check
from fitcheck.verdict.evidence import ask_of
from fitcheck.verdict.known_records import calibration_of, concerning, known_of
from fitcheck.verdict.left_out import left_out, worth
from fitcheck.verdict.report import Cell, Report

MODEL = catalog.get("sensenova-u1-8b-mot")
CARD = "RTX 4070"
SLUG = "rtx-4070"
TIERS = ("Q4_K_S", "Q8_0")
NOTHING = "model only, no record of this card"


def report(index: Index | None, card: str = CARD, tiers: tuple[str, ...] = TIERS) -> Report:
    return check(MODEL, machine_for(find_card(card), ram=128 * GIB), Wanted(tiers=tiers), index=index, advise=False)


def cell(found: Report, mode: str, tier: str = "Q4_K_S") -> Cell:
    return next(one for one in found.cells if (one.tier.name, one.placement.mode) == (tier, mode))


PLAIN = report(None)


def run(mode: str, tier: str = "Q4_K_S", number: int = 0, times: float = 1.0, **changes: Any) -> Run:
    """A record of a cell of the RTX 4070 that took ``times`` what is predicted, on a machine of its own."""
    one = cell(PLAIN, mode, tier)
    runtime = registry.get(one.placement.runtime)
    named = runtime.recorded(one.placement)
    identity = (named["name"], named["revision"], named["policy"], named["mode"])
    assert one.seconds is not None
    found = Run(
        id=f"{mode}-{tier}-{number}",
        card=SLUG,
        card_memory=12 * GIB,
        cell=CellKey.of(MODEL.slug, tier, one.workload, *identity),
        weights="real",
        outcome="ok",
        created=1_790_000_000 + number,
        seconds=one.seconds.best * times,
        machine=f"m{number}",
    )
    return replace(found, **changes)


def link(number: int, rate: float, card: str = SLUG) -> LinkRow:
    blocks = tuple((size << 20, rate) for size in (1, 1024))
    return LinkRow(str(number), card, number, blocks, tuple((size, each / 5) for size, each in blocks))


def best(one: Cell) -> float:
    assert one.seconds is not None
    return one.seconds.best


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


# 3: failures and limits bound the need


def test_a_cell_that_ran_out_of_memory_here_does_not_fit() -> None:
    assert cell(PLAIN, "low").verdict is Verdict.FITS
    failed = run("low", outcome="oom-gpu", seconds=None)
    once = cell(report(Index((failed,))), "low")
    assert once.verdict is Verdict.TIGHT
    assert once.evidence.memory.note == "1 record of this cell ran out of card memory on this card"
    assert once.evidence.memory.level == "calibrated"
    twice = cell(report(Index((failed, replace(failed, id="again", machine="other")))), "low")
    assert twice.verdict is Verdict.NO
    assert cell(report(Index((failed,))), "balanced").verdict is cell(PLAIN, "balanced").verdict


def test_one_failure_among_many_runs_leaves_it_possible_and_is_told() -> None:
    ran = [run("low", number=n, process=4 * GIB) for n in range(5)]
    found = cell(report(Index((*ran, run("low", number=9, outcome="oom-gpu", seconds=None)))), "low")
    assert found.memory.card.best == 4 * GIB
    assert found.memory.card.high > 10 * GIB
    assert "ran out of card memory" in found.evidence.memory.note


def test_a_cell_that_ran_out_of_system_memory_does_not_fit_such_a_machine() -> None:
    machine = machine_for(find_card(CARD), ram=48 * GIB)
    starved = run("low", outcome="oom-host", seconds=None, ram=48 * GIB)

    def verdict(*found: Run) -> Verdict:
        asked = Wanted(tiers=("Q4_K_S",))
        return cell(check(MODEL, machine, asked, index=Index(found), advise=False), "low").verdict

    assert verdict() is Verdict.FITS
    assert verdict(starved) is Verdict.TIGHT
    assert verdict(starved, replace(starved, id="again")) is Verdict.NO
    assert verdict(replace(starved, ram=None)) is Verdict.FITS
    found = cell(check(MODEL, machine, Wanted(tiers=("Q4_K_S",)), index=Index((starved,)), advise=False), "low")
    assert found.evidence.host.note == "1 record of this cell ran out of system memory on such a card"


@pytest.mark.parametrize(
    ("works", "fails", "low", "high"),
    [(6 * GIB, None, None, 6 * GIB), (None, 5 * GIB, 5 * GIB, None), (6 * GIB, 5 * GIB, 5 * GIB, 6 * GIB)],
)
def test_limits_bound_the_smallest_card(
    works: int | None, fails: int | None, low: int | None, high: int | None
) -> None:
    one = run("low", cap=works or fails, outcome="ok" if works else "oom-gpu", works=works, fails=fails)
    found = cell(report(Index((one,))), "low").memory.required
    assert low is None or found.low >= low
    assert high is None or found.high <= high
    assert found.low <= found.best <= found.high


def test_limits_that_contradict_each_other_leave_the_smallest_that_worked() -> None:
    records = (run("low", cap=4 * GIB, number=1), run("low", cap=6 * GIB, number=2, outcome="oom-gpu", seconds=None))
    found = cell(report(Index(records)), "low").memory.required
    assert found.high <= 4 * GIB


def test_a_limit_of_a_cell_that_keeps_other_layers_bounds_nothing() -> None:
    capped = run("fast", cap=8 * GIB, process=7 * GIB)
    assert cell(report(Index((capped,))), "fast").memory.required == cell(PLAIN, "fast").memory.required


# 4: records of a program that reports tokens a second

TEXT = catalog.get("llama-3.1-8b")


def answer(index: Index | None, *options: tuple[str, object], card: str = CARD) -> Cell:
    chosen = {"cache_type": ("f16", "f16"), **dict(options)}
    wanted = Wanted(tiers=("Q4_K_M",), options=tuple(sorted(chosen.items())))
    return check(TEXT, machine_for(find_card(card)), wanted, index=index, advise=False).cells[0]


def tokens(prompt: float | None = 2000.0, new: float | None = 70.0, number: int = 0, **changes: Any) -> Run:
    """A llama-bench record of all layers on an RTX 4070, with its usual tests."""
    tests = [TokenTest(512, 0, 0, prompt)] if prompt else []
    tests += [TokenTest(0, 128, 0, new)] if new else []
    key = CellKey(TEXT.slug, "Q4_K_M", "chat", (), "llama.cpp", None, None, None)
    settings = (("backend", "CUDA"), ("flash_attention", "on"), ("gpu_layers", 99))
    found = Run(f"t{number}", SLUG, 12 * GIB, key, "real", "ok", number, bench=False, machine=f"m{number}")
    return replace(found, **{"tests": tuple(tests), "settings": settings, **changes})


def rate(one: Cell, name: str) -> float:
    found = one.rate(name)
    assert found is not None
    return found.best


def test_tokens_a_second_of_the_cell_are_the_answer() -> None:
    found = answer(Index((tokens(),)), ("ngl", 99))
    assert rate(found, "prompt") == pytest.approx(2000.0)
    assert rate(found, "generation") == pytest.approx(70.0)
    assert found.evidence.seconds.level == "measured"
    assert {name for name, one in found.evidence.rates if one.level == "measured"} == {"prompt", "generation"}
    assert best(found) == pytest.approx(512 / rate(found, "prompt") + 128 / rate(found, "generation"))


def test_a_test_at_a_depth_that_costs_much_corrects_and_is_not_the_cell() -> None:
    deep = tokens(tests=(TokenTest(0, 128, 60_000, 30.0),))
    found = answer(Index((deep,)), ("ngl", 99))
    assert dict(found.evidence.rates)["generation"].level == "calibrated"
    assert rate(found, "generation") > 45


def test_a_rate_alone_is_measured_and_the_other_is_not() -> None:
    found = answer(Index((tokens(prompt=None),)), ("ngl", 99))
    levels = {name: one.level for name, one in found.evidence.rates}
    assert levels == {"prompt": "estimated", "generation": "measured"}
    assert found.evidence.seconds.level == "estimated"
    assert rate(found, "prompt") == rate(answer(None, ("ngl", 99)), "prompt")


def test_token_records_of_the_card_correct_its_other_placements_and_contexts() -> None:
    plain = answer(None, ("ngl", 99))
    slow = tuple(tokens(rate(plain, "prompt") / 2, rate(plain, "generation") / 2, n) for n in range(3))
    other = ("cache_type", ("q8_0", "q8_0"))
    before, after = (answer(index, ("ngl", 99), other) for index in (None, Index(slow)))
    for name in ("prompt", "generation"):
        assert rate(after, name) == pytest.approx(rate(before, name) / 2, rel=0.25)
    assert after.evidence.seconds.level == "calibrated"
    # what one machine's host reads a second says less of another's
    before, after = (answer(index, ("ngl", 0)) for index in (None, Index(slow)))
    assert rate(after, "generation") == pytest.approx(rate(before, "generation"), rel=0.15)


@pytest.mark.parametrize(
    "settings",
    [
        (("gpu_layers", 99), ("split_mode", "row")),
        (("gpu_layers", 99), ("tags", "tensor-overrides")),
        (("backend", "Vulkan"), ("gpu_layers", 99)),
        (("gpu_layers", "many"),),
        (("gpu_layers", 99), ("type_k", "q1_9")),
        (("gpu_layers", 99), ("ubatch", 0)),
    ],
)
def test_token_records_of_what_is_not_modelled_change_nothing(settings: tuple[tuple[str, object], ...]) -> None:
    index = Index((tokens(settings=settings),))
    assert answer(index, ("ngl", 99)).duration == answer(None, ("ngl", 99)).duration


def test_two_cards_are_not_one() -> None:
    two = tokens(cards=2)
    assert ask_of(two) is not None
    found = answer(Index((two,)), ("ngl", 99))
    assert found.evidence.seconds.level == "calibrated"
    assert rate(found, "generation") != pytest.approx(70.0, rel=0.03)


def test_a_test_of_a_short_context_does_not_measure_the_memory_of_a_long_one() -> None:
    index = Index((tokens(process=5 * GIB),))
    for context, level in ((512 + 128, "calibrated"), (8192, "calibrated")):
        found = answer(index, ("ngl", 99), ("ctx", context))
        assert found.evidence.memory.level == level
        assert found.memory.card.best != 5 * GIB
    stated = (("context", 8192), ("flash_attention", "on"), ("gpu_layers", 99), ("sequences", 4))
    index = Index((tokens(process=5 * GIB, settings=stated),))
    found = answer(index, ("ngl", 99), ("ctx", 8192))
    assert (found.evidence.memory.level, found.memory.card.best) == ("measured", 5 * GIB)


def test_files_that_are_mapped_do_not_count_as_system_memory() -> None:
    mapped, read = (tokens(rss=6 * GIB, settings=(("gpu_layers", 99), ("mmap", mmap))) for mmap in (True, False))
    assert answer(Index((mapped,)), ("ngl", 99)).evidence.host.level == "estimated"
    assert answer(Index((read,)), ("ngl", 99)).evidence.host.level == "calibrated"


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


def test_calibration_helps_on_our_own_records() -> None:
    found = {(one.runtime, one.name): one for one in worth(left_out(accepted()))}
    seconds = found["sensenova", "seconds"]
    assert seconds.rows >= 35
    assert seconds.with_others < 0.6 * seconds.without
    assert seconds.worst_with < seconds.worst_without
    assert seconds.covered >= 0.9 * seconds.rows


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
    assert known_of(None, machine) is None
    assert known_of(Index(), machine) is None
    assert known_of(Index((run("low", card="h100-sxm5-80gb"),)), machine) is None
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

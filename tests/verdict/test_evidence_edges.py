"""What decides whose records count for a cell, and how much: each rule at its edge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from evidence_records import CARD, MODEL, PLAIN, best, cell, link, report, run
from test_evidence_bounds import LARGER, ran_out, video
from test_evidence_tokens import TEXT, answer, tokens
from test_implied import failed, limit, need

import fitcheck
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.workload import Task, Workload
from fitcheck.records.run import CellKey, Run
from fitcheck.records.run_index import Index
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check
from fitcheck.verdict.implied import at_least_as_large, ran_within
from fitcheck.verdict.known_records import known_of


def on(card: str, mode: str, tier: str = "Q4_K_S", **changes: Any) -> Run:
    """A record of another card that took what is predicted there."""
    one = cell(report(None, card, (tier,)), mode, tier)
    named = registry.get(one.placement.runtime).recorded(one.placement)
    key = CellKey.of(MODEL.slug, tier, one.workload, named["name"], named["revision"], named["policy"], named["mode"])
    base = replace(run("low"), id=f"{card}-{mode}", card=find_card(card).slug, card_memory=find_card(card).memory)
    return replace(base, **{"cell": key, "seconds": best(one), **changes})


def starved(number: int, ram: int) -> Run:
    return replace(run("low", number=number, outcome="oom-host", seconds=None, ram=ram), id=f"starved-{number}")


def on_machine(ram: int, *runs: Run) -> Cell:
    machine = machine_for(find_card(CARD), ram=ram)
    return cell(check(MODEL, machine, Wanted(tiers=("Q4_K_S",)), index=Index(runs), advise=False), "low")


# which runs cover which


def test_a_cell_covers_no_other_model_runtime_or_larger_work() -> None:
    one = need(cell(PLAIN, "balanced"))
    ask = one.ask
    smaller = replace(ask, workload=replace(ask.workload, height=ask.workload.height // 2))
    assert one.covers(replace(one, ask=smaller))
    assert not replace(one, ask=smaller).covers(one), "equal memory by the estimate, and less work"
    others = (
        replace(ask, model=replace(ask.model, slug="another")),
        replace(ask, placement=replace(ask.placement, runtime="another")),
    )
    for other in others:
        assert not one.covers(replace(one, ask=other))
        assert not replace(one, ask=other).covers(one)


EDIT = Workload(Task.EDITING, 1024, 1024, 8, 4.0, references=((512, 512),))


def test_any_guidance_takes_as_many_passes_as_another() -> None:
    assert at_least_as_large(EDIT, EDIT.with_(cfg=7.0))
    assert not at_least_as_large(EDIT.with_(cfg=1.0), EDIT)


def test_references_are_as_large_as_their_pixels() -> None:
    larger = EDIT.with_(references=((1024, 512),))
    assert at_least_as_large(larger, EDIT)
    assert not at_least_as_large(EDIT, larger)


def test_a_run_within_a_limit_ran_within_all_of_it() -> None:
    assert ran_within(run("low", cap=6 * GIB, process=4 * GIB)) == 6 * GIB
    assert ran_within(run("low", process=4 * GIB)) == 4 * GIB
    assert ran_within(run("low", process=4 * GIB, outcome="error")) is None


def test_a_limit_below_what_is_expected_anyway_says_nothing() -> None:
    required = cell(PLAIN, "balanced").memory.required
    index = Index((limit("low", fails=(required.low + required.best) // 2),))
    found = cell(report(index), "balanced")
    assert found.memory.required == required
    assert found.evidence.memory.level == "estimated"


def test_what_a_run_needed_under_a_limit_is_looked_at_under_that_limit() -> None:
    """Mode fast keeps fewer layers there, and so needs no more than balanced does."""
    usual, least = (cell(PLAIN, mode).memory.required.best for mode in ("fast", "balanced"))
    assert usual > least
    found = cell(report(Index((limit("fast", fails=5 * GIB),))), "balanced")
    assert found.memory.required.low == 5 * GIB


def test_runs_of_two_cards_that_ran_out_say_nothing_of_one() -> None:
    two = [replace(failed("balanced", number), cards=2) for number in range(2)]
    assert cell(report(Index(tuple(two))), "fast").memory == cell(PLAIN, "fast").memory


def test_a_limit_of_other_layers_bounds_nothing_even_where_it_is_small() -> None:
    size = round(5.5 * GIB)
    capped = run("fast", cap=size, process=5 * GIB)
    required = cell(PLAIN, "fast").memory.required
    assert required.low < size < required.high
    assert cell(report(Index((capped,))), "fast").memory.required == required


def test_a_run_that_failed_measures_no_time() -> None:
    found = cell(report(Index((run("low", outcome="error", seconds=5.0),))), "low")
    assert found.seconds == cell(PLAIN, "low").seconds
    assert found.evidence.seconds.level == "estimated"


def test_three_runs_of_a_cell_answer_for_it_however_many_kinds_are_looked_at() -> None:
    """Of many kinds of runs some are left out, and those of the cell itself count all the same."""
    many = [replace(run("low", number=number), prompt_tokens=number) for number in range(100, 140)]
    ran = [run("low", number=number, process=4 * GIB, prompt_tokens=1) for number in range(3)]
    out = replace(run("low", number=9, outcome="oom-gpu", seconds=None, prompt_tokens=2), id="out")
    index = Index((many[0], *ran, *many[1:], out))
    assert cell(report(index), "low").verdict is not Verdict.NO
    assert cell(report(index), "low").memory.failures == 0


# the card's memory


def test_the_context_is_beside_what_the_allocator_was_seen_to_hold() -> None:
    memory = cell(PLAIN, "balanced").memory
    beside = memory.card.best - memory.reserved.best
    more = memory.reserved.best + GIB // 4
    found = cell(report(Index((run("balanced", reserved=more, process=more + beside),))), "low")
    plain = cell(PLAIN, "low").memory
    assert found.memory.card.best == pytest.approx(plain.card.best, abs=1 << 20)


def test_two_agreeing_sizes_of_the_cell_are_the_answer_whatever_the_others_say() -> None:
    near = [
        run(mode, "Q8_0", process=cell(PLAIN, mode, "Q8_0").memory.card.best) for mode in ("low", "balanced", "fast")
    ]
    odd = [run("low", number=number, process=9 * GIB) for number in range(2)]
    assert cell(report(Index((*near, odd[0]))), "low").evidence.memory.level == "calibrated"
    both = cell(report(Index((*near, *odd))), "low")
    assert (both.evidence.memory.level, both.memory.card.best) == ("measured", 9 * GIB)
    agrees = run("low", number=3, process=cell(PLAIN, "low").memory.card.best)
    two = cell(report(Index((odd[0], *near, agrees))), "low").evidence.memory
    assert (two.level, two.records) == ("measured", 2)
    far = run("full", "Q8_0", process=2 * cell(PLAIN, "full", "Q8_0").memory.card.best)
    apart = cell(report(Index((*near, far, odd[0]))), "low")
    assert apart.evidence.memory.level == "measured", "the card's others are not near their estimates either"


def test_what_is_needed_is_never_more_than_what_was_taken() -> None:
    plain, taken = cell(PLAIN, "low").memory, round(3.3 * GIB)
    assert plain.allocated.best < taken < plain.required.best
    index = Index((run("low", allocated=plain.allocated.best, reserved=taken, process=taken),))
    found = cell(report(index), "low").memory
    assert (found.required.best, found.card.best) == (taken, taken)


def test_a_card_that_was_seen_to_have_enough_is_not_crowded() -> None:
    card = "RTX 3080 10 GB"
    plain = cell(report(None, card, ("BF16",)), "fast", "BF16")
    assert plain.memory.crowded
    assert plain.verdict is Verdict.TIGHT
    index = Index((on(card, "fast", "BF16", process=8 * GIB),))
    assert cell(report(index, card, ("BF16",)), "fast", "BF16").verdict is Verdict.FITS


def test_of_several_limits_the_tightest_count() -> None:
    works = [replace(limit("low", works=size), id=f"works {size}") for size in (5 * GIB, round(3.8 * GIB), 6 * GIB)]
    assert cell(report(Index(tuple(works))), "low").memory.required.high == round(3.8 * GIB)
    fails = [replace(limit("low", fails=size), id=f"fails {size}") for size in (5 * GIB, 6 * GIB, 4 * GIB)]
    assert cell(report(Index(tuple(fails))), "low").memory.required.low == 6 * GIB
    others = [
        replace(limit(mode, works=size), id=f"{mode} {size}")
        for mode, size in (("fast", round(4.1 * GIB)), ("balanced", round(3.8 * GIB)), ("full", 15 * GIB))
    ]
    assert cell(report(Index(tuple(others))), "low").memory.required.high == round(3.8 * GIB)


def test_what_another_card_had_too_little_of_is_said_only_where_it_is_news() -> None:
    plain, found = video(None, LARGER), video(Index((ran_out(4 * GIB),)), LARGER)
    assert found.memory == plain.memory
    assert found.evidence.memory == plain.evidence.memory


def test_records_speak_for_their_own_card_alone_where_another_is_asked_of() -> None:
    index = Index((run("low", process=9 * GIB),))
    machine, other = (machine_for(find_card(name), ram=128 * GIB) for name in (CARD, "RTX 3060 12 GB"))
    known = known_of(index, machine, MODEL)
    assert known is not None
    ask = cell(PLAIN, "low").ask
    runtime = registry.get(ask.placement.runtime)
    assert known.footprint(runtime, ask).cards[0].card.best == 9 * GIB
    larger = replace(machine.gpus[0], usable=cell(PLAIN, "low").memory.card)
    for elsewhere in (other, replace(machine, gpus=(larger,))):
        asked = replace(ask, machine=elsewhere)
        assert known.footprint(runtime, asked) == runtime.spread(asked, runtime.footprint(asked))


def test_a_run_that_failed_needs_more_than_it_was_seen_to_take() -> None:
    taken = round(11.8 * GIB)
    assert cell(report(Index((failed("low"),))), "low").memory.card.best < taken
    found = cell(report(Index((replace(failed("low"), process=taken),))), "low").memory
    assert found.card.best == taken + 1


def test_three_that_ran_are_a_clear_majority_against_one_that_failed() -> None:
    ran = [run("low", number=number, process=4 * GIB) for number in range(3)]
    assert cell(report(Index((*ran, failed("low", 9)))), "low").memory.card.best == 4 * GIB
    assert cell(report(Index((*ran[:2], failed("low", 9)))), "low").memory.card.best > 10 * GIB


def test_a_failure_that_the_sizes_explain_is_no_reason() -> None:
    few = replace(failed("low"), card_memory=12 * GIB, before=round(8.2 * GIB))
    found = cell(report(Index((few,))), "low")
    assert found.memory.card.best == cell(PLAIN, "low").memory.card.best
    assert found.memory.failures == 0
    assert found.verdict is Verdict.FITS


# system memory


def test_a_process_keeps_a_tenth_of_what_is_expected_of_it() -> None:
    host = cell(PLAIN, "low").footprint.host
    found = cell(report(Index((run("balanced", rss=round(0.7 * host.pinned)),))), "low").footprint.host.total
    assert found.low == host.total.low - round(0.9 * host.process)
    assert (found.best, found.high) == (host.total.best, host.total.high)


def test_of_several_that_starved_the_largest_machine_counts() -> None:
    found = on_machine(128 * GIB, starved(1, 24 * GIB), starved(2, 64 * GIB))
    assert found.footprint.host.total.best > 55 * GIB


def test_two_that_starved_where_one_ran_leave_it_possible() -> None:
    ran = run("low", number=3, rss=22 * GIB, bench=False)
    few = (starved(1, 48 * GIB), starved(2, 48 * GIB))
    assert on_machine(48 * GIB, *few).verdict is Verdict.NO
    assert on_machine(48 * GIB, *few, ran).verdict is Verdict.TIGHT


# seconds


def test_repeats_on_one_machine_are_one_observation_of_their_median() -> None:
    def after(*times: float) -> Cell:
        runs = (replace(run("low", number=n, times=one), machine="m") for n, one in enumerate(times))
        return cell(report(Index(tuple(runs))), "fast")

    assert best(after(2.0, 0.7, 2.0)) == pytest.approx(best(after(2.0, 2.0, 2.0)))
    one, four = after(2.0), after(2.0, 2.0, 2.0, 2.0)
    assert one.seconds is not None
    assert four.seconds is not None
    assert four.seconds.high / four.seconds.low < one.seconds.high / one.seconds.low


def test_links_of_the_asked_card_say_nothing_of_the_card_that_is_borrowed_from() -> None:
    """Records of an RTX 4090 that are as predicted there move nothing on an RTX 4070 with a slow slot."""
    slow = (link(1, 3e9),)
    there = tuple(on("RTX 4090", mode) for mode in ("low", "balanced"))
    plain, found = report(Index((), slow)), report(Index(there, slow))
    for mode in ("full", "low"):
        assert best(cell(found, mode)) == pytest.approx(best(cell(plain, mode)), rel=0.02)


@pytest.mark.parametrize("measured", [(512, 0), (0, 128)])
def test_what_is_known_of_one_rate_alone_is_not_known_of_the_answer(measured: tuple[int, int]) -> None:
    index = Index((tokens(tests=tuple(one for one in tokens().tests if (one.prompt, one.new) == measured)),))
    found = answer(index, ("ngl", 99)).evidence
    levels = [known.level for _, known in found.rates]
    assert "measured" in levels
    assert found.seconds.level != "measured"


# words


def test_too_slow_is_said_of_what_runs_alone() -> None:
    found = fitcheck.check(MODEL.slug, "RTX 3060 12GB", ram=16 * GIB, max_seconds=1.0).best
    assert (found.verdict, found.judgement.binding) == (Verdict.NO, Constraint.RAM)
    assert found.judgement.gist == "does not run: too little system memory"


def test_runs_that_failed_are_no_reason_where_something_else_binds() -> None:
    machine = machine_for(find_card(CARD), ram=16 * GIB)
    roomy = replace(failed("low"), card_memory=5 * GIB, before=0)
    short = cell(check(MODEL, machine, Wanted(tiers=("Q4_K_S",)), index=Index((roomy,)), advise=False), "low")
    assert short.memory.failures == 1
    assert short.judgement.binding is Constraint.RAM
    assert short.judgement.gist == "does not run: too little system memory"
    assert short.reason.startswith("The host must hold")


def test_runs_that_failed_are_no_reason_where_the_platform_decides() -> None:
    out = replace(failed("low"), card="radeon-rx-7900-xtx", card_memory=24 * GIB)
    found = cell(report(Index((out,)), "RX 7900 XTX"), "low")
    assert found.memory.failures == 1
    assert found.judgement.gist == "may run; nobody has shown it"


def test_what_the_platform_allows_no_more_than_the_amounts_is_said_as_well() -> None:
    both = fitcheck.check(MODEL.slug, "Tesla T4", ram=32 * GIB, tier="Q6_K").best
    assert both.reason.startswith("The host must hold")
    assert "No bfloat16 units before compute capability 8.0" in both.reason
    neither = fitcheck.check(MODEL.slug, "GTX 1060 6GB", ram=8 * GIB, tier="Q4_K_S", mode="low").best
    assert neither.judgement.level.also is not None
    assert neither.judgement.gist == "does not run: too little system memory"


def test_the_answer_says_of_memory_and_speed_how_each_is_known() -> None:
    def words(index: Index | None) -> str:
        wanted = Wanted(tiers=("Q4_K_S",), options=(("mode", ("low",)),))
        return check(MODEL, machine_for(find_card(CARD), ram=128 * GIB), wanted, index=index, advise=False).answer

    assert words(None).endswith("an image (estimated).")
    assert words(Index((run("low"),))).endswith("an image (memory estimated, speed measured).")
    assert words(Index((run("low", process=4 * GIB),))).endswith("an image (measured).")
    assert words(Index((run("low", process=4 * GIB, seconds=None),))).endswith("(memory measured, speed estimated).")
    untimed = replace(run("low", seconds=None, process=4 * GIB), card="rtx-2080-ti", card_memory=11 * GIB)
    known = check(
        MODEL, machine_for(find_card("RTX 2080 Ti"), ram=128 * GIB),
        Wanted(tiers=("Q4_K_S",), options=(("mode", ("low",)),)), index=Index((untimed,)), advise=False,
    )  # fmt: skip
    assert known.best.seconds is None
    assert known.answer.endswith("of system memory (measured).")
    slow = words(Index((run("low", seconds=2000.0),)))
    assert "too slow to use" in slow
    assert slow.endswith("(memory estimated, speed measured).")
    text = check(
        TEXT, machine_for(find_card(CARD)), Wanted(tiers=("Q4_K_M",)), index=Index((tokens(prompt=None),)), advise=False
    )
    assert text.answer.endswith("tokens a second (memory estimated, speed measured).")


def test_a_card_is_not_another_card_to_itself() -> None:
    """Mode fast keeps other layers under a limit, so that running out there says nothing of the whole card."""
    out = run("fast", cap=8 * GIB, outcome="oom-gpu", seconds=None)
    found = cell(report(Index((out,))), "fast")
    assert found.memory == cell(PLAIN, "fast").memory
    assert found.evidence.memory.level == "estimated"


def test_records_of_one_card_say_nothing_of_two_unlike_ones() -> None:
    index = Index((run("low"),))
    one, other = (machine_for(find_card(name)) for name in (CARD, "L4"))
    both = replace(one, gpus=one.gpus + other.gpus)
    assert known_of(index, one, MODEL) is not None
    assert known_of(index, both, MODEL) is None

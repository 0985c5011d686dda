"""Failures and limits bound the need, on the card itself and on others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from evidence_records import CARD, MODEL, PLAIN, SLUG, cell, report, run

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.records.run import CellKey, Run
from fitcheck.records.run_index import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check
from fitcheck.verdict.known_records import concerning


def test_a_cell_that_ran_out_of_memory_here_does_not_fit() -> None:
    assert cell(PLAIN, "low").verdict is Verdict.FITS
    failed = run("low", outcome="oom-gpu", seconds=None)
    once = cell(report(Index((failed,))), "low")
    assert once.verdict is Verdict.TIGHT
    assert once.evidence.memory.note == "1 record of this cell ran out of card memory on this card"
    assert once.evidence.memory.level == "calibrated"
    assert once.judgement.gist == "may run, but 1 record of it ran out of card memory"
    assert once.reason == "1 record of it ran out of card memory on such a card, which the sizes alone do not explain."
    twice = cell(report(Index((failed, replace(failed, id="again", machine="other")))), "low")
    assert twice.verdict is Verdict.NO
    assert twice.reason.startswith("2 records of it ran out of card memory on such a card")


def test_a_search_for_a_limit_is_a_run_under_one() -> None:
    plain = run("low")
    assert not plain.limited
    assert replace(plain, cap=GIB).limited
    assert replace(plain, works=GIB).limited
    assert replace(plain, fails=GIB).limited


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


# the same memory, measured at other steps or on other cards

WAN = catalog.get("wan2.2-ti2v-5b")
LARGER = "RTX 4060 Ti 16 GB"
STREAMED = (("frames", 81), ("mode", ("group-leaf-stream",)), ("size", (832, 480)), ("steps", 50), ("vae", ("whole",)))


def video(index: Index | None, card: str, **options: object) -> Cell:
    wanted = Wanted(tiers=("bf16",), options=tuple({**dict(STREAMED), **options}.items()))
    return check(WAN, machine_for(find_card(card), ram=128 * GIB), wanted, index=index, advise=False).cells[0]


def ran_out(limit: int, **changes: Any) -> Run:
    """An H100 under a limit, two steps of the video."""
    sizes = (("width", 832), ("height", 480), ("steps", 2), ("cfg", 5.0), ("frames", 81), ("batch", 1))
    key = CellKey(WAN.slug, "bf16", "t2v", sizes, "diffusers", "0.42.1", None, "group-leaf-stream")
    found = run("low", card="h100-sxm5-80gb", card_memory=80 * GIB, cell=key, outcome="oom-gpu", seconds=None)
    return replace(found, cap=limit, context=GIB // 2, bench=True, compute_capability="9.0", **changes)


def test_runs_of_two_steps_measure_the_memory_of_fifty() -> None:
    plain = video(None, "H100 SXM5 80GB")
    found = video(Index((ran_out(13 * GIB),)), "H100 SXM5 80GB")
    assert plain.memory.required.best < 13 * GIB <= found.memory.required.low
    assert found.evidence.memory.note == "it did not within 13.0 GiB"
    assert found.evidence.seconds.level == "estimated"


def test_what_ran_out_on_another_card_needs_more_than_that_here() -> None:
    index, plain = Index((ran_out(16 * GIB),)), video(None, LARGER)
    found = video(index, LARGER)
    beside = plain.memory.card.best - plain.memory.reserved.best
    assert plain.verdict is Verdict.TIGHT
    assert found.verdict is Verdict.NO
    assert found.memory.required.best == 16 * GIB - GIB // 2 + beside + 1
    assert found.memory.required.low == plain.memory.required.low
    assert found.evidence.memory.note == "it did not run within 16.0 GiB on h100-sxm5-80gb"
    several = Index(tuple(replace(ran_out(limit * GIB), id=f"at {limit}") for limit in (13, 16)))
    assert video(several, LARGER).memory == found.memory, "the largest that was too small counts"
    assert video(index, LARGER, mode=("sequential",)).memory == video(None, LARGER, mode=("sequential",)).memory
    assert video(index, "RX 7900 XTX").memory == video(None, "RX 7900 XTX").memory
    machine = machine_for(find_card(CARD), ram=128 * GIB)
    wanted = Wanted(tiers=("bf16",), options=STREAMED)
    concerned = check(WAN, machine, wanted, index=concerning(index, machine.gpus[0].card, WAN), advise=False)
    assert concerned.cells[0].memory == found.memory


def test_records_of_the_card_itself_go_before_those_of_another() -> None:
    here = replace(ran_out(12 * GIB), id="here", card=SLUG, card_memory=12 * GIB, compute_capability="8.9")
    ran = replace(here, outcome="ok", cap=None, process=9 * GIB, reserved=8 * GIB, allocated=7 * GIB)
    assert video(Index((ran, ran_out(40 * GIB))), CARD).memory.card.best == 9 * GIB

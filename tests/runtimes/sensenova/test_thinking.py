"""Thinking, text apart from prompts, and what happens once in a process."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.errors import OptionError
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Process, Wanted
from fitcheck.runtimes.sensenova.card_seen import architecture_of, view_of
from fitcheck.runtimes.sensenova.guidance import branches, text_ends, thought, written
from fitcheck.runtimes.sensenova.layer_weights import weights_of
from fitcheck.runtimes.sensenova.layout import CardView
from fitcheck.runtimes.sensenova.phases import lay_out
from fitcheck.runtimes.sensenova.streaming import streaming_of, upstream
from fitcheck.units import GIB
from fitcheck.verdict.check import check

MODEL = catalog.get("sensenova-u1.5-8b-mot")
H100, RTX_5090 = find_card("H100 SXM"), find_card("RTX 5090")
RUNTIME = registry.get("sensenova")
KV = 172_032  # bytes of a token's keys and values


def cell(mode: str, card: Card = H100, revision: str = "phase-aware", **options: object) -> Ask:
    """One cell in BF16."""
    asked = {"mode": (mode,), "revision": revision, **options}
    wanted = Wanted(str(asked.pop("task", "t2i")), options=tuple(sorted(asked.items())))
    tier = MODEL.tier("BF16")
    assert tier is not None
    (found,) = RUNTIME.asks(MODEL, [tier], wanted, machine_for(card))
    return found


def seconds(ask: Ask) -> tuple[float, float, float]:
    """Low, best and high end."""
    found = RUNTIME.duration(ask, RUNTIME.footprint(ask))
    assert found is not None
    assert found.seconds is not None
    return found.seconds.low, found.seconds.best, found.seconds.high


def allocated(ask: Ask) -> int:
    return RUNTIME.footprint(ask).cards[0].allocated.best


def test_absent_means_no_thinking() -> None:
    plain = cell("low")
    assert (plain.workload.think, plain.workload.text_assumed) == (None, False)
    streaming = streaming_of(plain.placement)
    tier = weights_of(plain.tier.tensors)
    names = [one.name for one in lay_out(architecture_of(plain), tier, plain.workload, streaming, CardView()).phases]
    assert "think" not in names


@given(st.integers(1, 3000), st.sampled_from(["full", "fast", "balanced", "low"]))
def test_thoughts_stand_in_the_conditions_cache_twice_while_denoising(count: int, mode: str) -> None:
    ask = cell(mode, think=count)
    arch = architecture_of(ask)
    first, second = thought(branches(arch, ask.workload), ask.workload)
    assert (first.prefix, second.prefix) == (340 + count, 9)
    weights = weights_of(ask.tier.tensors)
    kept = {}
    for one in (ask.workload, replace(ask.workload, think=None)):
        laid_out = lay_out(arch, weights, one, streaming_of(ask.placement), view_of(ask, streaming_of(ask.placement)))
        kept[one.think] = next(phase for phase in laid_out.phases if phase.name == "denoise")
    assert kept[count].kv_cache - kept[None].kv_cache == 2 * KV * count


def test_understanding_layers_stay_while_it_thinks_in_the_newest_revision_alone() -> None:
    """17.72 GiB were published (PR 246) where without it 17.42 were; a token then waits for no layer."""
    newest, before = cell("fast", think=240), cell("fast", revision="pr243", think=240)
    for ask, gib in ((newest, 17.72), (before, 17.42)):
        flash = replace(
            ask, placement=replace(ask.placement, settings=(("attention", "flash"), ("policy", "upstream")))
        )
        assert allocated(flash) == pytest.approx(gib * GIB, rel=0.003)
    a_token = [
        (seconds(cell("fast", revision=one, think=400))[1] - seconds(cell("fast", revision=one, think=200))[1]) / 200
        for one in ("phase-aware", "pr243")
    ]
    assert a_token[0] < 0.1 < 0.25 < a_token[1]


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2000))
def test_more_thought_never_takes_less(few: int, more: int) -> None:
    for mode in ("fast", "low"):
        one, other = cell(mode, think=few), cell(mode, think=few + more)
        assert allocated(one) <= allocated(other)
        assert seconds(one)[1] < seconds(other)[1]


def test_thinking_without_a_number_is_as_wide_as_it_is_unknown() -> None:
    cell("balanced", think=1)  # asked before: 1 and True are one key of a cache
    known, unknown = cell("balanced", think=380), cell("balanced", think=True)
    assert unknown.workload == known.workload.with_(text_assumed=True)
    assert seconds(unknown)[1] == seconds(known)[1]
    assert seconds(unknown)[0] < seconds(known)[0] < seconds(known)[2] < seconds(unknown)[2]
    assert seconds(unknown)[2] == seconds(cell("balanced", think=4 * 380))[2]
    wide, narrow = (RUNTIME.footprint(one).cards[0] for one in (unknown, known))
    assert wide.allocated.high - narrow.allocated.high == 2 * KV * 3 * 380


def test_thinking_is_for_pictures() -> None:
    with pytest.raises(OptionError, match="--think"):
        cell("low", task="vqa", think=100)
    with pytest.raises(OptionError, match="--think: 0 is out of range"):
        check(MODEL, machine_for(H100), Wanted("t2i", options=(("think", "0"),)))


def test_prompt_and_written_text_of_an_answer_are_two_things() -> None:
    """What a memory peak tells is their sum; only what is written takes a pass a token."""
    wordy = cell("fast", RTX_5090, task="interleave", prompt_tokens=400, new_tokens=20)
    chatty = cell("fast", RTX_5090, task="interleave", prompt_tokens=20, new_tokens=400)
    assert allocated(wordy) == pytest.approx(allocated(chatty), rel=0.002)
    assert seconds(chatty)[1] - seconds(wordy)[1] == pytest.approx(380 * 0.3, rel=0.15), "16.2 GB a token over the link"


def test_the_published_answer_of_one_image_lies_inside() -> None:
    """23.989 s (RTX 5090, 2026-11-13), which 134 s were said of once."""
    ask = cell("fast", RTX_5090, task="interleave", size=(1536, 1536), steps=8, cfg=1.0)
    assert ask.workload.images == 1
    assert ask.workload.text_assumed
    low, best, high = seconds(ask)
    assert low < 23.989 < high
    assert best < 60


@given(st.sampled_from([Task.T2I, Task.INTERLEAVE, Task.VQA]), st.integers(1, 5000), st.integers(1, 10))
def test_ends_of_assumed_text_lie_around_it(task: Task, count: int, images: int) -> None:
    workload = Workload(task, think=count) if task is Task.T2I else Workload(task, new_tokens=count, images=images)
    less, more = text_ends(workload)
    assert 1 <= written(less) <= max(written(workload), images) <= max(written(more), images)
    assert written(more) == 4 * written(workload)


def test_the_first_image_of_a_process_pins_its_weights_and_later_ones_do_not() -> None:
    ask = cell("balanced")
    found = RUNTIME.duration(ask, RUNTIME.footprint(ask))
    assert found is not None
    assert found.first is not None
    assert found.seconds is not None
    assert found.first.best - found.seconds.best == pytest.approx(34.9, abs=0.2), "34.9 GB, a second each"
    first = replace(ask, process=Process(first=True))
    assert seconds(first) == (found.first.low, found.first.best, found.first.high)
    full = RUNTIME.duration(cell("full"), RUNTIME.footprint(cell("full")))
    assert full is not None
    assert full.first is None, "nothing is pinned"


def test_seconds_of_a_vendor_whose_later_images_nobody_timed_reach_up_to_the_first() -> None:
    ask = cell("balanced", find_card("Radeon PRO W7900"))
    found = RUNTIME.duration(ask, RUNTIME.footprint(ask))
    assert found is not None
    assert found.first is not None
    assert found.seconds is not None
    assert found.seconds.best < found.first.best
    assert found.seconds.high == found.first.high


@pytest.mark.parametrize("mode", ["fast", "balanced", "full"])
def test_no_process_takes_more_than_the_card_has(mode: str) -> None:
    for name in ("RTX 3060 12 GB", "RTX 4090", "RTX 5090", "Radeon RX 7900 XTX"):
        for task in ("t2i", "editing"):
            ask = cell(mode, find_card(name), task=task)
            memory = RUNTIME.footprint(ask).cards[0]
            total = ask.card.vram_total
            assert memory.required.best > total or memory.card.high <= total
            assert memory.reserved.best <= memory.card.best


def test_ring_and_upstream_differ_in_what_they_keep_for_thoughts() -> None:
    assert upstream("fast").keeps_thinking
    assert not upstream("balanced").keeps_thinking
    assert not upstream("fast", policy="ring").keeps_thinking
    assert not upstream("fast", "pr243").keeps_thinking

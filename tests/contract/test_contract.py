"""What holds for every runtime: one suite, run over each registered one and over the toy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.errors import OptionError
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Link, machine_for
from fitcheck.memory.weighing import Verdict
from fitcheck.records.run import CellKey, Run
from fitcheck.records.run_index import Index
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Runtime, Wanted
from fitcheck.runtimes.options import declared, read
from fitcheck.units import GIB
from fitcheck.verdict.check import check
from fitcheck.verdict.evidence import ask_of
from fitcheck.verdict.report import Report
from tests.contract import toy
from tests.contract.samples import card, machine, sample

NAMES = (*registry.names(), toy.NAME)
CARD = "RTX 4090"


def asked(name: str, **changes: Any) -> Report:
    one = sample(name)
    report = check(one.model, machine(**changes), one.wanted, advise=False)
    assert report.cells, "without cells the loops over them would check nothing"
    return report


def ranks(report: Report) -> dict[tuple[str, str], int]:
    return {(cell.tier.name, cell.placement.mode): cell.verdict.rank for cell in report.cells}


def asks_of(name: str) -> tuple[Runtime, Sequence[Ask]]:
    one, runtime = sample(name), registry.get(name)
    tiers = tuple(one.model.tier_named(tier) for tier in one.wanted.tiers) or one.model.tiers
    asks = list(runtime.asks(one.model, tiers, one.wanted, machine_for(find_card(CARD), ram=64 * GIB)))
    assert asks
    return runtime, asks


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_ordered_and_every_card_is_accounted_for(name: str) -> None:
    for cell in asked(name).cells:
        assert len(cell.footprint.cards) == 1
        memory = cell.memory
        assert memory.allocated.best <= memory.reserved.best <= memory.card.best
        assert memory.required.best <= memory.card.best
        assert memory.peak.allocated <= memory.allocated.high
        host = cell.footprint.host
        assert host.total.low <= host.total.best <= host.total.high
        assert cell.footprint.disk > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_second_card_holds_something_exactly_where_a_runtime_splits(name: str) -> None:
    one = sample(name)
    two = machine_for(find_card(CARD), ram=64 * GIB, count=2)
    cells = check(one.model, two, one.wanted, advise=False).cells
    used = {sum(device.card.best > 0 for device in cell.footprint.cards) for cell in cells}
    assert (max(used) > 1) == registry.get(name).splits


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(vram=st.integers(2, 40), more=st.integers(1, 40), ram=st.integers(8, 96), further=st.integers(0, 64))
def test_more_memory_never_worsens_a_verdict(name: str, vram: int, more: int, ram: int, further: int) -> None:
    less, larger = ranks(asked(name, vram=vram, ram=ram)), ranks(asked(name, vram=vram, ram=ram + further))
    assert less.keys() & larger.keys()
    assert all(larger[cell] <= rank for cell, rank in less.items() if cell in larger)
    roomy = ranks(asked(name, vram=vram + more, ram=ram))
    assert less.keys() & roomy.keys()
    growing = {cell for cell in less if cell[1] == "fast"}  # takes what it is given, on card and host
    assert all(roomy[cell] <= rank for cell, rank in less.items() if cell in roomy and cell not in growing)


@pytest.mark.parametrize("name", NAMES)
def test_a_wider_link_is_never_slower(name: str) -> None:
    narrow, wide = asked(name, link=Link(3, 4)), asked(name, link=Link(5, 16))
    for slow in narrow.cells:
        same = next(one for one in wide.cells if (one.tier.name, one.placement) == (slow.tier.name, slow.placement))
        assert (slow.seconds is None) == (same.seconds is None)
        assert (slow.seconds is None) == (name == "weights only")
        if slow.seconds is not None and same.seconds is not None:
            assert same.seconds.best <= slow.seconds.best
            assert same.seconds.high <= slow.seconds.high


@pytest.mark.parametrize("name", [one for one in NAMES if one not in ("llama.cpp", "weights only")])
@settings(max_examples=6, deadline=None)
@given(batch=st.integers(1, 6))
def test_a_bigger_batch_never_needs_less(name: str, batch: int) -> None:
    one = sample(name)
    small, large = (
        check(one.model, machine(80, 256), one.wanted.with_(batch=count), advise=False) for count in (batch, batch + 1)
    )
    for cell in small.cells:
        grown = next(two for two in large.cells if (two.tier.name, two.placement) == (cell.tier.name, cell.placement))
        assert grown.memory.allocated.best >= cell.memory.allocated.best
        assert grown.footprint.host.total.best >= cell.footprint.host.total.best
        if cell.seconds is not None and grown.seconds is not None:
            assert grown.seconds.best >= cell.seconds.best


@pytest.mark.parametrize("name", NAMES)
def test_the_report_is_json_and_says_what_the_cells_say(name: str) -> None:
    report = asked(name)
    document = report.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    for cell, written in zip(report.cells, document["cells"], strict=True):
        assert (written["runtime"], written["mode"]) == (name, cell.placement.mode)
        assert written["card"]["best"] == cell.need
        assert written["settings"] == dict(cell.placement.settings)


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_words_that_a_shell_reads(name: str) -> None:
    for cell in asked(name).cells:
        assert bool(cell.commands) == (name != "weights only")
        for command in cell.commands:
            words = shlex.split(command)
            assert len(words) > 1
            assert shlex.split(shlex.join(words)) == words


def recorded(runtime: Runtime, ask: Ask, **changes: Any) -> Run:
    """The record of a finished run of ``ask`` with real weights."""
    card_, named = ask.card.card, runtime.recorded(ask.placement)
    key = CellKey.of(
        ask.model.slug, ask.tier.name, ask.workload, named["name"], named["revision"], named["policy"], named["mode"]
    )
    settings = runtime.stated(ask)
    run = Run("a" * 64, card_.slug, card_.memory, key, "real", "ok", 1, samples=3, bench=False, settings=settings)
    return replace(run, **changes)


@pytest.mark.parametrize("name", [one for one in NAMES if one not in ("llama.cpp", "weights only")])
def test_a_record_reads_back_as_the_ask_that_it_measured(name: str) -> None:
    runtime, asks = asks_of(name)
    for ask in asks:
        run = recorded(runtime, ask)
        back = ask_of(run)
        assert back is not None
        assert (back.model, back.tier, back.placement, back.workload) == (
            ask.model,
            ask.tier,
            ask.placement,
            ask.workload,
        )
        assert runtime.alike(back) == runtime.alike(ask)
        assert runtime.recorded(back.placement) == runtime.recorded(ask.placement)


def test_a_token_test_reads_back_as_the_cell_that_it_measured() -> None:
    """Its context is what its tests filled, its build the newest where the record names none."""
    runtime, asks = asks_of("llama.cpp")
    for ask in asks:
        run = recorded(runtime, ask)
        back = ask_of(replace(run, cell=replace(run.cell, revision=None)))
        assert back is not None
        assert runtime.alike(back) == runtime.alike(ask)
        assert dict(runtime.stated(back)) == dict(runtime.stated(ask))


@pytest.mark.parametrize("name", NAMES)
def test_a_record_of_something_else_is_nobodys_ask(name: str) -> None:
    runtime, asks = asks_of(name)
    run = recorded(runtime, asks[0])
    for cell in (replace(run.cell, model="no-such-model"), replace(run.cell, tier="Q0")):
        assert runtime.ask_of(replace(run, cell=cell)) is None
    assert ask_of(replace(run, cell=replace(run.cell, runtime="no-such-runtime"))) is None


@pytest.mark.parametrize("name", [one for one in NAMES if one not in ("llama.cpp", "weights only")])
def test_a_record_changes_its_cell_and_a_card_that_nobody_knows_takes_nothing_down(name: str) -> None:
    runtime, asks = asks_of(name)
    one, ask = sample(name), asks[0]
    taken = runtime.footprint(ask).cards[ask.gpu].card.best + GIB
    run = recorded(runtime, ask, seconds=7.5, process=taken)
    stray = replace(run, id="b" * 64, card="a-card-that-nobody-knows", card_memory=None)
    report = check(one.model, ask.machine, one.wanted, index=Index((stray, run)), advise=False)
    cell = next(
        cell
        for cell in report.cells
        if (cell.tier, cell.placement, cell.workload) == (ask.tier, ask.placement, ask.workload)
    )
    assert (cell.evidence.level, cell.evidence.records) == ("measured", 1)
    assert cell.footprint.cards[ask.gpu].card.best == taken
    assert ask_of(stray) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_card_of_an_unknown_vendor_never_fits(name: str) -> None:
    report = asked(name, of=card("Nobody", compute_capability=None, tensor_flops=None, memory_bandwidth=None))
    for cell in report.cells:
        assert cell.verdict in (Verdict.UNKNOWN, Verdict.NO)
        assert cell.seconds is None


@pytest.mark.parametrize("name", NAMES)
def test_an_option_that_no_runtime_in_play_has_is_refused_by_name(name: str) -> None:
    one = sample(name)
    option, value = one.foreign
    with pytest.raises(OptionError, match=f"--{option.replace('_', '-')} is an option of"):
        check(one.model, machine(), one.wanted.with_(**{option: value}))
    with pytest.raises(OptionError, match="--no-such-thing is not an option"):
        check(one.model, machine(), one.wanted.with_(no_such_thing=1))


@pytest.mark.parametrize("name", NAMES)
def test_options_are_declared_once_with_words_and_read_back(name: str) -> None:
    runtime = registry.get(name)
    found = declared(runtime.options)
    assert all(one.help.endswith(".") for one in found.values())
    assert read(runtime.options, Wanted()) == runtime.options()
    everywhere = {other: declared(registry.get(other).options) for other in NAMES}
    for option, one in found.items():
        for other in everywhere.values():
            if option in other:
                assert (other[option].type, other[option].many) == (one.type, one.many)


@pytest.mark.parametrize("name", NAMES)
def test_an_advised_change_keeps_its_word(name: str) -> None:
    one = sample(name)
    helped = [
        cell for cell in check(one.model, machine(*(one.helped or (4, 16))), one.wanted).cells if cell.flip is not None
    ]
    assert bool(helped) == (one.helped is not None)
    for cell in helped:
        assert cell.flip is not None
        assert cell.flip.verdict.rank < cell.verdict.rank

"""Memory that other programs hold: given back before anything is bought, and never what driver and system need."""

from __future__ import annotations

from dataclasses import replace

import pytest

import fitcheck
from fitcheck.hardware.budget import budget, ram_budget
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, Link, Machine
from fitcheck.hardware.others import without_others
from fitcheck.units import GIB, MIB

CARD = find_card("RTX 3060 12GB")


def seen(free: int, *, ram: int | None = None, cards: int = 1) -> Machine:
    """A machine that was looked at: 12 GB cards with ``free`` bytes each, 32 GB with ``ram`` bytes available."""
    gpu = Gpu(CARD, Link(4, 16), CARD.memory, vram_free=free, display=True)
    return Machine((gpu,) * cards, ram_total=32 * GIB, ram_available=ram, detected=True)


def test_cards_and_system_memory_are_given_back_alone_and_together() -> None:
    found = list(without_others(seen(2 * GIB, ram=4 * GIB)))
    assert [(cards, host) for _, _, cards, host in found] == [(True, False), (False, True), (True, True)]
    (card, freed, *_), (host, quiet, *_), (both, alone, *_) = found
    assert budget(freed, 0).vram.best > 10 * GIB
    assert freed.ram_available == 4 * GIB
    assert (quiet.gpus, quiet.ram_available) == (seen(2 * GIB).gpus, None)
    rest = ram_budget(quiet)
    assert rest is not None
    assert rest.best > 28 * GIB
    assert alone == replace(freed, ram_available=None)
    held = budget(freed, 0).vram.best - 2 * GIB
    assert card == f"close what holds {held / GIB:.1f} GiB of the card"
    assert host == f"close what holds {(rest.best - 4 * GIB) / GIB:.1f} GiB of system memory"
    assert both == f"{card} and {host.removeprefix('close what holds ')}"


def test_of_several_cards_all_are_given_back() -> None:
    one, two = (next(without_others(seen(2 * GIB, cards=count))) for count in (1, 2))
    assert [budget(two[1], at).vram.best for at in (0, 1)] == [budget(one[1], 0).vram.best] * 2
    assert two[0].endswith(" GiB of the cards")


@pytest.mark.parametrize(
    "machine",
    [
        seen(11_200 * MIB, ram=27 * GIB),  # what the driver, a display and the system take
        Machine((Gpu(CARD, Link(4, 16), CARD.memory),), ram_total=32 * GIB),  # described, not seen
        replace(seen(GIB), gpus=(replace(seen(GIB).gpus[0], vram_override=GIB),)),  # told with --vram
        replace(seen(GIB), gpus=(replace(seen(GIB).gpus[0], mig="1g.5gb"),)),
        Machine((), ram_total=32 * GIB, ram_available=30 * GIB),
    ],
)
def test_nothing_is_held_by_others_where_none_was_seen(machine: Machine) -> None:
    assert list(without_others(machine)) == []


def test_what_a_busy_desktop_may_take_by_itself_is_nobodys() -> None:
    """Between what driver and display take at most and what they usually take."""
    rest = budget(replace(seen(0), gpus=(replace(seen(0).gpus[0], vram_free=None),))).vram
    assert rest.low < rest.best
    assert list(without_others(seen((rest.low + rest.best) // 2))) == []
    assert len(list(without_others(seen(rest.low - 1)))) == 1


def test_closing_programs_comes_before_another_card() -> None:
    busy = fitcheck.check("qwen3-8b", seen(600 * MIB, ram=28 * GIB), tier="Q4_K_M").best
    idle = fitcheck.check("qwen3-8b", seen(600 * MIB, ram=28 * GIB), tier="Q4_K_M", vram=11 * GIB).best
    assert idle.verdict.value == "fits"
    assert busy.flip is not None
    assert (busy.flip.change.split(" GiB ")[1], busy.flip.verdict.value) == ("of the card", "fits")
    assert not busy.flip.bought


def test_system_memory_is_given_back_before_it_is_bought() -> None:
    flip = fitcheck.check("sensenova-u1-8b-mot", seen(11_200 * MIB, ram=8 * GIB), tier="Q4_K_S").best.flip
    assert flip is not None
    assert (flip.change.split(" GiB ")[1], flip.verdict.value) == ("of system memory", "fits")


def test_what_is_too_slow_for_want_of_the_card_is_placed_anew_on_it() -> None:
    flip = fitcheck.check("qwen3-32b", seen(600 * MIB, ram=30 * GIB, cards=2), tier="Q4_K_M").best.flip
    assert flip is not None
    assert (flip.change.split(" GiB ")[1], flip.verdict.value) == ("of the cards", "fits")

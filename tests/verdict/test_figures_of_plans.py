"""The figures of a plan and of what is offered in it: amounts that a need holds, prices, budgets, the machine that each
step is asked of."""

from __future__ import annotations

from dataclasses import replace

import pytest

import fitcheck
from fitcheck.hardware.asked import asked_machine
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Machine, machine_for
from fitcheck.memory.weighing import Verdict
from fitcheck.models.find import find_model
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.plan import needs, plan
from fitcheck.verdict.purchase import offers

IMAGE = find_model("sensenova-u1-8b-mot")
TEXT = find_model("qwen3-8b", tiers=("Q4_K_M",))
MIDDLE, LARGE = (find_model(name, tiers=("Q4_K_M",)) for name in ("qwen2.5-32b", "qwen2.5-72b"))
CARDS = tuple(find_card(name) for name in ("RTX 3060 12 GB", "RTX 4070 SUPER", "RTX 4090"))


@pytest.mark.parametrize(("name", "tier"), [("sensenova-u1-8b-mot", "Q4_K_S"), ("qwen3-8b", "Q4_K_M")])
def test_a_need_holds_what_the_cell_takes_where_there_is_plenty(name: str, tier: str) -> None:
    """With all of it, it surely fits; with what it expects to require it still runs; system memory at its most."""
    machine = machine_for(CARDS[2], ram=1 << 42, vram_override=1 << 42)
    report = fitcheck.check(name, machine, tier=tier)
    cells = {cell.placement.mode: cell for cell in report.cells}
    found = [one for one in needs(find_model(name, tiers=(tier,)), CARDS[2], Wanted()) if one.mode in cells]
    assert found
    for need in found:
        cell = cells[need.mode]
        card, host = cell.memory, cell.footprint.host.total
        assert (need.fits, need.runs, need.host) == (card.card.high, card.required.best, host.high)
        assert card.required.low < card.required.best
        assert host.best < host.high


def test_what_is_too_slow_in_one_of_the_models_is_too_slow() -> None:
    found = offers(CARDS[:1], [TEXT, MIDDLE], Wanted(min_speed=10.0))
    assert [one.card.slug for one in found.slow] == [CARDS[0].slug]
    assert not found.fit
    assert offers(CARDS[:1], [TEXT], Wanted(min_speed=10.0)).fit


def test_two_cards_cost_twice_and_no_laptop_has_two() -> None:
    desktop, laptop = find_card("RTX 3090"), find_card("RTX 4090 Mobile")
    found = offers((desktop, laptop), [LARGE], Wanted(), ram=64 * GIB, pairs=True)
    pairs = {one.card.slug: one for one in (*found.fit, *found.unpriced, *found.slow, *found.lacking) if one.count == 2}
    assert set(pairs) == {desktop.slug}
    assert desktop.launch_price_usd is not None
    assert pairs[desktop.slug].price == 2 * desktop.launch_price_usd.value


def test_a_step_that_costs_all_of_the_budget_is_within_it() -> None:
    have = asked_machine("RTX 3060 12 GB", ram=16 * GIB)
    steps = plan(IMAGE, CARDS, Wanted(), have=have, ram=16 * GIB).steps
    price = next(step.price for step in steps if step.price is not None)
    bound = plan(IMAGE, CARDS, Wanted(), have=have, ram=16 * GIB, budget=price).steps
    assert [step.words for step in bound if step.price == price] == [
        step.words for step in steps if step.price == price
    ]
    assert bound


def seen(name: str) -> Machine:
    """A machine that was looked at: a screen on its card, some of its memory and disk in use."""
    machine = asked_machine(name, ram=32 * GIB)
    gpu = replace(machine.gpus[0], vram_free=9 * GIB, display=True)
    return replace(
        machine, gpus=(gpu,), ram_available=20 * GIB, disk_free=300 << 30, operating_system="Windows 11", detected=True
    )


def test_each_step_is_asked_of_the_machine_that_is_there() -> None:
    have = seen("RTX 3060 12 GB")
    found = plan(MIDDLE, CARDS, Wanted(), have=have)
    second = next(step for step in found.steps if step.words == f"a second {CARDS[0].name}")
    one, two = second.report.machine.gpus
    assert one == have.gpus[0]
    assert (two.display, two.vram_free, two.index) == (False, None, 1)
    bought = [step.report.machine for step in found.steps if step.words == CARDS[2].name]
    assert bought
    for machine in bought:
        assert (machine.ram_total, machine.ram_available) == (have.ram_total, have.ram_available)
        assert (machine.disk_free, machine.operating_system) == (have.disk_free, have.operating_system)


def test_memory_that_is_bought_is_all_there() -> None:
    """What other programs hold today is not taken of the new modules."""
    steps = plan(IMAGE, CARDS, Wanted(), have=replace(seen("RTX 3060 12 GB"), ram_available=4 * GIB)).steps
    memory = next(step for step in steps if step.words.endswith(" GB of system memory") and " and " not in step.words)
    assert memory.report.machine.ram_available is None
    assert memory.report.machine.ram_total is not None
    assert memory.report.machine.ram_total > 32 * GIB


def test_a_laptop_takes_memory_and_no_card() -> None:
    steps = plan(IMAGE, CARDS, Wanted(), have=asked_machine("RTX 4060 Mobile", ram=16 * GIB)).steps
    assert steps
    assert all("system memory" in step.words for step in steps)


def test_no_card_of_a_laptop_is_put_into_a_desktop() -> None:
    laptop = find_card("RTX 4090 Mobile")
    found = plan(TEXT, (*CARDS, laptop), Wanted(min_speed=60.0), have=asked_machine("RTX 3060 12 GB", ram=16 * GIB))
    offered = {one.card.slug for one in (*found.cards.fit, *found.cards.unpriced)}
    assert laptop.slug in offered
    assert laptop.name not in {step.words for step in found.steps}
    assert CARDS[2].name in {step.words for step in found.steps}


def test_what_runs_is_not_told_to_get_another_board() -> None:
    """More memory than desktops take is another board: worth it for what does not run, not for what runs slowly."""
    model = find_model("deepseek-r1", tiers=("Q4_K_M", "Q2_K"))
    found = {ram: plan(model, (), Wanted(), have=asked_machine("RTX 4090", ram=ram * GIB)) for ram in (192, 256)}
    assert found[192].now is not None
    assert found[256].now is not None
    assert found[192].now.best.verdict is Verdict.NO
    assert found[256].now.best.verdict is Verdict.TIGHT
    assert found[192].steps
    assert not found[256].steps


def test_a_machine_without_a_card_is_told_of_cards() -> None:
    """What runs on a card alone cannot be judged there; what to buy can."""
    have = asked_machine("none", ram=64 * GIB)
    found = plan(IMAGE, CARDS, Wanted(), have=have, ram=64 * GIB)
    assert (found.now, found.steps) == (None, ())
    assert found.cards.to_json() == plan(IMAGE, CARDS, Wanted(), ram=64 * GIB).cards.to_json()
    assert found.cards.fit
    text = plan(TEXT, CARDS, Wanted(), have=have, ram=64 * GIB)
    assert text.now is not None
    assert text.now.best.verdict is Verdict.FITS

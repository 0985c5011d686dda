"""The best cell beside another amount of system memory is the one that a whole check finds there."""

from __future__ import annotations

from typing import Any

import pytest

from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import all_cards, find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.models.model import Model
from fitcheck.runtimes import held, registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict import alike
from fitcheck.verdict.alike import look_of
from fitcheck.verdict.cell_json import cell_json
from fitcheck.verdict.check import check, question_of
from fitcheck.verdict.other_memory import best_beside
from fitcheck.verdict.usual_memory import completed

SIZES = tuple(size * GIB for size in (8, 16, 32, 64, 256, 512))
ASKED = (
    ("sensenova-u1-8b-mot", "rtx-4070"),
    ("flux.1-dev", "rtx-4070"),
    ("flux.1-dev", "gtx-1660-super"),
    ("wan2.1-t2v-1.3b", "radeon-rx-7900-xtx"),
    ("llama-3.1-70b", "rtx-3060-12-gb"),
    ("qwen3-30b-a3b", "rtx-3060-12-gb"),
)


@pytest.mark.parametrize(("slug", "card"), ASKED)
def test_the_best_cell_beside_another_amount_is_that_of_a_whole_check(slug: str, card: str) -> None:
    model, gpu = catalog.get(slug), find_card(card)
    usual = check(model, machine_for(gpu), advise=False)
    places = set()
    for size in SIZES:
        machine = machine_for(gpu, ram=size)
        whole, found = check(model, machine, advise=False), best_beside(usual, machine, Wanted())
        assert cell_json(found.best) == cell_json(whole.best)
        assert (found.machine, found.budgets, found.floor) == (whole.machine, whole.budgets, whole.floor)
        places.add((whole.best.tier.name, whole.best.placement.mode, whole.best.verdict))
    assert len(places) > 1, "an amount that changes nothing tests nothing"


def test_a_search_that_system_memory_did_not_decide_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, gpu = catalog.get("gemma-3-12b"), find_card("rtx-3060-12-gb")
    held.forget()
    usual = check(model, machine_for(gpu, ram=64 * GIB), advise=False)
    least = [registry.get(cell.placement.runtime).settled(cell.ask, Wanted()) for cell in usual.cells]
    assert all(one is not None and one < 64 * GIB for one in least)
    assert max(one for one in least if one is not None) > 16 * GIB, "an amount that is always enough tests nothing"
    with monkeypatch.context() as patched:
        patched.setattr(type(registry.get("llama.cpp")), "asks", None)  # a search would fail
        found = best_beside(usual, machine_for(gpu, ram=128 * GIB), Wanted())
    whole = check(model, machine_for(gpu, ram=128 * GIB), advise=False)
    assert cell_json(found.best) == cell_json(whole.best)


@pytest.mark.parametrize("name", [name for name in registry.names() if not registry.get(name).searches])
def test_what_does_not_search_has_the_same_cells_whatever_there_is(name: str) -> None:
    runtime = registry.get(name)
    model = next(found for slug in catalog.slugs() if name in (found := catalog.get(slug)).runtimes)
    for card, other in (("rtx-4090", "rtx-3050-8gb"), ("tesla-t4", "arc-b580")):
        small = machine_for(find_card(other), ram=8 * GIB)
        large = machine_for(find_card(card), ram=512 * GIB)
        of_small, of_large = (
            [(ask.tier, ask.placement, ask.workload) for ask in runtime.asks(model, model.tiers, Wanted(), machine)]
            for machine in (small, large)
        )
        assert of_small == of_large


@pytest.mark.parametrize("ram", [16, 64])
def test_cards_that_look_alike_share_the_best_cell_and_say_what_they_say_alone(ram: int) -> None:
    """Cards beside each amount in turn, of which some look alike: with what was shared, and with nothing of it."""
    model, cards = catalog.get("sdxl"), [card for card in all_cards()[::60] if not card.unified_memory]
    question = question_of(model, machine_for(cards[0]), Wanted(), head=True)
    assert len({look_of(question, completed(machine_for(card, ram=ram * GIB))) for card in cards}) < len(cards)
    shared = [_beside(model, card, ram) for card in cards]
    for card, found in zip(cards, shared, strict=True):
        held.forget()
        alike._known.cache_clear()
        assert _beside(model, card, ram) == found, card.slug
    assert len({str(one["verdict"]) for one in shared}) > 1


def _beside(model: Model, card: Card, ram: int) -> dict[str, Any]:
    usual = check(model, machine_for(card), advise=False)
    found = best_beside(usual, machine_for(card, ram=ram * GIB), Wanted())
    assert found.machine.gpus[0].card is card
    return {**cell_json(found.best), "reason": found.best.reason}

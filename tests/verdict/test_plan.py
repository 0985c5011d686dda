"""A plan says the same as the check of each machine in it, drops no card, and never gets worse by more money, memory
or a wider link."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fitcheck
from fitcheck.hardware.asked import asked_machine
from fitcheck.hardware.catalog import common_cards, find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.memory.weighing import Verdict
from fitcheck.models.find import find_model
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.plan import needs, plan
from fitcheck.verdict.purchase import Offers, offers

IMAGE = find_model("sensenova-u1-8b-mot")
PIPELINE = find_model("flux.1-dev")
TEXT = find_model("qwen3-8b", tiers=("Q4_K_M",))
CARDS = tuple(find_card(name) for name in ("RTX 3060 12 GB", "RTX 4070 SUPER", "RTX 4090", "RX 9070 XT", "RTX 5050"))
KINDS = ("fit", "unpriced", "unknown", "dearer", "slow", "lacking")


def every(found: Offers) -> list[str]:
    return [one.name for kind in KINDS for one in getattr(found, kind)]


@pytest.mark.parametrize("model", [IMAGE, TEXT], ids=["image", "text"])
def test_every_offer_is_what_check_says_and_none_is_lost(model: object) -> None:
    found = offers(CARDS, [model], Wanted(), ram=32 * GIB, pairs=False)  # type: ignore[list-item]
    assert sorted(every(found)) == sorted(card.name for card in CARDS)
    for kind in KINDS:
        for one in getattr(found, kind):
            report = one.reports[0]
            tier = [cell.tier.name for cell in report.cells]
            same = fitcheck.check(report.model.slug, one.card, tier=list(dict.fromkeys(tier)), ram=32 * GIB)
            assert (same.best.verdict, same.best.tier.name, same.best.placement) == (
                report.best.verdict,
                report.best.tier.name,
                report.best.placement,
            )


@pytest.mark.parametrize(
    ("name", "tier", "pairs"),
    [("sensenova-u1-8b-mot", "Q8_0", False), ("flux.1-dev", "Q8_0", False), ("qwen2.5-32b", "Q4_K_M", True)],
)
def test_two_cards_are_offered_only_for_what_runs_on_two(name: str, tier: str, pairs: bool) -> None:
    """Two RTX 3060 hold no more of a pipeline than one of them."""
    small, model, wanted = find_card("RTX 3060 12 GB"), find_model(name, tiers=(tier,)), Wanted(tiers=(tier,))
    found = plan(model, (small,), wanted, have=machine_for(small, ram=8 * GIB))
    assert (f"2 × {small.name}" in every(found.cards)) == pairs
    assert (f"a second {small.name}" in [step.words for step in found.steps]) == pairs


def test_a_verdict_of_the_lead_is_never_better_than_the_whole_check() -> None:
    found = offers(CARDS, [find_model("qwen3-4b")], Wanted(), ram=16 * GIB)
    for kind in KINDS:
        for one in getattr(found, kind):
            whole = fitcheck.check("qwen3-4b", one.card, ram=16 * GIB)
            assert one.verdict == whole.best.verdict


@given(low=st.integers(1, 3000), more=st.integers(0, 3000))
@settings(max_examples=15, deadline=None)
def test_more_money_never_offers_less(low: int, more: int) -> None:
    poor, rich = (offers(CARDS, [IMAGE], Wanted(), ram=32 * GIB, under=float(budget)) for budget in (low, low + more))
    assert {one.name for one in poor.fit} <= {one.name for one in rich.fit}
    assert [one.name for one in poor.unpriced] == [one.name for one in rich.unpriced]
    assert sorted(every(poor)) == sorted(every(rich))


@given(ram=st.integers(4, 64), more=st.integers(0, 64))
@settings(max_examples=10, deadline=None)
def test_more_system_memory_never_worsens_an_offer(ram: int, more: int) -> None:
    less, larger = (offers(CARDS, [IMAGE, TEXT], Wanted(), ram=size * GIB) for size in (ram, ram + more))
    ranks = {one.name: one.verdict.rank for kind in KINDS for one in getattr(less, kind)}
    for kind in KINDS:
        for one in getattr(larger, kind):
            assert one.verdict.rank <= ranks[one.name]


def test_a_wider_link_never_worsens_what_there_is() -> None:
    ranks = []
    for generation in (1, 3, 4):
        machine = asked_machine("RTX 4070", ram=64 * GIB, pcie=(generation, 16))
        found = plan(IMAGE, CARDS[:1], Wanted(max_seconds=40.0), have=machine)
        assert found.now is not None
        ranks.append(found.now.best.verdict.rank)
    assert ranks == sorted(ranks, reverse=True)


def test_steps_better_the_verdict_and_are_what_check_says() -> None:
    have = asked_machine("RTX 3060 12 GB", ram=16 * GIB)
    found = plan(IMAGE, CARDS, Wanted(), have=have, ram=16 * GIB)
    assert found.now is not None
    assert found.now.best.verdict is Verdict.NO
    assert found.steps[0].words == "32 GB of system memory"
    assert fitcheck.check(IMAGE.model.slug, "RTX 3060 12 GB", ram=32 * GIB).best.verdict is found.steps[0].verdict
    prices = [step.price for step in found.steps[1:] if step.price is not None]
    assert prices == sorted(prices)
    for step in found.steps:
        assert step.verdict.rank < found.now.best.verdict.rank


def test_system_memory_is_offered_up_to_what_fits() -> None:
    """The least that is tight and the least that fits: who buys memory may take the larger one at once."""
    found = plan(PIPELINE, (), Wanted(), have=asked_machine("RTX 3060 12 GB", ram=16 * GIB))
    assert [(step.words, step.verdict) for step in found.steps if "system memory" in step.words] == [
        ("24 GB of system memory", Verdict.TIGHT),
        ("32 GB of system memory", Verdict.FITS),
    ]


def test_a_budget_keeps_the_steps_it_pays_for() -> None:
    have = asked_machine("RTX 3060 12 GB", ram=16 * GIB)
    free, bound = (plan(IMAGE, CARDS, Wanted(), have=have, ram=16 * GIB, budget=most) for most in (None, 100.0))
    kept = [step.words for step in free.steps if step.price is None or step.price <= 100]
    assert [step.words for step in bound.steps] == kept


@pytest.mark.parametrize("model", [IMAGE, TEXT], ids=["image", "text"])
def test_a_card_with_just_the_least_memory_runs_that_cell(model: object) -> None:
    card = find_card("RTX 4090")
    for need in needs(model, card, Wanted()):  # type: ignore[arg-type]
        assert need.runs <= need.fits
        machine = machine_for(card, ram=1 << 42, vram_override=need.fits)
        report = fitcheck.check(model.model.slug, machine, tier=need.tier)  # type: ignore[attr-defined]
        assert Verdict.FITS in {cell.verdict for cell in report.cells if cell.placement.mode == need.mode}


def test_prices_of_a_person_change_the_order_and_nothing_else() -> None:
    cheap = tuple(replace(card, launch_price_usd=None) for card in CARDS)
    found = offers(cheap, [IMAGE], Wanted(), ram=32 * GIB, under=1.0)
    assert not found.fit
    assert not found.dearer
    assert found.unpriced


def test_the_usual_cards_are_all_answered_of() -> None:
    found = offers(common_cards(), [IMAGE], Wanted())
    assert found.count == len([card for card in common_cards() if card.memory])


def test_where_neither_card_nor_memory_does_it_alone_both_are_offered() -> None:
    """Who has 16 GB beside an old card and 400 dollars was told of cards without a price alone."""
    old = asked_machine("GTX 1060 6 GB", ram=16 * GIB)
    found = plan(PIPELINE, CARDS, Wanted(), have=old, ram=16 * GIB, budget=400.0)
    assert [(step.words, step.price) for step in found.steps] == [
        ("GeForce RTX 5050 and 32 GB of system memory", 249),
        ("GeForce RTX 3060 12 GB and 32 GB of system memory", 329),
    ]
    for step, card in zip(found.steps, ("RTX 5050", "RTX 3060 12 GB"), strict=True):
        assert step.verdict is Verdict.FITS
        assert fitcheck.check("flux.1-dev", card, ram=32 * GIB).best.verdict is Verdict.FITS
        assert fitcheck.check("flux.1-dev", card, ram=24 * GIB).best.verdict is not Verdict.FITS
    enough = plan(PIPELINE, CARDS, Wanted(), have=replace(old, ram_total=32 * GIB), ram=32 * GIB, budget=400.0)
    assert [step.words for step in enough.steps] == ["GeForce RTX 5050", "GeForce RTX 3060 12 GB"]


def test_a_card_that_costs_all_of_the_budget_is_within_it() -> None:
    card = find_card("RTX 3060 12 GB")
    assert card.launch_price_usd is not None
    price = card.launch_price_usd.value
    assert [one.name for one in offers([card], [TEXT], Wanted(), under=price).fit] == [card.name]
    short = offers([card], [TEXT], Wanted(), under=price - 0.01)
    assert (short.fit, [one.name for one in short.dearer]) == ((), [card.name])

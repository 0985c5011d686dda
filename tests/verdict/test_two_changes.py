"""Two free changes are offered where neither alone betters the answer, and are what the check of both says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fitcheck
from fitcheck.errors import InputError
from fitcheck.hardware.asked import asked_machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.models.find import find_model
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.check import check
from fitcheck.verdict.plan import plan
from fitcheck.verdict.report import Report
from fitcheck.verdict.two_changes import FreePair, free_pair

CARDS = ("GTX 1060 3 GB", "RTX 4060", "RTX 4060 Ti 16 GB", "RTX 4090", "2x RTX 3090", "M2 8GB")
MODELS = (
    "llama-3.1-nemotron-nano-8b", "olmo-2-13b", "olmo-3.1-32b", "phi-4", "qwen3-30b-a3b",
    "flux.2-klein-9b", "qwen-image", "sd3.5-large", "wan2.1-t2v-14b", "sensenova-u1-8b-mot",
)  # fmt: skip


def asked(slug: str, tier: str | None, card: str, ram: int) -> Report:
    tiers = () if tier is None else (tier,)
    found = find_model(slug, tiers=tiers)
    return check(found.model, asked_machine(card, ram=ram * GIB), Wanted(tiers=tiers), tiers=found.tiers)


def agrees(pair: FreePair, slug: str) -> bool:
    """Whether a check with both changes typed says the same."""
    machine = pair.report.machine
    same = fitcheck.check(slug, machine, tier=pair.tier, **dict(pair.settings))
    return (same.best.verdict, same.best.ask) == (pair.report.best.verdict, pair.report.best.ask)


@pytest.mark.parametrize(
    ("slug", "tier", "card", "ram", "words"),
    [
        ("olmo-2-13b", "Q5_0", "GTX 1060 3 GB", 16, "tier IQ2_M and --ctx 2048"),
        ("qwen-image", "bf16", "RTX 3060 12 GB", 32, "--mode group-leaf and tier Q4_K_M+qwen-fp8"),
        ("wan2.1-t2v-14b", "Q4_K_S", "RTX 5090", 6, "--mode none and --vae tiling"),
        ("hunyuanvideo-1.5", "int8+qwen-int8", "RTX 4090", 6, "tier nf4+qwen-nf4 and --frames 61"),
        ("olmo-3.1-32b", "IQ2_XS", "RTX 4060", 8, "--ctx 2048 and run without a display on this card"),
    ],
)
def test_a_tier_a_mode_and_a_setting_go_together(slug: str, tier: str, card: str, ram: int, words: str) -> None:
    now = asked(slug, tier, card, ram)
    pair = free_pair(now)
    assert pair is not None
    assert pair.words == words
    assert pair.report.best.verdict.rank < now.best.verdict.rank
    assert agrees(pair, slug)


@given(
    slug=st.sampled_from(MODELS),
    which=st.integers(0, 80),
    card=st.sampled_from(CARDS),
    ram=st.sampled_from((4, 6, 8, 12, 16, 24, 32)),
)
@settings(max_examples=40, deadline=None)
def test_every_pair_betters_the_answer_and_is_what_check_says(slug: str, which: int, card: str, ram: int) -> None:
    tiers = [None, *(tier.name for tier in catalog.get(slug).tiers)]
    try:
        now = asked(slug, tiers[which % len(tiers)], card, ram)
    except InputError:  # what runs on no such card
        return
    pair = free_pair(now)
    if pair is None:
        return
    assert now.best.flip is None or now.best.flip.bought
    assert pair.report.best.verdict in (Verdict.FITS, Verdict.TIGHT)
    assert pair.report.best.verdict.rank < now.best.verdict.rank
    assert agrees(pair, slug)


def test_none_is_offered_where_one_change_does_or_none_is_wanted() -> None:
    one = asked("sensenova-u1-8b-mot", "Q8_0", "RTX 3060 12 GB", 32)
    assert one.best.flip is not None
    assert not one.best.flip.bought
    assert free_pair(one) is None
    fits = asked("llama-3.1-nemotron-nano-8b", "Q4_K_M", "RTX 4090", 32)
    assert fits.best.verdict is Verdict.FITS
    assert free_pair(fits) is None


def test_a_plan_says_it_before_what_costs_money(capsys: pytest.CaptureFixture[str]) -> None:
    from fitcheck.cli.plan import tell

    found = plan(
        find_model("qwen-image", tiers=("bf16",)), (), Wanted(tiers=("bf16",)),
        have=asked_machine("RTX 3060 12 GB", ram=32 * GIB),
    )  # fmt: skip
    assert found.free is not None
    assert found.to_json()["free"]["change"] == found.free.words
    assert found.to_json()["free"]["verdict"] == "tight"
    tell(found)
    printed = capsys.readouterr().out
    line = f"Two changes that cost nothing: {found.free.words} (tight)."
    assert printed.index(line) < printed.index("Smallest change") < printed.index("to buy, cheapest first")

"""A list that works out no more than it takes to know the first cell leads with the one that the whole answer leads
with."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fitcheck.hardware.asked import asked_machine
from fitcheck.models import catalog
from fitcheck.runtimes import held
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.check import check, in_play
from fitcheck.verdict.leading import standing
from fitcheck.verdict.usual_memory import completed

MODELS = ("flux.1-dev", "qwen-image-2512", "sdxl", "wan2.1-t2v-1.3b", "hunyuanvideo", "sensenova-u1-8b-mot", "ltx-2.3")


@given(
    model=st.sampled_from(MODELS),
    card=st.sampled_from(("RTX 4060", "RTX 3060 12 GB", "RTX 4090", "GTX 1080 Ti", "Arc B580", "M3 Max 64GB", "T4")),
    ram=st.sampled_from((8, 16, 32, 64)),
    longest=st.sampled_from((None, 5.0, 60.0, 600.0)),
)
@example(model="flux.1-dev", card="RTX 4090", ram=64, longest=5.0)  # what fits is too slow and stands with the tight
@example(model="hunyuanvideo", card="RTX 4060", ram=8, longest=None)  # nothing runs
@settings(max_examples=20, deadline=None)
def test_the_first_cell_is_that_of_the_whole_answer(model: str, card: str, ram: int, longest: float | None) -> None:
    machine = asked_machine(card, ram=(64 if card.startswith("M3") else ram) * GIB)
    wanted = Wanted(max_seconds=longest)
    whole, head = (check(catalog.get(model), machine, wanted, advise=False, head=head) for head in (False, True))
    assert head.best == whole.best
    assert len(head.cells) <= len(whole.cells)


@given(
    model=st.sampled_from(("qwen3-30b-a3b", "gemma-3-12b", "gemma-4-26b-a4b", "llama-3.1-8b", "phi-4", "glm-4.5-air")),
    tier=st.sampled_from(("IQ1_M", "IQ2_M", "IQ4_XS", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")),
    card=st.sampled_from(
        ("RTX 4060", "RTX 4090", "2x RTX 3060 12 GB", "GTX 1650", "RX 7900 XTX", "M3 Max 64GB", "none")
    ),
    ram=st.sampled_from((8, 16, 32, 64)),
    slowest=st.sampled_from((None, 20.0)),
)
@example(model="gemma-4-26b-a4b", tier="Q4_K_M", card="RTX 4060", ram=16, slowest=None)  # it is tight
@example(model="phi-4", tier="Q4_K_M", card="RTX 4060", ram=8, slowest=None)  # less context fits
@example(model="qwen3-30b-a3b", tier="IQ1_M", card="GTX 1650", ram=8, slowest=None)  # a file as good as broken
@settings(max_examples=20, deadline=None)
def test_one_tier_of_a_language_model_leads_with_the_cell_of_the_whole_answer(
    model: str, tier: str, card: str, ram: int, slowest: float | None
) -> None:
    machine = asked_machine(card, ram=(64 if card.startswith("M3") else ram) * GIB)
    asked, wanted = catalog.get(model), Wanted(min_speed=slowest)
    tiers = (asked.tier_named(tier),)
    whole, head = (check(asked, machine, wanted, tiers=tiers, advise=False, head=head) for head in (False, True))
    assert head.best == whole.best
    assert len(head.cells) <= len(whole.cells)


def test_where_one_tier_fits_no_other_placement_is_worked_out() -> None:
    asked = catalog.get("qwen3-30b-a3b")
    machine, tiers = asked_machine("RTX 4060", ram=32 * GIB), (asked.tier_named("Q4_K_M"),)
    whole, head = (check(asked, machine, tiers=tiers, advise=False, head=head) for head in (False, True))
    assert len(head.cells) == 1 < len(whole.cells)


@pytest.mark.parametrize("card", ["RTX 3060 12 GB", "GTX 1080 Ti", "M3 Max 64GB", "RX 7900 XTX"])
@pytest.mark.parametrize(
    "model", [*MODELS, "minimax-h3", "cogvideox-5b", "wan2.1-t2v-14b", "wan2.2-ti2v-5b", "flux.2-dev"]
)
def test_what_a_cell_needs_at_least_is_no_more_than_it_needs(model: str, card: str) -> None:
    machine, known = completed(asked_machine(card, ram=32 * GIB)), catalog.get(model)
    for runtime in in_play(known, Wanted()):
        for ask in runtime.asks(known, known.tiers, Wanted(), machine):
            least, hoped = runtime.at_least(ask), held.at_best(runtime, ask)
            if least is None or hoped is None:
                continue
            footprint, level = held.shown_and_level(runtime, ask)
            assert least.disk == footprint.disk
            assert least.host.total.best <= footprint.host.total.best
            assert least.host.total.high <= footprint.host.total.high
            for one, whole in zip(least.cards, footprint.cards, strict=True):
                assert one.required.best <= whole.required.best
                assert one.card.high <= whole.card.high
            assert standing(hoped, ask) <= standing(level, ask)

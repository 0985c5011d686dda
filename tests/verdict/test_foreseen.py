"""How long a cell takes is the same before it is weighed and after."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.hardware.asked import asked_machine
from fitcheck.models import catalog
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.diffusers.runtime import RUNTIME
from fitcheck.units import GIB
from fitcheck.verdict.usual_memory import completed


@given(
    model=st.sampled_from(("flux.1-dev", "sdxl", "wan2.1-t2v-1.3b", "ltx-2.3", "z-image-turbo", "minimax-h3")),
    card=st.sampled_from(("RTX 4060", "RTX 4090", "Arc B580", "RX 7900 XTX", "T4", "2x RTX 3090")),
)
@settings(max_examples=10, deadline=None)
def test_seconds_are_foreseen(model: str, card: str) -> None:
    known, machine = catalog.get(model), completed(asked_machine(card, ram=32 * GIB))
    for ask in RUNTIME.asks(known, known.tiers[:2], Wanted(), machine):
        assert RUNTIME.foreseen(ask) == RUNTIME.duration(ask, RUNTIME.footprint(ask))


@pytest.mark.parametrize("tier", ["bf16", "Q4_K_S"])
def test_they_are_where_a_card_has_rates(tier: str) -> None:
    known, machine = catalog.get("flux.1-dev"), completed(asked_machine("RTX 4090", ram=64 * GIB))
    found = [RUNTIME.foreseen(ask) for ask in RUNTIME.asks(known, (known.tier_named(tier),), Wanted(), machine)]
    assert found
    assert all(one is not None and one.seconds is not None for one in found)

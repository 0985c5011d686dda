"""The modes that are left out of several tiers hold no less than the least of those that are looked at."""

from __future__ import annotations

import pytest

from fitcheck.hardware.asked import asked_machine
from fitcheck.models import catalog
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB

RUNTIME = registry.get("diffusers")
MODELS = [one.slug for one in catalog.listed() if RUNTIME in registry.serving(catalog.get(one.slug))]


@pytest.mark.parametrize("slug", MODELS)
def test_no_mode_between_holds_less(slug: str) -> None:
    model, machine = catalog.get(slug), asked_machine("RTX 3060 12 GB", ram=32 * GIB)
    few = list(RUNTIME.asks(model, model.tiers, Wanted(), machine))
    for tier in {ask.tier.name: ask.tier for ask in few}.values():
        least, closer = (
            [RUNTIME.footprint(ask) for ask in asks]
            for asks in (
                [ask for ask in few if ask.tier is tier],
                RUNTIME.closer(model, tier, Wanted(), machine),
            )
        )
        for found in closer:
            card, host = found.cards[0].required.best, found.host.total.best
            assert card >= 0.7 * min(one.cards[0].required.best for one in least), tier.name
            assert host >= min(one.host.total.best for one in least), tier.name

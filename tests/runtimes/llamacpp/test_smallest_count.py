"""The number of layers to move is the first that does, and what rules a number out is never more than the estimate."""

from __future__ import annotations

import pytest

from fitcheck.hardware.asked import asked_machine
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.catalog import language_model
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.estimates import CardNeeds
from fitcheck.runtimes.llamacpp.options import TextOptions
from fitcheck.runtimes.llamacpp.proposals import PlacementSearch
from fitcheck.runtimes.llamacpp.runtime import RUNTIME
from fitcheck.units import GIB

MACHINES = (("RTX 3060 12 GB",), ("RTX 4060 Ti 8 GB",), ("RTX 3060 12 GB", "RTX 4060 Ti 8 GB"))


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "llama-3.3-70b", "gemma-3-27b"])
@pytest.mark.parametrize("cards", MACHINES)
@pytest.mark.parametrize("experts", [False, True])
def test_one_layer_less_would_be_too_few(name: str, cards: tuple[str, ...], experts: bool) -> None:
    model, machine, asked = language_model(name), asked_machine(list(cards), ram=64 * GIB), TextOptions()
    assert isinstance(model.architecture, LanguageArchitecture)
    most = model.architecture.layers + (0 if experts else 1)
    for tier in ("Q6_K", "Q4_K_M", "IQ3_XS"):
        search = PlacementSearch(RUNTIME, model, model.tier_named(tier), machine, asked, asked.workload(8192))
        full = search.wanted.with_(gpu_layers=model.architecture.layers + 1)

        def moved(count: int, full: LlamaOptions = full) -> LlamaOptions:
            return full.with_(cpu_moe_layers=count) if experts else full.with_(gpu_layers=most - count)

        def fits(count: int, search: PlacementSearch = search) -> bool:
            budgets = [one.vram for one in search.ask(moved(0)).budgets]
            free = [one.best for one in budgets]
            totals = estimate(search.architecture, search.tier.tensors, moved(count), free).card_totals
            return all(total.high <= have.low for total, have in zip(totals, budgets, strict=True))

        count = search.smallest(most, moved)
        if count is None:
            assert not fits(most)
        else:
            assert fits(count)
            assert count == 1 or not fits(count - 1)


def test_what_is_known_without_a_graph_is_no_more_than_the_estimate() -> None:
    model = language_model("qwen3-30b-a3b")
    assert isinstance(model.architecture, LanguageArchitecture)
    needs = CardNeeds(model.architecture, model.tier_named("Q4_K_M").tensors, (1, 1), None, ())
    for count in range(0, 49, 6):
        options = LlamaOptions(gpu_layers=count)
        assert all(least <= most for least, most in zip(needs.least(options), needs.most(options), strict=True))

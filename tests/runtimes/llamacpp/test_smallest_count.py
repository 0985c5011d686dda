"""The number of layers to move is the first that does, and what rules a number out is never more than the estimate."""

from __future__ import annotations

import pytest

from fitcheck.hardware.asked import asked_machine
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.catalog import language_model
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.builds import builds_in_use, parse_build
from fitcheck.runtimes.llamacpp.estimates import CardNeeds
from fitcheck.runtimes.llamacpp.options import TextOptions
from fitcheck.runtimes.llamacpp.placement import arguments_of
from fitcheck.runtimes.llamacpp.proposals import PlacementSearch
from fitcheck.runtimes.llamacpp.runtime import RUNTIME
from fitcheck.units import GIB
from fitcheck.verdict.check import check

MACHINES = (("RTX 3060 12 GB",), ("RTX 4060 Ti 8 GB",), ("RTX 3060 12 GB", "RTX 4060 Ti 8 GB"))


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "llama-3.3-70b", "gemma-3-27b"])
@pytest.mark.parametrize("cards", MACHINES)
@pytest.mark.parametrize("experts", [False, True])
def test_the_fewest_layers_are_the_first_with_which_weights_and_caches_go_in(
    name: str, cards: tuple[str, ...], experts: bool
) -> None:
    model, machine, asked = language_model(name), asked_machine(list(cards), ram=64 * GIB), TextOptions()
    for tier in model.tiers:
        search = PlacementSearch(RUNTIME, model, tier, machine, asked, asked.workload(8192))
        everything = search.architecture.layers + 1

        def moved(count: int, search: PlacementSearch = search, everything: int = everything) -> LlamaOptions:
            if experts:
                return search.wanted.with_(gpu_layers=everything, cpu_moe_layers=count)
            return search.wanted.with_(gpu_layers=everything - count)

        for most in (1, 2, search.architecture.layers):
            first = next((count for count in range(1, most + 1) if search.leaves_room(moved(count))), None)
            assert search.fewest(most, moved) == first, tier.name


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
            free, options = [one.best for one in budgets], moved(count)
            found = [
                estimate(search.architecture, search.tier.tensors, options.with_(build=build), free).card_totals
                for build in (options.build, *builds_in_use())
            ]
            return all(total.high <= have.low for totals in found for total, have in zip(totals, budgets, strict=True))

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


@pytest.mark.parametrize("model", ["gemma-3-12b", "qwen3-30b-a3b"])
@pytest.mark.parametrize("card", ["RTX 4060 Laptop", "RTX 2060 6 GB"])
def test_layers_are_moved_until_every_build_that_people_run_fits(model: str, card: str) -> None:
    """What the search moved is not tight for the card when it is judged: both look at the same builds."""
    found = language_model(model)
    tiers = [found.tier_named(name) for name in ("Q6_K", "Q4_K_M", "IQ2_S")]
    report = check(found, asked_machine(card, ram=64 * GIB), tiers=tiers, advise=False)
    for cell in report.cells:
        margin = cell.judgement.margin(Constraint.VRAM)
        assert margin is not None
        assert margin.verdict is Verdict.FITS, cell.placement.mode


def test_a_named_build_keeps_the_layers_that_it_holds() -> None:
    """gemma-3-12b in Q4_K_M on 8 GB: older builds want about 0.5 GiB more of the card than the newest one."""
    model, machine, layers = language_model("gemma-3-12b"), asked_machine("RTX 4060 Laptop", ram=16 * GIB), {}
    for build in (None, "2026-11-15"):
        report = check(model, machine, Wanted(tiers=("Q4_K_M",)).with_(build=build), advise=False)
        best = report.best
        assert best.verdict is Verdict.FITS
        layers[build] = arguments_of(best.ask.placement, best.workload).gpu_layers
    assert layers == {None: 29, "2026-11-15": 32}


def test_without_a_build_the_most_is_that_of_all_in_use() -> None:
    model = language_model("gemma-3-12b")
    assert isinstance(model.architecture, LanguageArchitecture)
    needs = CardNeeds(model.architecture, model.tier_named("Q4_K_M").tensors, (1,), None, ())
    options, named = LlamaOptions(gpu_layers=20), parse_build("2026-11-15")
    older = [needs.most(options.with_(build=build)) for build in builds_in_use()]
    assert needs.most(options) == max(needs.most(options.with_(build=named)), *older)

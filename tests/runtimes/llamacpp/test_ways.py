"""What is ruled out without a graph could not have led: the placement that leads is the best of all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.hardware.asked import asked_machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.catalog import language_model
from fitcheck.runtimes.llamacpp.options import TextOptions
from fitcheck.runtimes.llamacpp.proposals import PlacementSearch
from fitcheck.runtimes.llamacpp.runtime import RUNTIME
from fitcheck.runtimes.llamacpp.ways import Kind, all_judged, leading, ways
from fitcheck.units import GIB

MODELS = ("qwen3-30b-a3b", "llama-3.1-8b", "gemma-3-27b", "qwen3.5-27b", "gpt-oss-120b")
MACHINES = (
    (("RTX 4060 Ti 8 GB",), 16),
    (("RTX 4070",), 64),
    (("RTX 3090", "RTX 3090"), 32),
    (("RTX 3060 12 GB", "RTX 4090"), 64),
    (("Radeon RX 7900 XTX",), 128),
    (("Ryzen AI Max+ 395",), 128),
    ((), 64),
)


def searches(name: str, cards: tuple[str, ...], ram: int, least: float | None) -> list[PlacementSearch]:
    model, asked = language_model(name), TextOptions()
    machine = asked_machine(list(cards) if cards else "none", ram=ram * GIB)
    tiers = [tier for tier in model.tiers if tier.name in ("Q8_0", "Q4_K_M", "IQ3_XXS", "IQ2_XXS", "MXFP4_MOE")]
    return [PlacementSearch(RUNTIME, model, tier, machine, asked, asked.workload(8192), least) for tier in tiers]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("cards", "ram"), MACHINES)
@pytest.mark.parametrize("least", [None, 20.0])
def test_the_placement_that_leads_is_the_best_of_all(
    name: str, cards: tuple[str, ...], ram: int, least: float | None
) -> None:
    for search in searches(name, cards, ram, least):
        kinds = [search.wanted.with_(cache_type_k=one, cache_type_v=one) for one in ("f16", "q8_0")]
        found = [way for one in kinds for way in ways(search.architecture, one, cards=bool(cards))]
        best = min(all_judged(search, found), key=search.standing)
        assert leading(search, found).judged.options == best.options, search.tier.name


def test_of_placements_that_stand_alike_the_first_leads() -> None:
    """What only reads writes no tokens, so that no placement is quicker than another."""
    model, asked = language_model("qwen3-embedding-8b"), TextOptions()
    machine, alike = asked_machine("RTX 4060", ram=32 * GIB), 0
    for tier in model.tiers:
        search = PlacementSearch(RUNTIME, model, tier, machine, asked, asked.workload(8192, embeds=True))
        found = search._ways(search.wanted, search.cache_types)
        judged = all_judged(search, found)
        first = min(judged, key=search.standing)
        alike += sum(search.standing(one) == search.standing(first) for one in judged) > 1
        assert leading(search, found).judged.options == first.options, tier.name
    assert alike


@pytest.mark.parametrize("name", MODELS[:4])
def test_what_is_settled_leads_beside_more_system_memory_too(name: str) -> None:
    settled = 0
    for search in searches(name, ("RTX 4070",), 64, None):
        found = leading(search, search._ways(search.wanted, search.cache_types))
        if not found.settled or found.judged.level.verdict is not Verdict.FITS:
            continue
        settled += 1
        more = replace(search, machine=replace(search.machine, ram_total=128 * GIB))
        assert leading(more, more._ways(more.wanted, more.cache_types)).judged.options == found.judged.options
    assert settled


@pytest.mark.parametrize("count", [1, 7, 20])
def test_the_least_standing_is_no_worse_than_the_standing(count: int) -> None:
    for search in searches("qwen3-30b-a3b", ("RTX 4060 Ti 8 GB",), 16, None):
        assert search.bounded
        for way in ways(search.architecture, search.wanted, cards=True):
            options = way.moved(count)
            judged = search.standing(search.judged(options))
            assert search.least_standing(options, amounts=True) <= judged
            assert search.least_standing(options, amounts=False) <= judged


def test_ways_are_those_that_options_leave_open() -> None:
    dense, mixture = (language_model(name).architecture for name in ("llama-3.1-8b", "qwen3-30b-a3b"))
    assert isinstance(dense, LanguageArchitecture)
    assert isinstance(mixture, LanguageArchitecture)
    options = TextOptions().arguments(dense)
    kinds = [way.kind for way in ways(dense, options, cards=True)]
    assert kinds == [Kind.WHOLE, Kind.LAYERS, Kind.ALONE]
    assert [way.kind for way in ways(dense, options, cards=False)] == [Kind.ASKED]
    assert [way.kind for way in ways(dense, options.with_(gpu_layers=3), cards=True)] == [Kind.ASKED]
    assert Kind.EXPERTS in [way.kind for way in ways(mixture, options, cards=True)]
    assert Kind.EXPERTS not in [way.kind for way in ways(mixture, options.with_(cpu_moe_layers=3), cards=True)]

"""A graph that was replayed for another tier or placement stands for all that are equal to it, and for no other."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.catalog import language_model
from fitcheck.runtimes.llamacpp import compute
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate

MODELS = ("llama-3.1-8b", "qwen3-235b-a22b", "gemma-3-4b", "qwen3-next-80b-a3b")
TIERS = ("Q8_0", "Q4_K_M", "IQ2_XS")
PLACEMENTS: tuple[dict[str, Any], ...] = (
    {},
    {"gpu_layers": 9},
    {"gpu_layers": 10},
    {"gpu_layers": 0},
    {"cpu_moe_layers": 4},
    {"cpu_moe_layers": 21},
    {"cache_type_k": "q8_0", "cache_type_v": "q8_0"},
)


class _Forgetful(OrderedDict[Any, Any]):
    """Keeps no graph, and counts those that were built."""

    built = 0

    def __setitem__(self, key: Any, value: Any) -> None:
        self.built += 1


@pytest.mark.parametrize("name", MODELS)
def test_buffers_are_those_of_a_graph_built_anew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model(name)
    architecture = model.architecture
    assert isinstance(architecture, LanguageArchitecture)
    asked = [
        (model.tier_named(tier).tensors, LlamaOptions(**options), free)
        for tier in TIERS
        for options in PLACEMENTS
        for free in ((1,), (2, 1), ())
    ]
    shared = [estimate(architecture, *one).footprint for one in asked]
    forgetful = _Forgetful()
    monkeypatch.setattr(compute, "_known", forgetful)
    assert shared == [estimate(architecture, *one).footprint for one in asked]
    assert forgetful.built == len(asked)


def test_tiers_that_lie_on_the_card_share_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model("llama-3.1-8b")
    architecture = model.architecture
    assert isinstance(architecture, LanguageArchitecture)
    monkeypatch.setattr(compute, "_known", type(compute._known)())
    for tier in TIERS:
        estimate(architecture, model.tier_named(tier).tensors, LlamaOptions(), (1,))
    assert len(compute._known) == 1
    estimate(architecture, model.tier_named("Q8_0").tensors, LlamaOptions(gpu_layers=3), (1,))
    assert len(compute._known) == 2

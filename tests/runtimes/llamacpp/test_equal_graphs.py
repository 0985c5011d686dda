"""A graph of few layers, known, packed or built, says of all layers what the graph of all of them does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.catalog import language_model
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp import compute, reservation
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions, parse_overrides
from fitcheck.runtimes.llamacpp.arrangement import main_layers
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.builds import builds_in_use, newest_build
from fitcheck.runtimes.llamacpp.caches import layer_caches
from fitcheck.runtimes.llamacpp.graph_allocator import allocate
from fitcheck.runtimes.llamacpp.layer_facts import tensor_names
from fitcheck.runtimes.llamacpp.segments import segments
from fitcheck.runtimes.llamacpp.weight_placement import TensorPlaces, layer_devices

MODELS = (
    "llama-3.1-8b",
    "qwen3-235b-a22b",
    "gemma-3-4b",
    "qwen3.5-9b",
    "gpt-oss-20b",
    "smollm3-3b",
    "glm-4.6",
    "glm-5",
    "gemma-4-e2b",
    "falcon-h1-7b",
    "qwen3-embedding-0.6b",
)
TIERS = ("Q8_0", "Q4_K_M", "IQ2_XS")


def every_layer(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, free: tuple[int, ...]
) -> list[int]:
    """Bytes by device of the graph of all layers, allocated in one go."""
    devices, caches = layer_devices(architecture, options, free), layer_caches(architecture, options)
    places = TensorPlaces(architecture, tensor_names(tensors), options, devices)
    plan = reservation._plan(architecture, tensors, options, devices, places, caches)
    graph = reservation._graph(plan, main_layers(architecture))
    nodes, leaves = reservation._scheduled(plan, graph, devices)
    return allocate(nodes, leaves, compute._alignments(options, devices))


def known(
    architecture: LanguageArchitecture, tensors: TensorTable, options: LlamaOptions, free: tuple[int, ...]
) -> list[int]:
    devices, caches = layer_devices(architecture, options, free), layer_caches(architecture, options)
    found = compute.compute_buffers(architecture, tensors, options, devices, caches)
    return [*found.cards, found.host]


def placements(architecture: LanguageArchitecture, seed: str) -> list[tuple[LlamaOptions, tuple[int, ...]]]:
    """The same for the same model: whole, on the host, and some in between."""
    chance, layers = random.Random(seed), architecture.layers
    found: list[tuple[LlamaOptions, tuple[int, ...]]] = []
    for count in (layers + 1, 0, *chance.sample(range(1, layers + 1), 3)):
        held = chance.choice(("f16", "q8_0"))
        options = LlamaOptions(
            context=chance.choice((8192, 8192, 5120)),
            gpu_layers=count,
            cache_type_k=held,
            cache_type_v=held,
            build=chance.choice((newest_build(), *builds_in_use())),
        )
        found.append((options, chance.choice(((1,), (1,), (2, 1), (1, 1, 1)))))
    if architecture.experts:
        found.append((LlamaOptions(context=8192, cpu_moe_layers=chance.randint(1, layers)), (1,)))
        found.append((LlamaOptions(context=8192, overrides=parse_overrides(r"\.[13]\.ffn_.*_exps=CPU", 1)), (1,)))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_few_layers_say_what_all_of_them_do(name: str) -> None:
    model = language_model(name)
    architecture = model.architecture
    assert isinstance(architecture, LanguageArchitecture)
    tiers = [tier for one in TIERS if (tier := model.tier(one)) is not None] or list(model.tiers[:2])
    for (options, free), tier in zip(placements(architecture, name), tiers * 3, strict=False):
        asked = (architecture, tier.tensors, options, free)
        assert known(*asked) == every_layer(*asked), (tier.name, options.gpu_layers, options.cpu_moe_layers, free)


def test_a_graph_that_repeats_nothing_is_built_of_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that should do the same and do not: the third one of the graph copies something that no other does."""
    model = language_model("llama-3.1-8b")
    architecture, tensors = model.architecture, model.tier_named("Q4_K_M").tensors
    assert isinstance(architecture, LanguageArchitecture)
    options, built = LlamaOptions(context=1536, gpu_layers=16), []  # shorter than what is packed

    def odd(*asked: Any) -> Any:
        found = segments(*asked)
        built.append(len(found) - 1)
        if len(found) - 1 < architecture.layers:
            found[3] = found[0]
        return found

    monkeypatch.setattr(reservation, "segments", odd)
    compute.forget()
    assert known(architecture, tensors, options, (1,)) == every_layer(architecture, tensors, options, (1,))
    assert built == [10, architecture.layers]
    compute.forget()


def test_tiers_and_places_that_make_the_same_graph_share_it() -> None:
    model = language_model("llama-3.1-8b")
    architecture = model.architecture
    assert isinstance(architecture, LanguageArchitecture)
    compute.forget()
    for tier in TIERS:
        estimate(architecture, model.tier_named(tier).tensors, LlamaOptions(), (1,))
    assert len(compute._known) == 1
    for count in (9, 16, 23):
        estimate(architecture, model.tier_named("Q4_K_M").tensors, LlamaOptions(gpu_layers=count), (1,))
    assert len(compute._known) == 2

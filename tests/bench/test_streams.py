"""Both policies on a card whose streams run as late as their waits allow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("torch")

import torch
from lazy_card import LazyCard

from bench.engines.sensenova.streaming.device import MemoryState
from bench.engines.sensenova.streaming.policy import PrefixStore, StreamedLayer, StreamedTensor, StreamTraffic
from bench.engines.sensenova.streaming.ring import RingPolicy, StreamedUnit, TensorPlace, Unit
from bench.engines.sensenova.streaming.upstream import UpstreamPolicy
from fitcheck.runtimes.sensenova.streaming import upstream

LAYERS = 7
BRANCHES = {"understanding": 0, "generation": 100}
Policies = tuple[UpstreamPolicy | RingPolicy, dict[tuple[int, str], torch.Tensor]]


def upstream_policy(card: LazyCard, mode: str) -> Policies:
    layers: list[StreamedLayer] = []
    parameters: dict[tuple[int, str], torch.Tensor] = {}
    for index in range(LAYERS):
        layer = StreamedLayer()
        for branch, base in BRANCHES.items():
            host = torch.full((8,), base + index, dtype=torch.uint8)
            parameter = torch.nn.Parameter(host, requires_grad=False)
            parameters[(index, branch)] = parameter
            layer.groups[branch].append(StreamedTensor(parameter, host))
        layers.append(layer)
    return UpstreamPolicy(upstream(mode, "pr241"), card, layers, {}), parameters


def ring_policy(card: LazyCard, mode: str) -> Policies:
    units: dict[Unit, StreamedUnit] = {}
    parameters: dict[tuple[int, str], torch.Tensor] = {}
    for index in range(LAYERS):
        for branch, base in BRANCHES.items():
            host = torch.full((512,), base + index, dtype=torch.uint8)
            parameters[(index, branch)] = torch.empty(8, dtype=torch.uint8)
            units[(index, branch)] = StreamedUnit(
                host, [parameters[(index, branch)]], (TensorPlace(0, 8, torch.uint8, (8,)),)
            )
    return RingPolicy(upstream(mode, "pr241", "ring"), card, units, LAYERS, {}), parameters


def forward(card: LazyCard, made: Policies, branch: str) -> None:
    policy, parameters = made
    for index in range(LAYERS):
        policy.before_layer(index, branch)
        card.read(parameters[(index, branch)], BRANCHES[branch] + index, f"{branch} {index}")
        policy.after_layer(index, branch)


@pytest.mark.parametrize("first", ["compute", "side"])
@pytest.mark.parametrize("mode", ["low", "balanced", "fast"])
@pytest.mark.parametrize("make", [upstream_policy, ring_policy])
def test_every_layer_reads_its_own_bytes_however_late_the_streams_run(
    make: Callable[[LazyCard, str], Policies], mode: str, first: str
) -> None:
    card = LazyCard(first)
    made = make(card, mode)
    for branch in ("understanding", "understanding", "generation", "generation", "understanding", "generation"):
        forward(card, made, branch)
    card.run()
    assert card.wrong == []
    made[0].close()


@pytest.mark.parametrize("binds", ["limit", "free"])
@pytest.mark.parametrize("first", ["compute", "side"])
def test_the_ring_reads_right_where_it_keeps_some_layers_and_streams_others(first: str, binds: str) -> None:
    card = LazyCard(first)
    gib = 1 << 30
    # room for two units of 512 bytes and a half: under upstream's limit, or of what is free and what torch gives back
    allocated = 86 * gib - 1280 if binds == "limit" else gib
    free, cached = (14 * gib, 0) if binds == "limit" else (5 * gib, gib + 1280)
    card.answer = MemoryState(allocated, allocated + cached, free, 100 * gib)
    made = ring_policy(card, "fast")
    for branch in ("understanding", "generation", "generation", "generation", "understanding", "generation"):
        forward(card, made, branch)
    card.run()
    assert card.wrong == []
    assert made[0].resident_layers == 2
    assert isinstance(made[0], RingPolicy)
    assert made[0]._order == [0, 1, 2, 4, 5], "evenly apart"


def test_low_copies_on_the_computations_stream_without_waiting() -> None:
    card = LazyCard("compute")
    forward(card, upstream_policy(card, "low"), "generation")
    assert card.log == [("upload", "compute", "queued")] * LAYERS
    assert card.recorded == set()
    assert card.synchronized == 0


def test_balanced_copies_two_ahead_on_a_second_stream_and_wraps_around() -> None:
    card = LazyCard("compute")
    made = upstream_policy(card, "balanced")
    policy, parameters = made
    policy.before_layer(0, "generation")
    # the first layer of all holds the computation up; two more are on their way beside it
    assert card.log == [("upload", "compute", "waits"), *[("upload", "side", "queued")] * 2]
    policy.after_layer(0, "generation")
    for index in range(1, LAYERS):
        policy.before_layer(index, "generation")
        policy.after_layer(index, "generation")
    assert len(card.log) == LAYERS + 2, "the last layers fetch the first ones of the next forward"
    ahead = {at for at in range(LAYERS) if parameters[(at, "generation")].data_ptr() in card.uploaded}
    assert ahead == {0, 1}
    forward(card, made, "generation")
    assert [where for _, where, _ in card.log].count("compute") == 1, "no later layer was missed"


def test_what_the_second_stream_brought_is_recorded_before_it_goes() -> None:
    """torch's allocator would else hand the block out while the computation still reads it."""
    card = LazyCard("compute")
    made = upstream_policy(card, "balanced")
    policy, parameters = made
    for _ in range(2):
        for index in range(LAYERS):
            policy.before_layer(index, "generation")
            assert parameters[(index, "generation")].data_ptr() in card.recorded
            policy.after_layer(index, "generation")


def test_a_change_of_branch_drains_the_card_and_starts_afresh() -> None:
    card = LazyCard("compute")
    made = upstream_policy(card, "balanced")
    policy, parameters = made
    forward(card, made, "understanding")
    assert card.synchronized == 0
    card.log.clear()
    policy.before_layer(0, "generation")
    assert card.synchronized == 1
    assert not any(parameters[(at, "understanding")].data_ptr() in card.uploaded for at in range(LAYERS))
    # nothing of the old branch is waited for or taken for the new one's
    assert card.log == [("upload", "compute", "waits"), *[("upload", "side", "queued")] * 2]


def test_upstreams_fast_keeps_a_layer_until_the_card_is_full() -> None:
    card = LazyCard("compute")
    made = upstream_policy(card, "fast")
    policy, parameters = made
    forward(card, made, "generation")
    assert policy.resident_layers == LAYERS
    moved = policy.traffic.streamed_bytes
    forward(card, made, "generation")
    assert policy.traffic.streamed_bytes == moved, "a kept layer is not copied again"
    card.answer = MemoryState(1 << 40, 1 << 40, 0, 1 << 40)
    forward(card, made, "generation")
    assert policy.resident_layers == 0
    assert {at for at in range(LAYERS) if parameters[(at, "generation")].data_ptr() in card.uploaded} == {0, 1}
    card.run()
    assert card.wrong == []


def test_embedding_and_head_leave_after_the_card_has_used_them_and_are_counted() -> None:
    card = LazyCard("compute")
    traffic = StreamTraffic(card)
    store = PrefixStore(card, traffic)
    store.all_out()
    assert card.synchronized == 0, "nothing to move, nothing to wait for"
    weights = {name: torch.nn.Parameter(torch.full((8,), 7, dtype=torch.uint8), False) for name in ("embed", "head")}
    for name, weight in weights.items():
        store.add(name, StreamedTensor(weight, weight.data))
    store.all_in()
    store.all_in()
    assert card.log == [("upload", "compute", "queued")] * 2
    assert (traffic.streamed_bytes, traffic.copies) == (16, 2)
    card.read(weights["head"], 7, "head")
    store.all_out()
    assert card.synchronized == 1
    assert card.wrong == []
    assert not any(weight.data_ptr() in card.uploaded for weight in weights.values())

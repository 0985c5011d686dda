"""Rules of the two streaming policies that the engine's runs do not single out."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from bench.engines.sensenova.streaming.device import HostAccelerator, MemoryState, accelerator
from bench.engines.sensenova.streaming.ring import RingPolicy, StreamedUnit, TensorPlace, Unit, resident_count, spread
from bench.engines.sensenova.streaming.upstream import may_stay
from fitcheck.runtimes.sensenova.streaming import fast_limit, upstream

GIB = 1 << 30


def test_fast_limit_is_the_smaller_of_fraction_and_headroom() -> None:
    assert fast_limit(12 * GIB) == 10 * GIB
    assert fast_limit(80 * GIB) == 72 * GIB
    assert fast_limit(GIB) == 0


@pytest.mark.parametrize(
    ("allocated", "free", "stays"),
    [(6 * GIB, 6 * GIB, True), (6 * GIB + 1, 6 * GIB, False), (6 * GIB, 6 * GIB - 1, False)],
)
def test_upstreams_rule_at_its_edges(allocated: int, free: int, stays: bool) -> None:
    assert may_stay(MemoryState(allocated, allocated, free, 12 * GIB)) is stays


def test_memory_that_torch_can_give_back_counts_as_free() -> None:
    assert may_stay(MemoryState(4 * GIB, 8 * GIB, 2 * GIB, 12 * GIB))


@given(
    allocated=st.integers(0, 100 * GIB),
    total=st.integers(1, 100 * GIB),
    unit=st.integers(1, GIB),
    layers=st.integers(0, 64),
)
def test_layers_chosen_up_front_keep_upstreams_rule(allocated: int, total: int, unit: int, layers: int) -> None:
    free = max(0, total - allocated)
    count = resident_count(allocated, free, total, unit, layers)
    assert 0 <= count <= layers
    if count:
        assert may_stay(MemoryState(allocated + count * unit, allocated + count * unit, free - count * unit, total))
    if count < layers and allocated + (count + 1) * unit <= total:
        more = allocated + (count + 1) * unit
        assert not may_stay(MemoryState(more, more, free - (count + 1) * unit, total))


@given(layers=st.integers(1, 64), data=st.data())
def test_streamed_layers_are_spread_evenly(layers: int, data: st.DataObject) -> None:
    streamed = data.draw(st.integers(1, layers))
    chosen = spread(layers, streamed)
    assert len(set(chosen)) == streamed
    assert all(0 <= index < layers for index in chosen)
    gaps = [b - a for a, b in pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def ring(prefetch_mode: str, layers: int = 5) -> tuple[RingPolicy, dict[Unit, StreamedUnit], list[torch.Tensor]]:
    units: dict[Unit, StreamedUnit] = {}
    parameters = []
    for index in range(layers):
        for branch in ("understanding", "generation"):
            host = torch.full((512,), index + (100 if branch == "generation" else 0), dtype=torch.uint8)
            parameter = torch.empty(8, dtype=torch.uint8)
            parameters.append(parameter)
            units[(index, branch)] = StreamedUnit(host, [parameter], (TensorPlace(0, 8, torch.uint8, (8,)),))
    device = HostAccelerator(torch.device("cpu"))
    return RingPolicy(upstream(prefetch_mode, policy="ring"), device, units, layers, {}), units, parameters


@pytest.mark.parametrize("mode", ["low", "balanced"])
def test_ring_shows_each_layer_its_own_bytes(mode: str) -> None:
    policy, units, _ = ring(mode)
    buffers = {slot.buffer.data_ptr() for slot in policy._slots}
    assert len(buffers) == (1 if mode == "low" else 3)
    for branch, base in (("understanding", 0), ("understanding", 0), ("generation", 100), ("understanding", 0)):
        for index in range(5):
            policy.before_layer(index, branch)
            shown = units[(index, branch)].tensors[0]
            assert shown.tolist() == [base + index] * 8
            assert shown.data_ptr() in buffers
            policy.after_layer(index, branch)
    slots = [weakref.ref(slot.buffer) for slot in policy._slots]
    policy.close()
    for unit in units.values():
        assert unit.tensors[0].data_ptr() == unit.host.data_ptr()
        assert unit.tensors[0].tolist() == unit.host[:8].tolist()
    gc.collect()
    assert not any(slot() for slot in slots), "a closed ring holds no slot"


def test_ring_refuses_to_overwrite_weights_in_use() -> None:
    policy, _, _ = ring("low")
    policy.before_layer(0, "understanding")
    with pytest.raises(RuntimeError, match="overwrite"):
        policy.before_layer(1, "understanding")


def test_cuda_without_a_card_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    from fitcheck.errors import InputError

    with pytest.raises(InputError, match="no CUDA card"):
        accelerator("cuda")

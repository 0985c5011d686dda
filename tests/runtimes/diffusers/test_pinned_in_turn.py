"""Pinned blocks that stay where each group is pinned at its turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.memory.allocator_blocks import pinned_block
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.diffusers.host import host_memory
from fitcheck.runtimes.diffusers.offloading import Offload
from fitcheck.runtimes.diffusers.pinned_in_turn import pinned_in_turn, staying_bytes
from fitcheck.units import MIB

LEAVES = Offload("group-leaf-stream", "leaf", stream=True, low_cpu_mem=True)
BLOCKS = Offload("group-block-stream", "block", stream=True, low_cpu_mem=True)
GROUPS = st.lists(st.lists(st.integers(1, 4 * MIB), max_size=5), max_size=8)


def by_hand(groups: Iterable[Iterable[int]]) -> int:
    """torch's caching host allocator, one group after the other: free blocks of the size are handed out first."""
    free: dict[int, int] = {}
    made = 0
    for group in groups:
        taken: dict[int, int] = {}
        for block in map(pinned_block, group):
            taken[block] = taken.get(block, 0) + 1
            if free.get(block, 0):
                free[block] -= 1
            else:
                made += block
        for block, count in taken.items():
            free[block] = free.get(block, 0) + count
    return made


@given(GROUPS)
def test_what_stays_is_what_an_allocator_made_that_gives_nothing_back(groups: list[list[int]]) -> None:
    assert staying_bytes(groups) == by_hand(groups)


@given(GROUPS)
def test_neither_order_nor_a_second_turn_takes_more(groups: list[list[int]]) -> None:
    assert staying_bytes(reversed(groups)) == staying_bytes(groups) == staying_bytes(groups + groups)


def flux() -> PipelineArchitecture:
    found = catalog.get("flux.1-dev").architecture
    assert isinstance(found, PipelineArchitecture)
    return found


@pytest.mark.parametrize("offload", [LEAVES, BLOCKS])
def test_they_are_fewer_than_a_copy_of_everything_and_lie_beside_the_weights(offload: Offload) -> None:
    tier = catalog.get("flux.1-dev").tier("bf16")
    assert tier is not None
    work = Workload(Task.T2I, 1024, 1024, 2, 3.5)
    turn, ahead = (host_memory(flux(), tier, one, work) for one in (offload, replace(offload, low_cpu_mem=False)))
    assert 0 < turn.pinned == pinned_in_turn(flux(), tier, offload) < ahead.pinned
    assert turn.pageable == sum(one.nbytes for one in tier.tensors) + sum(one.buffers for one in flux().components)


def test_a_block_needs_all_its_layers_at_once() -> None:
    tier = catalog.get("flux.1-dev").tier("bf16")
    assert tier is not None
    # of a double block for text and picture each: four matrices of 3072 by 3072, two four times as large, one six times
    assert pinned_in_turn(flux(), tier, BLOCKS) > 2 * (4 + 2 * 4 + 6) * 2 * 3072 * 3072


@pytest.mark.parametrize("offload", [replace(LEAVES, stream=False), replace(LEAVES, low_cpu_mem=False)])
def test_nothing_is_pinned_at_its_turn_without_a_stream_or_with_all_of_it_pinned_before(offload: Offload) -> None:
    tier = catalog.get("flux.1-dev").tier("bf16")
    assert tier is not None
    assert pinned_in_turn(flux(), tier, offload) == 0


def test_diffusers_pins_a_group_when_it_is_brought_and_waits_for_the_copies_before() -> None:
    """Fails when its offload interface changes: on a card that is not there, in the order of calls."""
    torch = pytest.importorskip("torch")
    offloading = pytest.importorskip("diffusers.hooks.group_offloading")
    order: list[str] = []

    class Stream:
        def synchronize(self) -> None:
            order.append("waits")

    layer = torch.nn.Linear(2, 2)
    cpu = torch.device("cpu")
    group = offloading.ModuleGroup([layer], cpu, cpu, layer, stream=Stream(), low_cpu_mem_usage=True)
    assert not any(one.is_pinned() for one in group.cpu_param_dict.values())
    group._torch_accelerator_module = type(
        "Module", (), {"stream": lambda _, one: offloading.nullcontext(), "current_stream": lambda _: None}
    )()

    def pinned() -> Any:
        order.append("pins")
        return offloading.nullcontext(group.cpu_param_dict)

    assert callable(group._pinned_memory_tensors)
    group._pinned_memory_tensors = pinned
    group._onload_from_memory()
    assert order == ["waits", "pins"]

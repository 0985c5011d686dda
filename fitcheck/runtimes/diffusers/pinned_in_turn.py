"""Pinned blocks that stay where groups are pinned at their turn: ``low_cpu_mem_usage`` with a stream.

Each group's tensors are pinned when it is copied, and given back to torch's caching host allocator, which rounds to
powers of two and keeps what it made (ATen/core/CachingHostAllocator.h). The copies before are waited for first
(diffusers 0.42.1, hooks/group_offloading.py, ``_onload_from_memory``), so that a group finds the blocks of those before
it: of each size as many stay as one group has tensors of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache

from fitcheck.memory.allocator_blocks import pinned_block
from fitcheck.models.families.pipeline.architecture import Component, PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.runtimes.diffusers.offloading import BLOCK, Offload
from fitcheck.runtimes.diffusers.weights import ModuleWeights, weights_of


def pinned_in_turn(arch: PipelineArchitecture, tier: Tier, offload: Offload) -> int:
    """Bytes of the pinned blocks of all components; 0 where nothing is pinned at its turn."""
    if not (offload.stream and offload.low_cpu_mem):
        return 0
    moving = tuple(one for one in arch.components if one.name not in arch.ungrouped)
    return _staying(moving, tier, offload.level)


@lru_cache(maxsize=256)
def _staying(components: tuple[Component, ...], tier: Tier, level: str) -> int:
    groups = (group for one in components for group in _groups(one, weights_of(tier, one), level))
    return staying_bytes(groups)


def staying_bytes(groups: Iterable[Iterable[int]]) -> int:
    """Bytes of the blocks that are there once every group, given by the bytes of its tensors, had its turn."""
    most: Counter[int] = Counter()
    for group in groups:
        most |= Counter(pinned_block(size) for size in group)
    return sum(size * count for size, count in most.items())


def _groups(component: Component, weights: ModuleWeights, level: str) -> Iterator[Iterable[int]]:
    """The bytes of each group's tensors; of blocks alone those in lists, the rest comes without a stream."""
    if level != BLOCK:
        yield from (leaf.sizes for leaf in weights.leaves)
        return
    blocks: dict[tuple[str, ...], list[int]] = {}
    for leaf in weights.leaves:
        path = tuple(leaf.path.split("."))
        depth = 2 if path[0] in component.recursed else 1
        listed = depth == 2 or path[0] in component.lists
        if listed and len(path) > depth and path[depth].isdecimal():
            blocks.setdefault(path[: depth + 1], []).extend(leaf.sizes)
    yield from blocks.values()

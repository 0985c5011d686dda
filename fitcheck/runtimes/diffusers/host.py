"""System memory of a pipeline: pageable weights, pinned copies rounded to powers of two, and the process itself.

The peak is the wider of two moments: building, when components lie in pageable memory as they are loaded, and running.
Weights that leave pageable memory leave pages behind: glibc keeps blocks below 32 MiB on its heap (mallopt(3): the
mapping threshold grows to that as blocks are freed), and a heap goes back to the system from its top alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache, lru_cache
from itertools import accumulate

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.memory.footprint import HostMemory
from fitcheck.models.families.pipeline.architecture import Component, PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Workload
from fitcheck.runtimes.base import OWN_PROGRAM, Process
from fitcheck.runtimes.diffusers.offloading import BLOCK, Offload
from fitcheck.runtimes.diffusers.pinned_in_turn import pinned_in_turn
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.weight_groups import block_groups
from fitcheck.runtimes.diffusers.weights import ModuleWeights, parts_of
from fitcheck.units import Interval


def host_memory(
    arch: PipelineArchitecture, tier: Tier, offload: Offload, workload: Workload, process: Process = OWN_PROGRAM
) -> HostMemory:
    """Bytes at the peak of the run."""
    parts = _stored(tier, arch, arch.ungrouped if offload.level else ())
    pinned, pageable, behind = _running(parts, offload, process)
    pinned += 0 if offload.disk else pinned_in_turn(arch, tier, offload)
    own = _process("bench" if process.bench else "own")
    output = workload.batch * workload.frames * workload.width * workload.height * 3 * 4  # f32 RGB
    total = own.shift(pinned + pageable + output) + behind
    if process.bench or not offload.resident:  # with device_map components pass through, one at a time
        built = _process("building").shift(parts.built)
        total = Interval(max(total.low, built.low), max(total.best, built.best), max(total.high, built.high))
    return HostMemory(pinned, pageable, own.best + output, total)


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes of a pipeline's components, but for those that stay on the card: as they are stored, pinned, on the heap;
    of the largest one, of the largest layer; and ``built``, at the widest moment of loading all one after the other.
    ``blocks_pinned`` are pinned where whole blocks come on a stream, ``blocks_pageable`` stay in pageable memory then,
    and ``blocks_made`` is the widest moment of pinning one component after the other."""

    stored: int
    pinned: int
    blocks_pinned: int
    blocks_pageable: int
    blocks_made: int
    on_heap: int
    largest: int
    largest_leaf: int
    built: int


@lru_cache(maxsize=1024)
def _stored(tier: Tier, arch: PipelineArchitecture, without: tuple[str, ...]) -> Stored:
    every = parts_of(tier, arch)
    there = {name: one for name, one in every.items() if name not in without}
    parts = there.values()
    blocks = [_in_blocks(arch.component(name), one) for name, one in there.items()]
    return Stored(
        sum(one.stored for one in parts),
        sum(one.pinned for one in parts),
        sum(pinned for pinned, _ in blocks),
        sum(pageable for _, pageable in blocks),
        _blocks_made([one.stored for one in parts], blocks),
        sum(one.on_heap for one in parts),
        max((one.stored for one in parts), default=0),
        max((one.largest_leaf for one in parts), default=0),
        _built(every.values(), layerwise=tier.format == "layerwise"),
    )


def _in_blocks(component: Component, weights: ModuleWeights) -> tuple[int, int]:
    """Bytes of the blocks that a stream brings, pinned, and of what comes without one, pageable."""
    if component.recursed:  # its children's blocks are all but a few layers
        return weights.pinned, 0
    groups = block_groups(weights, component, 1)
    return groups.pinned, groups.whole


def _blocks_made(stored: Sequence[int], blocks: Sequence[tuple[int, int]]) -> int:
    """Bytes at the widest moment of pinning: all blocks of a component are pinned before the first original goes
    (diffusers 0.42.1, hooks/group_offloading.py, _apply_group_offloading_block_level)."""
    left, there, most = sum(stored), 0, 0
    for original, (pinned, pageable) in zip(stored, blocks, strict=True):
        most = max(most, there + left + pinned)
        left -= original
        there += pinned + pageable
    return most


def _running(parts: Stored, offload: Offload, process: Process) -> tuple[int, int, Interval[int]]:
    """Pinned and pageable bytes while the pipeline runs, and what lies there beside for a while or stays behind."""
    if offload.resident:
        return 0, 0, Interval(0, 0, 0 if process.bench else parts.largest)
    # while a group is pinned its original is still there
    leaf = Interval(0, 0, parts.largest_leaf if offload.stream else 0)
    if offload.disk:  # a group is in memory while it moves, and the next with a stream
        largest = parts.largest_leaf if offload.level != BLOCK else parts.largest
        return 0, 0, Interval(0, min(largest, parts.stored), 2 * largest)
    if offload.level == BLOCK and offload.stream and not offload.low_cpu_mem:
        making = max(parts.blocks_made - parts.blocks_pinned - parts.blocks_pageable, 0)
        return parts.blocks_pinned, parts.blocks_pageable + making, leaf + _behind(parts.on_heap, "pinned")
    if offload.stream and not offload.low_cpu_mem:
        return parts.pinned, 0, leaf + _behind(parts.on_heap, "pinned")
    if offload.by_component:
        return 0, parts.stored, _behind(parts.on_heap, "moved_again" if process.warm else "moved")
    copied_back = bool(offload.level) and not offload.stream
    return 0, parts.stored, leaf + _behind(parts.on_heap, "moved") if copied_back else leaf


@cache
def _process(name: str) -> Interval[int]:
    return Interval(*load(ROOM, "host")["process"][name]["bytes"])


@lru_cache(maxsize=1024)
def _behind(on_heap: int, name: str) -> Interval[int]:
    """Bytes of pages on the heap that what moved away leaves there."""
    return Interval(*[round(share * on_heap) for share in load(ROOM, "host")["behind"][name]["share"]])


def _built(parts: Collection[ModuleWeights], *, layerwise: bool) -> int:
    """Bytes at the widest moment of loading one component after the other; layerwise casting comes after a component
    lies there in 16 bit, one byte more for each weight that it casts."""
    before = accumulate((one.stored for one in parts), initial=0)
    whole = (one.stored + (one.cast if layerwise else 0) for one in parts)
    return max((one + as_loaded for one, as_loaded in zip(before, whole, strict=False)), default=0)

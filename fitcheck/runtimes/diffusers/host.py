"""System memory of a pipeline: pageable weights, pinned copies rounded to powers of two, and the process itself."""

from __future__ import annotations

from fitcheck.data_files import load
from fitcheck.memory.footprint import HostMemory
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Workload
from fitcheck.runtimes.diffusers.offloading import Offload
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.weights import ModuleWeights, weights_of
from fitcheck.units import Interval


def host_memory(
    arch: PipelineArchitecture, tier: Tier, offload: Offload, workload: Workload, *, bench: bool
) -> HostMemory:
    """Bytes at the peak of the run. Loading may take more for a moment, which the high end says."""
    low, best, high = load(ROOM, "host")["process"]["bench" if bench else "own"]["bytes"]
    output = workload.batch * workload.frames * workload.width * workload.height * 3 * 4  # f32 RGB
    parts = [weights_of(tier, one) for one in arch.components]
    largest = max((one.stored for one in parts), default=0)
    if offload.resident and bench:  # built on the host, then moved
        return _memory(0, sum(one.stored for one in parts), (low, best, high), output)
    if offload.resident:
        # device_map loads component by component: the largest passes through
        return _memory(0, 0, (low, best, high + largest), output)
    if offload.stream and not offload.low_cpu_mem:
        pinned = sum(one.pinned for one in parts)
        # while a group is pinned its original is still there
        return _memory(pinned, 0, (low, best, high + _largest_leaf(parts)), output)
    pageable = sum(one.stored for one in parts)
    if offload.by_component:
        behind = load(ROOM, "host")["moved"]["share"]
        low, best, high = (one + round(share * pageable) for one, share in zip((low, best, high), behind, strict=True))
    return _memory(0, pageable, (low, best, high + (_largest_leaf(parts) if offload.stream else 0)), output)


def _memory(pinned: int, pageable: int, process: tuple[int, int, int], output: int) -> HostMemory:
    low, best, high = (pinned + pageable + one + output for one in process)
    return HostMemory(pinned, pageable, process[1] + output, Interval(low, best, high))


def _largest_leaf(parts: list[ModuleWeights]) -> int:
    return max((sum(leaf.sizes) for one in parts for leaf in one.leaves), default=0)

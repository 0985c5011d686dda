"""System memory of a run: pinned, pageable and everything else a process holds. Sizes in bytes."""

from __future__ import annotations

from functools import lru_cache

from fitcheck.data_files import load
from fitcheck.memory.allocator_blocks import pinned_block
from fitcheck.memory.footprint import HostMemory
from fitcheck.runtimes.sensenova.layer_weights import LayerWeights
from fitcheck.runtimes.sensenova.streaming import PrefixWeights, Stream, Streaming
from fitcheck.units import Interval


@lru_cache(maxsize=64)
def pinned_bytes(sizes: tuple[int, ...], policy: str) -> int:
    """Host bytes that pinning tensors of these sizes takes; ``ring`` pins exact flat buffers instead."""
    return sum(sizes) if policy == "ring" else sum(pinned_block(size) for size in sizes)


@lru_cache(maxsize=1024)
def pinnable_bytes(weights: LayerWeights, placement: Streaming) -> int:
    """Bytes of the tensors that a mode pins, without rounding: layers, and embedding and head where they move."""
    if not placement.pinned:
        return 0
    moved = placement.prefix_weights is not PrefixWeights.RESIDENT
    return sum(weights.pinnable["layers"]) + (sum(weights.pinnable["prefix"]) if moved else 0)


@lru_cache(maxsize=1024)
def host_memory(weights: LayerWeights, placement: Streaming, *, quantized: bool, bench: bool = False) -> HostMemory:
    """System memory at its peak.

    A streamed model lives pinned (or, in the ComfyUI node, pageable) for the whole run. A resident one passes through
    host memory while loading: a GGUF file stays mapped, and the system drops its clean pages as it needs memory; a
    safetensors checkpoint is copied in full, which widens the interval upwards. While a streamed one is pinned, the
    shard that is being copied counts besides, whose pages nobody showed to be clean. Those of a GGUF file are, and
    count for nothing here, although a meter of resident memory shows them (``benchmarks/host_load``).
    """
    table = load("runtimes.sensenova", "host")
    base = table["process"]["bench" if bench else "upstream"]
    if placement.stream is Stream.NOTHING:
        low, best, high = base["resident"]["bytes"]
        passing = 0 if quantized or bench else weights.file_bytes
        return HostMemory(0, 0, best, Interval(low, best, high + passing))
    low, best, high = base["streamed"]["bytes"]
    if not placement.pinned:
        pageable = sum(weights.pinnable["layers"])
        return HostMemory(0, pageable, best, Interval(low + pageable, best + pageable, high + pageable))
    sizes = weights.pinnable["layers"]
    shard = Interval.exactly(0)
    if placement.prefix_weights is not PrefixWeights.RESIDENT:
        sizes += weights.pinnable["prefix"]
    if not (bench or quantized) and placement.revision in table["mapped_shard"]["revisions"]:
        shard = Interval(*table["mapped_shard"]["bytes"])
    pinned = pinned_bytes(sizes, placement.policy)
    return HostMemory(pinned, shard.best, best, Interval(low, best, high).shift(pinned) + shard)

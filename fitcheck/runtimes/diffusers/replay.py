"""A run replayed through torch's caching allocator: weights coming and going as diffusers places them, and between
them what each call makes and drops, event by event.

``allocated`` and ``reserved`` come out of one sequence, phase by phase. Inputs are in it as one block. A component is
called twice at most: later calls of the same sizes find the same blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.caching_allocator import CachedBlock, CachingAllocator
from fitcheck.models.families.pipeline.architecture import CONTROLNET, PipelineArchitecture
from fitcheck.models.families.pipeline.tiers import PipelineTable
from fitcheck.models.model import Tier
from fitcheck.runtimes.diffusers import packed
from fitcheck.runtimes.diffusers.activations import turn_of
from fitcheck.runtimes.diffusers.block_runs import listed
from fitcheck.runtimes.diffusers.call_pools import results
from fitcheck.runtimes.diffusers.forwards import Forward
from fitcheck.runtimes.diffusers.lora import component_trace
from fitcheck.runtimes.diffusers.moving_groups import COMPUTING, MovingGroups
from fitcheck.runtimes.diffusers.offloading import BLOCK, LEAF, Offload
from fitcheck.runtimes.diffusers.stages import DENOISE, Stage, Stages, is_upcast
from fitcheck.runtimes.diffusers.traces import PLAIN, Trace
from fitcheck.runtimes.diffusers.weights import ModuleWeights, left_behind, scales_left, scheme_in, weights_of

_CALLS = 2


@dataclass(frozen=True, slots=True)
class PhasePeak:
    """Highest bytes of one phase."""

    allocated: int
    reserved: int


@dataclass(slots=True)
class Replayed:
    """Peaks by phase, in order, and over all."""

    phases: dict[str, PhasePeak] = field(default_factory=dict)

    @property
    def allocated(self) -> int:
        """Highest over all phases."""
        return max((one.allocated for one in self.phases.values()), default=0)

    @property
    def reserved(self) -> int:
        """Highest over all phases."""
        return max((one.reserved for one in self.phases.values()), default=0)


def replay(
    arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: Sequence[Stage], workspace: int = 0,
    allocator: CachingAllocator | None = None, *, plain: bool = False,
) -> Replayed | None:  # fmt: skip
    """The stages in order; ``None`` where a component has no trace. ``workspace`` is what cuBLAS keeps; with ``plain``
    attention keeps every score where releases do that which do not fuse it.

    Raises OutOfMemory under an ``allocator`` with a limit that does not do.
    """
    calls: list[tuple[Stage, Trace]] = []
    for stage in stages:
        found = component_trace(stage.component)
        if found is None or not _has(found, stage.call):
            return None
        kept = plain and stage.call + PLAIN in found.calls
        calls.append((replace(stage, call=stage.call + PLAIN) if kept else stage, found))
    card = _Card(allocator or CachingAllocator(), tier, arch, offload)
    card.keep(workspace)
    card.start()
    result = Replayed()
    for stage, found in calls:
        card.measure()
        card.stage(stage, found)
        before = result.phases.get(stage.phase, PhasePeak(0, 0))
        peak = card.measured()
        result.phases[stage.phase] = PhasePeak(
            max(before.allocated, peak.allocated), max(before.reserved, peak.reserved)
        )
    return result


def shares_a_pool(offload: Offload) -> bool:
    """Whether weights come into the pool of what the calls make: without a stream, and of whole blocks what is in no
    list of them, which comes without one (``_apply_group_offloading_block_level``, the unmatched group)."""
    return offload.level == BLOCK or (offload.level == LEAF and not offload.stream)


@lru_cache(maxsize=512)
def replayed(arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: Stages, pictures: int = 1) -> int | None:
    """Bytes that a process reserves for one picture, or for two, whose second knows the order of all blocks; packed
    where they are; ``None`` where a component has no trace."""
    known = packed.whole(replay_name(tier, offload, stages, pictures))
    return live_replayed(arch, tier, offload, stages, pictures) if known is None else known


def pictures_of(offload: Offload) -> tuple[int, ...]:
    """After how many pictures a process may hold more: without a stream nothing is brought ahead, and the second is as
    the first."""
    return (1, 2) if offload.stream else (1,)


def live_replayed(
    arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: Stages, pictures: int
) -> int | None:
    """The same worked out from the traces."""
    later = tuple(replace(stage, order_known=True) for stage in stages) * (pictures - 1)
    found = replay(arch, tier, offload, (*stages, *later))
    return None if found is None else found.reserved


def replay_name(tier: Tier, offload: Offload, stages: Stages, pictures: int = 1) -> str | None:
    """How a pack names a run: its calls, and how the weights of each component are stored; ``None`` for weights that
    no scheme of the catalog stores."""
    table = tier.tensors
    if not isinstance(table, PipelineTable):
        return None
    schemes = {one.component.name: scheme_in(table, one.component).name for one in stages}
    blocks = () if offload.blocks == 1 else (f"{offload.blocks} blocks",)
    text = " ".join(
        (
            offload.mode,
            *blocks,
            *((f"{pictures} pictures",) if pictures > 1 else ()),
            *(f"{name}={how}" for name, how in schemes.items()),
            packed.in_turn_name(turn_of(stages)),
        )
    )
    return packed.digest_of(text)


def _has(found: Trace, call: str) -> bool:
    return call in found.calls or f"{call}@batched" in found.calls


class _Card:
    """Blocks in use, by what they are for."""

    def __init__(self, allocator: CachingAllocator, tier: Tier, arch: PipelineArchitecture, offload: Offload) -> None:
        self._allocator, self._tier, self._arch, self._offload = allocator, tier, arch, offload
        self._components: dict[str, list[CachedBlock]] = {}
        self._kept: list[CachedBlock] = []
        self._results: list[CachedBlock] = []  # what the denoiser handed out last

    def keep(self, nbytes: int) -> None:
        """Something that stays to the end."""
        if nbytes:
            self._kept.append(self._allocator.allocate(nbytes))

    def start(self) -> None:
        """What is on the card before the first call."""
        if self._offload.by_component:
            self.keep(sum(left_behind(self._tier, one.name) for one in self._arch.components))
        if self._offload.level:
            self.keep(sum(scales_left(self._tier, one.name) for one in self._arch.components))
        for one in self._arch.components:
            if self._offload.resident or (self._offload.by_component and one.name in self._arch.excluded_from_offload):
                self._bring(one.name)

    def measure(self) -> None:
        """Peaks count from now on."""
        self._allocator.peak_allocated = self._allocator.allocated
        self._allocator.peak_reserved = self._allocator.reserved

    def measured(self) -> PhasePeak:
        """Since ``measure``."""
        return PhasePeak(self._allocator.peak_allocated, self._allocator.peak_reserved)

    def stage(self, stage: Stage, found: Trace) -> None:
        """All calls of a stage."""
        if self._offload.by_component:
            self._exchange(stage.component.name)
        weights = weights_of(self._tier, stage.component)
        if is_upcast(stage.component, stage.call):
            self._upcast(stage.component.name, weights)
        call = found.call(stage.call, stage.sizes)
        events = listed(call, tuple(sorted(stage.sizes.items())))
        moving = MovingGroups(self._allocator, self._offload, stage, weights, self._stream(stage.component.name))
        if stage.order_known:
            moving.order_known(events.entered)
        inputs = self._allocator.allocate(call.total("inputs", stage.sizes) or 1)
        outputs = call.total("outputs", stage.sizes)
        tiles = [self._allocator.allocate(size) for size in results(stage.beside, outputs)]
        # what a ControlNet hands out is among what the denoiser is handed next
        denoises = stage.phase == DENOISE and stage.component.role != CONTROLNET
        if denoises:  # prompt embeddings and positions stay to the end of the call
            self._kept.append(inputs)
        for _ in range(min(stage.count, _CALLS)):
            left = Forward(self._allocator, moving, weights.linears).run(events)
            # of what an encoder hands out, most are states that nobody keeps: the embeddings are the denoiser's inputs
            for block in self._results if denoises else left:
                self._allocator.release(block)
            if denoises:
                self._results = left
            moving.order_known(events.entered)
        for block in tiles:
            self._allocator.release(block)
        if not denoises:
            self._allocator.release(inputs)

    def _stream(self, name: str) -> int:
        """The stream on which a component's weights come: ``apply_group_offloading`` makes one for each component, and
        the allocator keeps segments of a stream for that stream."""
        names = [one.name for one in self._arch.components]
        return 1 + names.index(name) if self._offload.stream else COMPUTING

    def _bring(self, name: str) -> None:
        weights = weights_of(self._tier, self._arch.component(name))
        sizes = [size for leaf in weights.leaves for size in leaf.sizes]
        self._components[name] = [self._allocator.allocate(size) for size in sizes]
        if weights.buffers:
            self._components[name].append(self._allocator.allocate(weights.buffers))

    def _upcast(self, name: str, weights: ModuleWeights) -> None:
        """An autoencoder in 16 bit is cast to 32 for the call, tensor by tensor."""
        there = self._components.get(name)
        if there is None:
            return
        for position, size in enumerate(size for leaf in weights.leaves for size in leaf.sizes):
            wide = self._allocator.allocate(2 * size)
            self._allocator.release(there[position])
            there[position] = wide

    def _exchange(self, name: str) -> None:
        """accelerate's hook: the component before in the sequence goes, with the cache; this one comes whole, where it
        is not there yet."""
        sequence = [one for one in self._arch.offload_sequence if one in {c.name for c in self._arch.components}]
        before = self._components.pop(sequence[sequence.index(name) - 1], None) if name in sequence[1:] else None
        if before is not None:
            for block in before:
                self._allocator.release(block)
            self._allocator.empty_cache()
        if name not in self._components:
            self._bring(name)

"""A run replayed through torch's caching allocator: weights coming and going as diffusers places them, and between
them what each call makes and drops, event by event.

``allocated`` and ``reserved`` come out of one sequence, phase by phase. Inputs are in it as one block. A component is
called twice at most: later calls of the same sizes find the same blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import lru_cache
from itertools import pairwise

from fitcheck.dataclass_later import dataclass
from fitcheck.memory import dequantization
from fitcheck.memory.caching_allocator import SMALL, CachedBlock, CachingAllocator, OutOfMemory
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.families.pipeline.tiers import PipelineTable
from fitcheck.models.model import Tier
from fitcheck.runtimes.diffusers import packed
from fitcheck.runtimes.diffusers.activations import turn_of
from fitcheck.runtimes.diffusers.call_pools import results
from fitcheck.runtimes.diffusers.offloading import BLOCK, LEAF, SEQUENTIAL, Offload
from fitcheck.runtimes.diffusers.residency import ahead
from fitcheck.runtimes.diffusers.stages import DENOISE, Stage, Stages, is_upcast
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, PLAIN, WORKSPACE, Event, Trace, trace_of
from fitcheck.runtimes.diffusers.weights import ModuleWeights, weights_of

_COMPUTING = 0  # the stream; each component copies on one of its own
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
        found = trace_of(stage.component.trace, stage.component.dtype)
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
    schemes = {one.component.name: table.scheme_of(one.component.name).name for one in stages}
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
        moving = _Moving(self._allocator, self._offload, stage, weights, self._stream(stage.component.name))
        if stage.order_known:
            moving.enters(event.path for event in call.events(stage.sizes) if event.kind == ENTER)
        inputs = self._allocator.allocate(call.total("inputs", stage.sizes) or 1)
        outputs = call.total("outputs", stage.sizes)
        tiles = [self._allocator.allocate(size) for size in results(stage.beside, outputs)]
        if stage.phase == DENOISE:  # prompt embeddings and positions stay to the end of the call
            self._kept.append(inputs)
        for _ in range(min(stage.count, _CALLS)):
            left = self._call(call.events(stage.sizes), moving, weights.linears)
            # of what an encoder hands out, most are states that nobody keeps: the embeddings are the denoiser's inputs
            for block in self._results if stage.phase == DENOISE else left:
                self._allocator.release(block)
            if stage.phase == DENOISE:
                self._results = left
            moving.order_known()
        for block in tiles:
            self._allocator.release(block)
        if stage.phase != DENOISE:
            self._allocator.release(inputs)

    def _stream(self, name: str) -> int:
        """The stream on which a component's weights come: ``apply_group_offloading`` makes one for each component, and
        the allocator keeps segments of a stream for that stream."""
        names = [one.name for one in self._arch.components]
        return 1 + names.index(name) if self._offload.stream else _COMPUTING

    def _work(self, nbytes: int) -> None:
        """A convolution's workspace; where there is no room for it, torch takes an algorithm that needs none."""
        try:
            self._allocator.release(self._allocator.allocate(nbytes))
        except OutOfMemory:
            return

    def _call(
        self, events: Iterator[Event], moving: _Moving, linears: Mapping[str, tuple[str, int]]
    ) -> list[CachedBlock]:
        """One call; the blocks of what it hands back."""
        made: list[CachedBlock | None] = []
        dense: dict[str, list[CachedBlock]] = {}
        for event in events:
            if event.kind == ALLOCATE:
                # temporaries of up to 1 MiB live in a pool of their own, of which they fill a few MiB
                made.append(self._allocator.allocate(event.value) if event.value > SMALL else None)
            elif event.kind == FREE:
                block = made[event.value]
                if block is not None:
                    self._allocator.release(block)
                    made[event.value] = None
            elif event.kind == WORKSPACE:
                self._work(event.value)
            elif event.kind == ENTER:
                moving.enter(event.path)
                if event.path in linears:
                    dense[event.path] = self._dequantize(*linears[event.path])
            else:
                for block in dense.pop(event.path, ()):
                    self._allocator.release(block)
                moving.leave(event.path)
        return [block for block in made if block is not None]

    def _dequantize(self, kind: str, elements: int) -> list[CachedBlock]:
        """The temporaries of dequantizing a weight; what is left is the dense one."""
        made: list[CachedBlock | None] = []
        for step in dequantization.steps(kind):
            if step > 0:
                made.append(self._allocator.allocate(round(step * elements)))
            elif (block := made[round(-step) - 1]) is not None:
                self._allocator.release(block)
                made[round(-step) - 1] = None
        return [block for block in made if block is not None]

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


class _Moving:
    """Group offload and sequential offload: groups that come with a module's forward and go after it."""

    def __init__(
        self, allocator: CachingAllocator, offload: Offload, stage: Stage, weights: ModuleWeights, stream: int
    ) -> None:
        self._allocator, self._stream = allocator, stream
        # accelerate's set_module_tensor_to_device empties torch's cache behind every tensor that it moves
        self._empties = offload.mode == SEQUENTIAL
        self._ahead = ahead(offload, stage)
        groups: Collection[_Group] = ()
        if not (offload.resident or offload.by_component):
            groups = _groups(offload, stage, weights)
        self._groups = {one.first: one for one in groups}
        self._last = {one.last: one.first for one in groups}
        self._loaded: dict[str, list[CachedBlock]] = {}
        self._seen: list[str] = []
        self._next: dict[str, str] = {}

    def enter(self, path: str) -> None:
        """Brings the group of the module, and the one that follows it where the order is known."""
        if path not in self._groups:
            return
        self._seen.append(path)
        self._load(path)
        if path in self._next:
            self._load(self._next[path])

    def leave(self, path: str) -> None:
        """The group goes."""
        first = self._last.get(path)
        if first is None:
            return
        for block in self._loaded.pop(first, ()):
            self._allocator.release(block)
        if self._empties:
            self._allocator.empty_cache()

    def order_known(self) -> None:
        """From the second forward on groups are copied ahead."""
        self.enters(self._seen)
        self._seen = []

    def enters(self, paths: Iterable[str]) -> None:
        """Modules in the order in which the next forward enters them: their groups are copied ahead."""
        if self._ahead:
            self._next = dict(pairwise(path for path in paths if path in self._groups))

    def _load(self, path: str) -> None:
        if path not in self._loaded:
            group = self._groups[path]
            stream = self._stream if group.streamed else _COMPUTING
            self._loaded[path] = [self._allocator.allocate(size, stream) for size in group.sizes]
            if self._empties:
                self._allocator.empty_cache()


@dataclass(slots=True)
class _Group:
    """Bytes of tensors that come when the ``first`` module is entered and go when the ``last`` is left; ``streamed``
    says that they come on a stream where there is one."""

    first: str
    last: str
    streamed: bool = True
    sizes: list[int] = field(default_factory=list)


def _groups(offload: Offload, stage: Stage, weights: ModuleWeights) -> Collection[_Group]:
    """What moves together in the stage."""
    found: dict[str, _Group] = {}
    width = 2 if is_upcast(stage.component, stage.call) else 1
    for leaf in weights.leaves:
        group = _group_of(leaf.path, offload, stage)
        there = found.setdefault(group.first, group)
        there.last = max(there.last, group.last, key=_position)
        there.sizes.extend(width * size for size in leaf.sizes)
    return found.values()


def _group_of(path: str, offload: Offload, stage: Stage) -> _Group:
    """The group of a leaf; of blocks as far as this leaf tells where it ends."""
    if offload.level != BLOCK:
        return _Group(path, path)
    inside = path.partition(".")[0] if path.partition(".")[0] in stage.component.recursed else ""
    name, _, rest = path.removeprefix(f"{inside}.").partition(".") if inside else path.partition(".")
    index = rest.partition(".")[0]
    if not index.isdecimal() or not (inside or name in stage.component.lists):
        return _Group(inside, inside, streamed=False)
    start = f"{inside}.{name}" if inside else name
    blocks = 1 if offload.stream else offload.blocks
    return _Group(f"{start}.{int(index) // blocks * blocks}", f"{start}.{index}")


def _position(path: str) -> int:
    """Of a block its number in the list; 0 of any other module."""
    index = path.rpartition(".")[2]
    return int(index) if index.isdecimal() else 0

"""Group offload and sequential offload in a replay: groups that come with a module's forward and go after it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import field
from itertools import pairwise

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.caching_allocator import CachedBlock, CachingAllocator
from fitcheck.runtimes.diffusers.block_runs import by_block, shifted
from fitcheck.runtimes.diffusers.offloading import BLOCK, SEQUENTIAL, Offload
from fitcheck.runtimes.diffusers.residency import ahead
from fitcheck.runtimes.diffusers.stages import Stage, is_upcast
from fitcheck.runtimes.diffusers.weights import ModuleWeights

COMPUTING = 0  # the stream; each component copies on one of its own


class MovingGroups:
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
        self.loaded: dict[str, list[CachedBlock]] = {}
        self._next: dict[str, str] = {}
        self._by_block: dict[str, Mapping[int, list[str]]] = {}

    def enter(self, path: str) -> None:
        """Brings the group of the module, and the one that follows it where the order is known."""
        if path not in self._groups:
            return
        self._load(path)
        if path in self._next:
            self._load(self._next[path])

    def leave(self, path: str) -> None:
        """The group goes."""
        first = self._last.get(path)
        if first is None:
            return
        for block in self.loaded.pop(first, ()):
            self._allocator.release(block)
        if self._empties:
            self._allocator.empty_cache()

    def order_known(self, entered: Iterable[str]) -> None:
        """Modules in the order in which every forward enters them: from the second on groups are copied ahead."""
        if self._ahead and not self._next:
            self._next = dict(pairwise(path for path in entered if path in self._groups))

    def of_block(self, head: str, index: int) -> tuple[object, ...]:
        """What the groups of a module of the list ``head`` bring, and which follow them; the same for blocks that move
        alike."""
        if head not in self._by_block:
            self._by_block[head] = by_block(self._groups, head)
        return tuple(self._of_group(path, head, index) for path in self._by_block[head].get(index, ()))

    def _of_group(self, path: str, head: str, index: int) -> tuple[object, ...]:
        group, names = self._groups[path], (path, self._groups[path].last, self._next.get(path, ""))
        return group.streamed, tuple(group.sizes), *(shifted(name, head, -index) for name in names)

    def _load(self, path: str) -> None:
        if path not in self.loaded:
            group = self._groups[path]
            stream = self._stream if group.streamed else COMPUTING
            self.loaded[path] = [self._allocator.allocate(size, stream) for size in group.sizes]
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

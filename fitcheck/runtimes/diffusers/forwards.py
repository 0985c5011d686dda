"""One call of a component in torch's caching allocator, event by event, with the weights that come and go in it.

Of blocks that do the same one after the other those are passed over that find what an earlier one found: the same
layout of the allocator, the same tensors in use. What follows from that is the same again, to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from fitcheck.dataclass_later import dataclass
from fitcheck.memory import dequantization
from fitcheck.memory.caching_allocator import SMALL, CachedBlock, CachingAllocator, OutOfMemory
from fitcheck.runtimes.diffusers.block_runs import EventSpan, Listed, by_block, shifted
from fitcheck.runtimes.diffusers.moving_groups import MovingGroups
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, WORKSPACE, Event

# after how many blocks the same may be found again: what one hands to the next lies in two places in turn
_PERIODS = (1, 2)

_Place = tuple[int, int]  # address and size of a block


@dataclass(frozen=True, slots=True)
class _Found:
    """What a block of a list finds: places of tensors by their number, and of weights by the path of their group."""

    layout: tuple[object, ...]
    tensors: Mapping[int, _Place]
    weights: Mapping[str, Sequence[_Place]]


@dataclass(frozen=True, slots=True)
class _Onward:
    """What moves on from block to block of a list: tensors by number, each time by ``made``, and weights by path."""

    tensors: Sequence[int]
    weights: Sequence[str]


class Forward:
    """One forward; ``linears`` are dequantized on the way: type and elements by path."""

    def __init__(
        self, allocator: CachingAllocator, moving: MovingGroups, linears: Mapping[str, tuple[str, int]]
    ) -> None:
        self._allocator, self._moving, self._linears = allocator, moving, linears
        self._made, self._count = dict[int, CachedBlock](), 0  # tensors in use by number, and how many there were
        self._dense: dict[str, list[CachedBlock]] = {}

    def run(self, call: Listed) -> list[CachedBlock]:
        """The whole call; the blocks of what it hands back."""
        for stretch in call.stretches:
            if stretch.blocks:
                for alike in self._alike(stretch):
                    self._repeat(call, alike)
            else:
                self._do(call.events[stretch.start : stretch.until])
        return list(self._made.values())

    def _do(self, events: Iterable[Event]) -> None:
        made, count, allocator = self._made, self._count, self._allocator
        for kind, value, path, _ in events:
            if kind == ALLOCATE:
                if value > SMALL:  # smaller ones live in a pool of their own, of which they fill a few MiB
                    made[count] = allocator.allocate(value)
                count += 1
            elif kind == FREE:
                if value in made:
                    allocator.release(made.pop(value))
            elif kind == WORKSPACE:
                self._work(value)
            elif kind == ENTER:
                self._moving.enter(path)
                if path in self._linears:
                    self._dense[path] = self._dequantize(*self._linears[path])
            else:
                for block in self._dense.pop(path, ()):
                    allocator.release(block)
                self._moving.leave(path)
        self._count = count

    def _work(self, nbytes: int) -> None:
        """A convolution's workspace; where there is no room for it, torch takes an algorithm that needs none."""
        try:
            self._allocator.release(self._allocator.allocate(nbytes))
        except OutOfMemory:
            return

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

    def _alike(self, run: EventSpan) -> Iterator[EventSpan]:
        """The run in parts whose blocks bring the same weights of the same types."""
        linears = by_block(self._linears, run.head)

        def brought(index: int) -> tuple[object, ...]:
            types = ((shifted(path, run.head, -index), self._linears[path]) for path in linears.get(index, ()))
            return self._moving.of_block(run.head, index), *types

        for _, alike in groupby(range(run.first, run.first + run.blocks), brought):
            indices = list(alike)
            yield run.part(indices[0], len(indices))

    def _repeat(self, call: Listed, run: EventSpan) -> None:
        """Blocks that do the same, each until what it finds was found before."""
        made, earlier, done = call.allocations(run), list[_Found](), 0
        while done < run.blocks:
            found = self._found()
            for period in _PERIODS:
                periods = (run.blocks - done) // period
                if len(earlier) < period or not periods:
                    continue
                onward = _onward(earlier[-period], found, run.head, period, made * period)
                if onward is not None:
                    self._pass_over(onward, run.head, periods * period, made)
                    done, earlier = done + periods * period, []
                    break
            else:
                earlier.append(found)
                start = run.start + done * run.each
                self._do(call.events[start : start + run.each])
                done += 1

    def _found(self) -> _Found:
        tensors = {number: _place(block) for number, block in self._made.items()}
        weights = {path: [_place(block) for block in blocks] for path, blocks in self._moving.loaded.items()}
        return _Found(self._allocator.layout(), tensors, weights)

    def _pass_over(self, onward: _Onward, head: str, blocks: int, made: int) -> None:
        """So many blocks more leave all as it is, but for the numbers and paths of what moves on."""
        self._count += blocks * made
        tensors = [(number, self._made.pop(number)) for number in onward.tensors]
        self._made.update((number + blocks * made, block) for number, block in tensors)
        loaded = self._moving.loaded
        weights = [(path, loaded.pop(path)) for path in onward.weights]
        loaded.update((shifted(path, head, blocks), there) for path, there in weights)


def _place(block: CachedBlock) -> _Place:
    return block.address, block.size


def _onward(before: _Found, now: _Found, head: str, blocks: int, made: int) -> _Onward | None:
    """What has moved on from ``before`` to ``now``, so many blocks and tensors later; ``None`` where anything else is
    different."""
    if before.layout != now.layout:
        return None
    tensors = [number for number, place in before.tensors.items() if now.tensors.get(number) != place]
    weights = [path for path, places in before.weights.items() if now.weights.get(path) != places]
    numbers = [number + made for number in tensors]
    paths = [shifted(path, head, blocks) for path in weights]
    same = {number: place for number, place in before.tensors.items() if number not in set(tensors)}
    same |= {onward: before.tensors[number] for onward, number in zip(numbers, tensors, strict=True)}
    there = {path: places for path, places in before.weights.items() if path not in set(weights)}
    there |= {onward: before.weights[path] for onward, path in zip(paths, weights, strict=True)}
    return _Onward(numbers, paths) if same == now.tensors and there == now.weights else None

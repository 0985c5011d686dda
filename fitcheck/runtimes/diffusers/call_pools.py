"""Tensors of calls in torch's caching allocator: what it takes for them, and the least that it can do with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from fitcheck.memory import dequantization
from fitcheck.memory.caching_allocator import SMALL, CachedBlock, CachingAllocator, OutOfMemory
from fitcheck.runtimes.diffusers.traces import (
    ALLOCATE,
    ENTER,
    FREE,
    LEAVE,
    NOTHING,
    WORKSPACE,
    Event,
    Quantized,
    rounded,
)

# of a limit, by which the next that is tried is larger; chosen: a try is a whole replay, and that is fine enough beside
# the 6 % by which the smallest card of the records is off at worst (`fitcheck accuracy`, diffusers smallest card)
_STEP = 0.02


class CallPool:
    """Tensors of calls in torch's caching allocator; convolutions copy ``share`` of all that they may, where ``limit``
    leaves room for it: without room an algorithm without a workspace serves.

    What a loop runs over lies beside the allocator's segments unless it is to lie ``among`` the rest: it changes with
    the length, and whichever free piece it falls into, all that follows falls differently, so that a longer video would
    now and then take less than a shorter one. Without it the longer loop does what the shorter one does, and then more.
    """

    def __init__(self, share: float, limit: int | None = None, *, frugal: bool = False, among: bool = False) -> None:
        self._allocator, self.share, self._among = CachingAllocator(limit, frugal=frugal), share, among
        self._blocks: list[CachedBlock | None] = []
        self._tiles: list[CachedBlock] = []
        self._beside = self._most_beside = 0

    def hold(self, sizes: Iterable[int]) -> None:
        """Results of earlier calls lie there while the next call runs."""
        self._tiles = [self._allocator.allocate(size) for size in sizes]

    def take(self, event: Event) -> None:
        """The next event of the call. Raises OutOfMemory for a tensor that ``limit`` has no room for."""
        if event.kind == ALLOCATE:
            beside = event.grows and not self._among
            inside = event.value > SMALL and not beside
            self._blocks.append(self._allocator.allocate(event.value) if inside else None)
            self._beside += rounded(event.value) if beside else 0
        elif event.kind == WORKSPACE and self.share:
            self._copy(round(self.share * event.value), event.grows and not self._among)
        elif event.kind == FREE and (block := self._blocks[event.value]) is not None:
            self._allocator.release(block)
            self._blocks[event.value] = None

    def _copy(self, nbytes: int, grows: bool) -> None:
        if grows:
            self._beside += nbytes
            return
        with suppress(OutOfMemory):
            self._allocator.release(self._allocator.allocate(nbytes))

    def finish(self) -> None:
        """The call is over, and what it made is given back to the allocator."""
        for block in (*self._blocks, *self._tiles):
            if block is not None:
                self._allocator.release(block)
        self._tiles = []
        self._most_beside, self._beside = max(self._most_beside, self._beside), 0
        self._blocks.clear()

    @property
    def reserved(self) -> int:
        """Most bytes of segments so far."""
        return self._allocator.peak_reserved + self.beside

    @property
    def beside(self) -> int:
        """Most bytes that loops ran over so far."""
        return max(self._most_beside, self._beside)


class LoopPools:
    """Calls in two pools, with what a loop runs over beside the rest and among it: the larger counts. On an H100 Wan
    2.1's and 2.2 5B's decoders reserved what the second says where it falls into other pieces (832x480, 81 and 33
    frames: 12 and 6 % more than the first says)."""

    def __init__(self, share: float) -> None:
        self._pools = CallPool(share), CallPool(share, among=True)

    def hold(self, sizes: Sequence[int]) -> None:
        """Results of earlier calls lie there while the next call runs."""
        for pool in self._pools:
            pool.hold(sizes)

    def take(self, event: Event) -> None:
        """The next event of the call."""
        for pool in self._pools:
            pool.take(event)

    def finish(self) -> None:
        """The call is over."""
        for pool in self._pools:
            pool.finish()

    @property
    def reserved(self) -> int:
        """Most bytes of segments so far."""
        return max(pool.reserved for pool in self._pools)


def results(beside: float, nbytes: int) -> list[int]:
    """Bytes of the blocks that ``beside`` results of earlier calls are, each as large as one call's."""
    whole = int(beside)
    return [size for size in (*([nbytes] * whole), round((beside - whole) * nbytes)) if size]


def large(events: Iterable[Event], linears: Quantized = NOTHING) -> Iterator[Event]:
    """What of a call matters to a pool: no modules, and of tensors those of more than a megabyte, numbered anew, with
    the temporaries of ``linears``, which are dequantized as they are entered."""
    numbers: dict[int, int] = {}
    dense: dict[str, int] = {}
    made = count = 0
    for event in events:
        if event.kind == ALLOCATE:
            if event.value > SMALL or event.grows:
                numbers[made], count = count, count + 1
                yield event
            made += 1
        elif event.kind == WORKSPACE:
            yield event
        elif event.kind == FREE and (number := numbers.get(event.value)) is not None:
            yield Event(FREE, number)
        elif event.kind == ENTER and event.path in linears:
            yield from _dequantized(*linears[event.path], count)
            count += sum(step > 0 for step in dequantization.steps(linears[event.path][0]))
            dense[event.path] = count - 1  # made last, of all others
        elif event.kind == LEAVE and event.path in dense:
            yield Event(FREE, dense.pop(event.path))


def _dequantized(kind: str, elements: int, first: int) -> Iterator[Event]:
    """What dequantizing a weight makes and drops; its allocations are numbered from ``first`` on."""
    for step in dequantization.steps(kind):
        if step > 0:
            yield Event(ALLOCATE, round(step * elements))
        else:
            yield Event(FREE, first + round(-step) - 1)


def least_without(events: Sequence[Event]) -> int:
    """Bytes of segments that a call cannot do without, fragmented as they get when the allocator gives back what it can
    before it asks for more; convolutions copy nothing."""
    pool = CallPool(0.0, frugal=True)
    for event in events:
        pool.take(event)
    return pool.reserved


def least_limit(events: Sequence[Event], share: float, limit: int) -> int:
    """The least limit, to ``_STEP`` of it and from ``limit`` on, under which a call runs whose convolutions copy
    ``share`` of what they may where there is room: what they leave in pieces while there still is some is missing
    later."""
    beside = sum(event.value for event in events if event.grows)
    if any(event.kind == WORKSPACE for event in events):
        while not _runs(events, limit - beside, share):
            limit += round(_STEP * limit)
    return limit


def _runs(events: Sequence[Event], limit: int, share: float) -> bool:
    pool = CallPool(share, limit)
    try:
        for event in events:
            pool.take(event)
    except OutOfMemory:
        return False
    return True

"""torch's caching allocator on a CUDA device, replayed: what it takes from the driver for a sequence of tensors.

Follows c10/cuda/CUDACachingAllocator.cpp (torch 2.9 to 2.13, native backend, default settings): sizes are multiples of
512 bytes; up to 1 MiB a tensor comes from 2 MiB segments, below 10 MiB from 20 MiB segments, from there on from a
segment of its own in multiples of 2 MiB; the best fitting free block of the same stream serves first, of equal ones
that of the lowest address, and is split when enough is left; freed blocks merge with free neighbours; segments stay.
Sizes in bytes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

ALIGNMENT = 512  # kMinBlockSize
SMALL, LARGE = 1 << 20, 10 << 20  # kSmallSize, kMinLargeAlloc
_SMALL_SEGMENT, MIDDLE_SEGMENT, _MULTIPLE = 2 << 20, 20 << 20, 2 << 20  # kSmallBuffer, kLargeBuffer, kRoundLarge


class OutOfMemory(Exception):
    """The limit is reached although every segment that can go back to the driver has gone."""


class _Pool:
    """Free blocks of one stream as (size, address, block) in order; ``end`` is the last block of the newest segment."""

    __slots__ = ("end", "free", "split_from")

    def __init__(self, split_from: int) -> None:
        self.free: list[tuple[int, int, CachedBlock]] = []
        self.split_from, self.end = split_from, None  # type: int, CachedBlock | None


class CachedBlock:
    """A stretch of a segment, handed out or free, between its neighbours in that segment."""

    __slots__ = ("address", "free", "next", "pool", "previous", "size")

    def __init__(self, address: int, size: int, pool: _Pool) -> None:
        self.address, self.size, self.pool = address, size, pool
        self.previous: CachedBlock | None = None
        self.next: CachedBlock | None = None
        self.free = False


class CachingAllocator:
    """``reserved`` and ``allocated`` now, and their peaks.

    ``limit`` bounds what the driver gives. With ``expandable`` segments a pool has one segment that grows at its end.
    A ``frugal`` one gives back what it can each time before it asks for more; its peak is, to about 3 %, the least
    limit under which the same sequence runs (a test searches for that limit).
    """

    def __init__(self, limit: int | None = None, *, expandable: bool = False, frugal: bool = False) -> None:
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = 0
        self._limit, self._expandable, self._frugal = limit, expandable, frugal
        self._address = 0
        self._vacant: dict[int, list[int]] = {}  # addresses of segments that went back, by size
        self._pools: dict[tuple[int, bool], _Pool] = {}
        self._pending: deque[tuple[int, CachedBlock]] = deque()

    def allocate(self, nbytes: int, stream: int = 0) -> CachedBlock:
        """Raises OutOfMemory when ``limit`` does not allow it."""
        size = max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)
        key = (stream, size <= SMALL)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool(ALIGNMENT if key[1] or self._expandable else SMALL + 1)
        at = bisect_left(pool.free, (size,))
        if at < len(pool.free):
            block = pool.free.pop(at)[2]
            block.free = False
        else:
            block = self._grow(size, pool)
        rest = block.size - size
        if rest >= pool.split_from:
            tail = CachedBlock(block.address + size, rest, pool)
            tail.previous, tail.next = block, block.next
            if block.next is not None:
                block.next.previous = tail
            if pool.end is block:
                pool.end = tail
            block.next, block.size = tail, size
            tail.free = True
            insort(pool.free, (rest, tail.address, tail))
        self.allocated += block.size
        if self.allocated > self.peak_allocated:
            self.peak_allocated = self.allocated
        return block

    def release(self, block: CachedBlock) -> None:
        """The block is free for its stream at once."""
        self.allocated -= block.size
        self._merge(block)

    def release_after(self, block: CachedBlock, moment: int) -> None:
        """A block that another stream used: counted as freed, usable again from ``reach(moment)`` on."""
        self.allocated -= block.size
        self._pending.append((moment, block))

    def reach(self, moment: int) -> None:
        """The card has done all that was queued up to ``moment``."""
        while self._pending and self._pending[0][0] <= moment:
            self._merge(self._pending.popleft()[1])

    def settle(self) -> None:
        """The host waits for the card."""
        while self._pending:
            self._merge(self._pending.popleft()[1])

    def empty_cache(self) -> None:
        """The host waits, and every segment without a block in use goes back to the driver."""
        self.settle()
        self._give_back()

    def free_blocks(self, stream: int) -> tuple[tuple[int, int], ...]:
        """(size, address) of every free block of the stream's pool for tensors of more than 1 MiB."""
        pool = self._pools.get((stream, False))
        return () if pool is None else tuple([entry[:2] for entry in pool.free])

    def layout(self) -> tuple[object, ...]:
        """What decides where the next tensors go, but for blocks in use: two moments with the same layout and the same
        blocks in use, nothing pending, go on alike."""
        free = {key: [entry[:2] for entry in pool.free] for key, pool in self._pools.items()}
        vacant = {size: list(addresses) for size, addresses in self._vacant.items() if addresses}
        return self.reserved, self._address, free, vacant

    def _grow(self, size: int, pool: _Pool) -> CachedBlock:
        """A free block of at least ``size`` from the driver, joined with free room at the end where segments expand."""
        if self._frugal:
            self.settle()
            self._give_back()
        end = pool.end if self._expandable else None
        room = end.size if end is not None and end.free else 0
        if size <= SMALL:
            nbytes = -(-(size - room) // _SMALL_SEGMENT) * _SMALL_SEGMENT
        elif size < LARGE or self._expandable:
            nbytes = -(-(size - room) // MIDDLE_SEGMENT) * MIDDLE_SEGMENT
        else:
            nbytes = -(-size // _MULTIPLE) * _MULTIPLE
        if self._limit is not None and self.reserved + nbytes > self._limit:
            self.settle()
            self._give_back()
            if self.reserved + nbytes > self._limit:
                raise OutOfMemory
        self.reserved += nbytes
        if self.reserved > self.peak_reserved:
            self.peak_reserved = self.reserved
        if room and end is not None:
            del pool.free[bisect_left(pool.free, (end.size, end.address))]
            end.size += nbytes
            end.free = False
            return end
        vacant = self._vacant.get(nbytes)
        if vacant:
            pool.end = block = CachedBlock(vacant.pop(), nbytes, pool)
            return block
        # the driver hands out addresses downwards, so that of equal free blocks the newest segment's serves first;
        # those of an expandable segment leave room for it to grow
        if end is None:
            self._address -= 1 << 44 if self._expandable else nbytes
        block = CachedBlock(self._address, nbytes, pool)
        if end is not None:
            block.address, block.previous, end.next = end.address + end.size, end, block
        pool.end = block
        return block

    def _merge(self, block: CachedBlock) -> None:
        pool, before, after = block.pool, block.previous, block.next
        if before is not None and before.free:
            del pool.free[bisect_left(pool.free, (before.size, before.address))]
            before.size += block.size
            before.next = after
            if after is not None:
                after.previous = before
            if pool.end is block:
                pool.end = before
            block = before
        if after is not None and after.free:
            del pool.free[bisect_left(pool.free, (after.size, after.address))]
            block.size += after.size
            block.next = after.next
            if after.next is not None:
                after.next.previous = block
            if pool.end is after:
                pool.end = block
        block.free = True
        insort(pool.free, (block.size, block.address, block))

    def _give_back(self) -> None:
        """Segments without a block in use go back to the driver."""
        for pool in self._pools.values():
            kept = []
            for entry in pool.free:
                size, address, block = entry
                if block.previous is not None or block.next is not None:
                    kept.append(entry)
                    continue
                self.reserved -= size
                if not self._expandable:
                    self._vacant.setdefault(size, []).append(address)
            pool.free = kept
            if pool.end is not None and pool.end.free and pool.end.previous is None:
                pool.end = None

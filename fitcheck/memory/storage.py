"""Storages that live as long as Python refers to them, on a replayed caching allocator. Sizes in bytes."""

from __future__ import annotations

from fitcheck.memory.caching_allocator import SMALL, CachedBlock, CachingAllocator


class Storage:
    """The memory of one tensor: goes back to the allocator with the last reference."""

    __slots__ = ("_block", "_device", "_shared", "_stream")

    def __init__(self, device: ReplayedCard, block: CachedBlock, stream: int) -> None:
        self._device, self._block, self._stream = device, block, stream
        self._shared = False

    def use_elsewhere(self) -> None:
        """The computation reads it; if another stream made it, its block returns only when that work is done."""
        self._shared = self._stream != 0

    def __del__(self) -> None:
        if self._shared:
            self._device.allocator.release_after(self._block, self._device.moment)
        else:
            self._device.allocator.release(self._block)


class ReplayedCard:
    """Where storages are made. ``moment`` counts the layers whose work has been queued, ``late`` how many of them the
    card is behind."""

    def __init__(self, allocator: CachingAllocator, late: int = 0) -> None:
        self.allocator, self.late, self.moment = allocator, late, 0

    def new(self, nbytes: int) -> Storage | None:
        """A temporary of the computation. Up to 1 MiB none is made: the pool for such is separate, and temporaries fill
        a few MiB of it."""
        return Storage(self, self.allocator.allocate(nbytes), 0) if nbytes > SMALL else None

    def keep(self, nbytes: int, stream: int = 0) -> Storage:
        """What stays for longer, at any size; ``stream`` 1 is the one that copies weights."""
        return Storage(self, self.allocator.allocate(nbytes, stream), stream)

    def queued(self) -> None:
        """A layer's work is in the queue."""
        self.moment += 1
        self.allocator.reach(self.moment - self.late - 1)

    def synchronize(self) -> None:
        """The host waits for the card, and every block whose release was pending is free."""
        self.allocator.settle()

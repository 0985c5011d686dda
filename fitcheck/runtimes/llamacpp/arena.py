"""The address space of one compute buffer, as ggml's dynamic allocator parts it (ggml/src/ggml-alloc.c,
ggml_dyn_tallocr_*)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

_ENDLESS = 1 << 62


# where the free blocks begin, and where each of them ends
Free = tuple[Sequence[int], Sequence[int]]
WHOLLY_FREE: Free = ((0,), (_ENDLESS,))


class Arena:
    """The address space of one buffer; ``high`` is the size it must have in the end. ``starts`` and ``ends`` are those
    of its free blocks, the last of which is the endless rest."""

    __slots__ = ("alignment", "ends", "high", "starts")

    def __init__(self, alignment: int, free: Free = WHOLLY_FREE) -> None:
        self.alignment = alignment
        self.starts, self.ends = list(free[0]), list(free[1])
        self.high = 0

    @property
    def free(self) -> Free:
        """The free blocks as they are now."""
        return tuple(self.starts), tuple(self.ends)

    def padded(self, size: int) -> int:
        """``size`` bytes rounded up to the buffer's alignment."""
        return -(-size // self.alignment) * self.alignment

    def take(self, size: int) -> int:
        """The offset in bytes of a block of ``size``: the smallest free one that holds it, else the end grows."""
        size = -(-size // self.alignment) * self.alignment
        starts, ends = self.starts, self.ends
        at, least = 0, _ENDLESS
        if len(starts) > 1:
            for index, start in enumerate(starts):
                room = ends[index] - start
                if size <= room <= least:
                    at, least = index, room
        offset = starts[at]
        end = offset + size
        if end == ends[at]:
            del starts[at], ends[at]
        else:
            starts[at] = end
        if end > self.high:
            self.high = end
        return offset

    def give(self, offset: int, size: int) -> None:
        """Frees ``size`` bytes at ``offset``, merged with the free blocks that touch them."""
        size = -(-size // self.alignment) * self.alignment
        if not size:
            return
        starts, ends, end = self.starts, self.ends, offset + size
        after = bisect_left(starts, end)
        if after and ends[after - 1] == offset:
            if starts[after : after + 1] == [end]:
                ends[after - 1] = ends.pop(after)
                del starts[after]
            else:
                ends[after - 1] = end
        elif starts[after : after + 1] == [end]:
            starts[after] = offset
        else:
            starts.insert(after, offset)
            ends.insert(after, end)

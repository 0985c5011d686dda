"""The address space of one compute buffer, as ggml's dynamic allocator parts it (ggml/src/ggml-alloc.c,
ggml_dyn_tallocr_*)."""

from __future__ import annotations

_ENDLESS = 1 << 62


class Arena:
    """The address space of one buffer; ``high`` is the size it must have in the end."""

    def __init__(self, alignment: int) -> None:
        self.alignment = alignment
        self.blocks: list[list[int]] = [[0, _ENDLESS]]
        self.high = 0

    def padded(self, size: int) -> int:
        """``size`` bytes rounded up to the buffer's alignment."""
        return -(-size // self.alignment) * self.alignment

    def take(self, size: int) -> int:
        """The offset in bytes of a block of ``size``: the smallest free one that holds it, else the end grows."""
        size = -(-size // self.alignment) * self.alignment
        blocks = self.blocks
        block = blocks[-1]
        if len(blocks) > 1:
            best_size = _ENDLESS
            for free in blocks[:-1]:
                if size <= free[1] <= best_size:
                    block, best_size = free, free[1]
        offset = block[0]
        block[0] = end = offset + size
        block[1] -= size
        if not block[1]:
            blocks.remove(block)
        if end > self.high:
            self.high = end
        return offset

    def give(self, offset: int, size: int) -> None:
        """Frees ``size`` bytes at ``offset``, merged with the free blocks that touch them."""
        size = -(-size // self.alignment) * self.alignment
        if not size:
            return
        blocks, end = self.blocks, offset + size
        for index, block in enumerate(blocks):
            start, free = block
            if start + free == offset:
                block[1] += size
                if index + 1 < len(blocks) and end == blocks[index + 1][0]:
                    block[1] += blocks.pop(index + 1)[1]
                return
            if end == start:  # what ends here was looked at before
                block[0] = offset
                block[1] += size
                return
            if start > offset:
                blocks.insert(index, [offset, size])
                return
        blocks.append([offset, size])

"""ggml's graph allocator, replayed: how large each device's compute buffer becomes.

Follows ggml/src/ggml-alloc.c (ggml_gallocr_alloc_graph_impl, ggml_dyn_tallocr_*): best fit among the free blocks, the
last block grows, a tensor takes over its source's memory where the operation works in place, and memory is given back
once the last reader has run.
"""

from __future__ import annotations

from collections.abc import Sequence

from fitcheck.runtimes.llamacpp.graph import IN_PLACE, Node

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
        size = self.padded(size)
        best, best_size = len(self.blocks) - 1, _ENDLESS
        for index in range(len(self.blocks) - 1):
            available = self.blocks[index][1]
            if size <= available <= best_size:
                best, best_size = index, available
        block = self.blocks[best]
        offset = block[0]
        block[0] += size
        block[1] -= size
        if block[1] == 0:
            del self.blocks[best]
        self.high = max(self.high, offset + size)
        return offset

    def give(self, offset: int, size: int) -> None:
        """Frees ``size`` bytes at ``offset``, merged with the free blocks that touch them."""
        size = self.padded(size)
        if not size:
            return
        for index, block in enumerate(self.blocks):
            if block[0] + block[1] == offset:
                block[1] += size
                if index + 1 < len(self.blocks) and block[0] + block[1] == self.blocks[index + 1][0]:
                    block[1] += self.blocks[index + 1][1]
                    del self.blocks[index + 1]
                return
            if offset + size == block[0]:
                block[0] = offset
                block[1] += size
                if index and self.blocks[index - 1][0] + self.blocks[index - 1][1] == offset:
                    self.blocks[index - 1][1] += block[1]
                    del self.blocks[index]
                return
        position = next((i for i, block in enumerate(self.blocks) if block[0] > offset), len(self.blocks))
        self.blocks.insert(position, [offset, size])


def allocate(nodes: Sequence[Node], leaves: Sequence[Node], alignments: Sequence[int]) -> list[int]:
    """Bytes of the compute buffer of each device for nodes in running order. Every node must have its device."""
    return _Allocation(alignments).run(nodes, leaves)


class _Allocation:
    def __init__(self, alignments: Sequence[int]) -> None:
        self.arenas = [Arena(alignment) for alignment in alignments]
        self.children: dict[int, int] = {}
        self.views: dict[int, int] = {}
        self.place: dict[int, tuple[int, int]] = {}
        self.live: dict[int, bool] = {}

    def run(self, nodes: Sequence[Node], leaves: Sequence[Node]) -> list[int]:
        for leaf in leaves:
            self._allocate(leaf)
        for node in nodes:
            if node.view_of is not None and node.op != "none":
                self.views[id(node.view_of)] = self.views.get(id(node.view_of), 0) + 1
            if node.is_input:
                self._allocate(node)
            for source in node.sources:
                self.children[id(source)] = self.children.get(id(source), 0) + 1
                if source.is_input:
                    self._allocate(source)
        for node in nodes:
            for source in node.sources:
                self._allocate(source)
            self._allocate(node)
            for source in node.sources:
                self._release(source)
        return [arena.high for arena in self.arenas]

    def _allocate(self, node: Node) -> None:
        key = id(node)
        if node.external or node.is_view or key in self.place:
            return
        self.live[key] = True
        if node.op in IN_PLACE and self._reuse(node):
            return
        device = node.device if node.device is not None else len(self.arenas) - 1
        self.place[key] = (device, self.arenas[device].take(node.nbytes))

    def _reuse(self, node: Node) -> bool:
        """Take over a source's memory. A view is never taken over: to the allocator it is not its own tensor."""
        for parent in node.sources:
            if parent.is_view or parent.external or not self.live.get(id(parent)):
                continue
            if parent.is_output or parent.layout != node.layout or self.children.get(id(parent), 0) != 1:
                continue
            if self.views.get(id(parent), 0):
                continue
            device, offset = self.place[id(parent)]
            self.place[id(node)] = (device, offset)
            self.live[id(parent)] = False
            arena = self.arenas[device]
            held, needed = arena.padded(parent.nbytes), arena.padded(node.nbytes)
            if held > needed:
                arena.give(offset + needed, held - needed)
            return True
        return False

    def _release(self, parent: Node) -> None:
        key = id(parent)
        self.children[key] -= 1
        if self.children[key] or self.views.get(key, 0):
            return
        root = parent
        if parent.view_of is not None:
            root = parent.view_of
            self.views[id(root)] -= 1
            if self.views[id(root)] or self.children.get(id(root), 0):
                return
        if self.live.get(id(root)) and not root.is_output and not root.external:
            device, offset = self.place[id(root)]
            self.arenas[device].give(offset, root.nbytes)
            self.live[id(root)] = False

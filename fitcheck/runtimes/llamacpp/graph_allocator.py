"""ggml's graph allocator, replayed: how large each device's compute buffer becomes.

What the allocator does in which order depends on the graph alone and not on how many bytes a weight has that is copied
to another device. So it is written down once as a tape, and played for every tier with that tier's sizes.

Follows ggml/src/ggml-alloc.c (ggml_gallocr_alloc_graph_impl, ggml_dyn_tallocr_*): best fit among the free blocks, the
last block grows, a tensor takes over its source's memory where the operation works in place, and memory is given back
once the last reader has run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fitcheck.dataclass_later import dataclass
from fitcheck.runtimes.llamacpp.arena import Arena
from fitcheck.runtimes.llamacpp.graph import IN_PLACE, Node


def allocate(nodes: Sequence[Node], leaves: Sequence[Node], alignments: Sequence[int]) -> list[int]:
    """Bytes of the compute buffer of each device for nodes in running order. Every node must have its device."""
    sizes = {(node.name, node.times): node.nbytes for node in nodes if node.name}
    tape = record(nodes, leaves, len(alignments))
    return tape.play([sizes[one] for one in tape.opened], alignments)


@dataclass(frozen=True, slots=True)
class Tape:
    """All takes and gives of a graph, in order: (device, slot, kept, bytes). A take fills its slot and has ``None`` for
    ``kept``; a give frees the slot's bytes but for the first ``kept``. Negative bytes ``~i`` are those of the ``i``-th
    of ``opened``: a weight by name, and how many copies of it. ``starts`` are the steps with which parts begin."""

    steps: tuple[tuple[int, int, int | None, int], ...]
    slots: int
    opened: tuple[tuple[str, int], ...]
    starts: tuple[int, ...] = ()

    def play(self, sizes: Sequence[int], alignments: Sequence[int]) -> list[int]:
        """Bytes of each device's buffer; ``sizes`` are bytes of what is ``opened``, copies included."""
        arenas, places = [Arena(alignment) for alignment in alignments], [0] * self.slots
        for device, slot, kept, size in self.steps:
            arena = arenas[device]
            amount = size if size >= 0 else sizes[~size]
            if kept is None:
                places[slot] = arena.take(amount)
            elif kept:
                before = arena.padded(kept)
                arena.give(places[slot] + before, arena.padded(amount) - before)
            else:
                arena.give(places[slot], amount)
        return [arena.high for arena in arenas]


def record(nodes: Sequence[Node], leaves: Sequence[Node], devices: int, parts: Sequence[Node] = ()) -> Tape:
    """The tape of nodes in running order; the last of ``devices`` is the host. ``parts`` are nodes with which a part
    begins, in order; one that stands there twice begins an empty one."""
    return _Recorder(devices).run(nodes, leaves, Counter(map(id, parts)))


class _Recorder:
    def __init__(self, devices: int) -> None:
        self.host = devices - 1
        self.steps: list[tuple[int, int, int | None, int]] = []
        self.opened: dict[tuple[str, int], int] = {}
        self.slots = 0

    def run(self, nodes: Sequence[Node], leaves: Sequence[Node], parts: Mapping[int, int]) -> Tape:
        starts: list[int] = []
        for leaf in leaves:
            self._allocate(leaf)
        for node in nodes:
            if node.view_of is not None and node.op != "none":
                node.view_of.views += 1
            if node.is_input and node.slot is None:
                self._allocate(node)
            for source in node.sources:
                source.readers += 1
                if source.is_input and source.slot is None:
                    self._allocate(source)
        for node in nodes:
            starts += [len(self.steps)] * parts.get(id(node), 0)
            for source in node.sources:
                if source.slot is None and not source.external and source.view_of is None:
                    self._allocate(source)
            if node.slot is None and node.view_of is None:
                self._allocate(node)
            for source in node.sources:
                source.readers -= 1
                if not source.readers and not source.views:
                    self._release(source)
        return Tape(tuple(self.steps), self.slots, tuple(self.opened), tuple(starts))

    def _size(self, node: Node) -> int:
        """Bytes, or what stands for them where they are another tier's too."""
        if not node.name:
            return node.nbytes
        return ~self.opened.setdefault((node.name, node.times), len(self.opened))

    def _allocate(self, node: Node) -> None:
        if node.external or node.view_of is not None or node.slot is not None:
            return
        node.live = True
        if node.op in IN_PLACE and self._reuse(node):
            return
        node.home = node.device if node.device is not None else self.host
        node.slot = self.slots
        self.steps.append((node.home, self.slots, None, self._size(node)))
        self.slots += 1

    def _reuse(self, node: Node) -> bool:
        """Take over a source's memory. A view is never taken over: to the allocator it is not its own tensor."""
        for parent in node.sources:
            if not parent.live or parent.view_of is not None or parent.external or parent.is_output:
                continue
            if parent.readers != 1 or parent.views or parent.layout != node.layout:
                continue
            assert parent.slot is not None
            node.home, node.slot = parent.home, parent.slot
            parent.live = False
            # a weight's copy has no layout and is taken over by nothing, so both sizes are known
            if parent.nbytes > node.nbytes:
                self.steps.append((node.home, node.slot, node.nbytes, parent.nbytes))
            return True
        return False

    def _release(self, parent: Node) -> None:
        """Called when nothing is left to read ``parent``, and no view of it."""
        root = parent
        if parent.view_of is not None:
            root = parent.view_of
            root.views -= 1
            if root.views or root.readers:
                return
        if root.live and not root.is_output and not root.external:
            assert root.slot is not None
            self.steps.append((root.home, root.slot, 0, self._size(root)))
            root.live = False

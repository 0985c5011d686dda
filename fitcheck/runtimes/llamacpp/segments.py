"""A tape of the allocator in segments, a layer each, and what each of them makes of the memory it finds.

A segment names what it gives back by its place among all that is in use, in the order in which it was taken: so layers
that do the same are the same segment, wherever they stand. What a segment makes of the free blocks that it finds is
worked out once for each size of the weights that it copies.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from fitcheck.runtimes.llamacpp.arena import Arena
from fitcheck.runtimes.llamacpp.layer_facts import number

if TYPE_CHECKING:
    from fitcheck.runtimes.llamacpp.graph_allocator import Tape

# (device, which of all in use, bytes kept of it, bytes); ``kept`` is ``None`` where memory is taken
Step = tuple[int, int, int | None, int]
# which layer a weight is of, seen from the segment's own, its name within it and how many copies there are
Opened = tuple[int, str, int]
OUTSIDE = 1 << 20  # in place of a layer, for weights of none


@dataclass(frozen=True, slots=True)
class Segment:
    """Takes and gives; negative bytes ``~i`` are those of the ``i``-th of ``opened``."""

    steps: tuple[Step, ...]
    opened: tuple[Opened, ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose weights are copied, seen from its own."""
        return tuple(sorted({at for at, _, _ in self.opened}))


# a segment with its number and the layers whose weights it copies
Numbered = tuple[int, Segment, tuple[int, ...]]


def numbered(segment: Segment) -> Numbered:
    """The segment with a number that is quick to compare."""
    return number(segment), segment, segment.layers


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What a segment finds and leaves: free blocks (offset, bytes) of each device by its alignment, and where all that
    is in use begins."""

    alignments: tuple[int, ...]
    free: tuple[tuple[tuple[int, int], ...], ...]
    places: tuple[int, ...] = ()


@lru_cache(maxsize=64)
def unused(alignments: tuple[int, ...]) -> Occupancy:
    """Nothing is in use yet."""
    return Occupancy(alignments, tuple(_free(Arena(one)) for one in alignments))


def _free(arena: Arena) -> tuple[tuple[int, int], ...]:
    return tuple((start, size) for start, size in arena.blocks)


def after(segment: Segment, memory: Occupancy, sizes: Sequence[int]) -> tuple[Occupancy, tuple[int, ...]]:
    """(what ``segment`` leaves of ``memory``, how far it reached on each device), with ``sizes`` for what is opened."""
    arenas, places = [], list(memory.places)
    for alignment, free in zip(memory.alignments, memory.free, strict=True):
        arena = Arena(alignment)
        arena.blocks = [[start, size] for start, size in free]
        arenas.append(arena)
    takes, gives = [arena.take for arena in arenas], [arena.give for arena in arenas]
    for device, at, kept, size in segment.steps:
        amount = size if size >= 0 else sizes[~size]
        if kept is None:
            places.append(takes[device](amount))
        elif kept:
            before = arenas[device].padded(kept)
            gives[device](places[at] + before, arenas[device].padded(amount) - before)
        else:
            gives[device](places.pop(at), amount)
    left = Occupancy(memory.alignments, tuple(map(_free, arenas)), tuple(places))
    return left, tuple(arena.high for arena in arenas)


def segments(tape: Tape, opened: Sequence[Opened]) -> list[Segment]:
    """The parts of ``tape`` between its starts. ``opened`` has for what the tape opened the index of its layer among
    those of the graph, where there is one, its name and its copies."""
    found, live = [], []
    for index, (start, stop) in enumerate(zip((0, *tape.starts), (*tape.starts, len(tape.steps)), strict=True)):
        steps: list[Step] = []
        mine: dict[Opened, int] = {}
        for device, slot, kept, size in tape.steps[start:stop]:
            if size < 0:
                layer, name, times = opened[~size]
                seen = layer if layer == OUTSIDE else layer - (index - 1)
                size = ~mine.setdefault((seen, name, times), len(mine))
            if kept is None:
                live.append(slot)
                steps.append((device, 0, None, size))
                continue
            at = live.index(slot)
            steps.append((device, at, kept, size))
            if not kept:
                del live[at]
        found.append(Segment(tuple(steps), tuple(mine)))
    return found


@dataclass(eq=False, slots=True)
class AllocatorState:
    """What is in use, and where what was worked out leads from it: the next state and how far each device's memory was
    reached, by the segment's number and what tells the sizes apart that it copies."""

    memory: Occupancy
    moves: dict[Hashable, tuple[AllocatorState, tuple[int, ...]]] = field(default_factory=dict)


_states: dict[Occupancy, AllocatorState] = {}
_MOST_STATES = 1 << 16


def state_of(memory: Occupancy) -> AllocatorState:
    """The one state of equal memories."""
    found = _states.get(memory)
    if found is None:
        if len(_states) >= _MOST_STATES:
            _states.clear()
        found = _states[memory] = AllocatorState(memory)
    return found

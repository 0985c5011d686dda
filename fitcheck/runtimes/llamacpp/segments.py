"""A tape of the allocator in segments, a layer each, and what each of them makes of the memory it finds.

A segment names what it gives back by its place among all that is in use, in the order in which it was taken: so layers
that do the same are the same segment, wherever they stand. What a segment makes of the free blocks that it finds is
worked out once for each size of the weights that it copies.

A blank has its memory before the first layer, once for each layer that has one. It stands apart: it is taken under the
number of its layer among those of the graph, and given back by its place among the blanks that are left.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from fitcheck.dataclass_later import dataclass
from fitcheck.runtimes.llamacpp.arena import WHOLLY_FREE, Arena, Free
from fitcheck.runtimes.llamacpp.layer_facts import number
from fitcheck.runtimes.llamacpp.repeats import Repeats

if TYPE_CHECKING:
    from fitcheck.runtimes.llamacpp.graph_allocator import Tape

# (device, which of all in use, bytes kept of it, bytes); ``kept`` is ``None`` where memory is taken. What is negative
# of ``which`` is a blank: ``~i`` is that of layer ``i`` where it is taken, the ``i``-th that is left where it is given
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

    @property
    def in_order(self) -> bool:
        """Whether blanks are given back in the order in which they were taken."""
        return all(at >= -1 for _, at, kept, _ in self.steps if kept is not None)

    def with_every_blank(self, repeats: Repeats) -> Segment:
        """The same with the blanks of all layers, where it has those of the ones that are kept."""
        blanks = {~step[1]: step for step in self.steps if step[1] < 0}
        if not blanks or len(repeats.kept) == len(repeats.stand_ins):
            return self
        ends = (*repeats.kept[1:], len(repeats.stand_ins))
        steps: list[Step] = []
        for step in self.steps:
            steps.append(step)
            if step[1] < 0:
                between = repeats.stand_ins[repeats.kept[~step[1]] + 1 : ends[~step[1]]]
                steps += [blanks[one] for one in between if one in blanks]
        return replace(self, steps=tuple(steps))


# a segment with its number and the layers whose weights it copies
Numbered = tuple[int, Segment, tuple[int, ...]]


def numbered(segment: Segment) -> Numbered:
    """The segment with a number that is quick to compare."""
    return number(segment), segment, segment.layers


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What a segment finds and leaves: free blocks of each device by its alignment, and where all that is in use
    begins, blanks apart."""

    alignments: tuple[int, ...]
    free: tuple[Free, ...]
    places: tuple[int, ...] = ()
    blanks: tuple[int, ...] = ()


@lru_cache(maxsize=64)
def unused(alignments: tuple[int, ...]) -> Occupancy:
    """Nothing is in use yet."""
    return Occupancy(alignments, (WHOLLY_FREE,) * len(alignments))


def after(segment: Segment, memory: Occupancy, sizes: Sequence[int]) -> tuple[Occupancy, tuple[int, ...]]:
    """(what ``segment`` leaves of ``memory``, how far it reached on each device), with ``sizes`` for what is opened."""
    used, blanks = list(memory.places), list(memory.blanks)
    arenas = [Arena(alignment, free) for alignment, free in zip(memory.alignments, memory.free, strict=True)]
    takes, gives = [arena.take for arena in arenas], [arena.give for arena in arenas]
    for device, at, kept, size in segment.steps:
        amount = size if size >= 0 else sizes[~size]
        places = used
        if at < 0:
            places, at = blanks, ~at
        if kept is None:
            places.append(takes[device](amount))
        elif kept:
            before = arenas[device].padded(kept)
            gives[device](places[at] + before, arenas[device].padded(amount) - before)
        else:
            gives[device](places.pop(at), amount)
    left = Occupancy(memory.alignments, tuple(arena.free for arena in arenas), tuple(used), tuple(blanks))
    return left, tuple(arena.high for arena in arenas)


def segments(tape: Tape, opened: Sequence[Opened], blanks: Mapping[int, int]) -> list[Segment]:
    """The parts of ``tape`` between its starts. ``opened`` has for what the tape opened the index of its layer among
    those of the graph, where there is one, its name and its copies; ``blanks`` has that index by a blank's slot."""
    found: list[Segment] = []
    live: list[int] = []
    left: list[int] = []  # blanks
    for index, (start, stop) in enumerate(zip((0, *tape.starts), (*tape.starts, len(tape.steps)), strict=True)):
        steps: list[Step] = []
        mine: dict[Opened, int] = {}
        for device, slot, kept, size in tape.steps[start:stop]:
            if size < 0:
                layer, name, times = opened[~size]
                seen = layer if layer == OUTSIDE else layer - (index - 1)
                size = ~mine.setdefault((seen, name, times), len(mine))
            blank = slot in blanks
            among = left if blank else live
            if kept is None:
                among.append(slot)
                steps.append((device, ~blanks[slot] if blank else 0, None, size))
                continue
            at = among.index(slot)
            steps.append((device, ~at if blank else at, kept, size))
            if not kept:
                del among[at]
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

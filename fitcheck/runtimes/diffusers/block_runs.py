"""The events of a call in order, cut where a list of modules begins to repeat itself: a block that does what the one
before it did need not be replayed once it finds what that one found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, LEAVE, Call, Event, list_of

Sizes = tuple[tuple[str, int], ...]
# of a run so many blocks are replayed anyway, two to find out that nothing changes: shorter ones are left whole
_LEAST = 4


@dataclass(frozen=True, slots=True)
class EventSpan:
    """Events ``start`` to ``until`` of a call. ``blocks`` says how many modules of the list ``head``, from number
    ``first`` on, do the same there one after the other, 0 where it is no such run."""

    start: int
    until: int
    head: str = ""
    first: int = 0
    blocks: int = 0

    @property
    def each(self) -> int:
        """Events of one block."""
        return (self.until - self.start) // self.blocks

    def part(self, first: int, blocks: int) -> EventSpan:
        """Some blocks of a run, from number ``first`` on."""
        start = self.start + (first - self.first) * self.each
        return EventSpan(start, start + blocks * self.each, self.head, first, blocks)


@dataclass(frozen=True)
class Listed:
    """All events of a call at some sizes and the stretches that they fall into, in order."""

    events: Sequence[Event]
    stretches: Sequence[EventSpan]

    @property
    def entered(self) -> Iterator[str]:
        """Paths of modules in the order in which they are entered."""
        return (event.path for event in self.events if event.kind == ENTER)

    def allocations(self, run: EventSpan) -> int:
        """Of one block of a run."""
        return sum(event.kind == ALLOCATE for event in self.events[run.start : run.start + run.each])


# a component is replayed in many tiers and modes at the same sizes
@lru_cache(maxsize=24)
def listed(call: Call, sizes: Sizes) -> Listed:
    """The events of ``call`` at ``sizes``. Raises KeyError for a variable without a value."""
    events = list(call.events(dict(sizes)))
    return Listed(events, tuple(_stretches(events)))


def shifted(path: str, head: str, by: int) -> str:
    """The path in the module of the list ``head`` that comes ``by`` later; any other path as it is."""
    if not path.startswith(f"{head}."):
        return path
    index, dot, rest = path[len(head) + 1 :].partition(".")
    return f"{head}.{int(index) + by}{dot}{rest}" if index.isdecimal() else path


def _stretches(events: Sequence[Event]) -> Iterator[EventSpan]:
    at = 0
    for run in _runs(events):
        if run.start > at:
            yield EventSpan(at, run.start)
        yield run
        at = run.until
    if at < len(events):
        yield EventSpan(at, len(events))


def _runs(events: Sequence[Event]) -> Iterator[EventSpan]:
    """Blocks that do the same one after the other, as many as there are each time."""
    begun: list[_Block] = []
    for block in _blocks(events):
        if begun and not block.follows(begun[-1]):
            yield from _run(begun)
            begun = []
        begun.append(block)
    yield from _run(begun)


def _run(blocks: Sequence[_Block]) -> Iterator[EventSpan]:
    if len(blocks) >= _LEAST:
        first, last = blocks[0], blocks[-1]
        yield EventSpan(first.start, last.until, first.head, first.index, len(blocks))


@dataclass(frozen=True, slots=True)
class _Block:
    """One module of a list, from where it is entered to where the next one is; ``done`` are its events with the numbers
    of allocations counted from its first and paths from its own."""

    head: str
    index: int
    start: int
    until: int
    done: tuple[tuple[int, int, str], ...]

    def follows(self, other: _Block) -> bool:
        """Whether this one comes behind ``other`` in the list and does the same."""
        there = self.head == other.head and self.index == other.index + 1 and self.start == other.until
        return there and self.done == other.done


def _blocks(events: Sequence[Event]) -> Iterator[_Block]:
    """Each block whose end is known: behind the last of a list anything may come."""
    begun: tuple[str, int, int] | None = None
    made = before = 0
    for at, event in enumerate(events):
        if event.kind == ENTER and (head := list_of(event.path)):
            if begun is not None:
                done = tuple(_done(events[begun[2] : at], before, begun[0], begun[1]))
                yield _Block(begun[0], begun[1], begun[2], at, done)
            begun, before = (head, int(event.path.rpartition(".")[2]), at), made
        made += event.kind == ALLOCATE


def _done(events: Iterable[Event], made: int, head: str, index: int) -> Iterator[tuple[int, int, str]]:
    own = f"{head}.{index}"
    for kind, value, path, _ in events:
        if kind == FREE:
            yield kind, value - made, ""
        elif kind in (ENTER, LEAVE):
            inside = path == own or path.startswith(f"{own}.")
            yield kind, 0, f"*{path[len(own) :]}" if inside else path
        else:
            yield kind, value, ""


def by_block(paths: Iterable[str], head: str) -> Mapping[int, list[str]]:
    """The paths in each module of the list ``head``."""
    found: dict[int, list[str]] = {}
    for path in paths:
        if path.startswith(f"{head}."):
            index = path[len(head) + 1 :].partition(".")[0]
            if index.isdecimal():
                found.setdefault(int(index), []).append(path)
    return found

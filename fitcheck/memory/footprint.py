"""What a workload needs, laid out over time: phases × categories on each card, kinds of memory on the host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, replace

from fitcheck.dataclass_later import dataclass
from fitcheck.units import Interval

CATEGORIES = ("resident", "window", "kv_cache", "activations", "scratch")


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a workload during which the same kinds of tensors live on the card. Sizes in bytes."""

    name: str
    resident: int
    window: int
    kv_cache: int
    activations: int
    scratch: int

    @property
    def allocated(self) -> int:
        """What the runtime's allocator hands out at the phase's peak."""
        return self.resident + self.window + self.kv_cache + self.activations + self.scratch


def peak(phases: Iterable[Phase]) -> Phase:
    """The phase that sets the peak; the first one on a tie."""
    return max(phases, key=lambda phase: phase.allocated)


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes of system memory: ``pinned`` cannot be swapped, ``pageable`` holds weights, ``process`` is the rest."""

    pinned: int
    pageable: int
    process: int
    total: Interval[int]


def drawn_from_host(held: Interval[int], carved: int) -> Interval[int]:
    """What a chip that shares the host's memory takes of it: ``held`` bytes but for the ``carved`` ones of its own."""
    return Interval(max(0, held.low - carved), max(0, held.best - carved), max(0, held.high - carved))


@dataclass(frozen=True, slots=True)
class CardMemory:
    """Memory of one cell on one card, in bytes.

    ``allocated`` <= ``reserved`` <= ``card``: what tensors take, what the allocator holds, and what the card gives up
    in all, context and libraries included, when memory is plentiful. ``required`` is the smallest amount of card memory
    on which the cell still runs, because an allocator may give cached blocks back under pressure. ``crowded`` says that
    the process may want more than the card has and give cached blocks back instead. ``failures`` are runs that ran out
    of memory on such a card, where the sizes follow from them: of the cell, and ``implied`` ones of cells that need no
    more.
    """

    phases: tuple[Phase, ...]
    allocated: Interval[int]
    reserved: Interval[int]
    card: Interval[int]
    required: Interval[int]
    crowded: bool = False
    failures: int = 0
    implied: int = 0

    def within(self, total: int) -> CardMemory:
        """The same on a card that has ``total`` bytes: no process takes more than there is. What does not run there
        keeps its numbers, which say how much is missing."""
        if self.card.high <= total or self.required.best > total:
            return self
        beside = self.card.best - self.reserved.best
        reserved = self.reserved.at_most(max(self.allocated.high, total - beside))
        return replace(self, reserved=reserved, card=self.card.at_most(total), crowded=True)

    @property
    def peak(self) -> Phase:
        """The phase that allocates most."""
        return peak(self.phases)

    @property
    def capped(self) -> Interval[int]:
        """What tensors take under a limit: down to the least that works a run may allocate less than with room, because
        convolutions copy less."""
        least = self.required.low - (self.card.low - self.reserved.low)
        return replace(self.allocated, low=min(self.allocated.low, least))


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of one cell: ``cards`` in the machine's order (none on a machine that has none), the host, and disk bytes.

    ``layout`` is the runtime's own account of where things lie, for its duration and its details; nothing else reads
    it.
    """

    cards: tuple[CardMemory, ...]
    host: HostMemory
    disk: int
    assumptions: tuple[str, ...] = ()
    layout: object = field(default=None, compare=False)

    def __hash__(self) -> int:
        # Enough to tell footprints apart: they are looked up for card after card.
        return hash((self.cards[0].required.best if self.cards else 0, self.host.total.best, self.disk))

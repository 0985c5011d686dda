"""What a workload needs, laid out over time: phases × categories on the card, kinds of memory on the host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fitcheck.units import Interval


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
        """What torch's allocator hands out at the phase's peak."""
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


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of one cell, in bytes.

    ``allocated`` <= ``reserved`` <= ``card``: what tensors take, what the caching allocator holds, and what the card
    gives up in all, context and libraries included, when memory is plentiful. ``required`` is the smallest amount of
    card memory on which the cell still runs, because the allocator gives cached blocks back under pressure.
    ``kept_share`` is the share of the generation weights that mode ``fast`` keeps on the card while denoising.
    """

    phases: tuple[Phase, ...]
    allocated: Interval[int]
    reserved: Interval[int]
    card: Interval[int]
    required: Interval[int]
    host: HostMemory
    disk: int
    assumptions: tuple[str, ...] = ()
    kept_share: float = 0.0

    def __hash__(self) -> int:
        # Enough to tell footprints apart: they are looked up for card after card.
        return hash((self.card.best, self.required.best, self.host.total.best, self.disk))

    @property
    def peak(self) -> Phase:
        return peak(self.phases)

"""From allocated bytes to what the process reserves and what the card must hold.

torch's caching allocator keeps freed blocks, so a process reserves more than it allocates; the CUDA context and the
libraries come on top. What it reserves comes from replaying the cell's tensors (``fitcheck.memory.replay``), without
fitted coefficients; how far replays were off on measured rows stands in ``data/allocator.json``
(``scripts/allocator_residuals.py``) and widens the interval. Under pressure the allocator gives cached blocks back
before it fails, so a card smaller than ``reserved + context`` may do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from fitcheck.memory.constants import load
from fitcheck.memory.placement import Placement
from fitcheck.memory.replay.peaks import Peaks, Question, peaks
from fitcheck.memory.weights import Weights
from fitcheck.models.sensenova import SenseNovaArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Workload
from fitcheck.units import Interval


@dataclass(frozen=True, slots=True)
class Cell:
    """What the allocator's state depends on: ``keeps`` generation layers stay on the card, ``flash`` says that
    flash-attn attends, ``dequantizing_kernels`` are those of one layer's matrices, ``host_bound`` that the host issues
    work more slowly than the card does it, ``workspace`` the bytes kept for cuBLAS."""

    arch: SenseNovaArchitecture
    table: TensorTable
    weights: Weights
    workload: Workload
    placement: Placement
    keeps: int = 0
    flash: bool = False
    dequantizing_kernels: int = 0
    host_bound: bool = False
    workspace: int = 0

    @property
    def queue(self) -> int:
        """Layers that the host issues before the card has done the first, where the host is the faster of the two.

        Only prefetch through the caching allocator shows it. Routing to experts reads back from the card in every
        layer, so the host never runs ahead there.
        """
        if not self.placement.prefetch or self.placement.policy == "ring" or self.arch.experts:
            return 0
        table: dict[str, int] = load("allocator")["launch_queue"]
        kernels: int = table["kernels_a_layer"] + self.dequantizing_kernels
        return ceil(table["launches"] / kernels)

    def peaks(self, late: int, *, frugal: bool = False) -> Peaks:
        """Reserved bytes with the card ``late`` layers behind, or the least the allocator can do with."""

        def at(keeps: int) -> Peaks:
            question = Question(
                self.arch, self.workload, self.placement, keeps, late, self.flash, self.workspace, frugal
            )
            return peaks(self.table, question)

        return _between(at, self.keeps, self.arch.layers, self._kept_bytes) if self.placement.keep_generation else at(0)

    def _kept_bytes(self, count: int) -> int:
        return self.weights.kept(count, exact=self.placement.policy == "ring")


def keep_nodes(layers: int) -> tuple[int, ...]:
    """The numbers of kept layers that are replayed: few layers shift what is needed while embedding and head are on the
    card, the last ones shorten what is streamed below what is in flight."""
    return tuple(sorted({0, min(1, layers), min(8, layers), max(0, layers - 10), layers}))


def _between(at: Callable[[int], Peaks], keeps: int, layers: int, kept_bytes: Callable[[int], int]) -> Peaks:
    """What a process reserves beside the layers it keeps hardly depends on their number: between a few numbers of
    layers it is interpolated, so that all cards share the same replays."""
    nodes = keep_nodes(layers)
    below, above = max(node for node in nodes if node <= keeps), min(node for node in nodes if node >= keeps)
    low = at(below)
    if above == below:
        return low
    high, share = at(above), (keeps - below) / (above - below)
    rest = kept_bytes(keeps) - round((1 - share) * kept_bytes(below) + share * kept_bytes(above))
    first, later = (
        round((1 - share) * one + share * other) + rest
        for one, other in ((low.first, high.first), (low.later, high.later))
    )
    return Peaks(first, later)


def reserved(allocated: Interval[int], cell: Cell, *, warm: bool) -> Interval[int]:
    """Bytes that the caching allocator takes from the driver at the peak of a process's first image, or of later ones
    when ``warm``.

    Upstream's programs leave their offload context after each image and give the cache back, so that every image is a
    first one; the bench keeps both. The low end is a host that barely keeps up with the card, the high end one that
    fills its launch queue, each with what replays were off on measured rows.
    """
    off = load("allocator")["residuals"]
    slow, fast = (found.later if warm else found.first for found in map(cell.peaks, (min(1, cell.queue), cell.queue)))
    best = max(allocated.best, slow if cell.host_bound else fast)
    low = round(min(slow, best) * (1 + off["low"]))
    high = round(max(slow, fast, best) * (1 + off["high"])) + off["constant"]
    return Interval(min(best, max(allocated.low, low)), best, max(high, allocated.high))


def required(allocated: Interval[int], reserved_: Interval[int], cell: Cell) -> Interval[int]:
    """Bytes that the allocator needs for a process's first image when it gives back every block it can."""
    off = load("allocator")["residuals"]
    best = min(max(allocated.best, cell.peaks(0, frugal=True).first), reserved_.best)
    high = round(best * (1 + off["high"])) + off["constant"]
    return Interval(min(allocated.low, best), best, max(high, allocated.high))

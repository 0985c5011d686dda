"""From allocated bytes to what the process reserves and what the card must hold.

torch's caching allocator keeps freed blocks, so a process reserves more than it allocates; the CUDA context and the
libraries come on top. What it reserves comes from replaying the cell's tensors (the folder ``replay`` beside this
file), without fitted coefficients; how far replays were off on measured rows stands in ``data/allocator.json``
(``scripts/allocator_residuals.py``) and widens the interval. Under pressure the allocator gives cached blocks back
before it fails, so a card smaller than ``reserved + context`` may do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from math import ceil, sqrt
from statistics import NormalDist, quantiles

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Workload
from fitcheck.runtimes.sensenova.layer_weights import LayerWeights
from fitcheck.runtimes.sensenova.replay.peaks import ReplayQuestion, peak
from fitcheck.runtimes.sensenova.streaming import PrefixWeights, Stream, Streaming
from fitcheck.units import Interval


@dataclass(frozen=True, slots=True)
class ReplayedCell:
    """What the allocator's state depends on: ``keeps`` generation layers stay on the card, ``flash`` says that
    flash-attn attends, ``dequantizing_kernels`` are those of one layer's matrices, ``host_bound`` that the host issues
    work more slowly than the card does it, ``workspace`` the bytes kept for cuBLAS, ``warm`` that the process has made
    an image before and kept its policy and cache, as the bench does. Upstream's programs leave their offload context
    after each image and give the cache back (utils/offload.py), so there every image is a first one. ``driver`` names
    the entry of ``launch_queue`` that says how far the host may run ahead, ``bench`` that fitcheck's own program runs
    it, ``left_out`` a measured cell whose rows may not widen the interval."""

    arch: SenseNovaArchitecture
    table: TensorTable
    weights: LayerWeights
    workload: Workload
    placement: Streaming
    keeps: int = 0
    flash: bool = False
    dequantizing_kernels: int = 0
    host_bound: bool = False
    thinking_keeps: int = 0
    workspace: int = 0
    warm: bool = False
    driver: str = "NVIDIA"
    bench: bool = False
    left_out: str = ""

    @property
    def queue(self) -> Interval[int]:
        """Layers that the host issues before the card has done the first, where the host is the faster of the two.

        Only prefetch through the caching allocator shows it. Routing to experts reads back from the card in every
        layer, so the host never runs ahead there.
        """
        if not self.placement.prefetch or self.placement.policy == "ring" or self.arch.experts:
            return Interval.exactly(0)
        table = load("memory", "allocator")["launch_queue"]
        low, best, high = table["drivers"][self.driver]["launches"]
        newest = not self.bench and self.placement.revision == table["newest"]["revision"]
        kernels = (table["newest"] if newest else table)["kernels_a_layer"] + self.dequantizing_kernels
        return Interval(*(ceil(launches / kernels) for launches in (low, best, high)))

    @property
    def beyond(self) -> Interval[int]:
        """Bytes beyond the replay where embedding and head leave the card for denoising.

        In a process that goes on, what an image leaves behind may take the place that they come back to: then each
        image brings a segment for one of them. A record of four images edited in mode ``balanced`` reserved the 3.4 GiB
        of three such segments more than its first image takes, of which the replay has one.
        """
        placement = self.placement
        moves = placement.prefix_weights is PrefixWeights.PREFIX_PHASE and self.workload.makes_one_picture
        if not moves or placement.stream is Stream.NOTHING or placement.policy == "ring":
            return Interval.exactly(0)
        if not self.bench:
            return Interval(*load("memory", "allocator")["moved_prefix"]["bytes"])
        returns = self.warm and bool(self.workload.references)
        return Interval(0, 0, self.weights.embedding + self.weights.head if returns else 0)

    def peak(self, late: int, *, frugal: bool = False) -> int:
        """Reserved bytes with the card ``late`` layers behind, or the least the allocator can do with."""
        asked = ReplayQuestion(
            self.arch,
            self.workload,
            self.placement,
            late=late,
            flash=self.flash,
            workspace=self.workspace,
            frugal=frugal,
            images=2 if self.warm else 1,
            thinking_keeps=self.thinking_keeps,
        )
        if not self.placement.keep_generation:
            return peak(self.table, asked)
        return _between(
            lambda keeps: peak(self.table, replace(asked, keeps=keeps)), self.keeps, self.arch.layers, self._kept_bytes
        )

    def _kept_bytes(self, count: int) -> int:
        return self.weights.kept(count, exact=self.placement.policy == "ring")


def keep_nodes(layers: int) -> tuple[int, ...]:
    """The numbers of kept layers that are replayed: few layers shift what is needed while embedding and head are on the
    card, the last ones shorten what is streamed below what is in flight."""
    return tuple(sorted({0, min(1, layers), min(8, layers), max(0, layers - 10), layers}))


def _between(at: Callable[[int], int], keeps: int, layers: int, kept_bytes: Callable[[int], int]) -> int:
    """What a process reserves beside the layers it keeps hardly depends on their number: between a few numbers of
    layers it is interpolated, so that all cards share the same replays."""
    nodes = keep_nodes(layers)
    below, above = max(node for node in nodes if node <= keeps), min(node for node in nodes if node >= keeps)
    if above == below:
        return at(below)
    share = (keeps - below) / (above - below)
    beside = (1 - share) * (at(below) - kept_bytes(below)) + share * (at(above) - kept_bytes(above))
    return round(beside) + kept_bytes(keeps)


@lru_cache(maxsize=64)
def residual(left_out: str = "", *, bench: bool = False) -> float:
    """How far measured reserved bytes may lie from replayed ones, as a share of these; ``left_out`` names a cell or a
    machine that is tested itself.

    Rows of upstream's programs say it of upstream's programs, those of fitcheck's own ``bench``, which the replay
    follows line by line, of the bench; only where no row of a program is left do the other's count. It is the 97.5th
    percentile of them, and no less than what so few rows leave possible: Student's t of their root mean square.
    """
    rows = load("memory", "allocator")["residuals"]["rows"]
    rows = [row for row in rows if not (left_out and f"{row['row']} ".startswith(f"{left_out} "))]
    rows = [row for row in rows if row["bench"] == bench] or rows
    off = [abs(float(row["reserved_gib"]) / float(row["replayed_gib"]) - 1) for row in rows]
    seen = quantiles(off, n=40, method="inclusive")[-1] if len(off) > 1 else off[0]
    return max(seen, students_t(len(off)) * sqrt(sum(one * one for one in off) / len(off)))


def students_t(freedom: int) -> float:
    """97.5th percentile of Student's t (Abramowitz and Stegun 26.7.5, within 1 % from two degrees of freedom on)."""
    z = NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(freedom**power) for power, term in enumerate(terms, 1))


def reserved(allocated: Interval[int], cell: ReplayedCell) -> Interval[int]:
    """Bytes that the caching allocator takes from the driver at the peak.

    The low end is a host that barely keeps up with the card, the high end one that fills its launch queue, each with
    what replays were off on measured rows.
    """
    off = residual(cell.left_out, bench=cell.bench)
    queue, beyond = cell.queue, cell.beyond
    slow, usual, fast = (cell.peak(late) for late in (queue.low, queue.best, queue.high))
    best = max(allocated.best, (slow if cell.host_bound else usual) + beyond.best)
    low = round((min(slow, usual) + beyond.low) * (1 - off))
    high = round((max(slow, usual, fast) + beyond.high) * (1 + off)) + _small()
    return Interval(min(best, max(allocated.low, low)), best, max(best, high, allocated.high))


def required(allocated: Interval[int], reserved_: Interval[int], cell: ReplayedCell) -> Interval[int]:
    """Bytes that the allocator needs when it gives back every block it can.

    Before torch fails an allocation it waits for the events of all blocks that another stream used
    (``synchronize_and_free_events`` in c10/cuda/CUDACachingAllocator.cpp), so the card counts as keeping up with the
    host. Replays of a card that is behind come out up to 4 % lower, because what frees later fragments otherwise; a
    limit record (Q4_K_S, editing, balanced) ran out of memory where they say it would run, and not where this one does.
    """
    off = residual(cell.left_out, bench=cell.bench)
    best = min(max(allocated.best, cell.peak(0, frugal=True)), reserved_.best)
    high = round(best * (1 + off)) + _small()
    return Interval(min(allocated.low, best), best, max(high, allocated.high))


def _small() -> int:
    """Bytes of temporaries of the small pool and workspaces of libraries, which no replay sees."""
    return int(load("memory", "allocator")["residuals"]["constant"])

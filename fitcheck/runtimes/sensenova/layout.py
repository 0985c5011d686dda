"""Which weights of SenseNova-U1 are on the card in a phase, for one placement. Sizes in bytes."""

from __future__ import annotations

from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.constants import cublas_workspace
from fitcheck.memory.context import context
from fitcheck.memory.footprint import Phase
from fitcheck.models.families.sensenova.architecture import GENERATION, UNDERSTANDING, SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova import activations
from fitcheck.runtimes.sensenova.guidance import branches
from fitcheck.runtimes.sensenova.layer_weights import LayerWeights
from fitcheck.runtimes.sensenova.streaming import (
    FAST_HEADROOM,
    FAST_RESERVE,
    THINKING_BYTES_PER_SCORE,
    PrefixWeights,
    Stream,
    Streaming,
    fast_limit,
)

_PASSES = 3  # what stays repeats itself from the second on


@dataclass(frozen=True, slots=True)
class CardView:
    """What of the card and the process enters the allocated bytes.

    ``total`` is the card's memory as a program sees it and ``free`` what others leave of it, both in bytes and before
    the process's own context; they decide how many layers mode ``fast`` keeps. ``warm`` says that the process has made
    an image before, so that the lazily built RoPE table of the generation tower exists during the prefix already.
    ``host_bound`` says that the host takes longer to issue a denoising pass than the card to run it: then prefetched
    layers never wait in a queue of launches, whose length the ``driver`` decides. ``left_out`` names a measured cell
    whose rows may not widen the answer.
    """

    compute_capability: tuple[int, int] | None = None
    total: int | None = None
    free: int | None = None
    flash_attention: bool = False
    warm: bool = False
    host_bound: bool = False
    driver: str = "NVIDIA"
    left_out: str = ""

    def __hash__(self) -> int:
        # Enough to tell most apart: views are looked up for cell after cell.
        return hash((self.compute_capability, self.total, self.free, self.host_bound, self.driver))

    @property
    def nvidia(self) -> bool:
        """Whether CUDA runs on it."""
        return self.driver in ("NVIDIA", "Windows")


def _keeps_prefix_weights(workload: Workload) -> bool:
    """Phase-aware offload evicts embedding and head for denoising only in tasks that do not return to text."""
    return workload.task in (Task.INTERLEAVE, Task.VQA)


class CardLayout:
    """Weights on the card by phase, for one placement."""

    def __init__(
        self,
        arch: SenseNovaArchitecture,
        weights: LayerWeights,
        workload: Workload,
        placement: Streaming,
        device: CardView,
    ):
        self.arch, self.weights, self.workload, self.placement, self.device = arch, weights, workload, placement, device
        self.base = weights.outer + cublas_workspace(device.compute_capability)
        self.reads_images = bool(workload.references) or workload.task is Task.INTERLEAVE
        self.kept_layers = self.thinking_layers = 0

    def phase(
        self,
        name: str,
        branch: str,
        moment: activations.Moment,
        *,
        kv_cache: int = 0,
        held: int = 0,
        prefix_weights: int = 0,
        streams: bool = True,
        between: int = 0,
        thinks: bool = False,
    ) -> Phase:
        """``held`` outlives the pass; ``between`` is what lives between two of its layers, beside ``held``;
        ``thinks`` says that the model thinks, token by token."""
        resident, window = self.base + self._rope_tables(name) + prefix_weights, 0
        stream, in_flight = self.placement.stream, self.placement.in_flight
        if stream is Stream.NOTHING:
            resident += self.weights.all_layers
        elif not streams:
            window = 0
        elif self.placement.policy == "ring":
            kept = 0
            if self.placement.keep_generation and branch == GENERATION:
                kept = self._keep_layers(resident + kv_cache + held + between)
            resident += self.weights.kept(kept, exact=True)
            all_stay = kept == len(self.weights.layers[GENERATION])
            window = 0 if all_stay else self.weights.slot(both=stream is Stream.LAYER) * in_flight
        elif stream is Stream.LAYER:
            window = self.weights.window_both(in_flight)
        elif branch == GENERATION and self.placement.keep_generation:
            stay, most = self._stay(GENERATION, resident + kv_cache + held + between, FAST_RESERVE)
            self.kept_layers = len(stay)
            resident, window = resident + sum(stay), most - sum(stay)
        elif thinks and self.placement.keeps_thinking:
            scores = THINKING_BYTES_PER_SCORE * self.arch.heads * self._prompt() ** 2
            stay, most = self._stay(UNDERSTANDING, resident + kv_cache + held, max(FAST_RESERVE, scores))
            self.thinking_layers = len(stay)
            resident, window = resident + sum(stay), most - sum(stay)
        else:
            window = self.weights.window(branch, in_flight)
        return Phase(name, resident, window, kv_cache, held + moment.activations, moment.scratch)

    def returning(self) -> Phase | None:
        """The moment when a process whose policy outlives an image, as the bench's does, starts its next one in mode
        ``fast``: embedding and head come back before the generation layers that the last image kept leave. Asked after
        that image's denoising was laid out."""
        upstream_fast = self.placement.keep_generation and self.placement.policy == "upstream"
        moves = self.placement.prefix_weights is PrefixWeights.PREFIX_PHASE and not _keeps_prefix_weights(self.workload)
        if not (self.device.warm and upstream_fast and moves):
            return None
        resident = self.base + self._rope_tables("return") + self.prefix_weights(denoising=False)
        return Phase("return", resident + self.weights.kept(self.kept_layers), 0, 0, 0, 0)

    def _rope_tables(self, phase: str) -> int:
        """A vision tower builds its table at its first use; v0 moved both to the card when loading."""
        generates = self.workload.task is not Task.VQA
        used = int(self.reads_images) + int(
            generates and (self.device.warm or phase not in ("embed", "prefix", "think"))
        )
        return (2 if self.placement.revision == "v0" else used) * self.arch.vision_rope_bytes

    @property
    def own_forward(self) -> bool:
        """Embedding and head are on the card for their own forward alone."""
        return (
            self.placement.prefix_weights is PrefixWeights.OWN_FORWARD and self.placement.stream is not Stream.NOTHING
        )

    def prefix_weights(self, *, denoising: bool) -> int:
        """Bytes of embedding and head that lie on the card for the whole phase."""
        both = self.weights.embedding + self.weights.head
        if self.placement.stream is Stream.NOTHING:
            return both
        match self.placement.prefix_weights:
            case PrefixWeights.RESIDENT:
                return both
            case PrefixWeights.PREFIX_PHASE:
                return 0 if denoising and not _keeps_prefix_weights(self.workload) else both
            case PrefixWeights.OWN_FORWARD:
                return 0

    def _prompt(self) -> int:
        return branches(self.arch, self.workload)[0].prefix

    def _limit(self, reserve: int) -> int | None:
        """Allocated bytes up to which upstream keeps a layer with ``reserve`` for what is still to come.

        Allocated + reserve <= min(0.9 × total, total − 2 GiB), and reserve + 2 GiB are free when all cached blocks are
        counted as free: then only the context and what is allocated are missing. ``None`` without a known card.
        """
        total, free = self.device.total, self.device.free
        if total is None:
            return None
        beside = context(self.device.compute_capability, second_stream=bool(self.placement.prefetch)).best
        return min(fast_limit(total), (total if free is None else free) - beside - FAST_HEADROOM) - reserve

    def _stay(self, branch: str, base: int, reserve: int) -> tuple[tuple[int, ...], int]:
        """Sizes of the layers that stay on the card, and the most bytes of layers that are there at once."""
        sizes, limit = self.weights.layers[branch], self._limit(reserve)
        return (sizes, sum(sizes)) if limit is None else staying(sizes, limit - base, self.placement.prefetch)

    def _keep_layers(self, base: int) -> int:
        """Generation layers that the ring keeps: decided once, before the first of them comes."""
        sizes, limit = self.weights.layers[GENERATION], self._limit(FAST_RESERVE)
        kept = 0
        while kept < len(sizes) and (
            limit is None or base + sum(sizes[kept : kept + 1 + self.placement.prefetch]) <= limit
        ):
            base += sizes[kept]
            kept += 1
        self.kept_layers = kept
        return kept


@lru_cache(maxsize=4096)
def staying(sizes: tuple[int, ...], room: int, prefetch: int) -> tuple[tuple[int, ...], int]:
    """Sizes of the layers that upstream's rule leaves on the card, and the most bytes of layers there at once.

    Asked after each layer's forward, with the layers that were fetched ahead on the card already: one stays while all
    that are there fit into ``room`` bytes. At the end of a pass the ones ahead are those that stayed, so fewer are in
    flight and some last layers stay as well; the second pass meets them and gives some others up.
    """
    if sum(sizes) <= room:
        return sizes, sum(sizes)
    here: set[int] = set()
    kept: set[int] = set()
    most = there = 0
    for _ in range(_PASSES):
        for index in range(len(sizes)):
            for ahead in range(prefetch + 1):
                layer = (index + ahead) % len(sizes)
                if layer not in here:
                    here.add(layer)
                    there += sizes[layer]
            most = max(most, there)
            if there <= room:
                kept.add(index)
            else:
                kept.discard(index)
                here.discard(index)
                there -= sizes[index]
    return tuple(sizes[index] for index in sorted(kept)), most

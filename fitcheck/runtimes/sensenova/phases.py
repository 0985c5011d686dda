"""Phases of SenseNova-U1 workloads: which tensors are on the card when, for each task and placement. Sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fitcheck.memory.constants import cublas_workspace
from fitcheck.memory.context import context
from fitcheck.memory.footprint import Phase
from fitcheck.models.families.sensenova.architecture import GENERATION, UNDERSTANDING, SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova import activations
from fitcheck.runtimes.sensenova.guidance import (
    Branch,
    branches,
    grown,
    reference_tokens,
    thought,
    velocity_branches,
    written,
)
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


class _Layout:
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


@dataclass(frozen=True, slots=True)
class LaidOut:
    """The phases of a workload in the order they run, each at its own peak, and how many generation layers stay on the
    card between passes, and understanding layers while the model thinks (mode ``fast``)."""

    phases: tuple[Phase, ...]
    kept: int
    thinking: int


def lay_out(
    arch: SenseNovaArchitecture, weights: LayerWeights, workload: Workload, placement: Streaming, device: CardView
) -> LaidOut:
    """What of a workload is on the card when."""
    layout = _Layout(arch, weights, workload, placement, device)
    match workload.task:
        case Task.T2I | Task.EDITING:
            found = branches(arch, workload)
            thinking = (_think(layout, found),) if workload.think else ()
            made: tuple[Phase, ...] = (*_prefix(layout), *thinking, _denoise(layout, thought(found, workload)))
        case Task.INTERLEAVE:
            made = _interleave(layout)
        case _:
            made = _vqa(layout)
    returning = layout.returning()
    made = made if returning is None else (returning, *made)
    return LaidOut(made, layout.kept_layers, layout.thinking_layers)


def phases(
    arch: SenseNovaArchitecture, weights: LayerWeights, workload: Workload, placement: Streaming, device: CardView
) -> tuple[Phase, ...]:
    """The phases alone."""
    return lay_out(arch, weights, workload, placement, device).phases


def _prefix(layout: _Layout) -> tuple[Phase, ...]:
    """One understanding forward a branch; caches add up, inputs and masks of all branches are built beforehand."""
    arch, workload = layout.arch, layout.workload
    found = branches(arch, workload)
    images = reference_tokens(arch, workload)
    inputs = sum(activations.hidden_bytes(arch, branch.prefix) for branch in found if images or branch is found[0])
    inputs += sum(activations.mask_bytes(branch.prefix) for branch in found) + activations.pixel_bytes(arch, images)
    if workload.task is Task.VQA:  # the vision features and the caller's pixels live as long as the call
        inputs += activations.hidden_bytes(arch, images) + activations.pixel_bytes(arch, images)
    made, cached = [], 0
    for branch in found:
        cached += arch.kv_bytes_per_token * branch.prefix
        made.append(
            layout.phase(
                "prefix",
                UNDERSTANDING,
                activations.understanding_pass(arch, layout.weights, branch.prefix),
                kv_cache=cached,
                held=inputs,
                prefix_weights=layout.prefix_weights(denoising=False),
            )
        )
        if workload.task is Task.INTERLEAVE:  # runs the head over the whole prefix and keeps its output
            inputs += activations.logits_bytes(arch, branch.prefix)
    highest = max(made, key=lambda phase: phase.allocated)
    if layout.own_forward:
        embed = activations.Moment(activations.hidden_bytes(arch, max(branch.prefix for branch in found)), 0)
        return (
            layout.phase("embed", UNDERSTANDING, embed, prefix_weights=layout.weights.embedding, streams=False),
            highest,
        )
    return (highest,)


def _denoise(layout: _Layout, found: tuple[Branch, ...], held: int = 0) -> Phase:
    """The sampling steps. Each branch's prefix is held twice: in its cache, which a batch shares, and in a buffer for
    prefix plus image, of which each image has its own."""
    arch, workload = layout.arch, layout.workload
    batch = workload.batch
    image = arch.image_tokens(workload.width, workload.height) * batch
    prefixes = [branch.prefix for branch in found]
    cached = arch.kv_bytes_per_token * sum((1 + batch) * prefix + image for prefix in prefixes)
    return layout.phase(
        "denoise",
        GENERATION,
        activations.generation_pass(
            arch, layout.weights, image, batch * max(prefixes), flash=layout.device.flash_attention
        ),
        kv_cache=cached,
        held=held + activations.sampler_bytes(arch, image, velocity_branches(workload)),
        prefix_weights=layout.prefix_weights(denoising=True),
        between=2 * activations.hidden_bytes(arch, image),
    )


def _interleave(layout: _Layout) -> tuple[Phase, ...]:
    """Text and images in turn; the last image is made and read back with the longest caches."""
    arch, workload = layout.arch, layout.workload
    found = branches(arch, workload)
    image = arch.image_tokens(workload.width, workload.height)
    text = written(workload)
    earlier = (image + 2) * (workload.images - 1)
    condition = found[0].prefix + earlier + text
    others = sum(branch.prefix for branch in found[1:]) + earlier
    sampler = activations.sampler_bytes(arch, image, velocity_branches(workload))
    finished = activations.pixel_bytes(arch, image) * workload.images
    weights_on_card = layout.prefix_weights(denoising=False)
    if layout.own_forward:
        weights_on_card = layout.weights.head
    unconditional = found[1].prefix + earlier
    logits = activations.logits_bytes(arch, image + 1)
    cached = condition + image + 1 + others
    made = [
        layout.phase(
            "read image back",
            UNDERSTANDING,
            activations.understanding_pass(arch, layout.weights, image + 1, past),
            kv_cache=arch.kv_bytes_per_token * (cached + added),
            held=sampler
            + finished
            + kept
            + activations.mask_bytes(image + 1, past)
            + activations.hidden_bytes(arch, image + 1),
            prefix_weights=weights_on_card,
        )
        # the image enters the condition's cache first; the head's output over it is kept while the other one grows
        for past, added, kept in ((condition, 0, 0), (unconditional, image + 1, logits))
    ]
    read_back = max(made, key=lambda phase: phase.allocated)
    decode = _decode(layout, cached + image + 1, held=2 * logits)
    prefix = max(_prefix(layout), key=lambda phase: phase.allocated)
    return (
        prefix,
        _denoise(layout, grown(found, text, earlier), held=finished),
        read_back,
        decode,
    )


def _vqa(layout: _Layout) -> tuple[Phase, ...]:
    arch, workload = layout.arch, layout.workload
    new = written(workload)
    prefix = sum(branch.prefix for branch in branches(arch, workload))
    images = reference_tokens(arch, workload)
    held = activations.hidden_bytes(arch, prefix + images) + activations.pixel_bytes(arch, images)
    return (*_prefix(layout), _decode(layout, prefix + new, held=held))


def _think(layout: _Layout, found: tuple[Branch, ...]) -> Phase:
    """Thoughts before a picture: the condition's cache grows by a token at a time, beside inputs of the prefix."""
    arch, workload = layout.arch, layout.workload
    images = reference_tokens(arch, workload)
    held = activations.hidden_bytes(arch, images) + activations.pixel_bytes(arch, images)
    cached = found[0].prefix + (workload.think or 0)
    return _decode(layout, cached, held=held, name="think")


def _decode(layout: _Layout, cached: int, held: int = 0, name: str = "decode") -> Phase:
    """One token at a time; growing a layer's cache holds its old and new keys and values together.

    ``held`` is what the task keeps alive beside it: inputs, or the head's output over an image that was read back.
    """
    arch = layout.arch
    per_layer = arch.kv_bytes_per_token * cached // arch.layers
    weights_on_card = layout.prefix_weights(denoising=False)
    if layout.own_forward:
        weights_on_card = max(layout.weights.embedding, layout.weights.head)
    moment = activations.understanding_pass(arch, layout.weights, 1, cached)
    return layout.phase(
        name,
        UNDERSTANDING,
        moment,
        kv_cache=arch.kv_bytes_per_token * cached + per_layer,
        held=held + activations.logits_bytes(arch, 1),
        prefix_weights=weights_on_card,
        thinks=name == "think",
    )

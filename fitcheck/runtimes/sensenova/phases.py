"""Phases of SenseNova-U1 workloads: which tensors are on the card when, for each task and placement. Sizes in bytes."""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
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
from fitcheck.runtimes.sensenova.layout import CardLayout, CardView
from fitcheck.runtimes.sensenova.streaming import Streaming


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
    layout = CardLayout(arch, weights, workload, placement, device)
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


def _prefix(layout: CardLayout) -> tuple[Phase, ...]:
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


def _denoise(layout: CardLayout, found: tuple[Branch, ...], held: int = 0) -> Phase:
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


def _interleave(layout: CardLayout) -> tuple[Phase, ...]:
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


def _vqa(layout: CardLayout) -> tuple[Phase, ...]:
    arch, workload = layout.arch, layout.workload
    new = written(workload)
    prefix = sum(branch.prefix for branch in branches(arch, workload))
    images = reference_tokens(arch, workload)
    held = activations.hidden_bytes(arch, prefix + images) + activations.pixel_bytes(arch, images)
    return (*_prefix(layout), _decode(layout, prefix + new, held=held))


def _think(layout: CardLayout, found: tuple[Branch, ...]) -> Phase:
    """Thoughts before a picture: the condition's cache grows by a token at a time, beside inputs of the prefix."""
    arch, workload = layout.arch, layout.workload
    images = reference_tokens(arch, workload)
    held = activations.hidden_bytes(arch, images) + activations.pixel_bytes(arch, images)
    cached = found[0].prefix + (workload.think or 0)
    return _decode(layout, cached, held=held, name="think")


def _decode(layout: CardLayout, cached: int, held: int = 0, name: str = "decode") -> Phase:
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

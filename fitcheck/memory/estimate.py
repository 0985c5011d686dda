"""The estimator's front door: model, tier, workload, placement and card to a ``Footprint``. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import replace

from fitcheck.memory import allocator
from fitcheck.memory.constants import load, tokens
from fitcheck.memory.dequantization import cost, is_traced
from fitcheck.memory.footprint import Footprint, Phase
from fitcheck.memory.host import host_memory
from fitcheck.memory.placement import Placement, PrefixWeights, Stream
from fitcheck.memory.sensenova import Device, branches, lay_out, reference_grids
from fitcheck.memory.weights import Weights, weights_of
from fitcheck.models.model import Tier
from fitcheck.models.sensenova import GENERATION, SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.units import Interval


def estimate(
    arch: SenseNovaArchitecture,
    tier: Tier,
    workload: Workload,
    placement: Placement,
    device: Device,
    process: str = "upstream",
) -> Footprint:
    """Memory of one cell by phase and category, as allocated, as reserved and as the card must hold it.

    ``process`` names whose other host memory is counted: ``upstream``'s program or the ``bench``'s child.
    """
    weights = weights_of(tier.tensors)
    laid_out, kept = lay_out(arch, weights, workload, placement, device)
    highest = max(phase.allocated for phase in laid_out)
    error = load("allocator")["allocated_error"]
    widening = error["untested_family"] if arch.experts else error["tested"]
    allocated = Interval(round(highest * (1 - widening)), highest, round(highest * (1 + widening)))
    shape, later = (
        cache_shape(arch, weights, workload, placement, laid_out, kept=kept, warm=warm) for warm in (device.warm, True)
    )
    reserved = allocator.reserved(allocated, placement, shape, later)
    context = allocator.context(device.compute_capability, placement)
    required = allocator.required(allocated, reserved)
    return Footprint(
        phases=laid_out,
        allocated=allocated,
        reserved=reserved,
        card=reserved + context,
        required=required + context,
        host=host_memory(weights, placement, quantized=tier.quantized, process=process),
        disk=tier.disk_bytes,
        assumptions=_assumptions(arch, tier, workload, placement, device),
    )


def cache_shape(
    arch: SenseNovaArchitecture,
    weights: Weights,
    workload: Workload,
    placement: Placement,
    laid_out: tuple[Phase, ...],
    *,
    warm: bool,
    kept: int = 0,
) -> allocator.Shape:
    """What of the cell drives the allocator's slack; ``warm`` when the process has made an image before, ``kept`` how
    many generation layers stay on the card."""
    busiest = next((phase for phase in laid_out if phase.name == "denoise"), laid_out[-1])
    dynamic, late = busiest.kv_cache + busiest.activations + busiest.scratch, 0
    if placement.prefetch and (busiest.window or not placement.keep_generation):
        both = placement.stream is Stream.LAYER
        unit = weights.window_both(1) if both else max(weights.window(branch, 1) for branch in weights.layers)
        # the host runs a queue of launches ahead of the card; where nearly all layers stay, fewer are left to stream
        late = round(unit * min(arch.layers - kept, allocator.layers_ahead(_dequantizing_kernels(weights))))
    found = branches(arch, workload)
    longest = max(branch.prefix for branch in found)
    scores, regrowth = 10 * arch.heads * longest * longest, 0
    if workload.task is Task.INTERLEAVE:
        image = arch.image_tokens(workload.width, workload.height) + 1
        text = workload.new_tokens or tokens("interleave_text_per_image") * workload.images
        step = image + text // workload.images
        rounds = [
            10 * arch.heads * image * (found[0].prefix + step * number) for number in range(1, workload.images + 1)
        ]
        scores, regrowth = rounds[-1], sum(rounds[:-1])
    moves = placement.prefix_weights is PrefixWeights.PREFIX_PHASE and placement.stream is not Stream.NOTHING
    return allocator.Shape(
        dynamic=dynamic,
        late=late,
        scores=scores,
        regrowth=regrowth,
        # only what was carved out of the room of embedding and head keeps them from returning to it
        returning=min(dynamic, max(weights.embedding, weights.head)) if warm and moves else 0,
    )


def _dequantizing_kernels(weights: Weights) -> int:
    """Kernels that dequantize one generation layer's matrices."""
    return sum(cost(linear.type).kernels for (branch, _), linear in weights.largest.items() if branch == GENERATION)


def _assumptions(
    arch: SenseNovaArchitecture, tier: Tier, workload: Workload, placement: Placement, device: Device
) -> tuple[str, ...]:
    found = branches(arch, workload)
    prompt = ", ".join(f"{branch.name} {branch.prefix} tokens" for branch in found)
    notes = [f"cached prefixes: {prompt}"]
    grids = reference_grids(arch, workload)
    notes += [f"a reference image becomes {rows * columns} tokens" for rows, columns in grids]
    if not device.flash_attention:
        notes.append("attention through PyTorch SDPA")
    untraced = {name for name in tier.tensors.bytes_by_type if not is_traced(name)}
    if untraced:
        notes.append(f"temporaries of {', '.join(sorted(untraced))} are not traced; the dearest known type stands in")
    if arch.experts:
        notes.append(
            "the expert MLP's temporaries are bounded from above; no measurement of this model has checked them"
        )
    if placement.keep_generation and device.total is None:
        notes.append("card memory unknown: all generation layers are taken to stay resident")
    if not tier.published:
        notes.append("no published file for this tier; its table follows the recipe of the published U1 files")
    return tuple(notes)


def kept_between(kept: Footprint, streamed: Footprint, tier: Tier) -> float:
    """Share of the generation weights that stay on the card while denoising: ``kept`` is the footprint of a placement
    that keeps layers, ``streamed`` that of the same one keeping none."""
    stays, passes = (
        next((phase.resident for phase in one.phases if phase.name == "denoise"), 0) for one in (kept, streamed)
    )
    return (stays - passes) / sum(weights_of(tier.tensors).layers[GENERATION])


def kept_share(
    arch: SenseNovaArchitecture, tier: Tier, workload: Workload, placement: Placement, device: Device
) -> float:
    """Share of the generation weights that mode ``fast`` keeps on the card while denoising; 0 in other modes."""
    if not placement.keep_generation:
        return 0.0
    streamed = estimate(arch, tier, workload, replace(placement, keep_generation=False), device)
    return kept_between(estimate(arch, tier, workload, placement, device), streamed, tier)

"""The estimator's front door: model, tier, workload, placement and card to a ``Footprint``. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import replace

from fitcheck.memory import allocator
from fitcheck.memory.constants import load
from fitcheck.memory.dequantization import is_traced
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.host import host_memory
from fitcheck.memory.placement import Placement, Stream
from fitcheck.memory.sensenova import Device, branches, phases, reference_tokens
from fitcheck.memory.weights import Weights, weights_of
from fitcheck.models.model import Tier
from fitcheck.models.sensenova import GENERATION, UNDERSTANDING, SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.units import Interval


def estimate(
    arch: SenseNovaArchitecture, tier: Tier, workload: Workload, placement: Placement, device: Device
) -> Footprint:
    """Memory of one cell by phase and category, as allocated, as reserved and as the card must hold it."""
    weights = weights_of(tier.tensors)
    laid_out = phases(arch, weights, workload, placement, device)
    highest = max(phase.allocated for phase in laid_out)
    error = load("allocator")["allocated_error"]
    widening = error["untested_family"] if arch.experts else error["tested"]
    allocated = Interval(round(highest * (1 - widening)), highest, round(highest * (1 + widening)))
    shape = cache_shape(arch, weights, workload, placement)
    reserved = allocator.reserved(allocated, placement, shape)
    context = allocator.context(device.compute_capability)
    required = allocator.required(allocated, reserved, laid_out)
    return Footprint(
        phases=laid_out,
        allocated=allocated,
        reserved=reserved,
        card=reserved + context,
        required=required + context,
        host=host_memory(weights, placement, quantized=tier.quantized),
        disk=tier.disk_bytes,
        assumptions=_assumptions(arch, tier, workload, placement, device),
    )


def cache_shape(
    arch: SenseNovaArchitecture, weights: Weights, workload: Workload, placement: Placement
) -> allocator.Shape:
    """What of the cell drives the allocator's slack."""
    if placement.stream is Stream.NOTHING:
        unit = 0
    elif placement.stream is Stream.LAYER:
        unit = weights.window_both(1)
    else:
        unit = max(weights.window(GENERATION, 1), weights.window(UNDERSTANDING, 1))
    found = branches(arch, workload)
    longest = max(branch.prefix for branch in found)
    scores = 10 * arch.heads * longest * longest
    regrowth = 0
    if workload.task is Task.INTERLEAVE:
        image = arch.image_tokens(workload.width, workload.height) + 1
        step = image + (workload.new_tokens or 425 * workload.images) // workload.images
        rounds = [
            10 * arch.heads * image * (found[0].prefix + step * number) for number in range(1, workload.images + 1)
        ]
        scores, regrowth = rounds[-1], sum(rounds[:-1])
    return allocator.Shape(unit, scores, regrowth)


def _assumptions(
    arch: SenseNovaArchitecture, tier: Tier, workload: Workload, placement: Placement, device: Device
) -> tuple[str, ...]:
    found = branches(arch, workload)
    prompt = ", ".join(f"{branch.name} {branch.prefix} tokens" for branch in found)
    notes = [f"cached prefixes: {prompt}"]
    notes += [f"a reference image becomes {reference_tokens(arch, size)} tokens" for size in workload.references]
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


def kept_share(
    arch: SenseNovaArchitecture, tier: Tier, workload: Workload, placement: Placement, device: Device
) -> float:
    """Share of the generation weights that mode ``fast`` keeps on the card while denoising; 0 in other modes."""
    if not placement.keep_generation:
        return 0.0
    weights = weights_of(tier.tensors)
    kept, streamed = (
        next((phase.resident for phase in phases(arch, weights, workload, one, device) if phase.name == "denoise"), 0)
        for one in (placement, replace(placement, keep_generation=False))
    )
    return (kept - streamed) / sum(weights.layers[GENERATION])

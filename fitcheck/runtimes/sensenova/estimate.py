"""The estimator's front door: model, tier, workload, placement and card to a ``Footprint``. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.memory.constants import cublas_workspace
from fitcheck.memory.context import context
from fitcheck.memory.dequantization import cost, is_traced
from fitcheck.memory.footprint import CardMemory, Footprint
from fitcheck.models.families.sensenova.architecture import GENERATION, SenseNovaArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Workload
from fitcheck.runtimes.sensenova import reserved as allocator
from fitcheck.runtimes.sensenova.guidance import branches, reference_grids
from fitcheck.runtimes.sensenova.host import host_memory
from fitcheck.runtimes.sensenova.layer_weights import LayerWeights, weights_of
from fitcheck.runtimes.sensenova.layout import CardView
from fitcheck.runtimes.sensenova.phases import LaidOut, lay_out
from fitcheck.runtimes.sensenova.streaming import Streaming
from fitcheck.units import Interval, format_gib


@dataclass(frozen=True, slots=True)
class KeptLayers:
    """Shares of the layers that stay on the card (mode ``fast``): of the generation branch between denoising passes, of
    the understanding branch while the model thinks."""

    denoising: float = 0.0
    thinking: float = 0.0


def estimate(
    arch: SenseNovaArchitecture,
    tier: Tier,
    workload: Workload,
    placement: Streaming,
    device: CardView,
    *,
    bench: bool = False,
) -> Footprint:
    """Memory of one cell by phase and category, as allocated, as reserved and as the card must hold it, in bytes.

    ``bench`` counts the other host memory of the bench's process instead of upstream's program. ``layout`` of the
    result says which shares of the layers stay on the card (mode ``fast``).
    """
    found = lay_out(arch, weights_of(tier.tensors), workload, placement, device)
    # the sizes of a card have said how many layers it keeps; the rest is the same on all that keep as many
    sizeless = device if device.total is None else replace(device, total=0, free=None)
    return _footprint(arch, tier, workload, placement, sizeless, found, bench=bench)


@lru_cache(maxsize=2048)
def _footprint(
    arch: SenseNovaArchitecture,
    tier: Tier,
    workload: Workload,
    placement: Streaming,
    device: CardView,
    found: LaidOut,
    *,
    bench: bool,
) -> Footprint:
    weights, laid_out, kept = weights_of(tier.tensors), found.phases, found.kept
    highest = max(phase.allocated for phase in laid_out)
    error = load("memory", "allocator")["allocated_error"]
    widening = error["untested_family"] if arch.experts else error["tested"]
    most = highest + _one_layer_more(weights, kept)
    allocated = Interval(round(highest * (1 - widening)), highest, round(most * (1 + widening)))
    cell = allocator.ReplayedCell(
        arch,
        tier.tensors,
        weights,
        workload,
        placement,
        keeps=kept,
        flash=device.flash_attention,
        dequantizing_kernels=_dequantizing_kernels(weights),
        host_bound=device.host_bound,
        workspace=cublas_workspace(device.compute_capability),
        warm=device.warm,
        thinking_keeps=found.thinking,
        driver=device.driver,
        bench=bench,
        left_out=device.left_out,
    )
    reserved = allocator.reserved(allocated, cell)
    beside = context(device.compute_capability, second_stream=bool(placement.prefetch), nvidia=device.nvidia)
    required = allocator.required(allocated, reserved, cell)
    memory = CardMemory(laid_out, allocated, reserved, card=reserved + beside, required=required + beside)
    return Footprint(
        cards=(memory,),
        host=host_memory(weights, placement, quantized=tier.quantized, bench=bench),
        disk=tier.disk_bytes,
        assumptions=_assumptions(arch, tier, workload, placement, device),
        layout=_shares(found, arch),
    )


def kept_shares(
    arch: SenseNovaArchitecture, tier: Tier, workload: Workload, placement: Streaming, device: CardView
) -> KeptLayers:
    """The shares of the layers that stay on the card, without the rest of the estimate."""
    return _shares(lay_out(arch, weights_of(tier.tensors), workload, placement, device), arch)


def _shares(found: LaidOut, arch: SenseNovaArchitecture) -> KeptLayers:
    return KeptLayers(found.kept / arch.layers, found.thinking / arch.layers)


def _one_layer_more(weights: LayerWeights, kept: int) -> int:
    """Bytes of the layer that mode ``fast`` may keep beyond the ``kept`` ones: its rule compares what is allocated with
    a limit, and which of the last layers still goes under it hangs on a few per mille. Nothing where it keeps none or
    all."""
    layers = len(weights.layers[GENERATION])
    return weights.kept(kept + 1) - weights.kept(kept) if 0 < kept < layers else 0


def _dequantizing_kernels(weights: LayerWeights) -> int:
    """Kernels that dequantize one generation layer's matrices."""
    return sum(cost(linear.type).kernels for (branch, _), linear in weights.largest.items() if branch == GENERATION)


def _assumptions(
    arch: SenseNovaArchitecture, tier: Tier, workload: Workload, placement: Streaming, device: CardView
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
    if tier.quantized and placement.pinned:
        notes.append(
            f"up to {format_gib(tier.tensors.nbytes)} more of system memory show as used while it loads: pages of the "
            "file, which the system takes back when it needs them"
        )
    if not tier.published:
        notes.append("no published file for this tier; its table follows the recipe of the published U1 files")
    return tuple(notes)

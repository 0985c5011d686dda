"""What stands against a placement whatever the amounts: the card, PyTorch, and what diffusers' hooks cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.hardware.card import Card
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.families.pipeline.architecture import CONTROLNET, DENOISER, VAE, PipelineArchitecture, is_modular
from fitcheck.models.families.pipeline.tiers import unreadable
from fitcheck.models.model import Tier
from fitcheck.runtimes.base import Ask, Support
from fitcheck.runtimes.diffusers.activations import is_traced
from fitcheck.runtimes.diffusers.estimate import least_of
from fitcheck.runtimes.diffusers.format_rows import row_of
from fitcheck.runtimes.diffusers.offloading import BLOCK, MODEL, NONE, SEQUENTIAL, Offload
from fitcheck.runtimes.diffusers.stages import DECODE, is_upcast
from fitcheck.runtimes.diffusers.tiling import ROOM, tile_of
from fitcheck.runtimes.diffusers.weights import parts_of
from fitcheck.runtimes.torch_platform import torch_support


def platform(
    ask: Ask, arch: PipelineArchitecture, offload: Offload, footprint: Callable[[], Footprint]
) -> Support | None:
    """The first of what speaks against it, gravest first; ``footprint`` gives what amounts say."""
    found = allowed(ask.card.card, streams=offload.mode != NONE, bfloat16=in_bfloat16(arch))
    if found is not None and found.verdict is Verdict.NO:
        return found
    return (
        _file(ask.tier, arch)
        or _hooks(arch, offload)
        or _untraced(ask, arch, footprint)
        or _beside(ask, arch, footprint)
        or _quantizer(ask, offload)
        or found
    )


@lru_cache(maxsize=8192)
def allowed(card: Card, *, streams: bool, bfloat16: bool) -> Support | None:
    """What stands against PyTorch on the card, whatever it runs."""
    vendors = load(ROOM, "support")["vendors"]
    row = vendors.get(card.vendor, vendors["other"])
    return torch_support(card, row, streams=streams, bfloat16=bfloat16)


@lru_cache(maxsize=1024)
def in_bfloat16(arch: PipelineArchitecture) -> bool:
    """Whether any component computes in bfloat16; else all do in float16 or float32."""
    return any(one.dtype == "bf16" for one in arch.components)


def is_bounded(ask: Ask, arch: PipelineArchitecture) -> bool:
    """Whether less is known than what a run takes: part of it was not traced."""
    return bool(_missing(arch) or is_untraced(ask, arch) or _row_beside(ask, arch))


def is_untraced(ask: Ask, arch: PipelineArchitecture) -> bool:
    """Whether the task has calls that no trace knows."""
    return _untraced_task(ask, arch) is not None


@lru_cache(maxsize=1024)
def _file(tier: Tier, arch: PipelineArchitecture) -> Support | None:
    """Files that diffusers does not read."""
    if (why := unreadable(tier)) is not None:
        return Support(Verdict.NO, Constraint.RUNTIME, f"Tier {tier.name}: {why}.")
    if tier.format != "gguf":
        return None
    known = set(load(ROOM, "support")["gguf_types"]["names"])
    used = {kind for one in parts_of(tier, arch).values() for kind in one.dequantized_types}
    refused = sorted(used - known)
    if not refused:
        return None
    reason = f"diffusers 0.42.1 does not dequantize {', '.join(refused)} (quantizers/gguf/utils.py)."
    return Support(Verdict.NO, Constraint.DTYPE, reason)


def proven(tier: Tier, modes: Sequence[str]) -> Iterator[str]:
    """The modes of which it is known that they move such weights."""
    row = row_of(load(ROOM, "support")["formats"], tier) or {}
    out = {*row.get("unproven_modes", ()), *row.get("refused_modes", ())}
    return (mode for mode in modes if mode not in out)


def _quantizer(ask: Ask, offload: Offload) -> Support | None:
    """Weights that a quantizer made, in modes that move them layer by layer, and formats ahead of the card."""
    row = row_of(load(ROOM, "support")["formats"], ask.tier)
    if row is None:
        return None
    if ask.placement.mode in row.get("refused_modes", ()):
        reason = f"Weights of {ask.tier.format} in mode {ask.placement.mode}: {row.get('refused') or row['reason']}."
        return Support(Verdict.NO, Constraint.RUNTIME, reason)
    if ask.placement.mode in row["unproven_modes"]:
        reason = f"Weights of {ask.tier.format} in mode {ask.placement.mode}: {row['reason']}."
        return Support(Verdict.UNKNOWN, Constraint.RUNTIME, reason)
    least, have = row.get("compute_capability"), ask.card.card.compute_capability
    if least is not None and have is not None and have < tuple(least):
        reason = f"Compute capability {have[0]}.{have[1]}: {row['below']}."
        return Support(Verdict.UNKNOWN, Constraint.DTYPE, reason)
    return None


@lru_cache(maxsize=1024)
def _hooks(arch: PipelineArchitecture, offload: Offload) -> Support | None:
    if is_modular(arch) and offload.mode in (MODEL, SEQUENTIAL):
        # an H100's run of FLUX.3 klein ended in AttributeError; diffusers 0.42.1, modular_pipelines/modular_pipeline.py
        method = "enable_model_cpu_offload" if offload.mode == MODEL else "enable_sequential_cpu_offload"
        reason = (
            f"{arch.pipeline} is a modular pipeline, which has no {method}; groups of its components can be offloaded, "
            "and what ComponentsManager.enable_auto_cpu_offload takes is not estimated."
        )
        return Support(Verdict.NO, Constraint.RUNTIME, reason)
    vae = next((one for one in arch.components if one.role == VAE), None)
    if vae is None:
        return None
    if offload.level == BLOCK and not vae.recursed:
        reason = (
            f"Group offload by block does not reach {vae.cls}: its decode does not pass through forward, so its "
            "weights stay on the host and the run fails with tensors on two devices; offload by leaf works."
        )
        return Support(Verdict.NO, Constraint.RUNTIME, reason)
    if offload.stream and is_upcast(vae, DECODE):
        # two runs of SDXL on an H100 ended so; diffusers 0.42.1, hooks/group_offloading.py, ModuleGroup.cpu_param_dict
        reason = (
            f"The pipeline casts {vae.cls} to 32 bit for the decode, and group offload with a stream brings the 16-bit "
            "copies that it pinned before: the run fails with two types; the modes without a stream work."
        )
        return Support(Verdict.NO, Constraint.RUNTIME, reason)
    if offload.disk and is_upcast(vae, DECODE):
        # a scaled-down SDXL on a CPU ended so; the same file, ModuleGroup._onload_from_disk
        reason = (
            f"The pipeline casts {vae.cls} to 32 bit for the decode, and groups on disk come back as the 16 bit "
            "that their files were written in: the run fails with two types; groups in memory without a stream work."
        )
        return Support(Verdict.NO, Constraint.RUNTIME, reason)
    if offload.tiling and tile_of(vae) is None:
        reason = f"The tiles of {vae.cls} are not known here, so what tiling saves is not."
        return Support(Verdict.UNKNOWN, Constraint.MODEL, reason)
    return None


def _untraced(ask: Ask, arch: PipelineArchitecture, footprint: Callable[[], Footprint]) -> Support | None:
    missing, task = _missing(arch), _untraced_task(ask, arch)
    if task is not None:
        reason = f"{ask.model.name} for {ask.workload.task}: {task}: the sizes are lower bounds."
        return Support(Verdict.UNKNOWN, Constraint.MODEL, reason, least=least_of(footprint()))
    if not missing:
        return None
    what = " and ".join(f"the {one}" for one in missing)
    verb = "makes beside its" if len(missing) == 1 else "make beside their"
    reason = f"What {what} of {ask.model.name} {verb} weights has not been traced: the sizes are lower bounds."
    return Support(Verdict.UNKNOWN, Constraint.MODEL, reason, least=least_of(footprint()))


@lru_cache(maxsize=1024)
def _missing(arch: PipelineArchitecture) -> tuple[str, ...]:
    """The denoisers and autoencoders of which no call was traced."""
    needed = [one for one in arch.components if one.role in (DENOISER, VAE)]
    return tuple(one.name for one in needed if not is_traced(one))


def _untraced_task(ask: Ask, arch: PipelineArchitecture) -> str | None:
    """Why what the task makes is not known where it has calls that were not traced."""
    return dict(arch.untraced).get(ask.workload.task)


def _row_beside(ask: Ask, arch: PipelineArchitecture) -> Mapping[str, Any] | None:
    """What is known of the first thing that lies beside the pipeline and is not modelled: with weights of the tier, or
    because nobody knows which ControlNet is meant."""
    settings = dict(ask.placement.settings)
    table = load(ROOM, "support")["beside"] if settings else {}
    beside = ((name, table[name]) for name in table if settings.get(name))
    return next((row for name, row in beside if not _is_modelled(name, row, ask, arch)), None)


def _is_modelled(name: str, row: Mapping[str, Any], ask: Ask, arch: PipelineArchitecture) -> bool:
    if name == CONTROLNET:
        return arch.guide is not None
    return ask.tier.format in row.get("modelled_formats", ())


def _beside(ask: Ask, arch: PipelineArchitecture, footprint: Callable[[], Footprint]) -> Support | None:
    """What lies beside the pipeline without having been traced or measured."""
    row = _row_beside(ask, arch)
    if row is None:
        return None
    if ask.tier.format in row.get("refused_formats", ()):
        return Support(Verdict.NO, Constraint.RUNTIME, row["refused"])
    return Support(Verdict.UNKNOWN, Constraint.RUNTIME, row["reason"], least=least_of(footprint()))

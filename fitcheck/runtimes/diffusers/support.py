"""What stands against a placement whatever the amounts: the card, PyTorch, and what diffusers' hooks cannot do."""

from __future__ import annotations

from fitcheck.data_files import load
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.families.pipeline.architecture import DENOISER, VAE, PipelineArchitecture
from fitcheck.runtimes.base import Ask, Support
from fitcheck.runtimes.diffusers.offloading import BLOCK, NONE, Offload
from fitcheck.runtimes.diffusers.tiling import ROOM, tile_of
from fitcheck.runtimes.diffusers.traces import trace_of
from fitcheck.runtimes.torch_platform import torch_support


def platform(ask: Ask, arch: PipelineArchitecture, offload: Offload) -> Support | None:
    """The first of what speaks against it, gravest first."""
    vendors = load(ROOM, "support")["vendors"]
    card = ask.card.card
    row = vendors.get(card.vendor, vendors["other"])
    found = torch_support(card, row, streams=offload.mode != NONE)
    if found is not None and found.verdict is Verdict.NO:
        return found
    return _hooks(arch, offload) or _untraced(ask, arch) or found


def _hooks(arch: PipelineArchitecture, offload: Offload) -> Support | None:
    vae = next((one for one in arch.components if one.role == VAE), None)
    if vae is None:
        return None
    if offload.level == BLOCK and not vae.recursed:
        reason = (
            f"Group offload by block does not reach {vae.cls}: its decode does not pass through forward, so its "
            "weights stay on the host and the run fails with tensors on two devices; offload by leaf works."
        )
        return Support(Verdict.NO, Constraint.RUNTIME, reason, decides=True)
    if offload.tiling and tile_of(vae) is None:
        reason = f"The tiles of {vae.cls} are not known here, so what tiling saves is not."
        return Support(Verdict.UNKNOWN, Constraint.MODEL, reason)
    return None


def _untraced(ask: Ask, arch: PipelineArchitecture) -> Support | None:
    missing = [one.name for one in arch.components if one.role in (DENOISER, VAE) and trace_of(one.trace, one.dtype) is None]
    if not missing:
        return None
    reason = (
        f"What {' and '.join(missing)} of {ask.model.name} make beside their weights has not been traced: the sizes "
        "are lower bounds."
    )
    return Support(Verdict.UNKNOWN, Constraint.MODEL, reason)

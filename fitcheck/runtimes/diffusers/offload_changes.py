"""What a person could change for free, smallest loss first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.families.pipeline.tiers import unreadable
from fitcheck.models.workload import Product
from fitcheck.runtimes.base import Ask, Change, Placement
from fitcheck.runtimes.diffusers.offloading import BESIDE, MODES, TILING, offload_of
from fitcheck.runtimes.diffusers.support import proven
from fitcheck.runtimes.diffusers.tiles_by_default import can_tile
from fitcheck.runtimes.imagined import without_display

SMALL_SIDE = 1024
# of a tier's bytes, so that advice goes in steps that matter
_CLEARLY = 0.94


def changes(ask: Ask) -> Iterator[Change]:
    """Tiling of the decode, lighter modes, less at once, smaller pictures and videos, smaller published tiers."""
    yield from _tiling(ask)
    yield from _lighter_modes(ask)
    yield from without_display(ask)
    yield from _lighter_work(ask)
    yield from _smaller_tiers(ask)


def _smaller_tiers(ask: Ask) -> Iterator[Change]:
    """Published tiers that the mode is known to move, each clearly smaller than the one before."""
    current, mode = ask.tier.tensors.nbytes, ask.placement.mode
    for tier in sorted(ask.model.tiers, key=lambda tier: -tier.tensors.nbytes):
        if not tier.published or mode not in proven(tier, (mode,)) or unreadable(tier) is not None:
            continue
        if tier.tensors.nbytes < _CLEARLY * current:
            current = tier.tensors.nbytes
            yield Change(f"tier {tier.name}", replace(ask, tier=tier))


def _with(ask: Ask, mode: str, settings: dict[str, object]) -> Ask:
    placement = ask.placement
    return replace(
        ask, placement=Placement(placement.runtime, placement.revision, mode, tuple(sorted(settings.items())))
    )


def _tiling(ask: Ask) -> Iterator[Change]:
    arch, work = ask.architecture, ask.workload
    assert isinstance(arch, PipelineArchitecture)
    if offload_of(ask.placement).tiling or not can_tile(arch, work):
        return
    settings = dict(ask.placement.settings)
    vae = [word for word in str(settings.get("vae") or "").split(",") if word]
    tiled = ",".join(sorted([*vae, TILING]))
    other = _with(ask, ask.placement.mode, {**settings, "vae": tiled})
    yield Change(f"--vae {TILING}", other, settings=(("vae", tiled),))


def _lighter_modes(ask: Ask) -> Iterator[Change]:
    """The modes that take less card memory, from most to least; what is set for the decode stays, and what lies beside
    the denoiser."""
    kept = {name: value for name, value in ask.placement.settings if name in ("vae", *BESIDE)}
    for mode in MODES[MODES.index(ask.placement.mode) + 1 :]:
        yield Change(f"--mode {mode}", _with(ask, mode, kept), settings=(("mode", mode),))


def _lighter_work(ask: Ask) -> Iterator[Change]:
    work = ask.workload
    if work.batch > 1:
        yield Change("--batch 1", replace(ask, workload=work.with_(batch=1)), settings=(("batch", 1),))
    if work.task.produces is Product.VIDEO and work.frames > 1:
        arch = ask.architecture
        assert isinstance(arch, PipelineArchitecture)
        half = arch.frames_from((work.frames - 1) // 2 + 1)
        if half < work.frames:
            shorter = replace(ask, workload=work.with_(frames=half))
            yield Change(f"--frames {half}", shorter, settings=(("frames", half),))
    if work.width * work.height > SMALL_SIDE**2:
        smaller = replace(ask, workload=work.with_(width=SMALL_SIDE, height=SMALL_SIDE))
        yield Change("--size 1024x1024", smaller, settings=(("size", "1024x1024"),))

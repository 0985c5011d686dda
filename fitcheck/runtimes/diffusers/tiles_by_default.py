"""Decoding in tiles where nobody asked for it: on a card that the decode of the whole picture does not go into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from fitcheck.memory.footprint import Footprint
from fitcheck.models.families.pipeline.architecture import VAE, PipelineArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Workload
from fitcheck.runtimes.base import Ask, Default, Wanted
from fitcheck.runtimes.diffusers.offloading import TILING, WHOLE, offload_of, placement_of
from fitcheck.runtimes.diffusers.options import PipelineOptions
from fitcheck.runtimes.diffusers.tiling import always_tiles, tile_of

# the mode that is recommended where little goes in; "sequential" takes less, many times as slowly
_LIGHT = "group-leaf-stream"
# of what the whole picture needs, the share that tiles have to save to be taken unasked (chosen)
_CLEARLY = 0.1


def can_tile(arch: PipelineArchitecture, work: Workload) -> bool:
    """Whether tiles of all its autoencoders are known and smaller than what is made, and only taken when asked for."""
    autoencoders = [one for one in arch.components if one.role == VAE]
    tiles = [None if always_tiles(one) else tile_of(one) for one in autoencoders]
    cut = any(tile is not None and tile.cuts(work.width, work.height) for tile in tiles)
    return all(tiles) and cut


def with_tiles(options: PipelineOptions, ask: Ask, footprint: Callable[[Ask], Footprint]) -> PipelineOptions:
    """The options with tiling where nobody said how to decode and a run of ``ask`` that keeps little on its card is
    expected to need more than that has, clearly less of it in tiles."""
    if options.vae or not ask.machine.gpus or not can_tile(_architecture(ask.model, ask.tier), ask.workload):
        return options
    whole = _least(ask, options, footprint)
    if whole <= ask.budgets[ask.gpu].vram.best:
        return options
    tiled = replace(options, vae=(TILING,))
    return tiled if _least(ask, tiled, footprint) < (1 - _CLEARLY) * whole else options


def defaults(ask: Ask, wanted: Wanted) -> Iterator[Default]:
    """Tiles that nobody asked for, and the whole picture in their place."""
    if not offload_of(ask.placement).tiling or wanted.has("vae"):
        return
    settings = tuple(one for one in ask.placement.settings if one[0] != "vae")
    yield Default(
        "decoding in tiles",
        f"--vae {WHOLE}",
        replace(ask, placement=replace(ask.placement, settings=settings)),
    )


def _least(ask: Ask, options: PipelineOptions, footprint: Callable[[Ask], Footprint]) -> int:
    """Bytes that a run which keeps little on its card is expected to need there with these options."""
    light = replace(ask, placement=placement_of(_LIGHT, options))
    return footprint(light).cards[ask.gpu].required.best


def _architecture(model: Model, tier: Tier) -> PipelineArchitecture:
    found = tier.architecture or model.architecture
    assert isinstance(found, PipelineArchitecture)
    return found

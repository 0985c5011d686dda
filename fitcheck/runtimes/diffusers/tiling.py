"""What VAE tiling decodes at once: tiles of a class's own size, one after the other.

Sizes as read in diffusers 0.42.1, models/autoencoders; ``data/tiling.json``.
"""

from __future__ import annotations

from typing import Any

from fitcheck.data_files import load
from fitcheck.models.families.pipeline.architecture import Component

ROOM = "runtimes.diffusers"


def tile_of(component: Component) -> tuple[int, int] | None:
    """(pixels of a tile's side, pixels from one tile to the next); ``None`` for a class whose tiles are not known."""
    row: dict[str, Any] | None = load(ROOM, "tiling")["classes"].get(component.cls)
    if row is None:
        return None
    side = int(component.config.get("sample_size") or 0) if row["tile"] == "sample_size" else int(row["tile"])
    return (side, int(side * row["step"])) if side else None


def decoded(component: Component, width: int, height: int) -> tuple[int, int, int]:
    """Width and height in pixels that are decoded at once with tiling on, and how many such tiles there are. A picture
    no larger than a tile is decoded whole."""
    tile = tile_of(component)
    if tile is None or max(width, height) <= tile[0]:
        return width, height, 1
    side, step = tile
    return min(width, side), min(height, side), _count(width, step) * _count(height, step)


def _count(side: int, step: int) -> int:
    return -(-side // step)

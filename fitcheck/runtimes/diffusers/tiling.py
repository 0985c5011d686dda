"""What VAE tiling decodes at once: tiles of a class's own size, one after the other.

Sizes as read in diffusers 0.42.1, models/autoencoders; ``data/tiling.json``.
"""

from __future__ import annotations

from typing import Any

from fitcheck.data_files import load
from fitcheck.models.families.pipeline.architecture import Component

ROOM = "runtimes.diffusers"
# pixels of a tile's side: a folder's own configuration states it, and may state anything
_LEAST, _LARGEST = 8, 1 << 20


def tile_of(component: Component) -> tuple[int, int] | None:
    """(pixels of a tile's side, pixels from one tile to the next); ``None`` for a class whose tiles are not known."""
    row: dict[str, Any] | None = load(ROOM, "tiling")["classes"].get(component.cls)
    if row is None:
        return None
    side = _stated(component) if row["tile"] == "sample_size" else int(row["tile"])
    return None if side is None else (side, int(side * row["step"]))


def _stated(component: Component) -> int | None:
    """``sample_size`` of a component, the first of two where it is a list; ``None`` where that is no size."""
    size = component.config.get("sample_size")
    if isinstance(size, list | tuple) and size:
        size = size[0]
    is_size = isinstance(size, int) and not isinstance(size, bool) and _LEAST <= size <= _LARGEST
    return size if is_size else None


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

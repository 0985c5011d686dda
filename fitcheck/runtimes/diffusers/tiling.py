"""What VAE tiling and slicing decode at once: tiles of a class's own size, one picture after the other.

Sizes as read in diffusers 0.42.1, models/autoencoders; ``data/tiling.json``. Tiles begin every ``step`` pixels and end
at the picture's edge, so that the last of a row and of a column are smaller. All of them stay until they are blended
and joined: rows of them to strips, strips to the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.pipeline.architecture import Component

ROOM = "runtimes.diffusers"
# pixels of a tile's side: a folder's own configuration states it, and may state anything
_LEAST, _LARGEST = 8, 1 << 20


@dataclass(frozen=True, slots=True)
class Tile:
    """Equal parts of one picture: their sides in pixels and how many there are; ``beside`` counts the pixels that lie
    decoded beside the last of them, ``joined`` those of all tiles with the strips and pictures that they are joined to
    (0 where nothing is joined after it), and ``blended`` the lines in which tiles are faded into their neighbours, one
    after the other (after the last tile)."""

    width: int
    height: int
    count: int = 1
    beside: int = 0
    joined: int = 0
    blended: int = 0


@dataclass(frozen=True, slots=True)
class Grid:
    """Pixels of a tile's sides, and from one tile to the next, across and down."""

    width: int
    height: int
    across: int
    down: int

    def cuts(self, width: int, height: int) -> bool:
        """Whether a picture is larger than a tile."""
        return width > self.width or height > self.height


@dataclass(frozen=True, slots=True)
class Stretch:
    """``latents`` frames that are decoded at once, ``count`` times; ``beside`` counts the decoded frames that lie there
    beside the last of them, ``joined`` those of all stretches with the video that they are joined to (0 where nothing
    is joined after it)."""

    latents: int
    count: int = 1
    beside: int = 0
    joined: int = 0

    def decoded(self, scale: int) -> int:
        """Frames of one, ``scale`` for each latent one but the first."""
        return scale * (self.latents - 1) + 1


def stretches_of(component: Component, latents: int, scale: int) -> tuple[Stretch, ...]:
    """The stretches of a video, each length once, in order of the last of each: all of it for a class that cuts none.
    Stretches overlap, and all of them stay until they are joined (autoencoder_kl_hunyuan_video.py,
    ``_temporal_tiled_decode``)."""
    row = _row(component) or {}
    if latents < row.get("stretch", latents + 1):
        return (Stretch(latents),)
    found: dict[int, Stretch] = {}
    done = 0
    for start in range(0, latents, row["advance"]):
        length = min(row["stretch"], latents - start)
        before = found.pop(length, Stretch(length, 0))
        found[length] = Stretch(length, before.count + 1, done)
        done += found[length].decoded(scale)
    *others, last = found.values()
    return (*others, replace(last, joined=done + scale * (latents - 1) + 1))


def tile_of(component: Component) -> Grid | None:
    """The tiles of an autoencoder; ``None`` for a class whose tiles are not known."""
    row = _row(component)
    if row is None:
        return None
    sides = row["tile"] if isinstance(row["tile"], list) else [row["tile"]] * 2
    steps = row["step"] if isinstance(row["step"], list) else [row["step"]] * 2
    width, height = (_stated(component) if one == "sample_size" else int(one) for one in sides)
    if width is None or height is None:
        return None
    return Grid(width, height, int(width * steps[0]), int(height * steps[1]))


def _stated(component: Component) -> int | None:
    """``sample_size`` of a component, the first of two where it is a list; ``None`` where that is no size."""
    size = component.config.get("sample_size")
    if isinstance(size, list | tuple) and size:
        size = size[0]
    if not isinstance(size, int) or isinstance(size, bool) or not _LEAST <= size <= _LARGEST:
        return None
    return size


def tiles_of(component: Component, width: int, height: int) -> tuple[Tile, ...]:
    """The tiles of a picture with tiling on, each size once, in order of the last of each. A picture no larger than a
    tile is one."""
    tile = tile_of(component)
    if tile is None or not tile.cuts(width, height):
        return (Tile(width, height),)
    found: dict[tuple[int, int], Tile] = {}
    done = 0
    for tall in _sides(height, tile.height, tile.down):
        for wide in _sides(width, tile.width, tile.across):
            before = found.pop((wide, tall), Tile(wide, tall, 0))
            found[wide, tall] = Tile(wide, tall, before.count + 1, done)
            done += wide * tall
    lines = _blended([*_sides(height, tile.height, tile.down)], [*_sides(width, tile.width, tile.across)], tile)
    *others, last = found.values()
    copies = 0 if done == last.width * last.height else int((_row(component) or {})["copies"])
    return (*others, replace(last, joined=done + copies * width * height, blended=lines))


def _blended(heights: list[int], widths: list[int], tile: Grid) -> int:
    """Lines of the overlaps of all tiles of these rows and columns with those above and to the left."""
    below = sum(min(tall, tile.height - tile.down) for tall in heights[1:])
    beside = sum(min(wide, tile.width - tile.across) for wide in widths[1:])
    return len(widths) * below + len(heights) * beside


def sliced(tiles: tuple[Tile, ...], pictures: int, area: int) -> tuple[Tile, ...]:
    """The tiles of several pictures of ``area`` pixels that are decoded one after the other: those that are done stay,
    and all are joined at the end."""
    if pictures == 1:
        return tiles
    done = (pictures - 1) * area
    found = [replace(one, count=pictures * one.count, beside=one.beside + done) for one in tiles]
    last = found[-1]
    found[-1] = replace(last, joined=max(last.joined + done, 2 * pictures * area), blended=pictures * last.blended)
    return tuple(found)


def _sides(side: int, tile: int, step: int) -> Iterator[int]:
    """Lengths of the tiles along a side."""
    return (min(tile, side - start) for start in range(0, side, step))


def _row(component: Component) -> dict[str, Any] | None:
    row: dict[str, Any] | None = load(ROOM, "tiling")["classes"].get(component.cls)
    return row

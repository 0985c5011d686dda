"""What VAE tiling and slicing decode at once: tiles of a class's own size, one picture after the other.

Sizes as read in diffusers 0.42.1, models/autoencoders; ``data/tiling.json``. Tiles begin every ``step`` pixels and end
at the picture's edge, so that the last of a row and of a column are smaller. All of them stay until they are blended
and joined: rows of them to strips, strips to the picture. Of some classes all tiles are of one size and overlap by what
is left over; these tile and cut videos into clips whether anybody asks for it or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    is joined after it). ``whole`` says that the first latent frame is decoded to as many as the others."""

    latents: int
    count: int = 1
    beside: int = 0
    joined: int = 0
    whole: bool = False

    def decoded(self, scale: int) -> int:
        """Frames of one, ``scale`` for each latent one, but for the first where that stands for one."""
        return scale * self.latents if self.whole else scale * (self.latents - 1) + 1


def stretches_of(component: Component, latents: int, scale: int) -> tuple[Stretch, ...]:
    """The stretches of a video, each length once, in order of the last of each: all of it for a class that cuts none.
    Stretches overlap, and all of them stay until they are joined (autoencoder_kl_hunyuan_video.py,
    ``_temporal_tiled_decode``)."""
    row = _row(component) or {}
    if "keeps" in row:
        return (_clips(row, latents, scale),)
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


def _clips(row: Mapping[str, Any], latents: int, scale: int) -> Stretch:
    """The clips of a video (autoencoder_kl_minimax_h3.py, ``_decode``). Of the first one a piece is kept, with it all;
    of the others copies of the frames that each ``keeps``, their beginning faded into the end of the clip before, which
    lies there until then with all of that clip; the last one's end ends the video."""
    each, count = scale * row["stretch"], max(0, latents - row["stretch"]) // row["advance"] + 1
    kept = [each, *[row["keeps"]] * (count - 1)]
    beside = sum(kept[:-1]) + (each if count > 2 else 0)
    joined = sum(kept) + (each if count > 1 else 0) + count * row["keeps"] + row["ends"]
    return Stretch(row["stretch"], count, beside, joined, whole=True)


def always_tiles(component: Component) -> bool:
    """Whether the class tiles what is larger than a tile whether anybody asks for it or not."""
    return bool((_row(component) or {}).get("always"))


def tile_of(component: Component) -> Grid | None:
    """The tiles of an autoencoder; ``None`` for a class whose tiles are not known."""
    row = _row(component)
    if row is None:
        return None
    if "overlap" in row:
        return Grid(row["tile"], row["tile"], *[row["tile"] - row["overlap"]] * 2)
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
    tile, row = tile_of(component), _row(component) or {}
    if tile is not None and "overlap" in row:
        return (_equal(tile, width, height),)
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
    copies = 0 if done == last.width * last.height else int(row["copies"])
    return (*others, replace(last, joined=done + copies * width * height, blended=lines))


def _equal(tile: Grid, width: int, height: int) -> Tile:
    """Tiles of one size, as few as overlap by what they must (autoencoder_kl_minimax_h3.py, ``_split_tiles`` and
    ``_stitch_tiles``): beside them and what they are joined to lie those of the last row, faded into their neighbours.
    A single one is copied as often."""
    across, down = (
        1 if side <= one else -((one - step - side) // step)
        for side, one, step in ((width, tile.width, tile.across), (height, tile.height, tile.down))
    )
    wide, tall = min(width, tile.width), min(height, tile.height)
    count, faded = across * down, across if down > 1 else across - 1
    area = wide * tall
    return Tile(wide, tall, count, (count - 1) * area, (count + faded) * area + 2 * width * height)


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

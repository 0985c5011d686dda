"""The picture of a link preview, 1200 × 630: what it is about, the verdict in a word, the figures, a bar.

Drawn with Pillow instead of matplotlib because a site has a thousand of them. Colours are an indexed palette, so a file
takes about 14 kB; zlib's level 9 would save a tenth of that in ten times the time. The picture carries ``key_of`` its
content, because two versions of a font renderer may differ in bytes where they agree in everything that matters.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from fitcheck.dataclass_later import dataclass

WIDTH, HEIGHT = 1200, 630
MARGIN = 72
VERSION = 4
_KEY = "fitcheck-key"
_LEVELS = 8
_PAPER, _INK = (246, 244, 238), (21, 23, 28)
_ACCENTS = {
    "fits": (11, 92, 173),
    "tight": (138, 82, 0),
    "no": (161, 36, 59),
    "unknown": (85, 91, 102),
    None: (21, 23, 28),
}


@dataclass(frozen=True, slots=True)
class Preview:
    """``verdict`` picks the accent in which ``word`` stands; ``share`` fills the bar and ``limit`` marks it, 0 to 1."""

    eyebrow: str
    title: str
    word: str | None
    verdict: str | None
    lines: tuple[str, ...]
    share: float | None = None
    limit: float | None = None


def content_key(preview: Preview) -> str:
    """64 hex digits that change with what the picture says and with how it is drawn (``VERSION``)."""
    return hashlib.sha256(json.dumps([VERSION, asdict(preview)]).encode()).hexdigest()


def key_of(png: bytes) -> str | None:
    """What a picture made here was drawn from; ``None`` when it was not."""
    try:
        with Image.open(io.BytesIO(png)) as image:
            key = image.info.get(_KEY)
    except (OSError, SyntaxError, ValueError):
        return None
    return key if isinstance(key, str) else None


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    # matplotlib carries DejaVu, so no font of the machine takes part
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name, size)


def _palette(verdict: str | None) -> list[int]:
    """Eight steps from paper to ink, then eight from paper to the accent."""
    values = []
    for end in (_INK, _ACCENTS[verdict]):
        for level in range(_LEVELS):
            values += [round(a + (b - a) * level / (_LEVELS - 1)) for a, b in zip(_PAPER, end, strict=True)]
    return values


def _fitting(text: str, size: int, least: int, bold: bool) -> ImageFont.FreeTypeFont:
    while size > least and _font(size, bold).getlength(text) > WIDTH - 2 * MARGIN:
        size -= 2
    return _font(size, bold)


def draw(preview: Preview) -> bytes:
    """The PNG's bytes: equal for equal previews under one version of Pillow."""
    ink, accent = Image.new("L", (WIDTH, HEIGHT)), Image.new("L", (WIDTH, HEIGHT))
    on_ink, on_accent = ImageDraw.Draw(ink), ImageDraw.Draw(accent)
    on_accent.rectangle((0, 0, 18, HEIGHT), fill=255)
    on_ink.text((MARGIN, 60), preview.eyebrow, font=_font(31, False), fill=190)
    on_ink.text((MARGIN, 105), preview.title, font=_fitting(preview.title, 63, 30, True), fill=255)
    if preview.word:
        on_accent.text((MARGIN - 4, 204), preview.word, font=_fitting(preview.word, 105, 45, True), fill=255)
    for index, line in enumerate(preview.lines[:3]):
        on_ink.text((MARGIN, 357 + 48 * index), line, font=_fitting(line, 34, 22, False), fill=230)
    if preview.share is not None:
        _bar(on_ink, on_accent, preview.share, preview.limit)
    on_ink.text((WIDTH - MARGIN, 590), "fitcheck", font=_font(28, True), fill=255, anchor="rm")
    on_ink.text((MARGIN, 590), "Will it run on this card?", font=_font(25, False), fill=170, anchor="lm")
    return _encode(ink, accent, preview)


def _bar(on_ink: ImageDraw.ImageDraw, on_accent: ImageDraw.ImageDraw, share: float, limit: float | None) -> None:
    """What is needed, as a share of the room; beyond the limit line there is none."""
    left, right, top, bottom = MARGIN, WIDTH - MARGIN, 520, 547
    on_ink.rectangle((left, top, right, bottom), fill=36)
    on_accent.rectangle((left, top, left + round((right - left) * min(1.0, share)), bottom), fill=255)
    if limit is not None:
        x = left + round((right - left) * min(1.0, limit))
        on_ink.rectangle((x - 2, top - 10, x + 2, bottom + 10), fill=255)
        on_accent.rectangle((x - 2, top - 10, x + 2, bottom + 10), fill=0)


def _encode(ink: Image.Image, accent: Image.Image, preview: Preview) -> bytes:
    steps = [value * (_LEVELS - 1) // 255 for value in range(256)]
    image = ink.point(steps)
    raised = accent.point([step + _LEVELS if step else 0 for step in steps])
    image.paste(raised, mask=raised.point([0] + [255] * 255))
    indexed = Image.frombytes("P", image.size, image.tobytes())
    indexed.putpalette(_palette(preview.verdict))
    text = PngImagePlugin.PngInfo()
    text.add_text(_KEY, content_key(preview))
    out = io.BytesIO()
    indexed.save(out, "PNG", optimize=False, compress_level=5, bits=4, pnginfo=text)
    return out.getvalue()

"""The picture of a link preview, 1200 × 630: what it is about, the verdict in a word, the figures, a bar.

A site has tens of thousands of them, which differ in two lines and a bar: so each line of text is a band of its own
across the picture, drawn and deflated once (a card's name, a model's, a verdict), and a picture is its bands one after
the other, as deflate allows where each ends with a full flush. Colours are an indexed palette, so a file takes about
14 kB. The picture carries ``key_of`` its content, because two versions of a font renderer may differ in bytes where
they agree in everything that matters.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

WIDTH, HEIGHT = 1200, 630
MARGIN = 72
VERSION = 5
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
# places of the palette: the whole ink, the whole accent, and the faint room behind a bar
_WHOLE_INK, _WHOLE_ACCENT, _FAINT = _LEVELS - 1, 2 * _LEVELS - 1, 1
_STRIPE = 19  # pixels of accent at the left
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEAR_INK = bytes(value * (_LEVELS - 1) // 255 for value in range(256))
_NEAR_ACCENT = bytes(step + _LEVELS if step else 0 for step in _NEAR_INK)
_ADLER = 65521


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


@dataclass(frozen=True, slots=True)
class _Style:
    """How a line of text stands in its band: ``top`` is where it starts in one of ``height`` rows, ``size`` what it has
    at most and ``least`` what it has where it is too long; ``fill`` is its blackness, 0 to 255."""

    height: int
    top: int
    size: int
    least: int
    fill: int
    bold: bool = False
    accent: bool = False


_EYEBROW = _Style(56, 12, 31, 31, 190)
_TITLE = _Style(92, 1, 63, 30, 255, bold=True)
_WORD = _Style(144, 8, 105, 45, 255, bold=True, accent=True)
_LINE = _Style(48, 5, 34, 22, 230)
_LINES = 3


@dataclass(frozen=True, slots=True)
class _Band:
    """Rows of a picture as they stand in the file: deflated, with the checksum and the length of what they were."""

    deflated: bytes
    checksum: int
    length: int


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
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _palette(verdict: str | None) -> bytes:
    """Eight steps from paper to ink, then eight from paper to the accent."""
    values: list[int] = []
    for end in (_INK, _ACCENTS[verdict]):
        for level in range(_LEVELS):
            values += [round(a + (b - a) * level / (_LEVELS - 1)) for a, b in zip(_PAPER, end, strict=True)]
    return bytes(values)


def _fitting(text: str, style: _Style) -> ImageFont.FreeTypeFont:
    size = style.size
    while size > style.least and _font(size, style.bold).getlength(text) > WIDTH - 2 * MARGIN:
        size -= 2
    return _font(size, style.bold)


def draw(preview: Preview) -> bytes:
    """The PNG's bytes: equal for equal previews under one version of Pillow."""
    bands = list(_bands(preview))
    checksum, body = 1, [b"\x78\x5e"]  # the header of a zlib stream with a window of 32 KiB
    for band in bands:
        checksum = _joined(checksum, band)
        body.append(band.deflated)
    body += [b"\x03\x00", struct.pack(">I", checksum)]  # an empty last block
    out = io.BytesIO()
    out.write(_SIGNATURE)
    PngImagePlugin.putchunk(out, b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 4, 3, 0, 0, 0))
    PngImagePlugin.putchunk(out, b"PLTE", _palette(preview.verdict))
    PngImagePlugin.putchunk(out, b"tEXt", f"{_KEY}\0{content_key(preview)}".encode("ascii"))
    PngImagePlugin.putchunk(out, b"IDAT", b"".join(body))
    PngImagePlugin.putchunk(out, b"IEND")
    return out.getvalue()


def _joined(checksum: int, band: _Band) -> int:
    """The Adler-32 of what stood before and of ``band``, of the checksums of both."""
    low = (checksum & 0xFFFF) + (band.checksum & 0xFFFF) - 1
    high = (checksum >> 16) + (band.checksum >> 16) + band.length * ((checksum & 0xFFFF) - 1)
    return (high % _ADLER) << 16 | low % _ADLER


def _bands(preview: Preview) -> Iterator[_Band]:
    """From the top to the bottom: 630 rows."""
    yield _blank(48)
    yield _text(preview.eyebrow, _EYEBROW)
    yield _text(preview.title, _TITLE)
    yield _text(preview.word or "", _WORD)
    yield _blank(12)
    for line in (*preview.lines, *("",) * _LINES)[:_LINES]:
        yield _text(line, _LINE)
    yield _blank(10)
    yield _blank(55) if preview.share is None else _bar(_across(preview.share), _across(preview.limit))
    yield _foot()


@lru_cache(maxsize=4096)
def _text(text: str, style: _Style) -> _Band:
    """A band with one line of text."""
    rows = Image.new("L", (WIDTH, style.height))
    if text:
        pen = ImageDraw.Draw(rows)
        pen.text((MARGIN - 4 * style.accent, style.top), text, font=_fitting(text, style), fill=style.fill)
    return _packed(rows.point(_NEAR_ACCENT if style.accent else _NEAR_INK))


@cache
def _blank(height: int) -> _Band:
    return _packed(Image.new("L", (WIDTH, height)))


@cache
def _foot() -> _Band:
    rows = Image.new("L", (WIDTH, 69))
    pen = ImageDraw.Draw(rows)
    pen.text((WIDTH - MARGIN, 29), "fitcheck", font=_font(28, True), fill=255, anchor="rm")
    pen.text((MARGIN, 29), "Will it run on this card?", font=_font(25, False), fill=170, anchor="lm")
    return _packed(rows.point(_NEAR_INK))


def _across(part: float | None) -> int | None:
    """The pixel at which a part of the bar's room ends."""
    return None if part is None else MARGIN + round((WIDTH - 2 * MARGIN) * min(1.0, part))


@lru_cache(maxsize=4096)
def _bar(end: int, limit: int | None) -> _Band:
    """What is needed, as a share of the room; beyond the limit line there is none."""
    rows = Image.new("L", (WIDTH, 55))
    pen = ImageDraw.Draw(rows)
    pen.rectangle((MARGIN, 14, WIDTH - MARGIN, 41), fill=_FAINT)
    pen.rectangle((MARGIN, 14, end, 41), fill=_WHOLE_ACCENT)
    if limit is not None:
        pen.rectangle((limit - 2, 4, limit + 2, 51), fill=_WHOLE_INK)
    return _packed(rows)


def _packed(rows: Image.Image) -> _Band:
    """Rows of places in the palette, with the stripe at the left: two pixels a byte, no filter."""
    rows.paste(_WHOLE_ACCENT, (0, 0, _STRIPE, rows.height))
    indexed = Image.frombytes("P", rows.size, rows.tobytes()).tobytes("raw", "P;4")
    row = WIDTH // 2
    raw = b"".join(b"\0" + indexed[start : start + row] for start in range(0, len(indexed), row))
    work = zlib.compressobj(5, zlib.DEFLATED, -zlib.MAX_WBITS)
    return _Band(work.compress(raw) + work.flush(zlib.Z_FULL_FLUSH), zlib.adler32(raw), len(raw))

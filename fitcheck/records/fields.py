"""Bounded field types of records: every string has a pattern or a length, every number a range, every list a size.

A record comes from a stranger's machine, so nothing in it is trusted: names cannot leave their folder, texts cannot
carry control characters, and numbers stay inside the range that JSON keeps exact (below 2^53).
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_SAMPLES = 256
MAX_STEPS = 2048
MAX_PHASES = 32
MAX_ITEMS = 64
MAX_TEXT = 2000
MAX_BYTES = 1 << 50
MAX_COUNT = 10_000_000

# names that Windows gives to devices: a folder called so cannot be checked out there
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in range(1, 10)}


def _no_device(slug: str) -> str:
    if slug.split(".")[0] in _DEVICES:
        raise ValueError(f"{slug!r} is a device name on Windows and cannot be a folder")
    return slug


class Block(BaseModel):
    """Base of everything in a record: strict types, no unknown fields, finite floats, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _pattern(pattern: str, length: int) -> object:
    return Field(pattern=pattern, min_length=1, max_length=length)


Slug = Annotated[str, _pattern(r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$", 64), AfterValidator(_no_device)]
Label = Annotated[str, _pattern(r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}$", 64)]
Name = Annotated[str, _pattern(r"^[A-Za-z0-9][A-Za-z0-9 ._()+@/,:&-]{0,127}$", 128)]
Version = Annotated[str, _pattern(r"^[A-Za-z0-9][A-Za-z0-9 ._+:~()-]{0,63}$", 64)]
Repository = Annotated[str, _pattern(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}$", 200)]
FileName = Annotated[
    str, _pattern(r"^[A-Za-z0-9][A-Za-z0-9 _.+()-]{0,254}(?:/[A-Za-z0-9][A-Za-z0-9 _.+()-]{0,254}){0,4}$", 255)
]
Revision = Annotated[str, _pattern(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", 64)]
Commit = Annotated[str, _pattern(r"^[0-9a-f]{7,40}$", 40)]
Sha256 = Annotated[str, _pattern(r"^[0-9a-f]{64}$", 64)]
PciId = Annotated[str, _pattern(r"^[0-9a-f]{4}:[0-9a-f]{4}$", 9)]
TypeName = Annotated[str, _pattern(r"^[A-Za-z][A-Za-z0-9_]{0,31}$", 32)]
Handle = Annotated[str, _pattern(r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?$", 39)]
# printable text and line feeds: no control, bidirectional-override or zero-width characters
Text = Annotated[
    str,
    Field(
        max_length=MAX_TEXT,
        pattern=r"^[^\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*$",
    ),
]

Bytes = Annotated[int, Field(ge=0, le=MAX_BYTES)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Small = Annotated[int, Field(ge=0, le=4096)]
Pixels = Annotated[int, Field(ge=1, le=65536)]
Seconds = Annotated[float, Field(ge=0, le=1e7)]
BytesPerSecond = Annotated[float, Field(gt=0, le=1e15)]
Flops = Annotated[float, Field(gt=0, le=1e18)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
Watts = Annotated[float, Field(ge=0, le=1e5)]
UtcSeconds = Annotated[int, Field(ge=1_500_000_000, le=1 << 40)]

_NOT_TEXT = re.compile(
    r"[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_LOCAL_PATH = re.compile(r"""(?:(?<![\w.])(?:~|/)|\b[A-Za-z]:[\\/]|\\\\)[^\s'",;:()\[\]]+[/\\][^\s'",;:()\[\]]*""")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")


def clean_text(text: str, limit: int = MAX_TEXT) -> str:
    """A message as it may enter a record: no control characters, no local paths, at most ``limit`` characters."""
    text = _LOCAL_PATH.sub("[path]", text.replace("\r\n", "\n").replace("\t", " "))
    text = _NOT_TEXT.sub(" ", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def slugify(text: str) -> str:
    """``"NVIDIA GeForce RTX 4090"`` -> ``"nvidia-geforce-rtx-4090"``; ``"unknown"`` when nothing is left. Always a
    ``Slug``: the name of a device on Windows, like ``con``, becomes ``x-con``."""
    slug = _NOT_SLUG.sub("-", text.lower()).strip("-")[:64].strip("-") or "unknown"
    return f"x-{slug}" if slug in _DEVICES else slug

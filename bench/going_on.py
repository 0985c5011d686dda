"""What a series needs to go on after it was ended at any moment: names for its cells, and files cut back to what was
written whole."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.job import Job
from fitcheck.errors import RecordError
from fitcheck.units import MIB

LARGEST = 256 * MIB
_GZIP = 16 + zlib.MAX_WBITS
# what may change in a plan between two runs of it without making other measurements of its entries
_NOT_THE_MEASUREMENT = ("seconds",)


def entry_names(plan: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each entry: by what it asks for, and how often that stood before it, so that entries may be added,
    moved or taken out between two runs of a plan."""
    names, seen = [], Counter[str]()
    for entry in plan:
        asked = {key: value for key, value in entry.items() if key not in _NOT_THE_MEASUREMENT}
        digest = _digest(json.dumps(asked, sort_keys=True))
        names.append(f"{digest}.{seen[digest]}")
        seen[digest] += 1
    return names


def cell_name(entry: str, job: Job) -> str:
    """A name for one job of an entry."""
    return f"{entry}/{_digest(job.to_json())}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def whole_lines(path: Path) -> list[bytes]:
    """The lines of ``path``; what stands behind the last line feed was cut short when its writer was ended, and goes.

    Raises RecordError for a file that cannot be read or changed, or that no series wrote.
    """
    content = _bounded(path)
    end = content.rfind(b"\n") + 1
    _cut(path, len(content), end)
    return [line for line in content[:end].splitlines() if line.strip()]


def whole_members(path: Path) -> bytes:
    """What the gzip members of ``path`` hold, one after the other; a last one that was cut short goes.

    Raises RecordError as ``whole_lines`` does, and for members that hold more than a series writes.
    """
    content = _bounded(path)
    pieces: list[bytes] = []
    end = 0
    for piece, after in _members(path, content):
        pieces.append(piece)
        end = after
    _cut(path, len(content), end)
    return b"".join(pieces)


def _members(path: Path, content: bytes) -> Iterator[tuple[bytes, int]]:
    at, room = 0, LARGEST
    while at < len(content):
        reader = zlib.decompressobj(_GZIP)
        try:
            piece = reader.decompress(memoryview(content)[at:], room)
        except zlib.error:
            return
        if reader.unconsumed_tail:
            raise RecordError(f"{path}: holds more than {LARGEST // MIB} MiB; this is not the output of a series.")
        if not reader.eof:
            return
        at, room = len(content) - len(reader.unused_data), room - len(piece)
        yield piece, at


def _bounded(path: Path) -> bytes:
    try:
        if not path.exists():
            return b""
        if path.stat().st_size > LARGEST:
            raise RecordError(f"{path}: larger than {LARGEST // MIB} MiB; this is not the output of a series.")
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _cut(path: Path, size: int, end: int) -> None:
    try:
        if end < size:
            os.truncate(path, end)
    except OSError as error:
        raise RecordError(f"{path}: its cut end cannot be taken off ({error.strerror or error}).") from error


def append(path: Path, content: bytes) -> None:
    """Adds ``content`` to ``path`` and waits for the disk. Raises OSError; what a full disk took of it goes again."""
    with path.open("ab") as file:
        before = file.tell()
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), before)
            raise


def replace(path: Path, content: str) -> None:
    """Writes ``path`` in one step, so that whoever is ended leaves a whole one. Raises OSError."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)

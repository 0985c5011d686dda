"""Files of unknown origin: read to a bound and never waited for. Apart from reading.py, so that a fit check need not
load the schema."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fitcheck.errors import RecordError

MAX_FILE_BYTES = 1 << 20
_PIECE = 1 << 16
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FLAGS = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_LINK = "{}: is a symbolic link; give the file itself."
# a results tree has two levels of folders; what lies deeper is no record, whoever put it there
MAX_DEPTH = 8


def read_bounded(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """A regular file's bytes. Raises InputError for links, devices, folders, and more than ``limit`` bytes."""
    try:
        if not _NOFOLLOW and path.is_symlink():
            raise RecordError(_LINK.format(path))
        handle = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ELOOP and path.is_symlink():
            raise RecordError(_LINK.format(path)) from error
        raise RecordError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise RecordError(f"{path}: cannot be read (it is not a regular file).")
        content = _read(handle, limit + 1)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror or error}).") from error
    finally:
        os.close(handle)
    if len(content) > limit:
        raise RecordError(f"{path}: is larger than {limit} bytes; no record is that large.")
    return content


def _read(handle: int, most: int) -> bytes:
    """At most that many bytes; records are small, so the first piece is usually all of it."""
    pieces, left = [], most
    while left and (piece := os.read(handle, min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def walk(root: Path, most: int = MAX_DEPTH) -> Iterator[Path]:
    """Every file, link and other thing that is no folder below ``root``, folder by folder in the order of names.

    Folders behind links are not entered. A folder that cannot be read, or that lies ``most`` levels deep, is given
    itself, so that whoever asked can refuse it. Raises InputError when ``root`` cannot be read.
    """
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            if depth >= most:
                yield folder
                continue
            with os.scandir(folder) as listing:
                entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing)
        except OSError as error:
            if folder == root:
                raise RecordError(f"{root}: cannot be read ({error.strerror or error}).") from error
            yield folder
            continue
        yield from (folder / name for name, is_folder in entries if not is_folder)
        waiting += [(folder / name, depth + 1) for name, is_folder in reversed(entries) if is_folder]

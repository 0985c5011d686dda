"""Files of unknown origin: read to a bound and never waited for. Apart from reading.py, so that a fit check need not
load the schema."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fitcheck.errors import RecordError

MAX_FILE_BYTES = 1 << 20
# a results tree has two levels of folders; what lies deeper is no record, whoever put it there
MAX_DEPTH = 8


def read_bounded(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """A regular file's bytes. Raises InputError for links, devices, folders, and more than ``limit`` bytes."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if path.is_symlink():
            raise RecordError(f"{path}: is a symbolic link; give the file itself.")
        handle = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise RecordError(f"{path}: cannot be read (it is not a regular file).")
    with os.fdopen(handle, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise RecordError(f"{path}: is larger than {limit} bytes; no record is that large.")
    return content


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

"""How fast files are read where models lie: a bounded read of a file that is there, and the kind of file system."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from fitcheck.dataclass_later import dataclass

MOST_BYTES = 256 << 20
MOST_SECONDS = 2.0
LEAST_BYTES = 16 << 20  # a smaller file says nothing of a disk
_PIECE = 8 << 20
_MOST_FILES, _MOST_DEPTH = 4000, 8
_MOST_MOUNTS = 1 << 20
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class FoundDisk:
    """The kind of file system, and bytes read in so many seconds from the largest file; ``None`` where no file is
    large enough to tell, or none was ``tried``. ``cached`` says that the system was not asked to forget what it had
    of the file."""

    file_system: str | None = None
    read: int | None = None
    seconds: float | None = None
    cached: bool = False
    tried: bool = True

    @property
    def rate(self) -> float | None:
        """B/s."""
        return self.read / self.seconds if self.read and self.seconds else None


def find(place: Path, mounts: Path = Path("/proc/mounts"), clock: Clock = time.perf_counter) -> FoundDisk:
    """``place`` is a model file, or the folder where they are kept. Raises nothing."""
    kind = file_system(place, mounts)
    file = place if place.is_file() else _largest(place)
    if file is None:
        return FoundDisk(kind)
    try:
        return _timed(file, kind, clock)
    except OSError:
        return FoundDisk(kind)


def file_system(place: Path, mounts: Path) -> str | None:
    """The type of what is mounted there ("ext4", "9p", "nfs4"); None where the system keeps no list."""
    try:
        with mounts.open("rb") as file:
            rows = [line.split() for line in file.read(_MOST_MOUNTS).decode("utf-8", "replace").splitlines()]
        target = str(place.resolve())
    except (OSError, RuntimeError):
        return None
    inside = [
        (len(row[1]), row[2]) for row in rows if len(row) > 2 and f"{target}/".startswith(f"{row[1].rstrip('/')}/")
    ]
    return max(inside)[1] if inside else None


def _largest(folder: Path) -> Path | None:
    """The largest file of a few thousand, links followed by nobody but the read itself."""
    best: tuple[int, Path] | None = None
    for size, path in _files(folder):
        if size >= LEAST_BYTES and (best is None or size > best[0]):
            best = (size, path)
    return None if best is None else best[1]


def _files(folder: Path) -> Iterator[tuple[int, Path]]:
    waiting, left = [(folder, 0)], _MOST_FILES
    while waiting and left > 0:
        place, depth = waiting.pop()
        try:
            entries = list(zip(range(left), os.scandir(place), strict=False))
        except OSError:
            continue
        for _, entry in entries:
            left -= 1
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    if depth < _MOST_DEPTH:
                        waiting.append((Path(entry.path), depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False).st_size, Path(entry.path)


def _timed(path: Path, kind: str | None, clock: Clock) -> FoundDisk:
    handle = os.open(path, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode) or os.fstat(handle).st_size < LEAST_BYTES:
            return FoundDisk(kind)
        forgotten = _forget(handle)
        read, start = 0, clock()
        while read < MOST_BYTES and clock() - start < MOST_SECONDS and (piece := os.read(handle, _PIECE)):
            read += len(piece)
        return FoundDisk(kind, read, max(clock() - start, 1e-6), not forgotten)
    finally:
        os.close(handle)


def _forget(handle: int) -> bool:
    """Ask the system to drop what it keeps of the file, so that the disk is read; False where that cannot be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with suppress(OSError):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        return True
    return False

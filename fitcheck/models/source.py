"""Where header bytes come from: a window that slides forward over a file or a ranged download.

A header is parsed front to back and most of it is only measured (token lists), so the window keeps what is being
looked at and forgets the rest: memory stays bounded whatever the file claims.
"""

from __future__ import annotations

import stat
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

from fitcheck.errors import FileError
from fitcheck.units import KIB, MIB

HEADER_LIMIT = 64 * MIB
_LEAST_AHEAD = 128 * KIB
_MOST_AHEAD = MIB // 2
_U64 = struct.Struct("<Q")


class FormatError(FileError):
    """The bytes are there and are not what the format says."""


class ByteSource(Protocol):
    """Random access to the bytes of one file; ``size`` is None while nobody has told it."""

    @property
    def name(self) -> str:
        """The file in messages: a path or an address without its query."""

    @property
    def size(self) -> int | None:
        """Bytes of the whole file; ``None`` while nobody has told it."""

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, fewer only where the file ends."""
        ...


def open_regular(path: Path, what: str) -> BinaryIO:
    """``path`` opened for reading, or InputError: missing, a folder, a pipe or device, no permission."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise FileError(f"{path}: this is a folder; name {what}.")
        if not stat.S_ISREG(mode):
            raise FileError(f"{path}: this is not a regular file; name {what}.")
        return path.open("rb")
    except FileNotFoundError:
        raise FileError(f"{path}: there is no such file; check the path.") from None
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise FileError(f"{path}: cannot be read ({reason}); check the path and its permissions.") from None


class LocalFile:
    """A local file as a ByteSource. Use it as a context manager."""

    def __init__(self, path: Path, what: str) -> None:
        self._file = open_regular(path, what)
        self.name = str(path)
        self.size = path.stat().st_size

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, fewer only at the end of the file. Raises FileError when the disk fails."""
        try:
            self._file.seek(offset)
            return self._file.read(length)
        except OSError as problem:
            raise FileError(f"{self.name}: reading failed ({problem.strerror}); check the disk.") from None

    def __enter__(self) -> LocalFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class Window:
    """A forward cursor over a ByteSource that holds only the bytes around ``position``.

    Every reader raises FormatError when the source ends first or the header passes ``limit`` bytes. A little more is
    asked of the source than is needed, and more the longer the header is read without a gap.
    """

    def __init__(self, source: ByteSource, limit: int = HEADER_LIMIT, read_ahead: int = _LEAST_AHEAD) -> None:
        self._source = source
        self._limit = limit
        self._read_ahead = self._ahead = read_ahead
        self._buffer = b""
        self._base = 0
        self._at = 0

    @property
    def position(self) -> int:
        """Bytes from the start of the file to the next one that will be read."""
        return self._base + self._at

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes, as a copy."""
        self.need(count)
        return self._buffer[self._at : self._at + count]

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, stepped over."""
        taken = self.peek(count)
        self._at += count
        return taken

    def unpack(self, layout: struct.Struct) -> tuple[int | float | bool, ...]:
        """The values of ``layout`` at the position, which moves behind them."""
        self.need(layout.size)
        values = layout.unpack_from(self._buffer, self._at)
        self._at += layout.size
        return values

    def u64(self) -> int:
        """A little-endian unsigned 64-bit integer, as GGUF stores counts and lengths."""
        self.need(8)
        value: int = _U64.unpack_from(self._buffer, self._at)[0]
        self._at += 8
        return value

    def skip(self, count: int) -> None:
        """Steps over ``count`` bytes without reading those that are not in the window yet."""
        self._within_limit(self.position + count)
        self._at += count

    def skip_strings(self, count: int) -> None:
        """Steps over ``count`` length-prefixed strings; only their lengths are looked at."""
        self._within_limit(self.position + 8 * count)
        unpack = _U64.unpack_from
        while count:
            self.need(8)
            buffer, at, last = self._buffer, self._at, len(self._buffer) - 8
            while count and at <= last:
                at += 8 + unpack(buffer, at)[0]
                count -= 1
            self._within_limit(self._base + at)
            self._at = at

    def need(self, count: int) -> None:
        """Makes sure that the next ``count`` bytes are in the window."""
        if self._at + count <= len(self._buffer):
            return
        position = self.position
        self._within_limit(position + count)
        size = self._source.size
        if size is not None and position + count > size:
            raise self._ended(size)
        kept = self._buffer[self._at :]
        gap = self._at > len(self._buffer) or not self._buffer
        self._ahead = self._read_ahead if gap else min(2 * self._ahead, max(self._read_ahead, _MOST_AHEAD))
        more = max(count - len(kept), self._ahead)
        if size is not None:
            more = min(more, size - position - len(kept))
        self._buffer = kept + self._source.read(position + len(kept), more)
        self._base, self._at = position, 0
        if len(self._buffer) < count:
            raise self._ended(position + len(self._buffer))

    def _within_limit(self, end: int) -> None:
        if end > self._limit:
            raise FormatError(
                f"{self._source.name}: the header claims more than {self._limit // MIB} MiB, which no model needs; "
                "the file is damaged or hostile, get it from its publisher."
            )

    def _ended(self, end: int) -> FormatError:
        return FormatError(f"{self._source.name}: the file ends inside its header, at byte {end:,}; download it again.")

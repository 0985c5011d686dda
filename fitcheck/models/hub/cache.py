"""What was fetched once, on disk. Names are hashes, so neither repositories nor secrets can be read off them.

The cache only saves time: an entry that is not what was written is taken as "not there", and nothing in it is trusted
more than the network (the readers check every byte again).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from fitcheck.units import MIB

_LAYOUT = "hub-1"
_CHECKSUM = 32
_LARGEST_ENTRY = 72 * MIB
_KEPT_BYTES = 1024 * MIB


class DiskCache:
    """Byte strings by key. ``root`` None makes a cache that forgets everything."""

    def __init__(self, root: Path | None) -> None:
        self._folder = root / _LAYOUT if root else None

    def _path(self, key: tuple[str, ...]) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / hashlib.sha256("\0".join(key).encode()).hexdigest()

    def load(self, key: tuple[str, ...]) -> bytes | None:
        """The bytes kept under ``key``; ``None`` when they are not there or not what was written."""
        path = self._path(key)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST_ENTRY + 1)
            os.utime(path)
        except OSError:
            return None
        checksum, body = data[:_CHECKSUM], data[_CHECKSUM:]
        return body if checksum == hashlib.sha256(body).digest() else None

    def store(self, key: tuple[str, ...], data: bytes) -> None:
        """Keeps ``data`` atomically; a full or unwritable disk is no error."""
        path = self._path(key)
        if path is None or len(data) > _LARGEST_ENTRY:
            return
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix="writing-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(data).digest() + data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise
            self._prune(path.parent)

    @staticmethod
    def _prune(folder: Path) -> None:
        """Drops the entries that were not used for longest, until the folder is within its bound."""
        entries = sorted(((path.stat().st_mtime, path.stat().st_size, path) for path in folder.iterdir()), reverse=True)
        total = 0
        for _, size, path in entries:
            total += size
            if total > _KEPT_BYTES:
                path.unlink(missing_ok=True)

"""One bench a machine: a file lock that the operating system releases when its holder ends, however it ends."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from fitcheck.errors import MeasurementError


def _path(identity: str) -> Path:
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"fitcheck-bench-{digest}.lock")


def _try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def bench_lock() -> AbstractContextManager[None]:
    """This machine for the block, whatever its cards: benches on two cards share the host's memory and links.

    Raises InputError when another bench runs.
    """
    return _held("machine", "another fitcheck bench is running on this machine", "two would measure each other")


def folder_lock(folder: Path) -> AbstractContextManager[None]:
    """The folder of a series for the block. Raises InputError when another series writes there."""
    return _held(f"folder {folder.resolve()}", f"another series writes to {folder}", "two would mix their records")


@contextmanager
def _held(identity: str, who: str, why: str) -> Iterator[None]:
    path = _path(identity)
    flags = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        try:
            descriptor = os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # another user's bench made it and may be long gone; a lock needs no right to write
            descriptor = os.open(path, flags | os.O_RDONLY)
    except OSError as error:
        raise MeasurementError(
            f"{path}: the lock of the bench cannot be opened ({error.strerror}); another user's bench may hold it."
        ) from error
    try:
        if not _try_lock(descriptor):
            raise MeasurementError(f"{who}{_holder(descriptor)}; wait for it or end it, {why}.")
        # byte 0 is what Windows locks, and a locked byte cannot be read there: the holder stands behind it
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f" {os.getpid()}".encode())
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    with suppress(OSError):
        os.lseek(descriptor, 1, os.SEEK_SET)
        text = os.read(descriptor, 16).decode("ascii", "replace").strip()
        if text.isdigit():
            return f" (process {text})"
    return ""

"""One bench a card: a file lock that the operating system releases when its holder ends, however it ends."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fitcheck.errors import MeasurementError


def _path(card: str) -> Path:
    digest = hashlib.sha256(card.encode()).hexdigest()[:16]
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


@contextmanager
def card_lock(card: str, name: str) -> Iterator[None]:
    """Holds the card whose identity is ``card`` (a UUID or an index) for the block.

    Raises InputError when another bench holds it; ``name`` is what the message calls the card.
    """
    path = _path(card)
    flags = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        try:
            descriptor = os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # another user's bench made it and may be long gone; a lock needs no right to write
            descriptor = os.open(path, flags | os.O_RDONLY)
    except OSError as error:
        raise MeasurementError(
            f"{path}: the lock of {name} cannot be opened ({error.strerror}); another user's bench may hold it."
        ) from error
    try:
        if not _try_lock(descriptor):
            raise MeasurementError(
                f"another fitcheck bench is running on {name}{_holder(descriptor)}; wait for it or end it, "
                "two would measure each other."
            )
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

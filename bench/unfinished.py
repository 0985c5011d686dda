"""Measurements that are not over yet, on disk: what was measured is kept first and becomes a record afterwards.

``<root>/.unfinished/<process>-<start>.json`` is the record as it would be if the run ended now. A run that ends takes
its file away; one that was killed leaves it, and the next run makes it a record.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from fitcheck.errors import InputError, RecordError
from fitcheck.records import store
from fitcheck.records.places import local_root
from fitcheck.records.schema import AnyRecord

FOLDER = ".unfinished"
# a long run's trace takes longer to sum up, and loses little by it
_FIRST_WAIT, _SHARE = 1.0, 0.05


class Draft:
    """The file of one running measurement below ``root``; ``root`` of ``None`` keeps none."""

    def __init__(self, root: Path | None) -> None:
        self._path = root / FOLDER / f"{_name(os.getpid())}-{secrets.token_hex(4)}.json" if root else None
        self._started = time.monotonic()
        self._due = 0.0

    def due(self) -> bool:
        """Whether the file is older than it should be."""
        return self._path is not None and time.monotonic() - self._started >= self._due

    def keep(self, record: AnyRecord) -> None:
        """Writes the record as it stands, whole or not at all. A full disk is no reason to end what is measured."""
        if self._path is None:
            return
        elapsed = time.monotonic() - self._started
        self._due = elapsed + max(_FIRST_WAIT, elapsed * _SHARE)
        temporary = self._path.with_suffix(".tmp")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(store.encode(record))
            temporary.replace(self._path)

    def drop(self) -> None:
        """The measurement is over and its record written."""
        if self._path is not None:
            for path in (self._path, self._path.with_suffix(".tmp")):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # another run's file is still there
                self._path.parent.rmdir()


@contextmanager
def kept_raw(output: bytes, root: Path | None, tool: str, importer: bool = True) -> Iterator[None]:
    """Holds the output of ``tool`` below ``root`` while a record is made of it, and says where it lies when that fails;
    ``importer`` says that `fitcheck import` reads what this tool prints.

    Raises InputError, the tool's time is not lost with it.
    """
    if root is None:
        yield
        return
    path = root / FOLDER / f"{tool}-{time.time():.0f}-{secrets.token_hex(4)}.txt"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(output)
    try:
        yield
    except (InputError, ValueError) as error:  # pydantic's errors are ValueErrors
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        hint = f"; what it gave is kept in {path}" + (f", give that to `fitcheck import {tool}`" if importer else "")
        raise RecordError(f"{tool}: no record can be made ({reason}){hint if path.exists() else ''}.") from error
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()


def rescue(record: AnyRecord, why: str) -> str:
    """Keeps a record whose folder does not take it: in this user's own records, else where temporary files go.

    Returns a sentence that says ``why`` and where it lies now, or holds the whole record where no disk takes it.
    """
    for root in (local_root(), Path(tempfile.gettempdir(), "fitcheck-records")):
        with suppress(InputError, OSError):
            return f"{why.rstrip('.')}; the record is kept in {store.write(root, record)}."
    return f"{why.rstrip('.')}; no disk takes the record, which is: {store.encode(record).decode().strip()}"


def recover(root: Path) -> list[Path]:
    """Makes records of what killed runs left below ``root``; their paths. A file that is no record is left alone."""
    found = []
    for path in sorted((root / FOLDER).glob("*.json")):
        if _runs(path):
            continue
        with suppress(InputError, OSError):
            found.append(store.write(root, store.seal(store.read(path))))
            path.unlink()
    for path in (root / FOLDER).glob("*.tmp"):
        if not _runs(path):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        (root / FOLDER).rmdir()
    return found


def _name(process: int) -> str:
    """A process by its number and the time that it started: numbers come again."""
    return f"{process}-{psutil.Process(process).create_time():.0f}"


def _runs(path: Path) -> bool:
    process, _, _ = path.stem.partition("-")
    try:
        return path.stem.startswith(f"{_name(int(process))}-")
    except (psutil.Error, ValueError, OverflowError):
        return False

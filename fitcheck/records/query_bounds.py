"""Bounds of a query's work in time and in the process's memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fitcheck.errors import OptionError

if TYPE_CHECKING:
    import duckdb

MOST_SECONDS = 8.0  # a million records are grouped in one
_MOST_MORE_BYTES = 4 << 30  # twice what the engine counts: the memory of its threads comes on top


@contextlib.contextmanager
def bounded(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Ends what ``connection`` works on after ``MOST_SECONDS`` with an InputError that says so."""
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        connection.interrupt()

    clock = threading.Timer(MOST_SECONDS, stop)
    clock.daemon = True
    clock.start()
    try:
        with _bounded_memory():
            yield
    except KeyboardInterrupt as error:
        if not stopped.is_set():
            raise
        raise OptionError(
            f"the query takes longer than {MOST_SECONDS:g} s; narrow it, or put the records into one file with "
            "`fitcheck results compact` and ask that in an engine of your own."
        ) from error
    finally:
        clock.cancel()


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    """A limit of the process's memory, on Linux: a function that makes one huge value asks the system for it beside
    what the engine counts, and nothing interrupts it."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError, ValueError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + _MOST_MORE_BYTES
    bounds = [wanted, *(one for one in (soft, hard) if one != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

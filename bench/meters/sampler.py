"""A thread that reads probes at their own pace, and the trace of readings it leaves.

The sampler runs in the parent process: it does not contend for the measured process's interpreter lock, and what it saw
survives when that process is killed. Times are ``time.monotonic()``, which on Linux, macOS and Windows is one clock for
all processes, so a phase timed in the child can be looked up in the trace.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol


class Probe(Protocol):
    """Reads named quantities. ``period`` is seconds between readings; a missing key means no such meter."""

    period: float

    def read(self) -> Mapping[str, float]:
        """The quantities at this moment; an exception ends the probe."""


@dataclass(frozen=True, slots=True)
class MeterReading:
    """Values of one probe by name, at ``at`` (monotonic seconds)."""

    at: float
    values: Mapping[str, float]


class MeterTrace:
    """Readings in order of time, with the summaries that records keep. Every summary is ``None`` without a reading."""

    def __init__(self) -> None:
        self._readings: list[MeterReading] = []

    def add(self, at: float, values: Mapping[str, float]) -> None:
        """Appends a reading of ``at`` (monotonic seconds); readings come in order of time."""
        self._readings.append(MeterReading(at, values))

    def __len__(self) -> int:
        return len(self._readings)

    def readings(self) -> tuple[MeterReading, ...]:
        """Everything that was read, in order of time."""
        return tuple(self._readings)

    def values(self, name: str, since: float = float("-inf"), until: float = float("inf")) -> Iterator[float]:
        """Values of ``name`` from ``since`` to ``until`` (monotonic seconds, both included), in order of time."""
        return (r.values[name] for r in self._readings if since <= r.at <= until and name in r.values)

    def peak(self, name: str, since: float = float("-inf"), until: float = float("inf")) -> float | None:
        """The largest value from ``since`` to ``until``."""
        return max(self.values(name, since, until), default=None)

    def lowest(self, name: str, since: float = float("-inf"), until: float = float("inf")) -> float | None:
        """The smallest value from ``since`` to ``until``."""
        return min(self.values(name, since, until), default=None)

    def mean(self, name: str, since: float = float("-inf"), until: float = float("inf")) -> float | None:
        """The plain mean of the values from ``since`` to ``until``, not weighted by time."""
        values = list(self.values(name, since, until))
        return sum(values) / len(values) if values else None

    def first(self, name: str) -> float | None:
        """The earliest value."""
        return next(self.values(name), None)

    def at_or_before(self, name: str, moment: float) -> float | None:
        """The last reading at or before ``moment``."""
        found = None
        for value in self.values(name, until=moment):
            found = value
        return found

    def combined(self, name: str, since: float, until: float) -> int:
        """Bitwise or of an integer quantity such as throttle reasons."""
        bits = 0
        for value in self.values(name, since, until):
            bits |= int(value)
        return bits


class Sampler:
    """Context manager: reads every probe in one thread until the block ends.

    A probe that raises is dropped for good and named in ``lost``: a card that falls off the bus must not end the run.
    """

    def __init__(self, probes: list[Probe]) -> None:
        self.trace = MeterTrace()
        self.lost: dict[str, str] = {}
        self._probes = list(probes)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="fitcheck-sampler", daemon=True)

    def __enter__(self) -> Sampler:
        if self._probes:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _loop(self) -> None:
        due = {id(probe): 0.0 for probe in self._probes}
        while self._probes and not self._stop.is_set():
            now = time.monotonic()
            for probe in list(self._probes):
                if due[id(probe)] > now:
                    continue
                # the next reading counts from now, not from when this one was due: a slow probe must not queue up
                due[id(probe)] = now + probe.period
                self._read(probe)
            wait = min((due[id(probe)] for probe in self._probes), default=0.0) - time.monotonic()
            if wait > 0:
                self._stop.wait(wait)

    def _read(self, probe: Probe) -> None:
        try:
            values = probe.read()
        except Exception as error:
            self.lost[type(probe).__name__] = str(error)
            with suppress(ValueError):
                self._probes.remove(probe)
            return
        if values:
            self.trace.add(time.monotonic(), values)

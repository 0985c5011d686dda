"""Peaks of torch's caching allocator by phase, with the phase's seconds. Runs inside the measured process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class PhaseReading:
    """One phase of one pass. Bytes are ``None`` on a device without torch's caching allocator (the CPU)."""

    name: str
    began: float
    ended: float
    seconds: float
    allocated: int | None
    reserved: int | None


class TorchMemory:
    """Measures phases; phases may nest. ``torch`` is handed in because only the child imports it."""

    def __init__(self, torch: Any, device: str) -> None:
        self._torch = torch
        self._cuda = device == "cuda"
        self._open: list[PhaseReading] = []
        self.finished: list[PhaseReading] = []
        self.allocated_peak: int | None = None
        self.reserved_peak: int | None = None

    def synchronize(self) -> None:
        """Returns when the card has done all that was queued; nothing without a card."""
        if self._cuda:
            self._torch.cuda.synchronize()

    def fold(self) -> None:
        """Takes the peak since the last fold into every open phase and the overall peak, then resets torch's."""
        if not self._cuda:
            return
        allocated = int(self._torch.cuda.max_memory_allocated())
        reserved = int(self._torch.cuda.max_memory_reserved())
        self._torch.cuda.reset_peak_memory_stats()
        self.allocated_peak = max(allocated, self.allocated_peak or 0)
        self.reserved_peak = max(reserved, self.reserved_peak or 0)
        for phase in self._open:
            phase.allocated = max(allocated, phase.allocated or 0)
            phase.reserved = max(reserved, phase.reserved or 0)

    @contextmanager
    def phase(self, name: str) -> Iterator[PhaseReading]:
        """Meters the block: its reading is complete, and in ``finished``, when the block has been left."""
        self.synchronize()
        self.fold()
        now = time.monotonic()
        reading = PhaseReading(name, now, now, 0.0, None, None)
        self._open.append(reading)
        started = time.perf_counter()
        try:
            yield reading
            # not on the way out of an error: after a fault the device answers every call with the same error
            self.synchronize()
        finally:
            reading.seconds = time.perf_counter() - started
            reading.ended = time.monotonic()
            self.fold()
            self._open.remove(reading)
            self.finished.append(reading)

    def take(self) -> list[PhaseReading]:
        """The phases finished since the last take."""
        taken, self.finished = self.finished, []
        return taken

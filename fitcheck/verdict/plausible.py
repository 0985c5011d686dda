"""Sizes that no run can have, as where a record has MiB for bytes: they count for nothing, whoever states them."""

from __future__ import annotations

from fitcheck.data_files import load
from fitcheck.memory.footprint import CardMemory, HostMemory
from fitcheck.records.run import Run
from fitcheck.runtimes.base import Runtime
from fitcheck.verdict.implied import ran_within


def too_small(run: Run, memory: CardMemory) -> bool:
    """Whether it says that the card held, or needs to hold, less than the weights that lie there at once."""
    least = max((phase.resident + phase.window for phase in memory.phases), default=0) / _factor()
    return any(0 < size < least for size in (run.allocated, run.reserved, run.on_card, ran_within(run)) if size)


def host_bytes(runtime: Runtime, run: Run, host: HostMemory) -> int | None:
    """Bytes of system memory that it took; ``None`` where nobody saw, or where it is less than what is pinned or more
    than the machine has."""
    held = runtime.host_bytes(run)
    if held is None or held < host.pinned / _factor():
        return None
    return None if run.ram and held > run.ram else held


def _factor() -> float:
    """How far from what is counted a record may be before it contradicts it."""
    return float(load("verdict", "evidence")["contradiction"]["factor"])

"""What bounds system memory besides its size: what may be locked, swap, and how much may be promised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.detect.pci import read_int, read_text
from fitcheck.hardware.detect.readings import Readings

_ROOT = Path("/")
_STRICT = 2  # vm.overcommit_memory: no more is promised than there is


@dataclass(frozen=True, slots=True)
class FoundLimits:
    """Bytes, ``None`` where the system does not say. ``lockable`` is what a process may lock (``ulimit -l``),
    ``unlimited`` that nothing bounds it; ``commit_limit`` stands where the system promises no more memory than that,
    ``committed`` is what it has promised."""

    lockable: int | None = None
    unlimited: bool = False
    swap_total: int | None = None
    swap_free: int | None = None
    commit_limit: int | None = None
    committed: int | None = None
    readings: Readings = field(default_factory=Readings)


def find(root: Path = _ROOT, swap: Any = None, lock: Callable[[], int] | None = None) -> FoundLimits:
    """``swap`` stands in for psutil's swap memory, ``lock`` for the soft limit of this process (-1: none)."""
    readings = Readings()
    if swap is None:
        import psutil

        swap = psutil.swap_memory
    allowed = readings.take("lockable", "RLIMIT_MEMLOCK", lock or _memlock)
    memory = _meminfo(root) if _is_strict(root) else {}
    return FoundLimits(
        lockable=None if allowed is None or allowed < 0 else allowed,
        unlimited=allowed is not None and allowed < 0,
        swap_total=readings.take("swap_total", "psutil swap_memory", lambda: int(swap().total)),
        swap_free=readings.take("swap_free", "psutil swap_memory", lambda: int(swap().free)),
        commit_limit=memory.get("CommitLimit"),
        committed=memory.get("Committed_AS"),
        readings=readings,
    )


def _memlock() -> int:
    """The soft limit in bytes, -1 for none. Raises ImportError where the system has no such limits."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return -1 if soft == resource.RLIM_INFINITY else soft


def _is_strict(root: Path) -> bool:
    try:
        return read_int(root / "proc" / "sys" / "vm" / "overcommit_memory") == _STRICT
    except (OSError, ValueError):
        return False


def _meminfo(root: Path) -> dict[str, int]:
    """The rows of /proc/meminfo in bytes; empty where there is none."""
    try:
        lines = read_text(root / "proc" / "meminfo").splitlines()
    except OSError:
        return {}
    rows = (line.replace(":", "").split() for line in lines)
    return {row[0]: int(row[1]) << 10 for row in rows if len(row) == 3 and row[1].isdecimal()}

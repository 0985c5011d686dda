"""Host memory of a process and its children, through psutil."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import psutil

_TREE_REFRESH = 0.5


class HostProbe:
    """Resident bytes of a process tree (``host_rss``) and the machine's available and total memory, in bytes."""

    def __init__(self, pid: int, period: float = 0.05) -> None:
        self.period = period
        self._root = psutil.Process(pid)
        self._tree = [self._root]
        self._looked = 0.0

    @property
    def pids(self) -> set[int]:
        """Process ids seen in the tree at the last look."""
        return {process.pid for process in self._tree}

    def read(self) -> Mapping[str, float]:
        """Bytes; ``host_rss`` is missing once the process is gone. Children are looked for twice a second at most."""
        now = time.monotonic()
        if now - self._looked >= _TREE_REFRESH:  # walking /proc costs milliseconds; children rarely come and go
            self._looked = now
            self._tree = [self._root, *_children(self._root)]
        memory = psutil.virtual_memory()
        values: dict[str, float] = {"host_available": memory.available, "host_total": memory.total}
        resident = [rss for process in self._tree if (rss := _rss(process)) is not None]
        if resident:
            values["host_rss"] = sum(resident)
        return values


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _rss(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return None


def peak_rss() -> int | None:
    """The kernel's own high-water mark of this process's resident bytes; ``None`` where it cannot be read."""
    try:
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    return None if peak is None else int(peak)


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(psutil.Process().memory_info().rss)


def out_of_memory_kills(counters: Path = Path("/proc/vmstat")) -> int | None:
    """Processes that the kernel has killed for want of memory since it started, in containers too; ``None`` where it
    does not count them (Linux before 4.13, other systems)."""
    try:
        rows = dict(line.split() for line in counters.read_text("ascii").splitlines())
        return int(rows["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None


def locked() -> int | None:
    """Bytes that this process has locked (VmLck) or pinned for a device (VmPin); ``None`` where it cannot be read."""
    try:
        rows = dict(
            line.split(":", 1)
            for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines()
            if ":" in line
        )
        return (int(rows["VmLck"].split()[0]) + int(rows["VmPin"].split()[0])) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None

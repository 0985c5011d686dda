"""The host: memory that is there, memory that this process may take (cgroup limits included), free disk, system."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.detect.pci import read_int, read_text
from fitcheck.hardware.detect.readings import Readings

_ROOT = Path("/")
# limits beyond this mean "none" (version 1 writes a number near 2^63)
_NO_LIMIT = 1 << 60
_MOST_STAT_LINES = 200


@dataclass(frozen=True, slots=True)
class FoundHost:
    """Bytes; ``ram_total`` and ``ram_available`` are what this process may use, a container's limit included."""

    ram_total: int | None
    ram_available: int | None
    disk_free: int | None
    operating_system: str | None
    notes: tuple[str, ...] = ()
    readings: Readings = field(default_factory=Readings)


def find(disk: Path | None = None, root: Path = _ROOT, memory: Any = None) -> FoundHost:
    """``disk`` is where model files go, default the hub's cache; ``memory`` stands in for psutil's virtual memory."""
    readings = Readings()
    if memory is None:
        import psutil

        memory = psutil.virtual_memory
    total = readings.take("ram_total", "psutil virtual_memory", lambda: int(memory().total))
    available = readings.take("ram_available", "psutil virtual_memory", lambda: int(memory().available))
    limited = _cgroup(root)
    limit = readings.take("cgroup_limit", "cgroup memory limit", lambda: limited[0] if limited else None)
    left = readings.take("cgroup_left", "cgroup memory usage", lambda: limited[1] if limited else None)
    notes = []
    if limit is not None and left is not None and (total is None or limit < total):
        total = limit
        available = left if available is None else min(available, left)
        notes.append(f"This process may use {total / 2**30:.1f} GiB of the machine's memory (cgroup limit).")
    return FoundHost(
        ram_total=total,
        ram_available=available,
        disk_free=readings.take("disk_free", "free space where model files go", lambda: _free(disk or model_cache())),
        operating_system=readings.take("operating_system", "platform", _system),
        notes=tuple(notes),
        readings=readings,
    )


def model_cache() -> Path:
    """The hub's cache, as its own library finds it."""
    named = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else Path.home() / ".cache"


def _free(path: Path) -> int:
    """Free bytes on the file system that holds, or will hold, ``path``."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def _system() -> str:
    """Linux with its distribution, Windows and macOS with their version; no name of the machine."""
    kind = platform.system()
    if kind == "Linux":
        try:
            name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
        except OSError:
            name = ""
        wsl = " in WSL" if "microsoft" in platform.release().lower() else ""
        return f"Linux{wsl} ({name})" if name else f"Linux{wsl}"
    if kind == "Darwin":
        return f"macOS {platform.mac_ver()[0]}".strip()
    return f"{kind} {platform.release()}".strip() or "unknown"


def _cgroup(root: Path) -> tuple[int, int] | None:
    """(limit, bytes left under it) of the tightest group above this process; None where nothing limits it."""
    found: tuple[int, int] | None = None
    for folder, files in _groups(root):
        try:
            text = read_text(folder / files.limit)
            limit = _NO_LIMIT if text == "max" else int(text)
            if limit >= _NO_LIMIT:
                continue
            used = read_int(folder / files.usage) - _reclaimable(folder / "memory.stat", files.file_cache)
        except (OSError, ValueError):
            continue
        left = max(0, limit - max(0, used))
        found = (limit, left) if found is None else (min(found[0], limit), min(found[1], left))
    return found


@dataclass(frozen=True, slots=True)
class _Files:
    limit: str
    usage: str
    file_cache: str


_VERSION_2 = _Files("memory.max", "memory.current", "inactive_file")
_VERSION_1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _groups(root: Path) -> Iterator[tuple[Path, _Files]]:
    """The folders of this process's memory groups, innermost first, then those that a container sees as the root."""
    mount = root / "sys" / "fs" / "cgroup"
    try:
        lines = read_text(root / "proc" / "self" / "cgroup").splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            base, files = mount, _VERSION_2
        elif "memory" in controllers.split(","):
            base, files = mount / "memory", _VERSION_1
        else:
            continue
        steps = [step for step in path.split("/") if step not in ("", ".", "..")]
        for depth in range(len(steps), -1, -1):
            yield base.joinpath(*steps[:depth]), files


def _reclaimable(stat: Path, name: str) -> int:
    """Cached file pages that count as used but are given up at need."""
    with stat.open("rb") as file:
        for _, line in zip(range(_MOST_STAT_LINES), file, strict=False):
            key, _, value = line.decode("ascii", "replace").partition(" ")
            if key == name:
                return int(value)
    return 0

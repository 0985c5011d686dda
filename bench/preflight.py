"""Looks before anything is loaded: is there a card, is it free, will the machine bear it. Findings warn or refuse."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from bench.meters.nvml import THROTTLING, NvmlCard, reason_names
from fitcheck.errors import MeasurementError, MissingExtraError, OptionError, RecordError, extra
from fitcheck.memory.footprint import Footprint
from fitcheck.units import MIB, format_gib

Level = Literal["note", "warn", "refuse"]
# a record is a few kilobytes; a series of them and its summary fits well into this
OUTPUT_NEED = 64 * MIB
# what the operating system and the bench's own parent process should keep
RAM_RESERVE = 1 << 30
_IN_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for the user; "refuse" stops the run unless it is forced."""

    level: Level
    text: str


def require_torch() -> None:
    """Raises InputError that names the extra to install; looks without importing."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError(f"the bench needs PyTorch, which is not installed; {extra('bench')}.")


def require_card(card: NvmlCard | None) -> None:
    """Raises InputError when there is neither an NVIDIA driver nor an AMD one. An AMD card is left to torch to find."""
    if card is not None or Path("/dev/kfd").exists():
        return
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        raise MeasurementError(
            "CUDA_VISIBLE_DEVICES hides every GPU; unset it, or try the bench on the CPU with --tiny --device cpu."
        )
    raise MeasurementError(
        "no GPU was found: NVML (the NVIDIA driver's library) reports none; install the driver, "
        "or try the bench on the CPU with --tiny --device cpu."
    )


def require_folder(folder: Path) -> None:
    """Raises InputError unless files can be written to ``folder`` (made when missing) and its disk has room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"fitcheck")
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise RecordError(
            f"--out: {folder} cannot be written ({error.strerror or error}); choose another folder."
        ) from error
    if free < OUTPUT_NEED:
        raise RecordError(
            f"--out: the disk of {folder} has {free / MIB:.0f} MiB left and results need "
            f"{OUTPUT_NEED / MIB:.0f} MiB; make room or choose another folder."
        )


def require_disk(need: int) -> None:
    """Raises InputError unless temporary files lie on a disk with room for ``need`` bytes."""
    folder = Path(tempfile.gettempdir()).resolve()
    holding = [one for one in psutil.disk_partitions(all=True) if folder.is_relative_to(one.mountpoint)]
    kind = max(holding, key=lambda one: len(one.mountpoint)).fstype if holding else ""
    if kind in _IN_MEMORY:
        raise OptionError(
            f"--offload-to-disk: temporary files lie in {folder}, which is memory ({kind}); "
            "set TMPDIR to a folder on a disk."
        )
    free = shutil.disk_usage(folder).free
    if free < need:
        raise OptionError(
            f"--offload-to-disk: the disk of {folder} has {format_gib(free)} left and the weights need "
            f"{format_gib(need)}; make room or set TMPDIR to another folder."
        )


def require_cap(cap: int | None, card: NvmlCard | None) -> None:
    """Raises InputError for a cap above the card's memory."""
    memory = None if card is None else card.memory()
    if cap is not None and memory is not None and cap > memory[0]:
        raise OptionError(
            f"--vram: {format_gib(cap)} is more than the {format_gib(memory[0])} of {card.name if card else 'it'}; "
            "give a smaller cap."
        )


def card_findings(card: NvmlCard) -> Iterator[Notice]:
    """Other processes, throttling and the link. These make numbers doubtful, not impossible: they warn."""
    processes = card.processes() or []
    others = [process for process in processes if process.pid != os.getpid()]
    if others:
        listed = ", ".join(f"{p.pid}" + ("" if p.used is None else f" ({format_gib(p.used)})") for p in others[:5])
        yield Notice(
            "warn", f"{len(others)} other process(es) use the card: {listed}; close them, times and memory will be off."
        )
    reasons = card.event_reasons()
    if reasons is not None and reasons & THROTTLING:
        yield Notice(
            "warn",
            f"the card is throttled now: {', '.join(reason_names(reasons & THROTTLING))}; "
            "let it cool or check its power supply.",
        )
    link = card.link()
    if link.get("pcie_width", 99) < link.get("pcie_width_max", 0):
        yield Notice(
            "warn",
            f"the card runs on {link['pcie_width']} of {link['pcie_width_max']} PCIe lanes; "
            "streaming modes will be slower than this card can.",
        )


def vram_finding(card: NvmlCard, footprint: Footprint, cap: int | None) -> Notice | None:
    """Free memory against the need. Refuses only when other programs hold what the cell needs: a card that is too small
    is worth a record of its own."""
    memory = card.memory()
    if memory is None:
        return None
    total, used, free = memory
    need = footprint.cards[0].card.low
    if free < need <= min(total, cap or total):
        return Notice(
            "refuse",
            f"{format_gib(free)} of the card's {format_gib(total)} are free, {format_gib(used)} are in use, "
            f"and this needs about {format_gib(need)}; close other programs.",
        )
    if need > min(total, cap or total):
        return Notice(
            "warn",
            f"this needs about {format_gib(need)} and the card gives {format_gib(min(total, cap or total))}; "
            "expect it to run out of memory, which will be recorded.",
        )
    return None


def available_ram(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can still be taken: what the system has, and what the container's limit (cgroup v2 or v1) leaves."""
    available = int(psutil.virtual_memory().available)
    for limit, used, counters in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            left = int((cgroup / limit).read_text("ascii")) - int((cgroup / used).read_text("ascii"))
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        available = min(available, max(0, left + _file_cache(cgroup / counters)))
    return available


def _file_cache(counters: Path) -> int:
    """Bytes of files that a cgroup counts as used and gives up when memory is asked for: a weights file just downloaded
    or hashed is all there."""
    try:
        rows = dict(line.split(None, 1) for line in counters.read_text("ascii").splitlines() if " " in line)
        # version 1 counts the children of the cgroup under names of their own, as its usage does
        return sum(int(rows.get(f"total_{name}", rows.get(name, 0))) for name in ("inactive_file", "active_file"))
    except (OSError, ValueError):
        return 0


def ram_finding(footprint: Footprint, ram: int | None) -> Notice | None:
    """Available system memory against the need, before anything is pinned: pinned pages cannot be swapped, so a machine
    without room is not slowed but killed. ``ram`` overrides what the system says is available."""
    available = available_ram() if ram is None else ram
    need = footprint.host.total.low + RAM_RESERVE
    if available >= need:
        return None
    pinned = f", {format_gib(footprint.host.pinned)} of it pinned" if footprint.host.pinned else ""
    hint = "choose a smaller tier"
    if ram is None:
        hint = (
            "close programs or choose a smaller tier (a virtual machine whose memory grows on demand shows too little: "
            "say what it has with --ram)"
        )
    return Notice(
        "refuse",
        f"{format_gib(available)} of system memory are available and this needs {format_gib(need)}{pinned}; {hint}.",
    )

"""What an examination of this machine found: each finding with its consequence and a remedy.

Pure: from what was detected to sentences; the rules on software stand in ``fitcheck.hardware.software``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.detect.disk import FoundDisk
from fitcheck.hardware.detect.environment import FoundEnvironment
from fitcheck.hardware.detect.limits import FoundLimits
from fitcheck.hardware.detect.link_load import LinkUnderLoad
from fitcheck.hardware.detect.readings import FoundGpu
from fitcheck.hardware.machine import Gpu, Link, Machine
from fitcheck.hardware.software import Compatibility, Setup, SoftwareRow, compatibility, gfx_of, setup_of
from fitcheck.memory.weighing import Verdict
from fitcheck.speed.rates import link_rate
from fitcheck.units import GIB, format_gb, format_gib, format_rate, format_seconds
from fitcheck.verdict.oom_explained import amount
from fitcheck.verdict.software_rows import component_json, components_of

if TYPE_CHECKING:
    from fitcheck.verdict.report import Report

SCHEMA = "fitcheck.doctor/1"
# shares and sizes from which a finding is worth a word; assumed
_HELD_SHARE, _SLOW_DISK, _LOCKED = 0.1, 400e6, 8 * GIB
_NETWORK = ("nfs", "cifs", "smb", "9p", "drvfs", "fuse", "sshfs", "virtiofs")
_STACKS = ("torch", "bf16", "fp8", "fp4", "flash-attn", "ggml")
_ARCHITECTURE = re.compile(r"(sm|compute)_(\d{1,3})([af]?)")


class FindingLevel(StrEnum):
    """How a finding stands, from best to worst; ``note`` costs nothing by itself, ``limits`` costs memory or time."""

    OK = "ok"
    UNKNOWN = "unknown"
    NOTE = "note"
    LIMITS = "limits"
    FAILS = "fails"


_VERDICTS = {
    Verdict.FITS: FindingLevel.OK,
    Verdict.TIGHT: FindingLevel.NOTE,
    Verdict.UNKNOWN: FindingLevel.UNKNOWN,
    Verdict.NO: FindingLevel.FAILS,
}


@dataclass(frozen=True, slots=True)
class MachineFinding:
    """One thing that was looked at: what was found, what follows from it and what to do; the last two are empty where
    all is well."""

    name: str
    level: FindingLevel
    found: str
    consequence: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What detection brought back: the machine and its raw cards in the same order, the limits of its memory, a Python
    environment, the disk where weights lie, and each card's link under load where it was tried."""

    machine: Machine
    raw: tuple[FoundGpu, ...]
    limits: FoundLimits
    environment: FoundEnvironment
    disk: FoundDisk
    links: tuple[LinkUnderLoad | None, ...] = ()
    container_limit: int | None = None
    arm: bool = False

    @property
    def setup(self) -> Setup:
        """The software that the rules ask about."""
        found = self.environment
        told = setup_of(self.machine)
        return replace(told, torch=found.torch, wheel=found.wheel, python=found.python, arm=self.arm)


def examine(seen: Seen, report: Report | None = None) -> tuple[MachineFinding, ...]:
    """Every finding, in the order in which a run would meet them; ``report`` is of the model that was named."""
    return (
        *_cards(seen),
        *_environment(seen),
        *_host(seen, report),
        *_disk(seen, report),
        *(_model(report) if report is not None else ()),
    )


def software(seen: Seen, report: Report | None = None) -> tuple[SoftwareRow, ...]:
    """The table of components: those of the named model's best cell, else of every program on the first card."""
    if report is not None:
        return components_of(report.best, seen.setup)
    if not seen.machine.gpus:
        return ()
    return compatibility(seen.machine.gpus[0].card, seen.setup, _STACKS)


def worst(findings: tuple[MachineFinding, ...], rows: tuple[SoftwareRow, ...]) -> FindingLevel:
    """The gravest level of all: what the exit code says. Of the table only what fails counts: a number format that the
    card lacks limits nothing before a model asks for it."""
    levels = [one.level for one in findings]
    if any(row.status is Compatibility.FAILS for row in rows):
        levels.append(FindingLevel.FAILS)
    return max(levels, key=list(FindingLevel).index, default=FindingLevel.OK)


def to_json(findings: tuple[MachineFinding, ...], rows: tuple[SoftwareRow, ...]) -> dict[str, Any]:
    """Texts and statuses; no name of the machine or of a user, and no path."""
    return {
        "schema": SCHEMA,
        "level": str(worst(findings, rows)),
        "findings": [
            {
                "name": one.name,
                "level": str(one.level),
                "found": one.found,
                "consequence": one.consequence or None,
                "remedy": one.remedy or None,
            }
            for one in findings
        ],
        "software": [component_json(row) for row in rows],
    }


def _cards(seen: Seen) -> Iterator[MachineFinding]:
    if not seen.machine.gpus:
        why = seen.machine.notes[0] if seen.machine.notes else "No graphics card was found."
        yield MachineFinding(
            "card",
            FindingLevel.LIMITS,
            why,
            "only programs that run on a processor run here, slowly",
            "if there is a card: install its driver, and give a container access to it; else `fitcheck check MODEL "
            "--gpu none` says what the processor can do",
        )
        return
    for position, (gpu, raw) in enumerate(zip(seen.machine.gpus, seen.raw, strict=True)):
        many = len(seen.machine.gpus) > 1
        label = f" {position}" if many else ""
        free = "" if gpu.vram_free is None else f", {format_gib(gpu.vram_free)} free"
        total = format_gib(gpu.vram_total) if gpu.vram_total else "memory unknown"
        yield MachineFinding(f"card{label}", FindingLevel.OK, f"{gpu.card.name}, {total}{free}")
        yield from _held(gpu, raw, f"card memory{label}")
        load = seen.links[position] if position < len(seen.links) else None
        yield from _link(raw, load, f"link{label}")


def _held(gpu: Gpu, raw: FoundGpu, name: str) -> Iterator[MachineFinding]:
    """Memory that other programs hold on the card."""
    if raw.memory_total is None or raw.memory_free is None or gpu.card.unified_memory:
        return
    held = raw.memory_total - raw.memory_free - (raw.memory_reserved or 0)
    count = "" if raw.processes is None else f" by {raw.processes} processes" if raw.processes != 1 else " by 1 process"
    found = f"{format_gib(max(0, held))} held{count}"
    if held > _HELD_SHARE * raw.memory_total:
        yield MachineFinding(
            name,
            FindingLevel.LIMITS,
            found,
            "a model has that much less, and an answer for this machine counts with it",
            "close what holds it (nvidia-smi or your system's monitor names it), or hang the screen on another card",
        )
    else:
        yield MachineFinding(name, FindingLevel.OK, found)


def _link(raw: FoundGpu, load: LinkUnderLoad | None, name: str) -> Iterator[MachineFinding]:
    """Lanes and generation, now and under load, against what card and slot can do together."""
    if raw.pcie_width is None and load is None:
        return
    width, most = (load and load.width) or raw.pcie_width, raw.pcie_width_max
    found = f"x{width} of x{most or '?'}, generation {raw.pcie_generation or '?'} at rest"
    if load is not None:
        found += f", {load.generation or '?'} under load"
        found += f", {format_rate(load.pinned_rate, 'B')} from pinned memory" if load.pinned_rate else ""
    slower = "modes that stream weights wait for the link as much longer"
    if width and most and width < most:
        remedy = "seat the card in the long slot next to the processor; M.2 drives beside it may take its lanes"
        yield MachineFinding(name, FindingLevel.LIMITS, found, slower, remedy)
    elif load is not None and load.generation and raw.pcie_generation_max and load.generation < raw.pcie_generation_max:
        remedy = "look for the slot's generation in the firmware, and for a riser cable of an older one"
        yield MachineFinding(name, FindingLevel.LIMITS, found, slower, remedy)
    elif load is not None and _is_slow(load):
        remedy = "let the machine run without other load and power saving; a second try tells whether it stays"
        yield MachineFinding(name, FindingLevel.LIMITS, found, slower, remedy)
    else:
        yield MachineFinding(name, FindingLevel.OK, found)


def _is_slow(load: LinkUnderLoad) -> bool:
    """Whether copies reach less than any link of this generation and width that was measured."""
    usual = link_rate(Link(load.generation, load.width), pinned=True)
    return load.pinned_rate is not None and usual is not None and load.pinned_rate < usual.low


def _environment(seen: Seen) -> Iterator[MachineFinding]:
    """The Python that was looked at, and whether its PyTorch has kernels for the cards."""
    found = seen.environment
    if found.failure is not None:
        yield MachineFinding("Python", FindingLevel.UNKNOWN, f"could not be asked ({found.failure})")
        return
    packages = ", ".join(f"{name} {number}" for name, number in found.packages)
    if found.torch is None:
        yield MachineFinding(
            "Python",
            FindingLevel.UNKNOWN,
            f"{found.python}, {packages or 'none of the packages that run models'}; no PyTorch",
            "what its PyTorch can do is not known",
            "name the Python of the program that runs models with --python, like --python venv/bin/python",
        )
        return
    yield MachineFinding("Python", FindingLevel.OK, f"{found.python}: {packages}")
    yield from _kernels(seen)


def _kernels(seen: Seen) -> Iterator[MachineFinding]:
    """What PyTorch itself says that it carries kernels for."""
    carried = seen.environment.architectures
    if not carried:
        return
    missing = [gpu.card.name for gpu in seen.machine.gpus if _runs(gpu, carried) is False]
    found = f"{seen.environment.torch}+{seen.environment.wheel} for {', '.join(carried)}"
    if missing:
        consequence = f"'no kernel image is available' on {' and '.join(dict.fromkeys(missing))}"
        remedy = "install the wheel that the row 'PyTorch wheel' names"
        yield MachineFinding("PyTorch's architectures", FindingLevel.FAILS, found, consequence, remedy)
    else:
        yield MachineFinding("PyTorch's architectures", FindingLevel.OK, found)


def _runs(gpu: Gpu, carried: tuple[str, ...]) -> bool | None:
    """Whether kernels or PTX are there for the card; None where it is not known which it needs."""
    if (gfx := gfx_of(gpu.card)) is not None:
        return gfx in carried
    have = gpu.card.compute_capability
    if have is None:
        return None
    for match in filter(None, map(_ARCHITECTURE.fullmatch, carried)):
        kind, number, special = match.groups()
        major, minor = divmod(int(number), 10)
        if kind == "compute" and not special and (major, minor) <= have:
            return True  # PTX is compiled for any later card
        if kind == "sm" and (major, minor) == have:
            return True
        if kind == "sm" and not special and major == have[0] and minor <= have[1]:
            return True
    return False


def _host(seen: Seen, report: Report | None) -> Iterator[MachineFinding]:
    machine, limits = seen.machine, seen.limits
    if machine.ram_total is not None:
        free = "" if machine.ram_available is None else f", {format_gib(machine.ram_available)} available"
        yield MachineFinding("system memory", FindingLevel.OK, f"{format_gib(machine.ram_total)}{free}")
    if seen.container_limit is not None:
        yield MachineFinding(
            "memory limit",
            FindingLevel.NOTE,
            f"this process may use {format_gib(seen.container_limit)} (cgroup)",
            "beyond it the kernel ends the process: 'Killed', exit code 137; pinned memory counts too",
            "raise the container's or service's limit (docker --memory, systemd MemoryMax)",
        )
    yield from _swap(limits, machine, report)
    yield from _locking(seen, report)


def _swap(limits: FoundLimits, machine: Machine, report: Report | None) -> Iterator[MachineFinding]:
    if limits.commit_limit is not None:
        yield MachineFinding(
            "commit limit",
            FindingLevel.NOTE,
            f"the system promises {format_gib(limits.commit_limit)} at most (vm.overcommit_memory=2), "
            f"{format_gib(limits.committed or 0)} are promised",
            "allocations fail with 'Cannot allocate memory' while memory is free",
            "sysctl vm.overcommit_memory=0, or a larger vm.overcommit_ratio or more swap",
        )
    if limits.swap_total is None:
        return
    if limits.swap_total:
        free = "" if limits.swap_free is None else f", {format_gib(limits.swap_free)} free"
        yield MachineFinding("swap", FindingLevel.OK, f"{format_gib(limits.swap_total)}{free}")
    else:
        size = max(8, -(-(machine.ram_total or 0) // (2 * GIB)))
        yield MachineFinding(
            "swap",
            FindingLevel.NOTE,
            "none",
            "a load that overshoots system memory for a moment ends with 'Killed' instead of a pause",
            f"add a swap file of {min(size, 32)} GB or so; it is not for running models from",
        )


def _locking(seen: Seen, report: Report | None) -> Iterator[MachineFinding]:
    """What may be locked. With NVIDIA's driver 4 GiB were pinned under a limit of 64 KiB and counted nowhere (H100,
    Linux, November 2026: VmLck and VmPin stayed 0), so that only mlock itself is bound there."""
    limits = seen.limits
    if limits.unlimited:
        yield MachineFinding("lockable memory", FindingLevel.OK, "unlimited (ulimit -l)")
    if limits.unlimited or limits.lockable is None:
        return
    found = f"{amount(limits.lockable)} (ulimit -l)"
    if limits.lockable >= _LOCKED:
        yield MachineFinding("lockable memory", FindingLevel.OK, found)
        return
    pinned = report.best.footprint.host.pinned if report is not None else 0
    other = any(gpu.card.vendor != "NVIDIA" for gpu in seen.machine.gpus)
    counts = "whether this driver's pinned memory counts against it is not known" if other else ""
    if other and pinned > limits.lockable:
        counts += f", and this model pins {format_gib(pinned)}"
    yield MachineFinding(
        "lockable memory",
        FindingLevel.NOTE,
        found,
        "; ".join(
            filter(None, ("--mlock fails beyond it", counts or "pinned memory of NVIDIA's driver is not bound by it"))
        ),
        "where --mlock is wanted: ulimit -l unlimited, memlock in /etc/security/limits.conf, or in a container "
        "--ulimit memlock=-1",
    )


def _disk(seen: Seen, report: Report | None) -> Iterator[MachineFinding]:
    disk, machine = seen.disk, seen.machine
    rate = _rate_words(disk)
    free = "free space unknown" if machine.disk_free is None else f"{format_gb(machine.disk_free, 1)} free"
    kind = f", {disk.file_system}" if disk.file_system else ""
    kept = " (some of it from the system's cache)" if disk.cached and disk.rate is not None else ""
    found = f"{free}{kind}, {rate}{kept}"
    size = None if report is None else report.best.footprint.disk
    wait = "" if size is None or not disk.rate else f": {format_seconds(size / disk.rate)} to load this model"
    if disk.file_system is not None and disk.file_system.startswith(_NETWORK):
        remedy = "keep models on a disk of the machine's own, under WSL 2 inside the Linux file system"
        yield MachineFinding(
            "disk", FindingLevel.LIMITS, found, f"models load over a network or a bridge{wait}", remedy
        )
    elif disk.rate is not None and disk.rate < _SLOW_DISK:
        remedy = "keep models on an NVMe drive"
        yield MachineFinding("disk", FindingLevel.LIMITS, found, f"models load slowly{wait}", remedy)
    else:
        yield MachineFinding("disk", FindingLevel.OK, f"{found}{wait}")


def _rate_words(disk: FoundDisk) -> str:
    if disk.rate is not None:
        return f"{format_rate(disk.rate, 'B')} read"
    return "read speed unknown: no large file lies there yet" if disk.tried else "read speed not tried"


def _model(report: Report) -> Iterator[MachineFinding]:
    """The verdict of the named model, so that the table is read beside it."""
    flip = report.best.flip
    remedy = "" if flip is None else f"{flip.change} ({flip.verdict})"
    yield MachineFinding(report.model.name, _VERDICTS[report.best.verdict], report.answer, "", remedy)

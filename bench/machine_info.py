"""The host as a record describes it: what decides speed and memory, nothing that names the machine."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

from fitcheck.records.schema import MachineInfo


def machine_info() -> MachineInfo:
    """CPU, cores, memory in bytes and system of this host; ``None`` for what the system does not tell."""
    cpu, virtualised = _cpu()
    return MachineInfo(
        cpu=fit_name(cpu),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(),
        ram=psutil.virtual_memory().total,
        os=_system(),
        os_version=_os_version(),
        virtualised=virtualised,
    )


def fit_name(text: str | None) -> str | None:
    """``text`` as a record's Name: other characters become spaces, at most 128; ``None`` when nothing is left."""
    if text is None:
        return None
    kept = "".join(c if c.isascii() and (c.isalnum() or c in " ._()+@/,:&-") else " " for c in text)
    return " ".join(kept.split()).lstrip(" ._()+@/,:&-")[:128] or None


def _system() -> Literal["linux", "windows", "macos", "other"]:
    names: dict[str, Literal["linux", "windows", "macos"]] = {"Linux": "linux", "Windows": "windows", "Darwin": "macos"}
    return names.get(platform.system(), "other")


def _os_version() -> str | None:
    if platform.system() == "Linux":
        with suppress(OSError):
            release = platform.freedesktop_os_release()
            return fit_name(f"{release.get('ID', 'linux')} {release.get('VERSION_ID', '')}".strip())
    return fit_name(platform.release())


def _key_value(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _cpu() -> tuple[str | None, Literal["yes", "no", "unknown"]]:
    with suppress(OSError):
        rows: dict[str, str] = dict(
            _key_value(line)
            for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n", 1)[0].splitlines()
            if ":" in line
        )
        flags = rows.get("flags")
        # the bit is set by the hypervisor in CPUID; other processors than x86 have none, which tells nothing
        virtualised: Literal["yes", "no", "unknown"] = (
            "unknown" if flags is None else "yes" if "hypervisor" in flags.split() else "no"
        )
        return rows.get("model name"), virtualised
    return platform.processor() or None, "unknown"

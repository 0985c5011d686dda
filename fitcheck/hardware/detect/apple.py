"""Macs: the chip and its memory limit from sysctl; an Intel Mac's card from system_profiler."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from fitcheck.hardware.detect.readings import FoundGpu, Readings, VendorReport
from fitcheck.units import MIB, parse_memory

_VENDOR = "Apple"
_SECONDS = 15
_MOST_CHARACTERS = 1 << 20

Run = Callable[[list[str]], str]


def run(command: list[str]) -> str:
    """What ``command`` prints. Raises OSError and subprocess errors, also when it takes longer than 15 s."""
    done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True, text=True, errors="replace")
    return done.stdout[:_MOST_CHARACTERS].strip()


def find(run: Run = run) -> VendorReport:
    """The GPU of this Mac. ``run`` stands in for the commands."""
    readings = Readings()
    chip = readings.take("name", "sysctl machdep.cpu.brand_string", lambda: run(_sysctl("machdep.cpu.brand_string")))
    if chip is None or not chip.startswith("Apple"):
        return _intel_mac(run)
    memory = readings.take("memory_total", "sysctl hw.memsize", lambda: int(run(_sysctl("hw.memsize"))))
    # 0 is the default: the system decides; another value is what someone allowed the GPU to take
    limit = readings.take(
        "memory_limit", "sysctl iogpu.wired_limit_mb", lambda: int(run(_sysctl("iogpu.wired_limit_mb"))) * MIB
    )
    gpu = FoundGpu(
        vendor=_VENDOR,
        name=chip,
        memory_total=memory,
        host_free=limit or None,
        shared=True,
        readings=readings,
    )
    return VendorReport((gpu,))


def _intel_mac(run: Run) -> VendorReport:
    system = Readings()
    listed = system.take("cards", "system_profiler SPDisplaysDataType", lambda: _displays(run))
    if listed is None:
        return VendorReport(notes=("The graphics of this Mac could not be read.",), readings=system)
    return VendorReport(tuple(_profiled(one) for one in listed if isinstance(one, dict)))


def _displays(run: Run) -> list[Any]:
    found = json.loads(run(["system_profiler", "SPDisplaysDataType", "-json"]))["SPDisplaysDataType"]
    return found if isinstance(found, list) else []


def _profiled(entry: dict[str, Any]) -> FoundGpu:
    readings, source = Readings(), "system_profiler SPDisplaysDataType"
    name = readings.take("name", source, lambda: str(entry["sppci_model"]))
    own = readings.take("memory_total", source, lambda: parse_memory(str(entry["spdisplays_vram"]), source))
    return FoundGpu(
        vendor=(name or "unknown").split()[0],
        name=name,
        memory_total=own,
        display=readings.take("display", source, lambda: bool(entry.get("spdisplays_ndrvs"))),
        shared=own is None,
        readings=readings,
    )


def _sysctl(name: str) -> list[str]:
    return ["sysctl", "-n", name]

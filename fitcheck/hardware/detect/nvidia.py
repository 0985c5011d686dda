"""NVIDIA cards through NVML, the driver's own library. Each question may go unanswered; the others still are."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from fitcheck.hardware.detect import pci
from fitcheck.hardware.detect.readings import FoundGpu, Readings, VendorReport

_VENDOR = "NVIDIA"
_MIG_NAME = re.compile(r"\bMIG (\d+g\.\d+gb(?:\+\w+)*)", re.IGNORECASE)
NO_DRIVER = "No NVIDIA driver is installed."
_MIG_ENABLED = 1
# what the driver reports as a process's memory when it cannot know it (Windows' own memory manager)
_UNKNOWN_BYTES = 0xFFFFFFFFFFFFFFFF


def find(nvml: Any = None, sysfs: Path = pci.SYSFS) -> VendorReport:
    """Every NVIDIA card and MIG slice; no driver and no card are reports too. ``nvml`` stands in for the library."""
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return VendorReport(notes=("NVIDIA cards were not looked for: the package nvidia-ml-py is missing.",))
    try:
        nvml.nvmlInit()
    except Exception as error:
        return VendorReport(notes=_why_not(error, sysfs))
    try:
        return _report(nvml)
    finally:
        _quietly(nvml.nvmlShutdown)


def _report(nvml: Any) -> VendorReport:
    system = Readings()
    driver = system.take("driver", "nvmlSystemGetDriverVersion", lambda: _text(nvml.nvmlSystemGetDriverVersion()))
    cuda = system.take("cuda", "nvmlSystemGetCudaDriverVersion_v2", lambda: _cuda(nvml))
    count = system.take("cards", "nvmlDeviceGetCount", lambda: int(nvml.nvmlDeviceGetCount()))
    notes: list[str] = []
    gpus: list[FoundGpu] = []
    for index in range(count or 0):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except Exception as error:
            notes.append(f"NVIDIA card {index} does not answer ({_kind(error)}).")
            continue
        found, told = _card(nvml, handle, index)
        gpus += found
        notes += told
    if count is None:
        notes.append("The NVIDIA driver runs but does not say how many cards there are.")
    elif count == 0:
        notes.append("The NVIDIA driver runs but shows no card to this process.")
    return VendorReport(tuple(gpus), driver, cuda, tuple(notes), system)


def _card(nvml: Any, handle: Any, index: int) -> tuple[list[FoundGpu], list[str]]:
    """The card, or its MIG slices: a card that is cut into slices takes no work as a whole."""
    gpu = _describe(nvml, handle)
    mode = gpu.readings.take("mig_mode", "nvmlDeviceGetMigMode", lambda: int(nvml.nvmlDeviceGetMigMode(handle)[0]))
    if mode != _MIG_ENABLED:
        return [gpu], []
    slices = [_slice(nvml, gpu, part) for part in _mig_handles(nvml, handle)]
    name = gpu.name or f"NVIDIA card {index}"
    if not slices:
        return [], [f"{name} is in MIG mode but has no slice that this process may use; make one or turn MIG off."]
    listed = ", ".join(one.mig or "unnamed" for one in slices)
    return slices, [f"{name} is cut into MIG slices ({listed}); each is a card of its own here."]


def _describe(nvml: Any, handle: Any) -> FoundGpu:
    readings = Readings()

    def ask(name: str, function: str, convert: Any = int) -> Any:
        return readings.take(name, function, lambda: convert(getattr(nvml, function)(handle)))

    name = ask("name", "nvmlDeviceGetName", _text)
    total, free, reserved = _memory(nvml, handle, readings)
    capability = ask(
        "compute_capability", "nvmlDeviceGetCudaComputeCapability", lambda pair: (int(pair[0]), int(pair[1]))
    )
    processes = _processes(nvml, handle, readings)
    return FoundGpu(
        vendor=_VENDOR,
        name=name,
        memory_total=total,
        memory_free=free,
        memory_reserved=reserved,
        compute_capability=capability,
        pcie_generation=ask("pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
        pcie_generation_max=ask("pcie_generation_max", "nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_width=ask("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth"),
        pcie_width_max=ask("pcie_width_max", "nvmlDeviceGetMaxPcieLinkWidth"),
        display=ask("display", "nvmlDeviceGetDisplayActive", bool),
        power_limit=ask("power_limit", "nvmlDeviceGetEnforcedPowerLimit", lambda milliwatts: milliwatts / 1000),
        processes=processes,
        process_bytes=readings.value("process_bytes"),
        shared=_has_no_memory(readings),
        readings=readings,
    )


def _has_no_memory(readings: Readings) -> bool:
    """Chips that work in host memory (GB10, Jetson) answer Not Supported to the question for theirs."""
    return "NotSupported" in (readings["memory_total"].failure or "")


def _slice(nvml: Any, whole: FoundGpu, handle: Any) -> FoundGpu:
    """A MIG slice: its own memory and processes, the whole card's link and power."""
    readings = Readings(whole.readings)
    for name in ("memory_total", "memory_free", "memory_reserved", "processes", "process_bytes"):
        readings.pop(name, None)
    total, free, reserved = _memory(nvml, handle, readings)
    processes = _processes(nvml, handle, readings)
    mig = readings.take("mig", "nvmlDeviceGetName", lambda: _profile(_text(nvml.nvmlDeviceGetName(handle))))
    return FoundGpu(
        vendor=_VENDOR,
        name=whole.name,
        memory_total=total,
        memory_free=free,
        memory_reserved=reserved,
        compute_capability=whole.compute_capability,
        pcie_generation=whole.pcie_generation,
        pcie_generation_max=whole.pcie_generation_max,
        pcie_width=whole.pcie_width,
        pcie_width_max=whole.pcie_width_max,
        display=False,
        power_limit=whole.power_limit,
        processes=processes,
        process_bytes=readings.value("process_bytes"),
        mig=mig or "unnamed",
        parent_total=whole.memory_total,
        readings=readings,
    )


def _mig_handles(nvml: Any, handle: Any) -> Iterable[Any]:
    try:
        most = int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    except Exception:
        return
    for position in range(most):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, position)
        except Exception:  # noqa: S112  positions without a slice answer Not Found
            continue


def _memory(nvml: Any, handle: Any, readings: Readings) -> tuple[int | None, int | None, int | None]:
    """Total, free and reserved bytes; the second version of the call tells the driver's reserve apart from use."""
    asked, info = _memory_info(nvml, handle)
    total, free = (
        readings.take(f"memory_{part}", asked, partial(lambda part: int(getattr(info(), part)), part))
        for part in ("total", "free")
    )
    reserved = None
    if asked.endswith("_v2"):
        reserved = readings.take("memory_reserved", asked, lambda: int(info().reserved))
    return total, free, reserved


def _memory_info(nvml: Any, handle: Any) -> tuple[str, Callable[[], Any]]:
    """The function that was asked and its answer, as a call that raises what the driver raised."""
    try:
        newer = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except Exception:
        return "nvmlDeviceGetMemoryInfo", lambda: nvml.nvmlDeviceGetMemoryInfo(handle)
    return "nvmlDeviceGetMemoryInfo_v2", lambda: newer


def _processes(nvml: Any, handle: Any, readings: Readings) -> int | None:
    """How many processes hold memory, and how much: never which."""
    held: dict[int, int | None] = {}
    answered = False
    for function in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        try:
            listed = getattr(nvml, function)(handle)
        except Exception:  # noqa: S112  the count below says that nothing answered
            continue
        answered = True
        for process in listed:
            used = process.usedGpuMemory
            known = None if used is None or used == _UNKNOWN_BYTES else int(used)
            before = held.get(int(process.pid))
            held[int(process.pid)] = known if before is None else max(before, known or 0)
    source = "nvmlDeviceGetComputeRunningProcesses, nvmlDeviceGetGraphicsRunningProcesses"
    sizes = [size for size in held.values() if size is not None]
    readings.take("process_bytes", source, lambda: sum(sizes) if answered and len(sizes) == len(held) else None)
    return readings.take("processes", source, lambda: len(held) if answered else None)


def _profile(name: str) -> str | None:
    found = _MIG_NAME.search(name)
    return found.group(1).lower() if found else None


def _cuda(nvml: Any) -> str:
    """12080 -> "12.8"."""
    version = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
    return f"{version // 1000}.{version % 1000 // 10}"


def _why_not(error: Exception, sysfs: Path) -> tuple[str, ...]:
    """The reason that NVML did not start, for someone who wonders; silent where no NVIDIA card is to be seen."""
    kind = _kind(error)
    installed = pci.has_display_device(_VENDOR, sysfs)
    if "LibraryNotFound" in kind:
        if installed:
            return ("An NVIDIA card is in this machine but its driver is not installed.",)
        return (NO_DRIVER,)
    if "DriverNotLoaded" in kind:
        return ("The NVIDIA driver is installed but not running; a restart usually helps after an update.",)
    if "LibRmVersionMismatch" in kind or "LibraryVersionMismatch" in kind:
        return ("The NVIDIA driver was updated and its running part is older; restart the machine.",)
    if "NoPermission" in kind:
        return ("The NVIDIA driver does not let this process look at its cards (no permission).",)
    return (f"The NVIDIA driver did not answer ({kind}).",)


def _kind(error: Exception) -> str:
    return type(error).__name__.removeprefix("NVMLError_")


def _quietly(call: Any) -> None:
    try:
        call()
    except Exception:
        return


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

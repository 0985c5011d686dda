"""Stand-ins for torch's CUDA side and for NVML that keep books, so that the protocol runs as on a card of 80 GiB."""

from __future__ import annotations

import os
import types
from typing import Any

from fitcheck.units import GIB, MIB

TOTAL = 80 * GIB
CONTEXT = 400 * MIB
LIBRARIES = 100 * MIB


class OutOfMemoryError(RuntimeError):
    pass


class Allocator:
    """A caching allocator that never gives blocks back."""

    def __init__(self) -> None:
        self.allocated = self.reserved = 0
        self.allocated_peak = self.reserved_peak = 0
        self.limit = TOTAL
        self.context = 0

    def take(self, size: int, slack: int = 0) -> None:
        """Allocates ``size`` and, when there is room, caches ``slack`` beside it."""
        if self.allocated + size > self.limit:
            raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / MIB:.2f} MiB. GPU 0 has less.")
        self.allocated += size
        self.reserved = max(self.reserved, min(self.allocated + slack, self.limit))
        self.reset_peaks(keep=True)

    def give(self, size: int) -> None:
        self.allocated -= size

    def reset_peaks(self, keep: bool = False) -> None:
        self.allocated_peak = max(self.allocated, self.allocated_peak if keep else 0)
        self.reserved_peak = max(self.reserved, self.reserved_peak if keep else 0)


def fake_torch(allocator: Allocator, cuda: bool = True) -> Any:
    def fraction(value: float) -> None:
        assert 0 < value <= 1
        allocator.limit = int(value * TOTAL)

    torch: Any = types.ModuleType("torch")
    torch.__version__ = "0.0+fake"
    torch.version = types.SimpleNamespace(cuda="99.0" if cuda else None, hip=None)
    torch.OutOfMemoryError = OutOfMemoryError
    torch.set_num_threads = lambda count: None

    def zeros(*shape: int, device: str) -> None:
        allocator.context = CONTEXT

    torch.zeros = zeros
    torch.cuda = types.SimpleNamespace(
        is_available=lambda: cuda,
        synchronize=lambda: None,
        memory_allocated=lambda: allocator.allocated,
        memory_reserved=lambda: allocator.reserved,
        max_memory_allocated=lambda: allocator.allocated_peak,
        max_memory_reserved=lambda: allocator.reserved_peak,
        reset_peak_memory_stats=allocator.reset_peaks,
        mem_get_info=lambda device=None: (TOTAL - allocator.reserved - allocator.context, TOTAL),
        set_per_process_memory_fraction=fraction,
        get_device_properties=lambda index: types.SimpleNamespace(name="NVIDIA H100 80GB HBM3", major=9, minor=0),
        host_memory_stats=lambda: {"allocated_bytes.peak": 256 * MIB},
    )
    return torch


class NotSupported(Exception):
    pass


class NVMLError_GpuIsLost(Exception):
    """As pynvml calls it."""


class FakeNvml:
    """One H100 at rest. ``missing`` names functions that answer "not supported"; ``others`` are (pid, bytes)."""

    def __init__(
        self,
        allocator: Allocator | None = None,
        missing: frozenset[str] = frozenset(),
        others: tuple[tuple[int, int | None], ...] = (),
        reasons: int = 1,
        width: int = 16,
        total: int = TOTAL,
        falls: bool = False,
    ) -> None:
        self.allocator = allocator
        self.missing = missing
        self.others = others
        self.reasons = reasons
        self.width = width
        self.total = total
        # it reports Xid 79 once and is gone, as after ``fall``
        self.falls = falls
        self.fallen = False

    def fall(self) -> None:
        """From now on every question is answered as for a card that has fallen off the bus."""
        self.fallen = True

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvmlDevice") and object.__getattribute__(self, "fallen"):
            raise NVMLError_GpuIsLost(name)
        if name.startswith("nvml") and name in object.__getattribute__(self, "missing"):
            raise NotSupported(name)
        return object.__getattribute__(self, name)

    @property
    def own(self) -> int:
        return 0 if self.allocator is None else self.allocator.context + self.allocator.reserved

    def nvmlInit(self) -> None: ...

    nvmlEventTypeXidCriticalError = 8

    def nvmlEventSetCreate(self) -> str:
        return "events"

    def nvmlDeviceRegisterEvents(self, handle: str, kind: int, events: str) -> None: ...

    def nvmlEventSetWait_v2(self, events: str, milliseconds: int) -> Any:
        if not self.falls or self.fallen:
            raise NotSupported("timeout")
        self.fall()
        return types.SimpleNamespace(eventData=79)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index:
            raise NotSupported("no such card")
        return "card"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return "card"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.159.04"

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        return b"NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return f"GPU-test-{os.getpid()}"

    def nvmlDeviceGetPciInfo(self, handle: str) -> Any:
        return types.SimpleNamespace(pciDeviceId=0x2330_10DE)

    def nvmlDeviceGetCudaComputeCapability(self, handle: str) -> tuple[int, int]:
        return 9, 0

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        used = self.own + sum(used or 0 for _, used in self.others)
        return types.SimpleNamespace(total=self.total, used=used, free=self.total - used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        rows = [types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.others]
        if self.own:
            rows.append(types.SimpleNamespace(pid=os.getpid(), usedGpuMemory=self.own))
        return rows

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: str) -> list[Any]:
        return []

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        return self.reasons

    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle: str) -> int:
        return 5

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: str) -> int:
        return 5

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: str) -> int:
        return self.width

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: str) -> int:
        return 16

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 123_000

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return 700_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        import time

        return int(time.monotonic() * 1000 * 123)

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return {1: 1980, 2: 2619}[kind]

    def nvmlDeviceGetTemperature(self, handle: str, kind: int) -> int:
        return 41

"""A stand-in for pynvml that answers as NVML does: enough cards for the states that matter, errors where asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

MIB = 1 << 20


class NVMLError(Exception):
    """The base that pynvml's own classes have."""


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_NoPermission(NVMLError):
    pass


class NVMLError_Unknown(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLError_DriverNotLoaded(NVMLError):
    pass


class NVMLError_LibRmVersionMismatch(NVMLError):
    pass


@dataclass
class FakeCard:
    """One card or MIG slice; ``broken`` maps a function to the error it raises. MiB, mW, watts as NVML has them."""

    name: str
    total: int | None
    used: int = 0
    reserved: int = 0
    capability: tuple[int, int] = (8, 9)
    generation: tuple[int, int] = (4, 4)
    width: tuple[int, int] = (16, 16)
    display: int = 0
    power: int = 200_000
    compute: list[tuple[int, int | None]] = field(default_factory=list)
    graphics: list[tuple[int, int | None]] = field(default_factory=list)
    slices: list[FakeCard] | None = None
    broken: dict[str, type[Exception]] = field(default_factory=dict)
    lost: bool = False


class FakeNvml:
    """Module-like: the functions fitcheck calls, by their names in pynvml."""

    nvmlMemory_v2 = 0x2000028

    def __init__(
        self,
        *cards: FakeCard,
        start: type[Exception] | None = None,
        driver: str = "580.95.05",
        cuda: int = 13000,
        old: bool = False,
    ) -> None:
        self.cards = cards
        self.start = start
        self.driver = driver
        self.cuda = cuda
        self.old = old
        self.open = 0

    def nvmlInit(self) -> None:
        if self.start is not None:
            raise self.start
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> Any:
        return self.driver.encode() if self.old else self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.cuda

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeCard:
        if self.cards[index].lost:
            raise NVMLError_GpuIsLost
        return self.cards[index]

    def nvmlDeviceGetName(self, card: FakeCard) -> Any:
        self._check(card, "nvmlDeviceGetName")
        return card.name.encode() if self.old else card.name

    def nvmlDeviceGetMemoryInfo(self, card: FakeCard, version: int | None = None) -> Any:
        self._check(card, "nvmlDeviceGetMemoryInfo")
        if card.total is None:
            raise NVMLError_NotSupported
        if version is not None and self.old:
            raise NVMLError_NotSupported
        free = (card.total - card.reserved - card.used) * MIB
        if version is None:  # the first version counts the reserve as used
            return SimpleNamespace(total=card.total * MIB, used=(card.used + card.reserved) * MIB, free=free)
        used, reserved = card.used * MIB, card.reserved * MIB
        return SimpleNamespace(version=version, total=card.total * MIB, reserved=reserved, used=used, free=free)

    def nvmlDeviceGetCudaComputeCapability(self, card: FakeCard) -> list[int]:
        self._check(card, "nvmlDeviceGetCudaComputeCapability")
        return list(card.capability)

    def nvmlDeviceGetCurrPcieLinkGeneration(self, card: FakeCard) -> int:
        self._check(card, "nvmlDeviceGetCurrPcieLinkGeneration")
        return card.generation[0]

    def nvmlDeviceGetMaxPcieLinkGeneration(self, card: FakeCard) -> int:
        self._check(card, "nvmlDeviceGetMaxPcieLinkGeneration")
        return card.generation[1]

    def nvmlDeviceGetCurrPcieLinkWidth(self, card: FakeCard) -> int:
        self._check(card, "nvmlDeviceGetCurrPcieLinkWidth")
        return card.width[0]

    def nvmlDeviceGetMaxPcieLinkWidth(self, card: FakeCard) -> int:
        self._check(card, "nvmlDeviceGetMaxPcieLinkWidth")
        return card.width[1]

    def nvmlDeviceGetDisplayActive(self, card: FakeCard) -> int:
        self._check(card, "nvmlDeviceGetDisplayActive")
        return card.display

    def nvmlDeviceGetEnforcedPowerLimit(self, card: FakeCard) -> int:
        self._check(card, "nvmlDeviceGetEnforcedPowerLimit")
        return card.power

    def nvmlDeviceGetComputeRunningProcesses(self, card: FakeCard) -> list[Any]:
        self._check(card, "nvmlDeviceGetComputeRunningProcesses")
        return _processes(card.compute)

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: FakeCard) -> list[Any]:
        self._check(card, "nvmlDeviceGetGraphicsRunningProcesses")
        return _processes(card.graphics)

    def nvmlDeviceGetMigMode(self, card: FakeCard) -> list[int]:
        if card.slices is None:
            raise NVMLError_NotSupported
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: FakeCard) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: FakeCard, index: int) -> FakeCard:
        slices = card.slices or []
        if index >= len(slices):
            raise NVMLError_NotFound
        return slices[index]

    @staticmethod
    def _check(card: FakeCard, function: str) -> None:
        if function in card.broken:
            raise card.broken[function]


def _processes(rows: list[tuple[int, int | None]]) -> list[Any]:
    return [
        SimpleNamespace(pid=pid, usedGpuMemory=None if used is None else used * MIB, gpuInstanceId=0xFFFFFFFF)
        for pid, used in rows
    ]


def h100(**changes: Any) -> FakeCard:
    """As a data center's H100 at rest answers."""
    values: dict[str, Any] = {
        "name": "NVIDIA H100 80GB HBM3",
        "total": 81559,
        "reserved": 478,
        "used": 4,
        "capability": (9, 0),
        "generation": (5, 5),
        "power": 700_000,
    }
    return FakeCard(**{**values, **changes})


def rtx_4070(**changes: Any) -> FakeCard:
    """As a desktop's only card answers: a display on it, its link asleep."""
    values: dict[str, Any] = {
        "name": "NVIDIA GeForce RTX 4070",
        "total": 12282,
        "reserved": 383,
        "used": 672,
        "generation": (1, 4),
        "display": 1,
        "graphics": [(1810, 310), (2044, 120)],
        "compute": [(2044, 130)],
    }
    return FakeCard(**{**values, **changes})


def broken(*functions: str, error: type[Exception] = NVMLError_Unknown) -> dict[str, type[Exception]]:
    return dict.fromkeys(functions, error)

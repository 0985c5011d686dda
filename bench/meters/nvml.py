"""An NVIDIA card through NVML: memory, power, clocks, temperature, throttling, link. Any reading may be missing."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

# bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h, nvmlClocksEventReason*)
EVENT_REASONS = {
    0x1: "gpu idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
# a card in one of these is not itself: its numbers are low for a reason that has nothing to do with the model
THROTTLING = 0x8 | 0x20 | 0x40 | 0x80

# what the driver's library calls a card that is no longer there
_GONE = ("NVMLError_GpuIsLost", "NVMLError_ResetRequired", "NVMLError_NotFound", "NVMLError_Uninitialized")


def reason_names(bits: int) -> list[str]:
    """Words for the bits that are set, of those that NVML documents."""
    return [name for bit, name in EVENT_REASONS.items() if bits & bit]


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory on the card; ``used`` in bytes, ``None`` where the driver does not say (Windows)."""

    pid: int
    used: int | None


class NvmlCard:
    """One card. Methods return ``None`` for what the driver or the card does not support."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    @classmethod
    def open(cls, selector: str | int = 0, nvml: Any = None) -> NvmlCard | None:
        """The card of an NVML index, a UUID, or CUDA's own selection; ``None`` without driver or without that card.

        Raises nothing: no GPU and no driver are normal states of a machine.
        """
        if nvml is None:
            try:
                nvml = importlib.import_module("pynvml")
            except ImportError:
                return None
        try:
            nvml.nvmlInit()
            if isinstance(selector, str) and not selector.isdigit():
                return cls(nvml, _by_uuid(nvml, selector))
            return cls(nvml, nvml.nvmlDeviceGetHandleByIndex(int(selector)))
        except Exception:
            return None

    def _ask(self, function: str, *arguments: Any) -> Any:
        with suppress(Exception):  # NVMLError_NotSupported and friends; an old library lacks the function itself
            return getattr(self._nvml, function)(self._handle, *arguments)
        return None

    @property
    def lost(self) -> bool:
        """Whether the driver says that the card is gone, as it does once it has fallen off the bus, or knows nothing of
        it at all."""
        try:
            self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        except Exception as error:
            return type(error).__name__ in _GONE
        return False

    def xid_events(self) -> Callable[[], int | None] | None:
        """A function that gives the number of the next error that the driver reports of this card (an Xid), ``None``
        when there is none now; ``None`` where the driver tells no such thing (Windows, old drivers)."""
        try:
            events = self._nvml.nvmlEventSetCreate()
            self._nvml.nvmlDeviceRegisterEvents(self._handle, self._nvml.nvmlEventTypeXidCriticalError, events)
        except Exception:
            return None

        def following() -> int | None:
            try:
                return int(self._nvml.nvmlEventSetWait_v2(events, 0).eventData)
            except Exception:  # NVMLError_Timeout: nothing has happened
                return None

        return following

    def _text(self, function: str) -> str | None:
        value = self._ask(function)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    @property
    def name(self) -> str | None:
        """The card's name as its driver writes it."""
        return self._text("nvmlDeviceGetName")

    @property
    def uuid(self) -> str | None:
        """Identifies the card on this machine only; it never goes into a record."""
        return self._text("nvmlDeviceGetUUID")

    @property
    def driver(self) -> str | None:
        """The driver's version, like "550.54"."""
        with suppress(Exception):
            value = self._nvml.nvmlSystemGetDriverVersion()
            return value.decode() if isinstance(value, bytes) else str(value)
        return None

    @property
    def pci_device_id(self) -> str | None:
        """``vendor:device`` in hexadecimal, as lspci prints it."""
        info = self._ask("nvmlDeviceGetPciInfo")
        if info is None:
            return None
        return f"{info.pciDeviceId & 0xFFFF:04x}:{info.pciDeviceId >> 16:04x}"

    @property
    def compute_capability(self) -> tuple[int, int] | None:
        """(major, minor)."""
        value = self._ask("nvmlDeviceGetCudaComputeCapability")
        return None if value is None else (int(value[0]), int(value[1]))

    @property
    def display(self) -> bool | None:
        """Whether a display is initialized on the card, which costs it memory."""
        value = self._ask("nvmlDeviceGetDisplayActive")
        return None if value is None else bool(value)

    @property
    def power_limit(self) -> float | None:
        """Watts."""
        value = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        return None if value is None else value / 1000

    def memory(self) -> tuple[int, int, int] | None:
        """(total, used, free) bytes of the whole card."""
        value = self._ask("nvmlDeviceGetMemoryInfo")
        return None if value is None else (int(value.total), int(value.used), int(value.free))

    def processes(self) -> list[GpuProcess] | None:
        """Processes with a compute or graphics context, each once; ``None`` when the driver cannot list them."""
        rows: dict[int, int | None] = {}
        known = False
        for function in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            listed = self._ask(function)
            known = known or listed is not None
            for row in listed or ():
                used = row.usedGpuMemory
                before = rows.get(int(row.pid))
                rows[int(row.pid)] = before if used is None else max(int(used), before or 0)
        return [GpuProcess(pid, used) for pid, used in sorted(rows.items())] if known else None

    def process_bytes(self, pids: set[int]) -> int | None:
        """Bytes that these processes hold; ``None`` when the driver lists none of them or no size."""
        found = [row.used for row in self.processes() or () if row.pid in pids and row.used is not None]
        return sum(found) if found else None

    def event_reasons(self) -> int | None:
        """Why clocks are not higher, as bits of ``EVENT_REASONS``; older drivers' name for it is asked second."""
        for function in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            value = self._ask(function)
            if value is not None:
                return int(value)
        return None

    def link(self) -> dict[str, int]:
        """PCIe generation and width, current and greatest. A card at rest may show a lower one than under load."""
        names = {
            "pcie_generation": "nvmlDeviceGetCurrPcieLinkGeneration",
            "pcie_width": "nvmlDeviceGetCurrPcieLinkWidth",
            "pcie_generation_max": "nvmlDeviceGetMaxPcieLinkGeneration",
            "pcie_width_max": "nvmlDeviceGetMaxPcieLinkWidth",
        }
        return {name: int(value) for name, function in names.items() if (value := self._ask(function)) is not None}

    def state(self) -> dict[str, float]:
        """Power (W), energy since the driver started (J), clocks (MHz), temperature (°C), reasons (bits), link."""
        sensors: dict[str, tuple[str, tuple[int, ...], float]] = {
            "power_watts": ("nvmlDeviceGetPowerUsage", (), 1000),
            "energy_joules": ("nvmlDeviceGetTotalEnergyConsumption", (), 1000),
            "sm_clock_mhz": ("nvmlDeviceGetClockInfo", (1,), 1),
            "memory_clock_mhz": ("nvmlDeviceGetClockInfo", (2,), 1),
            "temperature_celsius": ("nvmlDeviceGetTemperature", (0,), 1),
        }
        values: dict[str, float] = {}
        for name, (function, arguments, divisor) in sensors.items():
            value = self._ask(function, *arguments)
            if value is not None:
                values[name] = value / divisor
        reasons = self.event_reasons()
        if reasons is not None:
            values["event_reasons"] = reasons
        link = self.link()
        values |= {name: link[name] for name in ("pcie_generation", "pcie_width") if name in link}
        return values


def _by_uuid(nvml: Any, uuid: str) -> Any:
    """CUDA takes the beginning of a UUID for the card that it fits alone; NVML wants the whole."""
    try:
        return nvml.nvmlDeviceGetHandleByUUID(uuid)
    except Exception:
        if not uuid.startswith("GPU-"):
            raise
        cards = [NvmlCard(nvml, nvml.nvmlDeviceGetHandleByIndex(at)) for at in range(nvml.nvmlDeviceGetCount())]
        (found,) = [card for card in cards if (card.uuid or "").lower().startswith(uuid.lower())]
        return found._handle


class NvmlMemoryProbe:
    """``card_used`` of the whole card and ``card_process`` of the watched processes, in bytes."""

    def __init__(self, card: NvmlCard, pids: Callable[[], set[int]], period: float = 0.04) -> None:
        self.period = period
        self._card = card
        self._pids = pids

    def read(self) -> Mapping[str, float]:
        """Keys are missing where the driver does not tell, as ``card_process`` on Windows."""
        values: dict[str, float] = {}
        memory = self._card.memory()
        if memory is not None:
            values["card_used"] = memory[1]
        process = self._card.process_bytes(self._pids())
        if process is not None:
            values["card_process"] = process
        return values


class NvmlXidProbe:
    """``xid``, the number of an error that the driver reports of the card, when it does."""

    def __init__(self, card: NvmlCard, period: float = 0.25) -> None:
        self.period = period
        self._following = card.xid_events()

    def read(self) -> Mapping[str, float]:
        """Empty as long as all is well."""
        xid = None if self._following is None else self._following()
        return {} if xid is None else {"xid": xid}


class NvmlStateProbe:
    """Power, clocks, temperature, throttling, link, a few times a second: some of these sensors take milliseconds."""

    def __init__(self, card: NvmlCard, period: float = 0.25) -> None:
        self.period = period
        self._card = card
        self._counted = self._last = 0.0

    def read(self) -> Mapping[str, float]:
        """What ``NvmlCard.state`` reads; the joules go on counting when the driver is loaded again."""
        state = self._card.state()
        energy = state.get("energy_joules")
        if energy is not None:
            # the counter starts again when the driver is loaded again; what came before has still been used
            if energy < self._last:
                self._counted += self._last
            self._last = energy
            state["energy_joules"] = self._counted + energy
        return state


def visible_selector(environment: Mapping[str, str] | None = None) -> str:
    """The card that CUDA will call device 0: the first entry of CUDA_VISIBLE_DEVICES, else ``"0"``. A variable that is
    set and empty hides every card, as ``"-1"`` does.

    NVML counts in PCI order, so the child runs with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    listed = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES", "0")
    return listed.split(",")[0].strip() or "-1"

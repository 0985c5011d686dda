"""The link of an NVIDIA card under load: a second of copies through the driver itself, in a process of its own.

A link at rest lowers its generation, so that only a link that works tells what it can do. No library but the driver's
is needed: ``python -m fitcheck.hardware.detect.link_load 0`` prints what was seen as one line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from fitcheck.dataclass_later import dataclass

_BLOCK = 64 << 20
_COPY_SECONDS = 0.6
_WAIT_SECONDS = 30
_BUS_ID_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class LinkUnderLoad:
    """PCIe generation and width while copies ran, and the rate of copies from pinned memory to the card in B/s."""

    generation: int | None = None
    width: int | None = None
    pinned_rate: float | None = None


def find(index: int, run: Callable[[Sequence[str]], str] | None = None) -> LinkUnderLoad | None:
    """The link of the card at ``index``; None where it could not be loaded: no driver, no memory left, a card that
    another program holds alone. ``run`` stands in for the process. Raises nothing."""
    command = [sys.executable, "-m", "fitcheck.hardware.detect.link_load", str(index)]
    try:
        told = json.loads((run or _run)(command))
        rate = told["pinned_rate"]
        return LinkUnderLoad(_number(told["generation"]), _number(told["width"]), None if rate is None else float(rate))
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        return None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value < 1000 else None


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(
        list(command), capture_output=True, timeout=_WAIT_SECONDS, check=True, text=True, stdin=subprocess.DEVNULL
    )
    return done.stdout[:4096]


class DriverError(Exception):
    """The CUDA driver refused."""


class _Driver:
    """The few calls of the CUDA driver that a copy takes."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def call(self, name: str, *arguments: Any) -> None:
        """Raises DriverError for any answer but success."""
        code = getattr(self._library, name)(*arguments)
        if code:
            raise DriverError(f"{name}: {code}")


def loaded(driver: Any, nvml: Any, index: int, clock: Callable[[], float] = time.perf_counter) -> LinkUnderLoad:
    """Copy for a while and look at the link meanwhile. ``driver`` and ``nvml`` are the two libraries. Raises
    DriverError, or what a library that is not there raises."""
    cuda, device, context = _Driver(driver), ctypes.c_int(), ctypes.c_void_p()
    cuda.call("cuInit", 0)
    cuda.call("cuDeviceGet", ctypes.byref(device), index)
    bus = ctypes.create_string_buffer(_BUS_ID_CHARACTERS)
    cuda.call("cuDeviceGetPCIBusId", bus, _BUS_ID_CHARACTERS, device)
    cuda.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    cuda.call("cuCtxSetCurrent", context)
    host, card = ctypes.c_void_p(), ctypes.c_uint64()
    cuda.call("cuMemAllocHost_v2", ctypes.byref(host), ctypes.c_size_t(_BLOCK))
    cuda.call("cuMemAlloc_v2", ctypes.byref(card), ctypes.c_size_t(_BLOCK))
    copies, start = 0, clock()
    seen: tuple[int | None, int | None] = (None, None)
    while (spent := clock() - start) < _COPY_SECONDS:
        cuda.call("cuMemcpyHtoD_v2", card, host, ctypes.c_size_t(_BLOCK))
        copies += 1
        if spent > _COPY_SECONDS / 2 and seen == (None, None):
            seen = _link(nvml, bus.value)
    return LinkUnderLoad(seen[0], seen[1], copies * _BLOCK / (clock() - start))


def _link(nvml: Any, bus: bytes) -> tuple[int | None, int | None]:
    """Generation and width now; None where the driver does not tell."""
    try:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(bus)
        return int(nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)), int(nvml.nvmlDeviceGetCurrPcieLinkWidth(handle))
    except Exception:  # NVML raises classes of its own; the rate is worth having without
        return None, None


def _libraries() -> tuple[Any, Any]:
    """The CUDA driver and NVML. Raises OSError where a driver is missing."""
    import pynvml

    # on Windows the driver's functions have a calling convention of their own
    windows = sys.platform == "win32"
    driver = getattr(ctypes, "WinDLL" if windows else "CDLL")("nvcuda.dll" if windows else "libcuda.so.1")
    pynvml.nvmlInit()
    return driver, pynvml


if __name__ == "__main__":
    found = loaded(*_libraries(), int(sys.argv[1]))
    print(json.dumps({name: getattr(found, name) for name in ("generation", "width", "pinned_rate")}))

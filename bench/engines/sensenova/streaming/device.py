"""Streams, events, pinned memory and copies of a device, so that a policy is the same code with and without a card."""

from __future__ import annotations

import mmap
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fitcheck.errors import MeasurementError, OptionError
from fitcheck.units import format_gib

PAGE = 4096
# cudaHostRegisterPortable: pinned for every thread's context, because several threads register
_PORTABLE = 1


@dataclass(frozen=True, slots=True)
class MemoryState:
    """Bytes of device memory: torch's allocated and reserved, the driver's free and total."""

    allocated: int
    reserved: int
    free: int
    total: int


class Accelerator(Protocol):
    """What a streaming policy needs of a device. Streams and events are opaque: each accelerator takes its own."""

    device: torch.device

    def synchronize(self) -> None:
        """Returns when all work queued on the device is done."""

    def upload(self, host: Tensor, non_blocking: bool) -> Tensor:
        """A new device tensor with the bytes of ``host``, on the current stream."""

    def copy(self, destination: Tensor, host: Tensor) -> None:
        """Copy into existing device memory on the current stream without waiting."""

    def stream(self) -> Any:
        """A new stream, whose work runs beside that of the others."""

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Inside the block the stream is the current one."""

    def event(self) -> Any:
        """An event that streams can wait for; it tells no time."""

    def timer(self) -> Any:
        """An event that notes when it is reached; ``begin.elapsed_time(end)`` is milliseconds."""

    def compute_stream(self) -> Any:
        """The current stream, on which the model computes."""

    def record_stream(self, tensor: Tensor) -> None:
        """Keeps the tensor's memory from being reused before the compute stream's work so far is done."""

    def pinned(self, nbytes: int) -> Tensor:
        """uint8 host memory through torch's pinned allocator, which rounds up to a power of two."""

    def host_buffer(self, nbytes: int) -> Tensor:
        """Page-aligned uint8 host memory of exactly ``nbytes``, not yet pinned."""

    def register(self, buffer: Tensor) -> None:
        """Pin a ``host_buffer`` in place."""

    def unregister(self, buffer: Tensor) -> None:
        """Unpin what ``register`` pinned; the memory itself stays."""

    def memory(self) -> MemoryState:
        """What is held and free at this moment."""


class CudaAccelerator:
    """One CUDA card. Policies queue compute on the current stream and copies on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        if not torch.cuda.is_available():
            raise MeasurementError(
                f"device: torch sees no CUDA card for {device}; use --device cpu --tiny for a dry run."
            )
        self.device = torch.device("cuda", device.index if device.index is not None else torch.cuda.current_device())
        torch.cuda.set_device(self.device)

    def synchronize(self) -> None:
        """Waits for all streams of the card."""
        torch.cuda.synchronize(self.device)

    def upload(self, host: Tensor, non_blocking: bool) -> Tensor:
        """From torch's caching allocator; ``non_blocking`` copies run ahead of the host only from pinned memory."""
        return host.to(self.device, non_blocking=non_blocking)

    def copy(self, destination: Tensor, host: Tensor) -> None:
        """The host may run ahead only where ``host`` is pinned."""
        destination.copy_(host, non_blocking=True)

    def stream(self) -> Any:
        """A stream of this card."""
        return torch.cuda.Stream(device=self.device)  # type: ignore[no-untyped-call]

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """torch's own context manager for the stream."""
        return torch.cuda.stream(stream)

    def event(self) -> Any:
        """A CUDA event without timing, the cheaper kind."""
        return torch.cuda.Event()  # type: ignore[no-untyped-call]

    def timer(self) -> Any:
        """A CUDA event with timing; reading it needs the card to be past it."""
        return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def compute_stream(self) -> Any:
        """torch's current stream of this card."""
        return torch.cuda.current_stream(self.device)

    def record_stream(self, tensor: Tensor) -> None:
        """Tells torch's caching allocator that the compute stream uses the tensor."""
        tensor.record_stream(self.compute_stream())

    def pinned(self, nbytes: int) -> Tensor:
        """Freed blocks stay in torch's cache and are not given back to the system."""
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def host_buffer(self, nbytes: int) -> Tensor:
        """An anonymous mapping; pages come into being on first touch."""
        return _mapped(nbytes)

    def register(self, buffer: Tensor) -> None:
        """Raises MeasurementError when the driver refuses, as it does when host memory is short."""
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        status = runtime.cudaHostRegister(buffer.data_ptr(), buffer.numel(), _PORTABLE)
        if int(status) != 0:
            raise MeasurementError(
                f"host memory: the driver refused to pin {format_gib(buffer.numel(), 2)} (cudaHostRegister: {status}); "
                "free host memory or choose --policy upstream."
            )

    def unregister(self, buffer: Tensor) -> None:
        """By cudaHostUnregister; what the driver answers is not looked at."""
        torch.cuda.cudart().cudaHostUnregister(buffer.data_ptr())  # type: ignore[no-untyped-call]

    def memory(self) -> MemoryState:
        """The driver's free counts what other programs hold as taken."""
        free, total = torch.cuda.mem_get_info(self.device)
        allocated, reserved = torch.cuda.memory_allocated(self.device), torch.cuda.memory_reserved(self.device)
        return MemoryState(allocated, reserved, free, total)


def _mapped(nbytes: int) -> Tensor:
    """Anonymous page-aligned memory; huge pages make first touch and pinning several times faster."""
    area = mmap.mmap(-1, -(-nbytes // PAGE) * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without transparent huge pages still maps the memory
            area.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(area, dtype=torch.uint8)[:nbytes]


class _NoStream:
    """Stands in for streams and events where everything runs in order."""

    def record(self, stream: object = None) -> None: ...

    def wait_event(self, event: object) -> None: ...


class _HostTimer(_NoStream):
    """What runs in order is reached when it is recorded."""

    def __init__(self) -> None:
        self.at = 0.0

    def record(self, stream: object = None) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, end: _HostTimer) -> float:
        return 1000 * (end.at - self.at)


class InOrder:
    """The half of an accelerator that has nothing to do where everything runs in order: no streams, events or pins."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def stream(self) -> Any:
        """A stand-in that takes events and does nothing."""
        return _NoStream()

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """A block that changes nothing."""
        return nullcontext()

    def event(self) -> Any:
        """A stand-in that is always reached."""
        return _NoStream()

    def timer(self) -> Any:
        """A stand-in that notes no time."""
        return _NoStream()

    def compute_stream(self) -> Any:
        """A stand-in for the only order there is."""
        return _NoStream()

    def record_stream(self, tensor: Tensor) -> None:
        """Nothing to keep: no memory is reused before its reader is done."""

    def register(self, buffer: Tensor) -> None:
        """Nothing to pin."""

    def unregister(self, buffer: Tensor) -> None:
        """Nothing to unpin."""


class HostAccelerator(InOrder):
    """The CPU playing the card: copies are real."""

    def __init__(self, device: torch.device, total: int = 1 << 40) -> None:
        self.device, self.total = device, total

    def upload(self, host: Tensor, non_blocking: bool) -> Tensor:
        """A copy in host memory; ``non_blocking`` is not heard."""
        return host.clone()

    def copy(self, destination: Tensor, host: Tensor) -> None:
        """Returns when the bytes are there."""
        destination.copy_(host)

    def timer(self) -> Any:
        """The host's clock at the moment of recording."""
        return _HostTimer()

    def pinned(self, nbytes: int) -> Tensor:
        """Pageable memory of exactly ``nbytes``: nothing is pinned or rounded up."""
        return torch.empty(nbytes, dtype=torch.uint8)

    def host_buffer(self, nbytes: int) -> Tensor:
        """The same mapping as with a card."""
        return _mapped(nbytes)

    def memory(self) -> MemoryState:
        """``total`` bytes, all of them free whatever is held."""
        return MemoryState(0, 0, self.total, self.total)


def accelerator(name: str) -> Accelerator:
    """Raises InputError for a device this engine cannot drive."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"device: {name!r} is not a device; choose cuda, cuda:N or cpu.") from error
    if device.type == "cuda":
        return CudaAccelerator(device)
    if device.type == "cpu":
        return HostAccelerator(device)
    raise OptionError(f"device: the bench drives cuda and cpu, not {device.type!r}.")

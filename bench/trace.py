"""A dry run of a cell on meta tensors: the peak of live device bytes by phase, without the memory and without a card.

The bench's own model runs at true shapes while every new storage is counted until it dies, rounded as torch's CUDA
allocator rounds. What no operator hands out is not seen: workspaces of cuDNN and, apart from a constant, of cuBLAS.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fitcheck.errors import InputError
from fitcheck.memory.constants import cublas_workspace

if TYPE_CHECKING:
    from bench.engines.sensenova.job import Job
    from fitcheck.models.tensors import Tensor

# torch's CUDA caching allocator hands out multiples of 512 bytes (c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize)
_BLOCK = 512


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts bytes of live meta storages that operators make; ``peaks`` keeps each phase's highest count."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peaks: dict[str, int] = {}
        self._open: list[str] = []
        self._storages: dict[int, weakref.ref[Any]] = {}
        self._host: list[torch.Tensor] = []
        self._ignored: set[int] = set()
        self._counting = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "meta":
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if not self._counting or key in self._storages or key in self._ignored:
            return
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK

        def died(_: object) -> None:
            self.live -= size
            del self._storages[key]

        self._storages[key] = weakref.ref(storage, died)
        self.live += size
        for name in self._open:
            self.peaks[name] = max(self.peaks[name], self.live)

    def host(self, nbytes: int) -> torch.Tensor:
        """Memory that stands for the host: it is never counted."""
        self._counting = False
        tensor = torch.empty(nbytes, dtype=torch.uint8, device="meta")
        self._counting = True
        self._ignored.add(tensor.untyped_storage()._cdata)
        self._host.append(tensor)  # kept, or its storage's address could come back as a counted one
        return tensor

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.peaks[name] = max(self.peaks.get(name, 0), self.live)
        self._open.append(name)
        try:
            yield
        finally:
            self._open.remove(name)

    def step(self, seconds: float) -> None: ...

    def synchronize(self) -> None: ...


class _NoSource:
    kind = "none"

    def read(self, tensor: Tensor, into: torch.Tensor) -> None: ...


class _Nothing:
    """Streams and events of a run that does nothing."""

    def record(self, stream: object = None) -> None: ...

    def wait_event(self, event: object) -> None: ...


class _MetaAccelerator:
    device = torch.device("meta")

    def __init__(self, tracker: StorageTracker, total: int, workspace: int) -> None:
        self._tracker, self._total, self._workspace = tracker, total, workspace

    def synchronize(self) -> None: ...

    def upload(self, host: torch.Tensor, non_blocking: bool) -> torch.Tensor:
        return torch.empty_like(host, device="meta")

    def copy(self, destination: torch.Tensor, host: torch.Tensor) -> None: ...

    def stream(self) -> Any:
        return _Nothing()

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        return nullcontext()

    def event(self) -> Any:
        return _Nothing()

    def timer(self) -> Any:
        return _Nothing()

    def compute_stream(self) -> Any:
        return _Nothing()

    def record_stream(self, tensor: torch.Tensor) -> None: ...

    def pinned(self, nbytes: int) -> torch.Tensor:
        return self._tracker.host(nbytes)

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        return self._tracker.host(nbytes)

    def register(self, buffer: torch.Tensor) -> None: ...

    def unregister(self, buffer: torch.Tensor) -> None: ...

    def memory(self) -> Any:
        from bench.engines.sensenova.streaming.device import MemoryState

        held = self._tracker.live + self._workspace
        return MemoryState(held, held, self._total - held, self._total)


def _flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    output: torch.Tensor = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)[0]
    return output


def trace_peak(
    cell: Job, compute_capability: tuple[int, int] | None = None, total: int = 80 << 30, passes: int = 1
) -> dict[str, int]:
    """Peak of torch's allocated bytes by phase ("load", "prefix", "denoise", "decode"), as the bench would measure.

    ``compute_capability`` decides the cuBLAS workspace, which every phase after loading holds; ``total`` is the card's
    memory for mode ``fast``. Steps beyond the second repeat the second, so at most two are run. A second pass differs
    from the first by what the first built lazily. Raises InputError for models with experts, whose shapes depend on
    what the router chooses.
    """
    from bench.engines.sensenova import inputs
    from bench.engines.sensenova import tasks as workloads
    from bench.engines.sensenova.job import architecture_of, tensor_table_of
    from bench.engines.sensenova.placing import Placing

    architecture = architecture_of(cell)
    if architecture.experts:
        raise InputError(f"trace: {cell.model} routes tokens to experts, so its shapes are not known before it runs.")
    workload = cell.workload.with_(steps=min(cell.workload.steps, 2))
    inputs.check(architecture, workload)
    workspace = cublas_workspace(compute_capability)
    tracker = StorageTracker()
    accelerator = _MetaAccelerator(tracker, total, workspace)
    placing = Placing(architecture, tensor_table_of(cell), _NoSource(), cell.placement, accelerator)
    model = placing.skeleton()
    with torch.no_grad(), tracker:
        with tracker.phase("load"):
            placing.place(model)
        for module in model.attention_modules():
            module.sdpa = _flash
        context = workloads.Context(model, workload, accelerator.device, cell.seed, tracker)
        for _ in range(passes):
            workloads.run(context)
    return {name: peak + (workspace if name != "load" else 0) for name, peak in tracker.peaks.items()}

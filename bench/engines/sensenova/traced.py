"""A dry run of a job on meta tensors: the bench's own model at true shapes, its peak of live device bytes by phase."""

from __future__ import annotations

from typing import Any

import torch

from bench.engines.sensenova import inputs
from bench.engines.sensenova import run_tasks as workloads
from bench.engines.sensenova.placing import Placing
from bench.engines.sensenova.scaled_down import architecture_of, tensor_table_of
from bench.engines.sensenova.streaming.device import InOrder, MemoryState
from bench.job import Job
from bench.trace import StorageTracker
from fitcheck.errors import MeasurementError
from fitcheck.memory.constants import cublas_workspace
from fitcheck.models.tensors import Tensor
from fitcheck.runtimes.sensenova.streaming import streaming_of


class _NoSource:
    kind = "none"

    def read(self, tensor: Tensor, into: torch.Tensor) -> None: ...


class MetaAccelerator(InOrder):
    """A card of ``total`` bytes whose tensors have shapes and no memory; host memory is not counted."""

    device = torch.device("meta")

    def __init__(self, tracker: StorageTracker, total: int, workspace: int) -> None:
        self._tracker, self._total, self._workspace = tracker, total, workspace

    def upload(self, host: torch.Tensor, non_blocking: bool) -> torch.Tensor:
        """A meta tensor like ``host``, counted as device memory while it lives."""
        return torch.empty_like(host, device="meta")

    def copy(self, destination: torch.Tensor, host: torch.Tensor) -> None:
        """Nothing is moved."""

    def pinned(self, nbytes: int) -> torch.Tensor:
        """A meta tensor of ``nbytes`` that is not counted."""
        return self._tracker.host(nbytes)

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        """A meta tensor of ``nbytes`` that is not counted."""
        return self._tracker.host(nbytes)

    def memory(self) -> Any:
        """Live bytes with cuBLAS's workspace as both allocated and reserved; the rest is free."""
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
    architecture = architecture_of(cell)
    if architecture.experts:
        raise MeasurementError(
            f"trace: {cell.model} routes tokens to experts, so its shapes are not known before it runs."
        )
    workload = cell.workload.with_(steps=min(cell.workload.steps, 2))
    inputs.check(architecture, workload)
    workspace = cublas_workspace(compute_capability)
    tracker = StorageTracker()
    accelerator = MetaAccelerator(tracker, total, workspace)
    placing = Placing(architecture, tensor_table_of(cell), _NoSource(), streaming_of(cell.placement), accelerator)
    model = placing.skeleton()
    with torch.no_grad(), tracker:
        with tracker.phase("load"):
            placing.place(model)
        for module in model.attention_modules():
            module.sdpa = _flash
        context = workloads.TaskContext(model, workload, accelerator.device, cell.seed, tracker)
        for _ in range(passes):
            workloads.run(context)
    return {name: peak + (workspace if name != "load" else 0) for name, peak in tracker.peaks.items()}

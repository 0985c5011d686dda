"""The engine: loads a cell's weights and runs its workload, once per call, in the process that is measured."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from bench.engines.sensenova import inputs
from bench.engines.sensenova import run_tasks as workloads
from bench.engines.sensenova.network import SenseNovaNetwork
from bench.engines.sensenova.placing import Placing
from bench.engines.sensenova.scaled_down import architecture_of, tensor_table_of
from bench.engines.sensenova.streaming.device import Accelerator, accelerator
from bench.engines.sensenova.streaming.policy import Policy
from bench.engines.sensenova.weight_sources import GgufSource, SyntheticSource, WeightSource
from bench.job import Job
from bench.told import LoadReport, Observer, PassReport
from fitcheck.errors import MeasurementError
from fitcheck.models.workload import Workload
from fitcheck.runtimes.sensenova.streaming import UPSTREAM, streaming_of


class _PassClock:
    """Times phases with the device synchronized at both ends and books weight traffic to them."""

    def __init__(self, observer: Observer, device: Accelerator, policy: Policy) -> None:
        self._observer, self._device, self._policy = observer, device, policy
        policy.traffic.timed = observer.metered
        self.seconds: dict[str, float] = {}
        self.streamed: dict[str, int] = {}
        self.copies: dict[str, int] = {}
        self.copying: dict[str, float] = {}
        self.waiting: dict[str, float] = {}
        self.steps: dict[str, list[float]] = {}
        self.resident_layers = 0
        self._now = ""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        traffic = self._policy.traffic
        self._device.synchronize()
        with self._observer.phase(name):
            streamed, copies = traffic.streamed_bytes, traffic.copies
            copying, waiting = traffic.copy_seconds, traffic.wait_seconds
            started = time.perf_counter()
            self._now = name
            yield
            self._device.synchronize()
            seconds = time.perf_counter() - started
            traffic.settle()
            self.resident_layers = max(self.resident_layers, self._policy.resident_layers)
            self.streamed[name] = self.streamed.get(name, 0) + traffic.streamed_bytes - streamed
            self.copies[name] = self.copies.get(name, 0) + traffic.copies - copies
            self.copying[name] = self.copying.get(name, 0.0) + traffic.copy_seconds - copying
            self.waiting[name] = self.waiting.get(name, 0.0) + traffic.wait_seconds - waiting
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def synchronize(self) -> None:
        self._device.synchronize()

    def step(self, seconds: float) -> None:
        self.steps.setdefault(self._now, []).append(seconds)
        self._observer.step(seconds)


class PictureEngine:
    """Raises InputError for a cell that cannot run: wrong family, tier, sizes, device or file."""

    def __init__(self, cell: Job) -> None:
        self.cell = cell
        self.architecture = architecture_of(cell)
        self.table = tensor_table_of(cell)
        inputs.check(self.architecture, cell.workload)
        inputs.prefixes(self.architecture, cell.workload)
        if cell.placement.runtime != UPSTREAM:
            raise MeasurementError(f"runtime: the engine runs upstream's modes, not {cell.placement.runtime!r}.")
        self.streaming = streaming_of(cell.placement)
        self._accelerator = accelerator(cell.device)
        self._placing: Placing | None = None
        self._model: SenseNovaNetwork | None = None

    def load(self, observer: Observer) -> LoadReport:
        """Weights made or read, pinned, and moved as the placement says. Runs once."""
        with torch.no_grad(), observer.phase("load"):
            source = self._source()
            self._placing = Placing(self.architecture, self.table, source, self.streaming, self._accelerator)
            self._model, report = self._placing.load()
            if isinstance(source, GgufSource):
                source.close()
            gc.collect()
        return report

    def _source(self) -> WeightSource:
        if self.cell.gguf is None:
            return SyntheticSource(self.table, self.cell.seed)
        source = GgufSource(Path(self.cell.gguf), self.table)
        self.table = source.table
        return source

    def run(self, observer: Observer) -> PassReport:
        """One pass of the workload: seconds and weight traffic by phase, and the digest of what came out."""
        if self._model is None:
            raise RuntimeError("run needs load first")
        policy = self._model.language_model.model.policy
        clock = _PassClock(observer, self._accelerator, policy)
        with torch.no_grad():
            context = workloads.TaskContext(
                self._model, self.cell.workload, self._accelerator.device, self.cell.seed, clock
            )
            result = workloads.run(context)
            output = result.output.to("cpu")
        backends = {module.backend for module in self._model.attention_modules() if module.backend}
        return PassReport(
            seconds=clock.seconds,
            step_seconds=tuple(clock.steps.get("denoise") or clock.steps.get("decode") or ()),
            streamed_bytes=clock.streamed,
            copies=clock.copies,
            copy_seconds=clock.copying if observer.metered else None,
            wait_seconds=clock.waiting if observer.metered else None,
            output_digest=_digest(output),
            output_shape=tuple(output.shape),
            finite=bool(output.isfinite().all()),
            attention_backend="+".join(sorted(backends)) or "eager",
            tokens=result.tokens,
            resident_layers=clock.resident_layers,
        )

    def resize(self, workload: Workload) -> None:
        """Weights are placed for one workload here."""
        raise MeasurementError("a job of this runtime measures one size.")

    def close(self) -> None:
        """Give memory back; the engine cannot run again."""
        if self._model is not None:
            self._model.language_model.model.policy.close()
        self._model = None
        gc.collect()
        if self._placing is not None:
            self._placing.release()
        self._placing = None


def _digest(output: Tensor) -> str:
    return hashlib.sha256(output.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()

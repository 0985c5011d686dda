"""The real child process with a fake engine, a fake torch and a fake NVML: starts at once and ends as it is told.

FAKE_ENGINE is ``action@phase``; FAKE_SLACK what the allocator caches beside the tensors, in MiB.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_fakes import LIBRARIES, Allocator, FakeNvml, OutOfMemoryError, fake_torch

from bench.job import Job
from bench.told import LoadReport, Observer, PassReport
from fitcheck.units import MIB

ALLOCATOR = Allocator()
WEIGHTS = 3000 * MIB
ACTIVATIONS = 1000 * MIB
SLACK = int(os.environ.get("FAKE_SLACK", "0")) * MIB


class Engine:
    def __init__(self, cell: Job) -> None:
        self.cell = cell

    def load(self, observer: Observer) -> LoadReport:
        with observer.phase("load"):
            ALLOCATOR.take(WEIGHTS)
            _misbehave("load")
        return LoadReport("synthetic", 3, "a" * 64, WEIGHTS, 100, 128, 0, WEIGHTS, 0.1)

    def run(self, observer: Observer) -> PassReport:
        with observer.phase("prefix"):
            pass
        steps = []
        with observer.phase("denoise"):
            ALLOCATOR.take(ACTIVATIONS, SLACK)
            _misbehave("denoise")
            for _ in range(self.cell.workload.steps):
                time.sleep(0.01)
                observer.step(0.01)
                steps.append(0.01)
            ALLOCATOR.give(ACTIVATIONS)
        return PassReport(
            seconds={"prefix": 0.001, "denoise": 0.01 * len(steps)},
            step_seconds=tuple(steps),
            streamed_bytes={"denoise": 1000},
            copies={"denoise": 2},
            copy_seconds={"denoise": 0.5},
            wait_seconds={"denoise": 0.25},
            output_digest="b" * 64,
            output_shape=(1, 3, 8, 8),
            finite=True,
            attention_backend="sdpa",
        )

    def close(self) -> None:
        pass


def _misbehave(phase: str) -> None:
    kind, _, where = os.environ.get("FAKE_ENGINE", "").partition("@")
    actions: dict[str, Callable[[], object]] = {
        "gpu-oom": lambda: _raise(OutOfMemoryError("CUDA out of memory. Tried to allocate 96.00 MiB. GPU 0 has …")),
        "host-oom": lambda: _raise(RuntimeError("CUDA error: out of memory")),
        "no-gguf": lambda: _raise(ModuleNotFoundError("No module named 'gguf'", name="gguf")),
        "bug": lambda: _raise(ValueError("a plain bug")),
        "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "hang": lambda: time.sleep(600),
        "print": lambda: print("a library that prints to standard output", flush=True),
        "exit": lambda: os._exit(7),
        "slow": lambda: time.sleep(0.4),
    }
    if where == phase:
        actions[kind]()


def _raise(error: Exception) -> None:
    raise error


def _touch(torch: Any) -> None:
    ALLOCATOR.context += LIBRARIES


if __name__ == "__main__":
    sys.modules["torch"] = fake_torch(ALLOCATOR, cuda="FAKE_NO_GPU" not in os.environ)
    sys.modules["pynvml"] = FakeNvml(ALLOCATOR)  # type: ignore[assignment]  # stands in for a module
    engine: Any = types.ModuleType("bench.engines.sensenova.engine")
    engine.PictureEngine = Engine
    sys.modules["bench.engines.sensenova.engine"] = engine
    from bench import child, device_context

    device_context._touch_libraries = _touch
    sys.exit(child.main())

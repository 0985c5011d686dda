"""The real child process with a fake engine: allocates what its environment says, ends as its environment says."""

from __future__ import annotations

import os
import signal
import sys
import time
import types
from collections.abc import Callable

from bench.cell import Cell
from bench.reports import LoadReport, Observer, PassReport

BEHAVIOUR = os.environ.get("FAKE_ENGINE", "")


class Engine:
    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.passes = 0

    def load(self, observer: Observer) -> LoadReport:
        with observer.phase("load"):
            self.weights = bytearray(32 << 20)
            _misbehave("load")
        return LoadReport("synthetic", 3, "a" * 64, 32 << 20, 100, 128, 0, 32 << 20, 0.1)

    def run(self, observer: Observer) -> PassReport:
        self.passes += 1
        with observer.phase("prefix"):
            time.sleep(0.02)
        steps = []
        with observer.phase("denoise"):
            _misbehave("denoise")
            for _ in range(self.cell.workload.steps):
                time.sleep(0.01)
                observer.step(0.01)
                steps.append(0.01)
        return PassReport(
            seconds={"prefix": 0.02, "denoise": 0.01 * len(steps)},
            step_seconds=tuple(steps),
            streamed_bytes={"denoise": 1000},
            copies={"denoise": 2},
            output_digest="b" * 64,
            output_shape=(1, 3, 8, 8),
            finite=True,
            attention_backend="sdpa",
        )

    def close(self) -> None:
        self.weights = bytearray()


def _misbehave(phase: str) -> None:
    import torch

    kind, _, where = BEHAVIOUR.partition("@")
    actions: dict[str, Callable[[], None]] = {
        "gpu-oom": lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 96.00 MiB. GPU 0 has …")),
        "host-oom": lambda: _raise(RuntimeError("CUDA error: out of memory")),
        "bug": lambda: _raise(ValueError("a plain bug")),
        "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "hang": lambda: time.sleep(600),
        "print": lambda: print("a library that prints to standard output", flush=True),
        "exit": lambda: os._exit(7),
    }
    if where == phase:
        actions[kind]()


def _raise(error: Exception) -> None:
    raise error


if __name__ == "__main__":
    fake = types.ModuleType("bench.engine")
    fake.Engine = Engine  # type: ignore[attr-defined]
    sys.modules["bench.engine"] = fake
    from bench import child

    sys.exit(child.main())

"""Where the card's time goes in one pass: seconds of kernels by kind, launches, and the host's time, as JSON.

    python scripts/profile_pass.py --tier BF16 --mode full --steps 2 --cfg 1 --out profile.json

Kinds: ``matrix`` (cuBLAS), ``attention`` (fused SDPA), ``copy`` (host to device), ``other`` (elementwise, norms).
The figures calibrate ``fitcheck/speed/data/rates.json``; nothing in the package reads them at run time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from bench.engines.sensenova.engine import PictureEngine
from bench.job import Job
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.streaming import placement_of, upstream

ATTENTION = ("flash", "fmha", "attention", "cudnn_sdpa")
MATRIX = ("gemm", "nvjet", "cutlass", "xmma", "cublas", "gemv", "conv", "wgrad", "fprop", "dgrad")
COPY = ("memcpy htod", "memcpy dtoh")


def kind(name: str) -> str:
    lowered = name.lower()
    if any(word in lowered for word in COPY):
        return "copy"
    if any(word in lowered for word in ATTENTION):
        return "attention"
    return "matrix" if any(word in lowered for word in MATRIX) else "other"


class Watcher:
    """Observer that notes when phases begin and end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.metered = False  # timing copies would put events of its own into the profile

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def step(self, seconds: float) -> None:
        """Steps are not kept; the profile has them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sensenova-u1-8b-mot")
    parser.add_argument("--tier", default="BF16")
    parser.add_argument("--mode", default="full")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--tiny", action="store_true", help="scaled down, on the CPU")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    device = "cpu" if given.tiny else "cuda"
    workload = Workload(Task.T2I, given.size, given.size, given.steps, given.cfg)
    placement = placement_of(upstream(given.mode))
    engine = PictureEngine(Job(given.model, given.tier, placement, workload, device, tiny=given.tiny))
    engine.load(Watcher())
    engine.run(Watcher())
    watcher = Watcher()
    activities = [ProfilerActivity.CPU] if given.tiny else [ProfilerActivity.CUDA]
    with profile(activities=activities) as profiler:
        engine.run(watcher)
    seconds: Counter[str] = Counter()
    launches: Counter[str] = Counter()
    dearest: Counter[str] = Counter()
    for event in profiler.events():
        spent = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        seconds[kind(event.name)] += spent / 1e6
        launches[kind(event.name)] += 1
        dearest[event.name[:100]] += spent / 1e6
    result = {
        "cell": {
            "model": given.model,
            "tier": given.tier,
            "mode": given.mode,
            "steps": given.steps,
            "cfg": given.cfg,
            "size": given.size,
        },
        "wall_seconds_by_phase": watcher.seconds,
        "kernel_seconds": dict(seconds),
        "launches": dict(launches),
        "dearest": dict(dearest.most_common(25)),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(0) if device == "cuda" else "cpu",
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps({key: result[key] for key in ("wall_seconds_by_phase", "kernel_seconds", "launches")}))


if __name__ == "__main__":
    main()

"""A whole pipeline's allocator, event by event, and what a denoiser's calls wait for.

``python benchmarks/pipelines_h100/allocator_events.py PLAN --out F --budget S`` runs the cells of a plan of
``bench.engines.diffusers.pipeline_series``, each in a process of its own; needs a card and the extra ``bench``. An
entry with ``"watch": "calls"`` times and profiles the denoiser's calls of two pictures, any other keeps the allocator's
events of one. ``F/events-N.jsonl.gz``: a line ``[microseconds, action, address, bytes, stream]`` for each event,
``["phase", name, microseconds]`` where a phase begins; ``F/phases.jsonl``: peaks by phase as torch counts them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.engines.diffusers.engine import PipelineEngine
from bench.engines.diffusers.pipeline_series import REVISION, jobs
from bench.job import Job

_EVENTS = 10_000_000
_KEPT = 25


class Marks:
    """An observer that resets torch's peaks at every phase and keeps them, with the moment at which it began."""

    metered = False

    def __init__(self, cuda: bool) -> None:
        self._cuda = cuda
        self.phases: list[dict[str, Any]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """See ``bench.told.Observer``."""
        found: dict[str, Any] = {"phase": name, "began": time.time_ns() // 1000}
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        yield
        if self._cuda:
            torch.cuda.synchronize()
            found |= {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
        self.phases.append(found | {"seconds": time.perf_counter() - started})

    def step(self, seconds: float) -> None:
        """See ``bench.told.Observer``."""


def watch_events(job: Job, out: Path, number: int) -> None:
    """One picture with the allocator's history."""
    cuda = job.device == "cuda"
    marks, engine = Marks(cuda), PipelineEngine(job)
    engine.load(marks)
    if cuda:
        torch.cuda.memory._record_memory_history("all", context=None, stacks="python", max_entries=_EVENTS)
    engine.run(marks)
    keep(out, number, job, marks)
    if cuda:
        with gzip.open(out / f"events-{number}.jsonl.gz", "wt", compresslevel=6) as file:
            for line in _lines(marks, torch.cuda.memory._snapshot()["device_traces"][0]):
                file.write(json.dumps(line, separators=(",", ":")) + "\n")


def _lines(marks: Marks, events: list[dict[str, Any]]) -> Iterator[list[Any]]:
    begins = [(one["began"], one["phase"]) for one in marks.phases if one["phase"] != "load"]
    for event in events:
        while begins and event["time_us"] >= begins[0][0]:
            yield ["phase", begins[0][1], begins.pop(0)[0]]
        yield [event["time_us"], event["action"], event["addr"], event["size"], event["stream"]]


def watch_calls(job: Job, out: Path, number: int) -> None:
    """Two pictures: of each the denoiser's calls one by one, the first call of each picture profiled."""
    marks, engine = Marks(job.device == "cuda"), PipelineEngine(job)
    engine.load(marks)
    found: list[dict[str, Any]] = []
    for name in engine.recipe.denoisers:
        module = getattr(engine._pipeline, name)
        module.forward = _watched(module.forward, found, job.workload.steps)
    for _ in range(2):
        engine.run(marks)
    keep(out, number, job, marks, calls=found)


def _watched(forward: Any, found: list[dict[str, Any]], every: int) -> Any:
    def watched(*args: Any, **kwargs: Any) -> Any:
        torch.cuda.synchronize()
        started = time.perf_counter()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], record_shapes=True) as seen:
            result = forward(*args, **kwargs)
            host = time.perf_counter() - started
            torch.cuda.synchronize()
            wall = time.perf_counter() - started
        shapes = {name: list(one.shape) for name, one in kwargs.items() if isinstance(one, torch.Tensor)}
        found.append({"wall": wall, "host": host, "shapes": shapes, **_tables(seen)})
        return result

    return watched


def _tables(seen: Any) -> dict[str, Any]:
    rows = seen.key_averages(group_by_input_shape=True)
    by_card = sorted(rows, key=lambda row: -row.self_device_time_total)[:_KEPT]
    by_host = sorted(rows, key=lambda row: -row.self_cpu_time_total)[:_KEPT]
    return {
        "busy": sum(row.self_device_time_total for row in rows) / 1e6,
        "card": [(row.key[:120], row.count, row.self_device_time_total, _shapes(row)) for row in by_card],
        "host_time": [(row.key[:120], row.count, row.self_cpu_time_total, _shapes(row)) for row in by_host],
    }


def _shapes(row: Any) -> list[Any]:
    return [list(one) for one in row.input_shapes if one][:4]


def keep(out: Path, number: int, job: Job, marks: Marks, **more: Any) -> None:
    """The peaks by phase, and what else there is."""
    with (out / "phases.jsonl").open("a") as file:
        file.write(
            json.dumps({"number": number, "job": json.loads(job.to_json()), "phases": marks.phases, **more}) + "\n"
        )


def main() -> int:
    """The cells of the plan while there is time, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=240.0, help="seconds for everything")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--one", type=int, help="run that entry alone, in this process")
    given = parser.parse_args()
    entries = json.loads(given.plan.read_text("utf-8"))
    planned = jobs(entries, given.device, given.tiny, REVISION)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.one is not None:
        watch = watch_calls if entries[given.one].get("watch") == "calls" else watch_events
        watch(planned[given.one].job, given.out, given.one)
        return 0
    deadline = time.monotonic() + given.budget
    for number, one in enumerate(planned):
        left = deadline - time.monotonic()
        if left < one.seconds:
            print(f"left out, {left:.0f} s left: {one.job.model}", file=sys.stderr)
            continue
        try:
            subprocess.run([sys.executable, *sys.argv, "--one", str(number)], timeout=left, check=False)
        except subprocess.TimeoutExpired:
            print(f"cut off: {one.job.model}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

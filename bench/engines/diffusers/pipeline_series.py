"""Measures pipelines in a time budget: ``python -m bench.engines.diffusers.pipeline_series PLAN --out F --budget S``.

PLAN is a JSON list in order of priority: ``{"model": "flux.1-dev", "tier": "bf16", "modes": ["none", "model"],
"sizes": [[1024, 1024], [2048, 2048]], "steps": 4, "seconds": 60}``; a video's sizes have frames as a third number,
``"task"`` is asked for where a pipeline has several, ``"batch"`` pictures are made at once. One
process measures all sizes of a mode, smallest first, and then the last one under each of ``"caps": ["12GB", "8GB"]``
until one is too small: the run under the last that worked carries the bracket.
``F/runs.jsonl.gz`` gets the runs of a process in full as soon as it is done, for
``python -m bench.engines.diffusers.filed`` to make records of; ``F/summary.json`` what ran and what came of it. The
same command again goes on: processes whose runs are there are not repeated.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.assemble import card_info
from bench.engines.diffusers.recipes import recipe
from bench.going_on import append, entry_names, replace, whole_members
from bench.job import Job
from bench.jobs import label
from bench.link_test import run_link
from bench.lock import folder_lock
from bench.machine_info import machine_info
from bench.meters import NvmlCard
from bench.runner import CellRun, MeasuringProtocol, Stopped, document_of
from bench.several import limit, run_sizes
from bench.suite import bench_card
from fitcheck.errors import InputError
from fitcheck.models.workload import Task, Workload
from fitcheck.records import schema, store
from fitcheck.runtimes.base import Placement
from fitcheck.runtimes.diffusers.workloads import TAKES_IMAGES
from fitcheck.units import GIB, parse_memory

REVISION = "0.42.1"
RAW, SUMMARY = "runs.jsonl.gz", "summary.json"
# for the last line and the way back
MARGIN = 8.0


@dataclass(frozen=True, slots=True)
class Planned:
    """One process: the job of its first size, how it is measured, and the seconds that it should take."""

    job: Job
    protocol: MeasuringProtocol
    seconds: float


def jobs(plan: list[dict[str, Any]], device: str, tiny: bool, revision: str = REVISION) -> list[Planned]:
    """A process for every mode of every entry, of diffusers' ``revision``, which has to be the installed one. Raises
    InputError for a cap that is none."""
    found = []
    for entry in plan:
        works = [_workload(entry, size, tiny) for size in entry["sizes"]]
        cap = parse_memory(str(entry["vram"]), "vram") if "vram" in entry and device == "cuda" else None
        caps = tuple(parse_memory(str(one), "caps") for one in entry.get("caps", ())) if device == "cuda" else ()
        protocol = MeasuringProtocol(int(entry.get("repeats", 1)), int(entry.get("warmup", 0)), cap, hang_seconds=150.0,
                                     sizes=tuple(works[1:]), caps=caps)  # fmt: skip
        for mode in entry["modes"]:
            settings = tuple(sorted((name, value) for name, value in entry.get("settings", {}).items()))
            placement = Placement("diffusers", revision, mode, settings)
            job = Job(entry["model"], entry["tier"], placement, works[0], device, tiny=tiny)
            found.append(Planned(job, protocol, float(entry.get("seconds", 60))))
    return found


def _workload(entry: dict[str, Any], size: list[int], tiny: bool) -> Workload:
    width, height, *frames = size
    if tiny:
        shortest = max(5, recipe(entry["model"]).architecture.frames_from(5))
        width, height, frames = 128 + 64 * (width > 1024), 128, [shortest] * len(frames)
    cfg = float(entry.get("cfg", recipe(entry["model"]).cfg))
    steps = int(entry.get("steps", 4))
    tasks, usual = recipe(entry["model"]).architecture.tasks, Task.T2V if frames else Task.T2I
    task = Task(entry["task"]) if "task" in entry else usual if usual in tasks else tasks[0]
    references = ((width, height),) if task in TAKES_IMAGES else ()
    batch = int(entry.get("batch", 1))
    return Workload(
        task, width, height, steps, cfg, frames=frames[0] if frames else 1, references=references, batch=batch
    )


class PipelineSeries:
    """What is measured and kept."""

    def __init__(self, out: Path, console: Console, card: NvmlCard | None) -> None:
        self._out, self._console, self._card = out, console, card
        self._started = time.monotonic()
        done = [json.loads(line) for line in whole_members(out / RAW).splitlines()]
        self.names = {str(one.get("name")) for one in done}
        self._rows: list[dict[str, Any]] = [one for one in _rows_before(out) if one.get("name") in self.names]

    def keep(self, runs: Sequence[CellRun], name: str) -> None:
        """Writes the runs of the process of that ``name`` in full and all at once, and their figures to the summary.

        The run under the smallest cap that worked carries the bracket.
        """
        bracket = limit(list(runs))
        brackets = [bracket if bracket and run.protocol.cap == bracket.works else None for run in runs]
        lines = (self._line(run, at, name, brackets[at]) for at, run in enumerate(runs))
        append(self._out / RAW, gzip.compress(b"".join(lines), 6))
        self.names.add(name)
        for run, found in zip(runs, brackets, strict=True):
            ends = (found.fails, found.works) if found else ()
            bounds = {"limit": [round((end or 0) / GIB, 3) for end in ends]} if ends else {}
            self.note(label(run.cell), name=name, **figures(run), **bounds)
            if run.outcome not in ("ok", "oom-gpu"):
                self._console.print("\n".join(run.output[-25:]), markup=False, highlight=False)

    def _line(self, run: CellRun, position: int, name: str, bracket: schema.Limit | None) -> bytes:
        document = document_of(run) | {
            "machine": machine_info().model_dump(mode="json"),
            "card": card_info(self._card, run.ready).model_dump(mode="json") if self._card else None,
            "position": position,
            "limit": bracket and bracket.model_dump(mode="json"),
            "name": name,
        }
        return (json.dumps(document) + "\n").encode()

    def link(self) -> None:
        """Measures the link quickly; its record needs nothing else."""
        record = run_link(self._card, quick=True)
        append(self._out / "link.jsonl", store.encode(record))
        self.note("link", outcome=record.outcome.result, message=record.outcome.message)

    def note(self, cell: str, **facts: Any) -> None:
        """A line of the summary."""
        self._rows.append({"cell": cell, **facts})
        self._console.print(f"{time.monotonic() - self._started:6.1f} {cell}: {facts}", markup=False, highlight=False,
                            soft_wrap=True)  # fmt: skip
        replace(self._out / SUMMARY, json.dumps(self._rows, indent=1) + "\n")


def _rows_before(out: Path) -> list[dict[str, Any]]:
    """The lines of a summary that an earlier run of the series left; a help: the runs themselves lie in ``RAW``."""
    try:
        rows = json.loads((out / SUMMARY).read_bytes())
        return [one for one in rows if isinstance(one, dict)]
    except (OSError, ValueError, TypeError, RecursionError):
        return []


def names_of(plan: Sequence[Planned]) -> list[str]:
    """A name for each process of a plan, the same whenever the plan is read."""
    return entry_names([{"job": one.job.to_json(), "protocol": repr(one.protocol)} for one in plan])


def figures(run: CellRun) -> dict[str, Any]:
    """What a reader wants at a glance, memory in GiB."""
    last = run.end or run.failed or run.last_alive
    found = {
        "outcome": run.outcome,
        "cap": run.protocol.cap and round(run.protocol.cap / GIB, 3),
        "message": run.message,
        "seconds": [round(one, 2) for one in run.seconds],
        "load": round(run.loaded.get("seconds", 0.0), 1),
        "wall": round(run.wall_seconds, 1),
        **{name: round(last[name] / GIB, 3) for name in ("allocated", "reserved", "rss", "pinned") if last.get(name)},
    }
    if run.passes:
        found["finite"] = run.passes[-1]["report"]["finite"]
        found["phases"] = {row["name"]: _phase(row) for row in run.passes[-1]["phases"]}
    return found


def _phase(row: dict[str, Any]) -> list[float]:
    """Seconds, allocated and reserved."""
    return [round(row["seconds"], 2), *(round((row[name] or 0) / GIB, 3) for name in ("allocated", "reserved"))]


def run_series(plan: list[Planned], start: int, series: PipelineSeries, card: NvmlCard | None, deadline: float) -> int:
    """Processes in order from ``start`` while there is time for the next; returns where the next series begins."""
    for position, (one, name) in list(enumerate(zip(plan, names_of(plan), strict=True)))[start:]:
        if name in series.names:
            continue
        if time.monotonic() + one.seconds >= deadline:
            return position
        try:
            measured = run_sizes(one.job, one.protocol, card, deadline=deadline)
        except (InputError, Stopped) as error:
            series.note(label(one.job), outcome="not run", message=str(error))
            continue
        except Exception as error:  # a fault in one job must not cost the time of the others
            traceback.print_exc()
            series.note(label(one.job), outcome="not run", message=f"{type(error).__name__}: {error}")
            continue
        series.keep(measured, name)
    return len(plan)


def main(arguments: list[str] | None = None) -> int:
    """Runs the series of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, required=True, help="seconds for everything")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--revision", default=REVISION, help="the diffusers that is installed, where it is another one")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--from", dest="start", type=int, default=0, help="process to begin with, counted from 0")
    parser.add_argument("--only", default="", help="run cells whose label holds this text")
    parser.add_argument("--link", action="store_true", help="measure the card's link first")
    given = parser.parse_args(arguments)
    deadline = time.monotonic() + given.budget - MARGIN
    console = Console(stderr=True, width=240)
    given.out.mkdir(parents=True, exist_ok=True)
    plan = jobs(json.loads(given.plan.read_text("utf-8")), given.device, given.tiny, given.revision)
    plan = [one for one in plan if given.only in label(one.job)]
    with folder_lock(given.out), bench_card(given.device, console) as card:
        series = PipelineSeries(given.out, console, card)
        if given.link:
            series.link()
        after = run_series(plan, given.start, series, card, deadline)
    console.print(f"next: --from {after} of {len(plan)}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())

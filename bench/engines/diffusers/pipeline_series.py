"""Measures pipelines in a time budget: ``python -m bench.engines.diffusers.pipeline_series PLAN --out F --budget S``.

PLAN is a JSON list in order of priority: ``{"model": "flux.1-dev", "tier": "bf16", "modes": ["none", "model"],
"sizes": [[1024, 1024], [2048, 2048]], "steps": 4, "seconds": 60}``; a video's sizes have frames as a third number. One
process measures all sizes of a mode, smallest first. ``F/runs.jsonl.gz`` gets every run in full as soon as it is done
(``python -m bench.engines.diffusers.filed`` makes records of them), ``F/summary.json`` what ran and what came of it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.assemble import card_info
from bench.engines.diffusers.recipes import recipe
from bench.job import Job
from bench.jobs import label
from bench.link_test import run_link
from bench.machine_info import machine_info
from bench.meters import NvmlCard
from bench.runner import CellRun, MeasuringProtocol, Stopped
from bench.several import run_sizes
from bench.suite import bench_card
from fitcheck.errors import InputError
from fitcheck.models.workload import Task, Workload
from fitcheck.records import store
from fitcheck.runtimes.base import Placement
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


def jobs(plan: list[dict[str, Any]], device: str, tiny: bool) -> list[Planned]:
    """A process for every mode of every entry. Raises InputError for a cap that is none."""
    found = []
    for entry in plan:
        works = [_workload(entry, size, tiny) for size in entry["sizes"]]
        cap = parse_memory(str(entry["vram"]), "vram") if "vram" in entry and device == "cuda" else None
        protocol = MeasuringProtocol(int(entry.get("repeats", 1)), int(entry.get("warmup", 0)), cap, hang_seconds=150.0,
                            sizes=tuple(works[1:]))  # fmt: skip
        for mode in entry["modes"]:
            settings = tuple(sorted((name, value) for name, value in entry.get("settings", {}).items()))
            placement = Placement("diffusers", REVISION, mode, settings)
            job = Job(entry["model"], entry["tier"], placement, works[0], device, tiny=tiny)
            found.append(Planned(job, protocol, float(entry.get("seconds", 60))))
    return found


def _workload(entry: dict[str, Any], size: list[int], tiny: bool) -> Workload:
    width, height, *frames = size
    if tiny:
        width, height, frames = 128 + 64 * (width > 1024), 128, [5] * len(frames)
    cfg = float(entry.get("cfg", recipe(entry["model"]).cfg))
    steps = int(entry.get("steps", 4))
    if frames:
        return Workload(Task.T2V, width, height, steps, cfg, frames=frames[0])
    return Workload(Task.T2I, width, height, steps, cfg)


class PipelineSeries:
    """What is measured and kept."""

    def __init__(self, out: Path, console: Console, card: NvmlCard | None) -> None:
        self._out, self._console, self._card = out, console, card
        self._rows: list[dict[str, Any]] = []
        self._started = time.monotonic()

    def keep(self, run: CellRun, position: int) -> None:
        """Writes a run in full, and its figures to the summary."""
        document = asdict(run)
        document["trace"] = [[one.at, dict(one.values)] for one in run.trace.readings()]
        document |= {
            "machine": machine_info().model_dump(mode="json"),
            "card": card_info(self._card, run.ready).model_dump(mode="json") if self._card else None,
            "position": position,
        }
        with (self._out / RAW).open("ab") as file:
            file.write(gzip.compress((json.dumps(document) + "\n").encode(), 6))
        self.note(label(run.cell), **figures(run))
        if run.outcome not in ("ok", "oom-gpu"):
            self._console.print("\n".join(run.output[-25:]), markup=False, highlight=False)

    def link(self) -> None:
        """Measures the link quickly; its record needs nothing else."""
        record = run_link(self._card, quick=True)
        with (self._out / "link.jsonl").open("ab") as file:
            file.write(store.encode(record))
        self.note("link", outcome=record.outcome.result, message=record.outcome.message)

    def note(self, name: str, **facts: Any) -> None:
        """A line of the summary."""
        self._rows.append({"cell": name, **facts})
        self._console.print(f"{time.monotonic() - self._started:6.1f} {name}: {facts}", markup=False, highlight=False,
                            soft_wrap=True)  # fmt: skip
        (self._out / SUMMARY).write_text(json.dumps(self._rows, indent=1) + "\n", "utf-8")


def figures(run: CellRun) -> dict[str, Any]:
    """What a reader wants at a glance, memory in GiB."""
    last = run.end or run.failed or run.last_alive
    found = {
        "outcome": run.outcome,
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
    for position, one in enumerate(plan[start:], start):
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
        for size, run in enumerate(measured):
            series.keep(run, size)
    return len(plan)


def main(arguments: list[str] | None = None) -> int:
    """Runs the series of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, required=True, help="seconds for everything")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--from", dest="start", type=int, default=0, help="process to begin with, counted from 0")
    parser.add_argument("--only", default="", help="run cells whose label holds this text")
    parser.add_argument("--link", action="store_true", help="measure the card's link first")
    given = parser.parse_args(arguments)
    deadline = time.monotonic() + given.budget - MARGIN
    console = Console(stderr=True, width=240)
    given.out.mkdir(parents=True, exist_ok=True)
    plan = jobs(json.loads(given.plan.read_text("utf-8")), given.device, given.tiny)
    plan = [one for one in plan if given.only in label(one.job)]
    with bench_card(given.device, console) as card:
        series = PipelineSeries(given.out, console, card)
        if given.link:
            series.link()
        after = run_series(plan, given.start, series, card, deadline)
    console.print(f"next: --from {after} of {len(plan)}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())

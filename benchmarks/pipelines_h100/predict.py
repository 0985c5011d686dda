"""What the estimator says of a series of pipelines before it runs: ``benchmarks/pipelines_h100/predict.py PLAN``.

PLAN is a plan of ``bench.engines.diffusers.pipeline_series``. Prints a JSON list, one cell a line: memory in GiB as
best (low-high), the least that works, and seconds with nothing of the machine known, on an H100 of 80 GB; ``unknown``
says of what is beside the pipeline that none of these has it. Needs the extra ``bench``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.engines.diffusers.pipeline_series import jobs
from bench.job import Job
from bench.jobs import label
from bench.predict import ask_of
from fitcheck.hardware.catalog import find_card
from fitcheck.runtimes import registry
from fitcheck.runtimes.recorded import machine_with
from fitcheck.units import GIB, Interval

CARD, MEMORY = "H100 SXM5 80GB", 85_520_809_984


def predicted(plan: Path) -> Iterator[dict[str, Any]]:
    """A prediction for every cell of the plan; what its caps come to is the least that works."""
    for planned in jobs(json.loads(plan.read_text("utf-8")), "cuda", tiny=False):
        for workload in (planned.job.workload, *planned.protocol.sizes):
            job = replace(planned.job, workload=workload)
            settings = dict(job.placement.settings)
            yield {"plan": plan.stem, "cell": label(job), "settings": settings, "cfg": workload.cfg,
                   "references": [list(one) for one in workload.references],
                   **_said(job, warm=planned.protocol.warmup > 0)}  # fmt: skip


def _said(job: Job, *, warm: bool) -> dict[str, Any]:
    ask = ask_of(job, machine_with(find_card(CARD), MEMORY), warm)
    assert ask is not None  # only scaled-down jobs have no data
    runtime = registry.get(job.placement.runtime)
    footprint = runtime.footprint(ask)
    duration = runtime.duration(ask, footprint)
    (card,) = footprint.cards
    said = runtime.platform(ask)
    return {
        **({"unknown": said.reason} if said is not None else {}),
        **{name: _gib(getattr(card, name)) for name in ("allocated", "reserved", "required")},
        "host": _gib(footprint.host.total),
        "seconds": _words(duration.seconds, 1) if duration and duration.seconds else None,
        "phases": {one.name: round(one.allocated / GIB, 2) for one in card.phases},
    }


def _gib(interval: Interval[int]) -> str:
    return _words(interval, GIB)


def _words(interval: Interval[Any], unit: int) -> str:
    best, low, high = (f"{end / unit:.2f}" for end in (interval.best, interval.low, interval.high))
    return f"{best} ({low}-{high})"


if __name__ == "__main__":
    rows = [json.dumps(row, ensure_ascii=False) for plan in sys.argv[1:] for row in predicted(Path(plan))]
    print("[\n " + ",\n ".join(rows) + "\n]")

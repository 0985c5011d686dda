"""Several sizes in one process become a run each, with the peaks and readings of its own stretch of time."""

from __future__ import annotations

from typing import Any

from bench.channel import Event
from bench.job import Job
from bench.meters import MeterTrace, NvmlCard
from bench.runner import CellRun, Listener, MeasuringProtocol
from bench.several import run_sizes
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Placement

SMALL, LARGE = Workload(Task.T2I, 512, 512, 2, 1.0), Workload(Task.T2I, 1024, 1024, 2, 1.0)
JOB = Job("flux.1-dev", "bf16", Placement("diffusers", "0.42.1", "none"), SMALL)


def passed(at: float) -> Event:
    return {"event": "pass", "edge": "end", "at": at, "seconds": 1.0, "warmup": False, "index": 0}


def played(events: list[Event], outcome: str, **fields: Any) -> list[CellRun]:
    """What ``run_sizes`` makes of a process that sends ``events``."""

    def runner(
        job: Job, protocol: MeasuringProtocol, card: NvmlCard | None, listener: Listener, deadline: float | None
    ) -> CellRun:
        for event in events:
            listener(event)
        trace = MeterTrace()
        for at, rss in ((1.0, 10.0), (2.0, 20.0), (6.0, 50.0)):
            trace.add(at, {"host_rss": rss})
        passes = [event for event in events if event["event"] == "pass"]
        return CellRun(job, protocol, outcome, passes=passes, pass_began=[one["at"] - 1 for one in passes], trace=trace,
                       loaded={"seconds": 3.0, "phases": [{"name": "load"}]}, **fields)  # fmt: skip

    return run_sizes(JOB, MeasuringProtocol(1, 0, sizes=(LARGE,)), runner=runner)


def test_each_size_has_its_own_peaks_passes_and_readings() -> None:
    events = [
        passed(2.5),
        {"event": "measured", "at": 3.0, "index": 0, "allocated": 100},
        {"event": "size", "at": 4.0, "index": 1},
        passed(5.5),
    ]
    first, second = played(events, "ok", end={"allocated": 400, "context": 7})
    assert (first.cell.workload, second.cell.workload) == (SMALL, LARGE)
    assert (first.end["allocated"], second.end["allocated"]) == (100, 400)
    assert first.end["context"] == 7
    assert [one["at"] for one in first.passes] == [2.5]
    assert [one["at"] for one in second.passes] == [5.5]
    assert (first.trace.peak("host_rss"), second.trace.peak("host_rss")) == (20.0, 50.0)
    # weights were placed once, before the first size
    assert first.loaded["phases"]
    assert not second.loaded["phases"]


def test_a_size_that_was_measured_stands_when_the_next_runs_out_of_memory() -> None:
    events = [
        passed(2.5),
        {"event": "measured", "at": 3.0, "index": 0, "allocated": 100},
        {"event": "size", "at": 4.0, "index": 1},
    ]
    first, second = played(events, "oom-gpu", failed={"outcome": "oom-gpu", "allocated": 900}, message="out of memory")
    assert (first.outcome, first.message, first.failed) == ("ok", None, {})
    assert (second.outcome, second.failed["allocated"]) == ("oom-gpu", 900)


def test_sizes_that_were_never_begun_are_no_runs() -> None:
    (only,) = played([], "error", message="broken while loading")
    assert only.cell.workload == SMALL
    assert only.outcome == "error"

"""Several sizes in one process: the weights are made and placed once, and each size becomes a run of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.channel import Event
from bench.job import Job
from bench.meters import MeterTrace, NvmlCard
from bench.runner import CellRun, Listener, MeasuringProtocol, run_cell


def run_sizes(
    cell: Job,
    protocol: MeasuringProtocol,
    card: NvmlCard | None = None,
    listener: Listener = lambda event: None,
    deadline: float | None = None,
    runner: Callable[..., CellRun] = run_cell,
) -> list[CellRun]:
    """A run for the job's own size and one for each of ``protocol.sizes`` that was reached, in order.

    Peaks of a later size count from its start, with torch's cache emptied before; host memory is the process's so far.
    Raises what ``run_cell`` raises.
    """
    seen: list[Event] = []

    def listen(event: Event) -> None:
        seen.append(event)
        listener(event)

    whole = runner(cell, protocol, card, listen, deadline)
    return split(whole, seen)


def split(whole: CellRun, events: list[Event]) -> list[CellRun]:
    """The runs of a process that measured several sizes."""
    starts = [event for event in events if event["event"] == "size"]
    ends = [event for event in events if event["event"] == "measured"]
    works = (whole.cell.workload, *whole.protocol.sizes)
    moments = [float("-inf"), *(start["at"] for start in starts), float("inf")]
    return [
        _part(whole, works[index], moments[index], moments[index + 1], ends[index] if index < len(ends) else None)
        for index in range(len(starts) + 1)
    ]


def _part(whole: CellRun, workload: object, since: float, until: float, end: Event | None) -> CellRun:
    chosen = [index for index, event in enumerate(whole.passes) if since <= event["at"] < until]
    began = [at for at in whole.pass_began if since <= at < until]
    part = replace(
        whole,
        cell=replace(whole.cell, workload=workload),  # type: ignore[arg-type]
        passes=[whole.passes[index] for index in chosen],
        pass_began=began,
        trace=_cut(whole.trace, since, until),
        protocol=replace(whole.protocol, sizes=()),
    )
    if since > float("-inf"):  # the weights were placed before
        part.loaded = {**whole.loaded, "phases": []}
    if end is not None:
        part.outcome, part.message, part.failed, part.open_phase = "ok", None, {}, None
        part.end = {**end, "context": whole.end.get("context")}
    return part


def _cut(trace: MeterTrace, since: float, until: float) -> MeterTrace:
    found = MeterTrace()
    for reading in trace.readings():
        if since <= reading.at < until:
            found.add(reading.at, reading.values)
    return found

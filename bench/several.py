"""Several sizes and caps in one process: the weights are made and placed once, and each size, then each cap, becomes a
run of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.channel import Event
from bench.job import Job
from bench.meters import MeterTrace, NvmlCard
from bench.runner import CellRun, Listener, MeasuringProtocol, run_cell
from fitcheck.models.workload import Workload
from fitcheck.records import schema


def run_sizes(
    cell: Job,
    protocol: MeasuringProtocol,
    card: NvmlCard | None = None,
    listener: Listener = lambda event: None,
    deadline: float | None = None,
    runner: Callable[..., CellRun] = run_cell,
) -> list[CellRun]:
    """A run for the job's own size and one for each of ``protocol.sizes`` and ``protocol.caps`` that was reached.

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
    """The runs of a process that measured several sizes, or one size under several caps."""
    starts = [event for event in events if event["event"] == "size"]
    ends = [event for event in events if event["event"] == "measured"]
    moments = [float("-inf"), *(start["at"] for start in starts), float("inf")]
    conditions = _conditions(whole)[: len(starts) + 1]
    return [
        _part(whole, condition, moments[index], moments[index + 1], ends[index] if index < len(ends) else None)
        for index, condition in enumerate(conditions)
    ]


def limit(runs: list[CellRun]) -> schema.Limit | None:
    """The bracket that runs under falling caps leave, in bytes: the smallest cap that worked and the one after it that
    did not; ``None`` where nothing failed for want of memory."""
    works = [run.protocol.cap for run in runs if run.outcome == "ok" and run.protocol.cap is not None]
    fails = [run.protocol.cap for run in runs if run.outcome == "oom-gpu" and run.protocol.cap is not None]
    if not works or not fails:
        return None
    return schema.Limit(works=min(works), fails=max(fails), attempts=len(runs))


def _conditions(whole: CellRun) -> list[tuple[Workload, int | None]]:
    sizes = (whole.cell.workload, *whole.protocol.sizes)
    return [*((size, whole.protocol.cap) for size in sizes), *((sizes[-1], cap) for cap in whole.protocol.caps)]


def _part(
    whole: CellRun, condition: tuple[Workload, int | None], since: float, until: float, end: Event | None
) -> CellRun:
    workload, cap = condition
    chosen = [index for index, event in enumerate(whole.passes) if since <= event["at"] < until]
    began = [at for at in whole.pass_began if since <= at < until]
    part = replace(
        whole,
        cell=replace(whole.cell, workload=workload),
        passes=[whole.passes[index] for index in chosen],
        pass_began=began,
        trace=_cut(whole.trace, since, until),
        protocol=replace(whole.protocol, sizes=(), caps=(), cap=cap),
        capped=_capped(whole, cap),
    )
    if since > float("-inf"):  # the weights were placed before
        part.loaded = {**whole.loaded, "phases": []}
    if end is not None:
        part.outcome, part.message, part.failed, part.open_phase = "ok", None, {}, None
        part.end = {**end, "context": whole.end.get("context")}
    return part


def _capped(whole: CellRun, cap: int | None) -> Event:
    """What the process said of that cap: it takes the same context off each."""
    if cap is None or not whole.capped:
        return {}
    return {**whole.capped, "cap": cap, "allocator_limit": cap - whole.capped["context"]}


def _cut(trace: MeterTrace, since: float, until: float) -> MeterTrace:
    found = MeterTrace()
    for reading in trace.readings():
        if since <= reading.at < until:
            found.add(reading.at, reading.values)
    return found

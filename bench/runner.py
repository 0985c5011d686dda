"""The protocol of one measured cell, seen from outside: a fresh process, meters around it, every way it can end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.channel import Event
from bench.job import Job
from bench.meters import HostProbe, MeterTrace, NvmlCard, NvmlMemoryProbe, NvmlStateProbe, Sampler
from bench.meters.process_memory import out_of_memory_kills
from bench.process import Child, Hang, describe_exit
from fitcheck.errors import MeasurementError
from fitcheck.models.workload import Workload

PROTOCOL_NAME = "fitcheck-bench"
PROTOCOL_VERSION = 1
MEMORY_HZ = 25.0
STATE_HZ = 4.0
# spread of the timed passes, (longest - shortest) / median, from which a cell is flagged
SPREAD_LIMIT = 0.15
FLAG_SPREAD = "spread over 15 %"


@dataclass(frozen=True, slots=True)
class MeasuringProtocol:
    """How a cell is measured. ``cap`` in bytes, context included; ``steps_run`` is set when a probe cuts
    the steps short; ``sizes`` are further workloads that the same process measures with the weights where they are."""

    repeats: int = 3
    warmup: int = 1
    cap: int | None = None
    meters: bool = True
    hang_seconds: float = 300.0
    steps_run: int | None = None
    sizes: tuple[Workload, ...] = ()


@dataclass(slots=True)
class CellRun:
    """What came of one cell. ``outcome`` is a record's: ok, oom-gpu, oom-host, killed, hang, error."""

    cell: Job
    protocol: MeasuringProtocol
    outcome: str = "killed"
    message: str | None = None
    ready: Event = field(default_factory=dict)
    capped: Event = field(default_factory=dict)
    loaded: Event = field(default_factory=dict)
    passes: list[Event] = field(default_factory=list)
    pass_began: list[float] = field(default_factory=list)
    end: Event = field(default_factory=dict)
    failed: Event = field(default_factory=dict)
    last_alive: Event = field(default_factory=dict)
    open_phase: str | None = None
    trace: MeterTrace = field(default_factory=MeterTrace)
    card_before: int | None = None
    started: float = 0.0
    created: int = 0
    wall_seconds: float = 0.0
    first_timed_pass: float | None = None
    output: list[str] = field(default_factory=list)

    @property
    def timed(self) -> list[Event]:
        """The "pass" events of the finished passes that count, without warm-ups."""
        return [event for event in self.passes if not event["warmup"]]

    @property
    def seconds(self) -> list[float]:
        """Seconds of each finished pass that counts, in order."""
        return [event["seconds"] for event in self.timed]

    @property
    def median(self) -> float | None:
        """Median seconds of a pass; ``None`` where none has finished."""
        return median(self.seconds)

    @property
    def spread(self) -> float | None:
        """(longest − shortest) / median of the timed passes."""
        middle = self.median
        return None if not middle else (max(self.seconds) - min(self.seconds)) / middle

    @property
    def flags(self) -> list[str]:
        """What a record marks in the run: ``FLAG_SPREAD`` when its passes differ by more than ``SPREAD_LIMIT``."""
        return [FLAG_SPREAD] if (self.spread or 0) > SPREAD_LIMIT else []


def median(values: list[float]) -> float | None:
    """The middle value, or the mean of the two middle ones; ``None`` for none."""
    if not values:
        return None
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


class Stopped(Exception):
    """The time given to a series is used up; the cell that was running is dropped, the finished ones stand."""


Listener = Callable[[Event], None]


def run_cell(
    cell: Job,
    protocol: MeasuringProtocol,
    card: NvmlCard | None = None,
    listener: Listener = lambda event: None,
    deadline: float | None = None,
    argv: list[str] | None = None,
) -> CellRun:
    """Runs ``cell`` in a fresh process and returns what came of it, whatever that was.

    Raises InputError when the child refuses the job (no PyTorch, no GPU, a wrong GGUF…), Stopped at ``deadline``
    (``time.monotonic()``), and lets KeyboardInterrupt through; in each case the child is gone.
    """
    run = CellRun(cell, protocol, started=time.monotonic(), created=int(time.time()))
    kills = out_of_memory_kills()
    memory = card.memory() if card is not None else None
    run.card_before = None if memory is None else memory[1]
    job = {
        "job": "cell",
        "cell": _as_run(cell, protocol).to_json(),
        "protocol": {
            "repeats": protocol.repeats,
            "warmup": protocol.warmup,
            "cap": protocol.cap,
            "meters": protocol.meters,
            "sizes": [asdict(size) for size in protocol.sizes],
        },
    }
    with Child(job, protocol.hang_seconds, argv) as child:
        with _meters(card, child.pid) if protocol.meters else nullcontext() as sampler:
            if sampler is not None:
                run.trace = sampler.trace
            try:
                for event in child.events(deadline):
                    _take(run, event)
                    listener(event)
            except Hang as hang:
                run.outcome, run.message = "hang", f"{hang}; the process was ended"
            except TimeoutError as error:
                raise Stopped(str(error)) from error
        run.last_alive = child.last_alive
        run.output = list(child.output)
        if run.outcome == "killed":
            run.outcome, run.message = _explain_death(run, child.process.poll(), kills)
    run.wall_seconds = time.monotonic() - run.started
    return run


def _as_run(cell: Job, protocol: MeasuringProtocol) -> Job:
    return cell if protocol.steps_run is None else cell.with_steps(protocol.steps_run)


def _meters(card: NvmlCard | None, pid: int) -> Sampler:
    host = HostProbe(pid, period=1 / MEMORY_HZ)
    probes: list[Any] = [host]
    if card is not None:
        probes += [NvmlMemoryProbe(card, lambda: host.pids, 1 / MEMORY_HZ), NvmlStateProbe(card, 1 / STATE_HZ)]
    return Sampler(probes)


def _take(run: CellRun, event: Event) -> None:
    kind = event["event"]
    if kind == "ready":
        run.ready = event
    elif kind == "capped":
        run.capped = event
    elif kind == "loaded":
        run.loaded = event
    elif kind == "phase":
        run.open_phase = event["name"] if event["edge"] == "begin" else None
    elif kind == "pass" and event["edge"] == "begin":
        run.pass_began.append(event["at"])
        if not event["warmup"] and run.first_timed_pass is None:
            run.first_timed_pass = event["at"] - run.started
    elif kind == "pass":
        run.passes.append(event)
    elif kind == "end":
        run.end = event
        run.outcome = "ok"
    elif kind == "failed":
        run.failed = event
        run.outcome, run.message = event["outcome"], event["message"]
    elif kind == "refused":
        raise MeasurementError(event["message"])


def _explain_death(run: CellRun, code: int | None, kills: int | None = None) -> tuple[str, str]:
    """A child that said nothing at its end. SIGKILL while memory was short is the kernel's out-of-memory killer, and so
    is one that the kernel has counted since there were ``kills``: a container's limit shows in no reading of free
    memory."""
    said = f" in phase {run.open_phase}" if run.open_phase else ""
    if code == -9 and kills is not None and (out_of_memory_kills() or 0) > kills:
        return "oom-host", f"killed by SIGKILL{said}, and the kernel counts an out-of-memory kill meanwhile"
    if code == -9 and _memory_was_short(run):
        return (
            "oom-host",
            f"killed by SIGKILL{said} when system memory was nearly used up: the kernel's out-of-memory killer",
        )
    if code is not None and code < 0:
        return "killed", f"{describe_exit(code)}{said}"
    tail = next((line for line in reversed(run.output) if line.strip()), "")
    return "error", f"the process ended early{said} with {describe_exit(code)}" + (f": {tail[:300]}" if tail else "")


def _memory_was_short(run: CellRun) -> bool:
    """Whether less than 1 GiB or 5 % of the machine was available at some moment of the run."""
    lowest, total = run.trace.lowest("host_available"), run.trace.peak("host_total")
    return lowest is not None and total is not None and lowest < max(1 << 30, 0.05 * total)

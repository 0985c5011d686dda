"""The measured process, ``python -m bench.child``: reads one job from standard input, runs it and reports events."""

from __future__ import annotations

import errno
import gc
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from bench.channel import Channel, beat, die_with_parent
from bench.device_context import ContextMeter, cap_memory
from bench.engines import registry
from bench.engines.base import Engine
from bench.job import Job, workload_of
from bench.meters.nvml import NvmlCard, visible_selector
from bench.meters.process_memory import peak_rss, resident
from bench.meters.torch_memory import TorchMemory
from bench.torch_build import import_torch, software_versions
from fitcheck.errors import InputError, MeasurementError, MissingExtraError, extra

_REQUESTED = re.compile(r"tried to allocate ([\d.]+) (KiB|MiB|GiB|bytes)", re.IGNORECASE)
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Reporter:
    """The engine's Observer: meters each phase and reports it."""

    def __init__(self, channel: Channel, memory: TorchMemory, metered: bool) -> None:
        self._channel = channel
        self._memory = memory
        self.metered = metered
        self.open: list[str] = []
        self.failed_in: str | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Reports both edges; the peaks in between are metered unless the protocol runs without meters."""
        self._channel.send("phase", name=name, edge="begin")
        self.open.append(name)
        try:
            if self.metered:
                with self._memory.phase(name):
                    yield
            else:
                yield
        except BaseException:
            self.failed_in = self.failed_in or name
            raise
        finally:
            self.open.remove(name)
            self._channel.send("phase", name=name, edge="end")

    def step(self, seconds: float) -> None:
        """Reports one denoising step or token, in seconds."""
        self._channel.send("step", seconds=seconds)


# less than a kernel module needs: with no more left on the card, CUDA's bare "out of memory" is the card's
_CARD_FULL = 64 << 20


def classify(error: BaseException, card_free: int | None = None) -> tuple[str, int | None]:
    """(outcome of the record schema, bytes that were asked for) of an exception; ``card_free`` in bytes, if known."""
    text = str(error)
    match = _REQUESTED.search(text)
    requested = round(float(match.group(1)) * _UNITS[match.group(2)]) if match else None
    libraries = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    if type(error).__name__ == "OutOfMemoryError" or any(name in text for name in libraries):
        return "oom-gpu", requested
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:  # a mapping that the system did not give
        return "oom-host", requested
    if "CUDA error: out of memory" in text and card_free is not None and card_free < _CARD_FULL:
        return "oom-gpu", requested
    # cudaHostAlloc reports a lack of host memory with CUDA's generic words; torch has its own class for the card
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text.lower():
        return "oom-host", requested
    return "error", requested


def _device(torch: Any, device: str) -> dict[str, Any]:
    if device != "cuda":
        return {"device": device}
    properties = torch.cuda.get_device_properties(0)
    total = int(torch.cuda.mem_get_info()[1])
    return {
        "device": device,
        "name": properties.name,
        "total": total,
        "capability": f"{properties.major}.{properties.minor}",
    }


def _host_pinned(torch: Any) -> int | None:
    """Peak bytes that torch's pinning allocator held, rounding included."""
    with suppress(Exception):
        return int(torch.cuda.host_memory_stats()["allocated_bytes.peak"])
    return None


ALLOCATOR_VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"


def choose_allocator(cell: Job) -> str | None:
    """Sets what the job's runtime wants of torch's allocator; a setting of the user's own wins.

    Read by torch when it is imported. Returns what is in force, ``None`` for torch's default.
    """
    for name, value in registry.of(cell).environment(cell).items():
        os.environ.setdefault(name, value)
    return os.environ.get(ALLOCATOR_VARIABLE)


def run_cell(channel: Channel, cell: Job, protocol: dict[str, Any]) -> None:
    """Loads and runs the job and sends its events, failures among them; a failed run ends the process with 1. Raises
    InputError for a job that cannot run."""
    allocator = choose_allocator(cell)
    torch = import_torch(cell.device)
    cuda = cell.device == "cuda"
    if not cuda:
        # scaled-down matrices gain nothing from threads and lose much to them on a busy machine
        torch.set_num_threads(1)
    card = NvmlCard.open(visible_selector()) if cuda else None
    meter = ContextMeter(torch, card) if card is not None else None
    context = meter.start() if meter is not None else None
    channel.send(
        "ready",
        software=software_versions(torch),
        allocator=allocator,
        context=None if context is None else asdict(context),
        **_device(torch, cell.device),
    )
    if protocol["cap"] is not None:
        if context is None:
            raise MeasurementError(
                "--vram: NVML does not tell the card's memory, so the process cannot be capped with its context."
            )
        channel.send("capped", **cap_memory(torch, protocol["cap"], context))
    memory = TorchMemory(torch, cell.device)
    reporter = Reporter(channel, memory, protocol["meters"])
    beat(channel, lambda: _held(torch, cuda))
    try:
        _passes(channel, cell, protocol, torch, memory, reporter)
        channel.send("end", context=meter.read() if meter is not None else None, **_peaks(torch, memory, cuda))
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the bench needs {error.name or error} for this; {extra('bench')}.") from error
    except Exception as error:
        state = card.memory() if card is not None else None
        outcome, requested = classify(error, None if state is None else state[2])
        phase = reporter.failed_in or (reporter.open[-1] if reporter.open else None)
        with suppress(Exception):
            memory.fold()
        channel.send(
            "failed", outcome=outcome, message=_message(error), phase=phase, requested=requested,
            phases=[asdict(row) for row in memory.take()], **_peaks(torch, memory, cuda),
        )  # fmt: skip
        traceback.print_exc()
        sys.stderr.flush()
        # the interpreter's own shutdown can hang on a device that has just failed; everything is said
        os._exit(1)


def _passes(
    channel: Channel, cell: Job, protocol: dict[str, Any], torch: Any, memory: TorchMemory, reporter: Reporter
) -> None:
    engine = registry.of(cell).build(cell)
    started = time.perf_counter()
    load = engine.load(reporter)
    memory.synchronize()
    channel.send(
        "loaded",
        report=asdict(load),
        seconds=time.perf_counter() - started,
        phases=[asdict(row) for row in memory.take()],
    )
    _sized(channel, engine, protocol, memory, reporter)
    for index, size in enumerate(protocol.get("sizes", ()), 1):
        channel.send("measured", index=index - 1, **_peaks(torch, memory, cell.device == "cuda"))
        _start_afresh(torch, memory, cell.device == "cuda")
        engine.resize(workload_of(size))
        channel.send("size", index=index)
        _sized(channel, engine, protocol, memory, reporter)
    engine.close()


def _start_afresh(torch: Any, memory: TorchMemory, cuda: bool) -> None:
    """What the last size left in torch's cache goes back, and peaks count from now on."""
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
    memory.fold()
    memory.allocated_peak = memory.reserved_peak = None


def _sized(channel: Channel, engine: Engine, protocol: dict[str, Any], memory: TorchMemory, reporter: Reporter) -> None:
    for index in range(protocol["warmup"] + protocol["repeats"]):
        memory.synchronize()
        channel.send("pass", edge="begin", index=index, warmup=index < protocol["warmup"])
        started = time.perf_counter()
        report = engine.run(reporter)
        memory.synchronize()
        seconds = time.perf_counter() - started
        phases = [asdict(row) for row in memory.take()]
        channel.send(
            "pass",
            edge="end",
            index=index,
            warmup=index < protocol["warmup"],
            seconds=seconds,
            report=asdict(report),
            phases=phases,
        )


def _held(torch: Any, cuda: bool) -> dict[str, Any]:
    held: dict[str, Any] = {"rss": resident()}
    if cuda:
        held |= {"allocated": int(torch.cuda.memory_allocated()), "reserved": int(torch.cuda.memory_reserved())}
    return held


def _peaks(torch: Any, memory: TorchMemory, cuda: bool) -> dict[str, Any]:
    with suppress(Exception):
        memory.fold()
    pinned = _host_pinned(torch) if cuda else None
    return {"allocated": memory.allocated_peak, "reserved": memory.reserved_peak, "rss": peak_rss(), "pinned": pinned}


def _message(error: BaseException) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0][:500]}" if first else type(error).__name__


def main() -> int:
    """Runs the job that standard input gives; 0, or 2 for one that is refused."""
    channel = Channel.claim_stdout()
    job = json.loads(sys.stdin.buffer.readline())
    die_with_parent()
    channel.send("hello", pid=os.getpid())
    try:
        if job["job"] == "link":
            from bench.link_test import measure

            measure(channel, import_torch("cuda"), job["options"])
        else:
            run_cell(channel, Job.from_json(job["cell"]), job["protocol"])
    except InputError as error:
        channel.send("refused", message=str(error))
        return 2
    channel.send("bye")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Meters against simulated clocks, cards and processes: what they count is worked out by hand."""

from __future__ import annotations

import os
import sys
import time
import types
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench_fakes import CONTEXT, LIBRARIES, TOTAL, Allocator, FakeNvml, fake_torch

from bench import child
from bench.device_context import Context, ContextMeter, cap_memory
from bench.engines.sensenova import engine
from bench.engines.sensenova import run_tasks as workloads
from bench.engines.sensenova.streaming.policy import StreamTraffic
from bench.job import Job, Request
from bench.jobs import jobs_of
from bench.meters import HostProbe, NvmlCard, Sampler, process_memory
from bench.meters.torch_memory import TorchMemory
from fitcheck.units import GIB

CELL = jobs_of(Request.of("sensenova-u1-8b-mot", tiers=("Q4_K_S",), mode=("low",), steps=2))[0]


class Timers:
    """A card whose timers tick a second further each time one is reached."""

    def __init__(self) -> None:
        self.now = 0.0

    def timer(self) -> Any:
        def record(stream: object) -> None:
            self.now += 1
            made.at = self.now

        made = types.SimpleNamespace(at=0.0, record=record)
        made.elapsed_time = lambda end: 1000 * (end.at - made.at)
        return made


def test_copies_beside_the_computation_waits_and_both_at_once() -> None:
    card: Any = Timers()
    traffic = StreamTraffic(card)
    traffic.timed = True
    with traffic.copying("side"):
        card.now += 9
    with traffic.waiting("compute"):
        card.now += 4
    assert traffic.copy_seconds == traffic.wait_seconds == 0  # the card has not been asked yet
    traffic.settle()
    assert (traffic.copy_seconds, traffic.wait_seconds) == (10, 5)
    with traffic.blocking("compute"):
        card.now += 1
    traffic.settle()
    traffic.settle()
    assert (traffic.copy_seconds, traffic.wait_seconds) == (12, 7)
    traffic.timed = False
    with traffic.copying("side"):
        card.now += 1
    traffic.settle()
    assert traffic.copy_seconds == 12
    traffic.add(30)
    traffic.add(12)
    assert (traffic.streamed_bytes, traffic.copies) == (42, 2)


def test_the_clock_of_a_pass_books_traffic_to_phases_that_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    traffic = types.SimpleNamespace(
        timed=False, streamed_bytes=0, copies=0, copy_seconds=0.0, wait_seconds=0.0, settle=lambda: settled.append(1)
    )
    settled: list[int] = []
    policy: Any = types.SimpleNamespace(traffic=traffic, resident_layers=0)

    def drain() -> None:  # queued work is done after a second
        now[0] += 1

    device: Any = types.SimpleNamespace(synchronize=drain)
    steps: list[float] = []
    observer: Any = types.SimpleNamespace(metered=True, phase=lambda name: nullcontext(), step=steps.append)
    clock = engine._PassClock(observer, device, policy)
    assert traffic.timed is True
    for name, bytes_each, layers in (("prefix", 5, 0), ("denoise", 100, 3), ("prefix", 7, 0)):
        with clock.phase(name):
            traffic.streamed_bytes += bytes_each
            traffic.copies += 1
            traffic.copy_seconds += bytes_each / 10
            traffic.wait_seconds += bytes_each / 100
            policy.resident_layers = layers
            now[0] += 2
            if name == "denoise":
                clock.step(0.5)
    assert clock.seconds == {"prefix": 6, "denoise": 3}  # each with the second in which the card finished
    assert clock.streamed == {"prefix": 12, "denoise": 100}
    assert clock.copies == {"prefix": 2, "denoise": 1}
    assert clock.copying == pytest.approx({"prefix": 1.2, "denoise": 10})
    assert clock.waiting == pytest.approx({"prefix": 0.12, "denoise": 1})
    assert clock.resident_layers == 3
    assert clock.steps == {"denoise": [0.5]}
    assert steps == [0.5]
    assert len(settled) == 3
    observer.metered = False
    engine._PassClock(observer, device, policy)
    assert traffic.timed is False


def test_a_step_ends_when_the_card_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    now, steps = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Clock:
        def synchronize(self) -> None:
            now[0] += 2

        def step(self, seconds: float) -> None:
            steps.append(seconds)

    any_model: Any = None
    observer: Any = Clock()
    context = workloads.TaskContext(any_model, CELL.workload, any_model, 0, observer)
    for queued in (1, 3):
        with context.timed_step():
            now[0] += queued
    assert steps == [3, 5]


# torch's allocator and the card


def test_a_phase_has_its_own_peaks_and_not_those_before_it() -> None:
    allocator = Allocator()
    memory = TorchMemory(fake_torch(allocator), "cuda")
    allocator.take(900, slack=200)
    allocator.give(900)
    allocator.reserved = 300  # what the cache gave back
    with memory.phase("low"):
        allocator.take(40)
        allocator.give(40)
    (low,) = memory.take()
    assert (low.allocated, low.reserved) == (40, 300)
    assert (memory.allocated_peak, memory.reserved_peak) == (900, 1100)
    with memory.phase("outer"):
        allocator.take(500, slack=100)
        allocator.give(500)
        allocator.reserved = 350
        with memory.phase("inner"):
            pass
        allocator.reset_peaks()
    inner, outer = memory.take()
    assert (inner.allocated, inner.reserved) == (0, 350)
    assert (outer.allocated, outer.reserved) == (500, 600)


def test_a_phase_that_breaks_is_kept_and_does_not_ask_the_card_again() -> None:
    allocator = Allocator()
    torch = fake_torch(allocator)
    asked: list[int] = []
    torch.cuda.synchronize = lambda: asked.append(1)
    memory = TorchMemory(torch, "cuda")

    def broken() -> None:
        with memory.phase("denoise"):
            allocator.take(70)
            raise ValueError("broke")

    with pytest.raises(ValueError, match="broke"):
        broken()
    (row,) = memory.take()
    assert row.allocated == 70
    assert len(asked) == 1


def test_seconds_of_a_phase_end_when_the_card_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    torch = fake_torch(Allocator())

    def drain() -> None:
        now[0] += 3

    torch.cuda.synchronize = drain
    with TorchMemory(torch, "cuda").phase("denoise") as reading:
        now[0] += 1
    assert reading.seconds == 4


def test_the_context_is_the_process_less_torch_or_the_cards_growth() -> None:
    allocator = Allocator()
    allocator.context, allocator.reserved = CONTEXT, 2 * GIB
    torch = fake_torch(allocator)
    listed = ContextMeter(torch, NvmlCard(FakeNvml(allocator), "card"))
    assert listed.read() == CONTEXT
    assert listed.method == "process"

    allocator.context = allocator.reserved = 0
    hidden = frozenset({"nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"})
    unlisted = ContextMeter(torch, NvmlCard(FakeNvml(allocator, hidden, others=((7, 5 * GIB),)), "card"))
    allocator.context, allocator.reserved = CONTEXT + LIBRARIES, 1 * GIB
    assert unlisted.read() == CONTEXT + LIBRARIES
    assert unlisted.method == "card"

    blind = ContextMeter(torch, NvmlCard(FakeNvml(allocator, hidden | {"nvmlDeviceGetMemoryInfo"}), "card"))
    assert blind.read() is None


def test_a_capped_card_answers_as_the_smaller_card_would() -> None:
    allocator = Allocator()
    allocator.context = CONTEXT
    torch = fake_torch(allocator)
    held = Context(CONTEXT, CONTEXT + LIBRARIES, "process")
    cap = 12 * GIB
    said = cap_memory(torch, cap, held)
    room = cap - CONTEXT - LIBRARIES
    assert said == {"cap": cap, "context": CONTEXT + LIBRARIES, "allocator_limit": room, "card_total": TOTAL}
    assert allocator.limit == pytest.approx(room, abs=1)
    assert torch.cuda.mem_get_info() == (room, cap)
    allocator.reserved = 5 * GIB
    assert torch.cuda.mem_get_info("cuda:0") == (room - 5 * GIB, cap)
    allocator.reserved = room + 1
    assert torch.cuda.mem_get_info() == (0, cap)


def test_a_capped_card_that_others_fill_has_no_more_than_is_free() -> None:
    allocator = Allocator()
    torch = fake_torch(allocator)
    torch.cuda.mem_get_info = lambda device=None: (3 * GIB, TOTAL)
    cap_memory(torch, 12 * GIB, Context(0, 0, "process"))
    assert torch.cuda.mem_get_info() == (3 * GIB, 12 * GIB)


def test_the_allocator_of_the_ring_is_chosen_before_torch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = replace(CELL, placement=replace(CELL.placement, settings=(("policy", "ring"),)))
    monkeypatch.delenv(child.ALLOCATOR_VARIABLE, raising=False)
    assert child.choose_allocator(CELL) is None
    assert child.choose_allocator(ring) == os.environ[child.ALLOCATOR_VARIABLE] == "expandable_segments:True"
    monkeypatch.setenv(child.ALLOCATOR_VARIABLE, "backend:cudaMallocAsync")
    assert child.choose_allocator(ring) == "backend:cudaMallocAsync"


def test_a_pass_ends_when_the_card_has_finished_and_warm_ups_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    @dataclass
    class Report:
        """What an engine hands back is only passed on."""

    class Engine:
        def __init__(self, cell: Job) -> None: ...

        def load(self, observer: object) -> Any:
            return Report()

        def run(self, observer: object) -> Any:
            now[0] += 1
            return Report()

        def close(self) -> None: ...

    fake: Any = types.ModuleType("bench.engines.sensenova.engine")
    fake.PictureEngine = Engine
    monkeypatch.setitem(sys.modules, "bench.engines.sensenova.engine", fake)
    torch = fake_torch(Allocator())

    def drain() -> None:
        now[0] += 4

    torch.cuda.synchronize = drain
    sent: list[dict[str, Any]] = []
    channel: Any = types.SimpleNamespace(send=lambda event, **values: sent.append({"event": event, **values}))
    memory = TorchMemory(torch, "cuda")
    protocol = {"warmup": 1, "repeats": 2, "cap": None, "meters": True}
    child._passes(channel, CELL, protocol, torch, memory, child.Reporter(channel, memory, True))
    passes = [event for event in sent if event["event"] == "pass"]
    assert [(one["edge"], one["warmup"]) for one in passes] == [
        ("begin", True), ("end", True), ("begin", False), ("end", False), ("begin", False), ("end", False),
    ]  # fmt: skip
    assert [one["seconds"] for one in passes[1::2]] == [5, 5, 5]


# the card's processes, the host


def test_a_process_on_both_lists_counts_once_and_several_count_together() -> None:
    class Both(FakeNvml):
        def nvmlDeviceGetGraphicsRunningProcesses(self, handle: str) -> list[Any]:
            return [
                types.SimpleNamespace(pid=7, usedGpuMemory=3 * GIB),
                types.SimpleNamespace(pid=9, usedGpuMemory=None),
            ]

    card = NvmlCard(Both(others=((7, 2 * GIB), (8, 1 * GIB))), "card")
    assert {row.pid: row.used for row in card.processes() or []} == {7: 3 * GIB, 8: 1 * GIB, 9: None}
    assert card.process_bytes({7, 8, 9}) == 4 * GIB
    assert card.process_bytes({9}) is None
    none = NvmlCard(FakeNvml(missing=frozenset({"nvmlDeviceGetComputeRunningProcesses",
                                                "nvmlDeviceGetGraphicsRunningProcesses"})), "card")  # fmt: skip
    assert none.processes() is None
    assert none.process_bytes({7}) is None


def test_resident_bytes_are_the_trees_and_available_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def __init__(self, pid: int) -> None:
            self.pid = pid

        def children(self, recursive: bool) -> list[Process]:
            assert recursive
            return [Process(2), Process(3), Process(4)]

        def memory_info(self) -> Any:
            if self.pid == 3:  # gone between two looks
                raise psutil.NoSuchProcess(3)
            return types.SimpleNamespace(rss=self.pid * 100)

    now = [1000.0]
    monkeypatch.setattr(psutil, "Process", Process)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=5, total=9))
    probe = HostProbe(1)
    assert probe.read() == {"host_available": 5, "host_total": 9, "host_rss": 700}
    assert probe.pids == {1, 2, 3, 4}


def test_the_kernels_marks_are_read_in_kibibytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t  2048 kB\nVmLck:\t 3 kB\nVmPin:\t 4 kB\n")
    monkeypatch.setattr(process_memory, "Path", lambda path: status)
    assert process_memory.peak_rss() == 2048 * 1024
    assert process_memory.locked() == 7 * 1024
    status.write_text("VmLck:\t 3 kB\n")
    assert process_memory.locked() is None


def test_a_slow_probe_does_not_queue_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds with a probe due every second that takes three: it is read back to back, never twice at a moment."""
    now, at = [100.0], []

    class Slow:
        period = 1.0

        def read(self) -> dict[str, float]:
            at.append(now[0])
            now[0] += 3
            if now[0] > 112:
                reader._stop.set()
            return {"x": 1}

    class Quick:
        period = 10.0
        reads = 0

        def read(self) -> dict[str, float]:
            Quick.reads += 1
            return {}

    def sleep(seconds: float) -> bool:
        now[0] += seconds
        return False

    reader = Sampler([Slow(), Quick()])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(reader._stop, "wait", sleep)
    reader._loop()
    assert at == [100, 103, 106, 109, 112]
    assert Quick.reads == 2
    assert len(reader.trace) == 5  # a reading of nothing is no reading

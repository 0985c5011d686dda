"""The link measurements, their code run for real on the CPU through a torch that calls it a card."""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch as real_torch
from bench_fakes import TOTAL, FakeNvml
from rich.console import Console

from bench import link_test
from bench.link_report import print_link
from bench.meters import NvmlCard
from fitcheck.models.quant import TYPES
from fitcheck.records import store
from fitcheck.records.reading import parse
from fitcheck.units import KIB, MIB


class Event:
    def __init__(self, enable_timing: bool) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: Event) -> float:
        return 1000 * (other.at - self.at)


class CpuAsCard:
    """torch, with "cuda" meaning the CPU and nothing pinned."""

    def __init__(self) -> None:
        self.cuda = types.SimpleNamespace(
            Event=Event,
            OutOfMemoryError=RuntimeError,
            synchronize=lambda: None,
            empty_cache=lambda: None,
            memory_allocated=lambda: 1000,
            max_memory_allocated=lambda: 1000 + 3 * 4096 * 4096 * 2,
            reset_peak_memory_stats=lambda: None,
            host_memory_stats=dict,
            mem_get_info=lambda: (TOTAL, TOTAL),
            get_device_properties=lambda index: types.SimpleNamespace(name="NVIDIA H100 80GB HBM3", major=9, minor=0),
        )
        self.version = types.SimpleNamespace(cuda="13.0")

    def __getattr__(self, name: str) -> Any:
        function = getattr(real_torch, name)
        if name not in ("empty", "ones", "randn", "randint"):
            return function

        def moved(*arguments: Any, **options: Any) -> Any:
            options.pop("pin_memory", None)
            options.pop("device", None)
            return function(*arguments, **options)

        return moved


class Collector:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, event: str, **values: Any) -> None:
        json.dumps(values, allow_nan=False)
        self.sent.append({"event": event, "at": time.monotonic(), **values})


@pytest.fixture(scope="module")
def rows() -> Iterator[list[dict[str, Any]]]:
    """Everything ``measure`` sends, with sizes that a CPU takes in its stride."""
    threads = real_torch.get_num_threads()
    real_torch.set_num_threads(1)  # tiny work on a busy machine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link_test, "BLOCKS", (256 * KIB, 1 * MIB))
        patch.setattr(link_test, "PIN_REQUESTS", (3 * MIB,))
        patch.setattr(link_test, "GIB", 8 * MIB)
        patch.setattr(link_test, "TOKENS", (8,))
        patch.setattr(link_test, "SQUARES", (64,))
        patch.setattr(link_test, "MATRICES", ((512, 256), (256, 512), (256, 256), (64, 256)))
        patch.setattr(link_test, "SECONDS_EACH", 0.001)
        patch.setattr(link_test, "REPEATS", 2)
        patch.setattr(NvmlCard, "open", lambda selector: None)
        collector: Any = Collector()
        cpu: Any = CpuAsCard()
        link_test.measure(collector, cpu, {})
        yield collector.sent
    real_torch.set_num_threads(threads)


def of(rows: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    return [row for row in rows if row.get("what") == what]


def test_copies_go_both_ways_pinned_and_pageable(rows: list[dict[str, Any]]) -> None:
    copies = of(rows, "copy")
    assert {(row["direction"], row["pinned"], row["bytes"]) for row in copies} == {
        (direction, pinned, size)
        for direction in ("host-to-device", "device-to-host")
        for pinned in (True, False)
        for size in (256 * KIB, 1 * MIB)
    }
    assert all(row["bytes_per_second"] > 1e6 for row in copies)


def test_matrix_products_at_the_models_shapes_and_squares(rows: list[dict[str, Any]]) -> None:
    assert [(row["m"], row["n"], row["k"]) for row in of(rows, "matmul")] == [
        (8, 512, 256), (8, 256, 512), (8, 256, 256), (8, 64, 256), (64, 64, 64),
    ]  # fmt: skip
    assert all(row["flops"] > 0 for row in of(rows, "matmul"))


def test_every_quant_type_is_dequantized_by_the_runtimes_function(rows: list[dict[str, Any]]) -> None:
    dequantized = of(rows, "dequantization")
    assert [row["type"] for row in dequantized[::2]] == list(link_test.QUANT_TYPES)
    for row in dequantized:
        quant = TYPES[row["type"]]
        assert row["bytes"] in (
            512 * 256 // quant.block * quant.block_bytes,
            256 * 256 // quant.block * quant.block_bytes,
        )
        assert row["seconds"] == pytest.approx(row["bytes"] / row["bytes_per_second"])
        assert row["temporary_bytes"] > 0


def test_rates_are_what_was_moved_or_multiplied_over_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_test, "seconds_of", lambda torch, work: 0.5)
    monkeypatch.setattr(link_test, "GIB", 1 * MIB)
    monkeypatch.setattr(link_test, "TOKENS", (8,))
    monkeypatch.setattr(link_test, "MATRICES", ((512, 256), (256, 512), (256, 256)))
    card = CpuAsCard()
    assert [row["flops"] for row in link_test._matmuls(card, (64,))] == [
        2 * 8 * 512 * 256 / 0.5, 2 * 8 * 256 * 512 / 0.5, 2 * 8 * 256 * 256 / 0.5, 2 * 64**3 / 0.5,
    ]  # fmt: skip
    (memory,) = link_test._device_copy(card)
    assert memory["bytes_per_second"] == 2 * 2 * MIB / 0.5  # each byte is read and written
    assert {row["bytes_per_second"] for row in link_test._copies(card, (1 * MIB,))} == {1 * MIB / 0.5}
    large, small = link_test._dequantization(card, ("Q8_0",))
    assert large["bytes"] == 512 * 256 // 32 * 34
    assert large["bytes_per_second"] == large["bytes"] / 0.5
    peak = 3 * 4096 * 4096 * 2  # the stand-in's, with the result
    assert large["temporary_bytes"] == peak - 512 * 256 * 2
    assert small["temporary_bytes"] == peak - 256 * 256 * 2


def test_seconds_of_work_are_the_median_of_repeats_by_the_cards_own_events(monkeypatch: pytest.MonkeyPatch) -> None:
    now, done = [0.0], []
    costs = iter([9.0, 0.02, *[0.01] * 5, *[0.03] * 5, *[0.02] * 5, *[0.9] * 5, *[0.001] * 5])

    def work() -> None:
        done.append(1)
        now[0] += next(costs)

    def event(enable_timing: bool) -> Any:
        made = types.SimpleNamespace(at=0.0, synchronize=lambda: None)
        made.record = lambda: setattr(made, "at", now[0])
        made.elapsed_time = lambda end: 1000 * (end.at - made.at)
        return made

    torch: Any = types.SimpleNamespace(cuda=types.SimpleNamespace(synchronize=lambda: None, Event=event))
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(link_test, "SECONDS_EACH", 0.5)
    monkeypatch.setattr(link_test, "REPEATS", 5)
    # the second call took 0.02 s, so a tenth of a second is five calls; of 0.01 to 0.9 s each the median is 0.02
    assert link_test.seconds_of(torch, work) == pytest.approx(0.02)
    assert len(done) == 2 + 5 * 5


def test_what_pinning_takes_is_the_allocators_count_or_the_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([{"resident": 10, "locked": 5}, {"resident": 12, "locked": 105},
                 {"resident": 10, "allocator": 100}, {"resident": 90, "allocator": 228},
                 {"resident": 10}, {"resident": 10}])  # fmt: skip
    monkeypatch.setattr(link_test, "_host_held", lambda torch: next(held))
    torch: Any = types.SimpleNamespace(
        uint8=0, empty=lambda size, dtype, pin_memory: types.SimpleNamespace(fill_=lambda value: None)
    )
    rows = list(link_test._pinning(torch, (96, 96, 96)))
    assert [row["taken"] for row in rows] == [100, 128, None]
    assert rows[1]["grew_resident"] == 80


def test_pinning_and_memory_are_measured(rows: list[dict[str, Any]]) -> None:
    (pin,) = of(rows, "pin")
    assert pin["bytes"] == 3 * MIB
    assert pin["seconds"] > 0
    (memory,) = of(rows, "memory")
    assert memory["bytes_per_second"] > 1e6


def test_the_record_holds_it_all_and_reads_back(rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_test, "Child", lambda job, hang: Replay([*rows, {"event": "bye", "at": 0.0}]))
    card = NvmlCard(FakeNvml(), "card")
    record = link_test.run_link(card, quick=False)
    assert record.outcome.result == "ok"
    assert len(record.copies or ()) == 8
    assert len(record.dequantization or ()) == 2 * len(link_test.QUANT_TYPES)
    assert record.card.slug.startswith("h100")
    assert record.software.torch == real_torch.__version__
    assert record.context_bytes is None
    assert parse(store.encode(record), "link").record == store.seal(record)
    console = Console(width=140, record=True, file=sys.stderr)
    print_link(record, console)
    shown = console.export_text()
    assert "host-to-device, pinned" in shown
    assert "Q4_K" in shown


def test_a_process_that_dies_leaves_what_was_measured(
    rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = [row for row in rows if row.get("what") != "dequantization"]
    monkeypatch.setattr(link_test, "Child", lambda job, hang: Replay(cut, code=-9))
    record = link_test.run_link(None, quick=True)
    assert record.outcome.result == "killed"
    assert "SIGKILL" in (record.outcome.message or "")
    assert record.matmul
    assert record.dequantization is None


class Replay:
    """A child that has already said everything."""

    def __init__(self, events: list[dict[str, Any]], code: int = 0) -> None:
        self._events = events
        self.output: list[str] = []
        self.process = types.SimpleNamespace(poll=lambda: code)

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *error: object) -> None: ...

    def events(self) -> Iterator[dict[str, Any]]:
        yield from self._events

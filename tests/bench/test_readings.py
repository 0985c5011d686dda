"""Records from scripted traces and events whose true values are known."""

from __future__ import annotations

from typing import Any

import pytest
from bench_fakes import FakeNvml

from bench import runner
from bench.assemble import available_drop, power_of, record_of
from bench.job import Request
from bench.jobs import jobs_of
from bench.meters import MeterTrace, NvmlCard, NvmlStateProbe
from bench.results_table import error_percent, line, on_card
from bench.runner import CellRun, MeasuringProtocol
from fitcheck.units import GIB, MIB

CELL = jobs_of(Request.of("sensenova-u1-8b-mot", tiers=("Q4_K_S",), mode=("low",), steps=2))[0]
Event = dict[str, Any]


def phase(name: str, began: float, ended: float, allocated: int, reserved: int) -> Event:
    return {"name": name, "began": began, "ended": ended, "seconds": ended - began, "allocated": allocated,
            "reserved": reserved}  # fmt: skip


def a_pass(at: float, seconds: float, warmup: bool, **report: Any) -> Event:
    values: Event = {
        "seconds": {"prefix": 0.25 * seconds, "denoise": 0.75 * seconds},
        "step_seconds": [0.5, 0.5],
        "streamed_bytes": {"prefix": 100, "denoise": 300},
        "copies": {"prefix": 1, "denoise": 3},
        "copy_seconds": {"prefix": 0.5, "denoise": 1.5},
        "wait_seconds": {"prefix": 0.25, "denoise": 0.5},
        "output_digest": "b" * 64,
        "finite": True,
        "attention_backend": "flash",
        "resident_layers": 0,
    }
    return {"event": "pass", "at": at, "seconds": seconds, "warmup": warmup, "report": values | report, "phases": []}


def a_run(*seconds: float, warmups: int = 1, trace: MeterTrace | None = None) -> CellRun:
    """Passes of ``seconds`` one after another from the moment 10, the first ``warmups`` of them before the timed."""
    run = CellRun(CELL, MeasuringProtocol(), outcome="ok", created=1_700_000_000, trace=trace or MeterTrace())
    at = 10.0
    for number, each in enumerate(seconds):
        run.pass_began.append(at)
        at += each
        run.passes.append(a_pass(at, each, number < warmups))
    return run


# samples


def test_median_and_spread_are_of_the_timed_passes_alone() -> None:
    run = a_run(50.0, 2.0, 2.0, 2.2)
    assert run.seconds == [2.0, 2.0, 2.2]
    assert run.median == 2.0
    assert run.spread == pytest.approx(0.1)
    assert run.flags == []
    assert "2.0 s median of 3" in line(run)
    assert [sample.warmup for sample in record_of(run, None).samples] == [True, False, False, False]


@pytest.mark.parametrize(
    ("seconds", "spread", "flagged"),
    [
        ((1.0, 1.05, 1.15), 0.15 / 1.05, False),  # longest − shortest, not longest − median
        ((0.9, 1.0, 1.06), 0.16, True),  # neither half of it is over the limit
        ((1.0, 1.0, 1.151), 0.151, True),
        ((1.0, 1.0, 1.15), 0.15, False),  # past 15 %, not at it
        ((1.0, 1.2), 0.2 / 1.1, True),
        ((1.0,), 0.0, False),
    ],
)
def test_the_spread_is_longest_less_shortest_over_the_median(
    seconds: tuple[float, ...], spread: float, flagged: bool
) -> None:
    run = a_run(*seconds, warmups=0)
    assert run.spread == pytest.approx(spread)
    assert bool(run.flags) is flagged
    assert (record_of(run, None).tags == ("spread",)) is flagged


def test_without_a_timed_pass_there_is_neither_median_nor_spread() -> None:
    run = a_run(1.0, warmups=1)
    assert run.median is None
    assert run.spread is None
    assert run.flags == []
    record = record_of(run, None)
    assert record.power is None
    assert record.transfer is None


def test_phases_and_steps_of_a_sample_are_its_own() -> None:
    record = record_of(a_run(4.0, 8.0), None)
    assert record.samples[1].total == 8.0
    assert record.samples[1].phases == {"prefix": 2.0, "denoise": 6.0}
    assert record.samples[1].steps == (0.5, 0.5)


# energy, power, clocks, throttling


def energy(*readings: tuple[float, float]) -> MeterTrace:
    trace = MeterTrace()
    for at, joules in readings:
        trace.add(at, {"energy_joules": joules})
    return trace


def test_energy_is_the_counters_growth_over_the_timed_passes() -> None:
    # the warm-up from 10 to 14 burns 1000 J, the timed passes from 14 to 22 burn 100 J a second
    run = a_run(4.0, 4.0, 4.0, trace=energy((10, 0), (14, 1000), (18, 1400), (22, 1800), (30, 9000)))
    power = record_of(run, None).power
    assert power is not None
    assert power.seconds == 8.0
    assert power.joules == 800


def test_energy_begins_with_the_first_reading_where_none_is_older() -> None:
    assert (found := power_of(energy((0.5, 10), (2, 40), (3, 70)), 0, 2.5)) is not None
    assert found.joules == 30


def test_over_a_moment_the_counters_difference_would_be_noise() -> None:
    trace = energy((0, 10), (0.9, 40))
    trace.add(0.5, {"power_watts": 33.0})
    found = power_of(trace, 0, 0.99)
    assert found is not None
    assert found.joules is None
    assert found.watts_mean == 33
    whole = power_of(trace, 0, 1.0)
    assert whole is not None
    assert whole.joules == 30


def test_power_clocks_and_temperature_are_of_the_window() -> None:
    trace = MeterTrace()
    for at, watts, clock, heat in ((0, 900, 2000, 90), (5, 100, 1500, 60), (6, 200, 1800, 65), (9, 999, 2100, 95)):
        trace.add(
            at, {"power_watts": watts, "sm_clock_mhz": clock, "memory_clock_mhz": 7000, "temperature_celsius": heat}
        )
    found = power_of(trace, 5, 6)
    assert found is not None
    assert (found.watts_mean, found.watts_max) == (150, 200)
    assert (found.sm_clock_mean, found.sm_clock_max) == (1650, 1800)
    assert (found.memory_clock_max, found.temperature_max) == (7000, 65)
    assert found.joules is None


def test_every_throttle_reason_of_the_window_is_named_and_rest_is_none() -> None:
    trace = MeterTrace()
    for at, bits in ((0, 0x8), (5, 0x1), (6, 0x4), (7, 0x20), (9, 0x40)):
        trace.add(at, {"power_watts": 1.0, "event_reasons": bits})
    found = power_of(trace, 5, 7)
    assert found is not None
    assert found.throttle_reasons == ("software-power-cap", "software-thermal-slowdown")
    at_rest = power_of(trace, 5, 5.5)
    assert at_rest is not None
    assert at_rest.throttle_reasons is None


def test_a_card_without_sensors_has_no_power_at_all() -> None:
    trace = MeterTrace()
    trace.add(1, {"card_used": 5, "event_reasons": 4})
    assert power_of(trace, 0, 2) is None


def test_energy_that_starts_again_between_the_passes_is_still_all_counted() -> None:
    class Reloaded(FakeNvml):
        readings = iter([5_000_000, 5_400_000, 100_000, 500_000])

        def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
            return next(self.readings)

    probe, trace = NvmlStateProbe(NvmlCard(Reloaded(), "card")), MeterTrace()
    for at in (10.0, 14.0, 18.0, 22.0):
        trace.add(at, probe.read())
    power = record_of(a_run(4.0, 4.0, 4.0, trace=trace), None).power
    assert power is not None
    assert power.joules == 500  # 100 J after the restart, 400 J more at the end


# memory


def test_available_memory_falls_from_its_first_reading_to_its_lowest() -> None:
    trace = MeterTrace()
    for at, available in enumerate((9 * GIB, 4 * GIB, 10 * GIB)):
        trace.add(at, {"host_available": available, "host_total": 16 * GIB})
    assert available_drop(trace) == 5 * GIB


def test_available_memory_that_only_rose_did_not_drop() -> None:
    trace = MeterTrace()
    for at, available in enumerate((9 * GIB, 10 * GIB)):
        trace.add(at, {"host_available": available, "host_total": 16 * GIB})
    assert available_drop(trace) == 0


def test_the_drop_of_a_machine_that_grows_is_unknown() -> None:
    trace = MeterTrace()
    for at, (available, total) in enumerate(((9 * GIB, 16 * GIB), (4 * GIB, 24 * GIB))):
        trace.add(at, {"host_available": available, "host_total": total})
    assert available_drop(trace) is None
    assert available_drop(MeterTrace()) is None


def test_memory_of_a_record_is_the_largest_that_any_meter_saw() -> None:
    trace = MeterTrace()
    trace.add(1, {"card_used": 7 * GIB, "card_process": 6 * GIB, "host_rss": 3 * GIB})
    trace.add(2, {"card_used": 9 * GIB, "card_process": 5 * GIB, "host_rss": 2 * GIB})
    run = a_run(1.0, warmups=0, trace=trace)
    run.card_before = 2 * GIB
    run.loaded = {"report": {"pinned_bytes": 96 * MIB, "pinned_rounded_bytes": 128 * MIB}, "seconds": 1.0}
    run.end = {"allocated": 4 * GIB, "reserved": 5 * GIB, "rss": 4 * GIB, "pinned": 192 * MIB, "context": None}
    run.last_alive = {"rss": 1 * GIB, "allocated": 1}
    run.ready = {"context": {"before_matmul": 1, "after_matmul": 500 * MIB, "method": "process"}}
    memory = record_of(run, None).memory
    assert (memory.allocated, memory.reserved) == (4 * GIB, 5 * GIB)
    assert (memory.process, memory.device, memory.device_before) == (6 * GIB, 9 * GIB, 2 * GIB)
    assert memory.rss == 4 * GIB  # the kernel's own mark, which the sampler can miss
    assert (memory.pinned_requested, memory.pinned_rounded) == (96 * MIB, 192 * MIB)
    assert memory.context == 500 * MIB
    assert on_card(record_of(run, None)) == 6 * GIB
    run.end["context"] = 600 * MIB
    run.trace.add(3, {"host_rss": 5 * GIB})
    memory = record_of(run, None).memory
    assert memory.context == 600 * MIB
    assert memory.rss == 5 * GIB


def test_a_card_that_lists_no_process_is_read_by_its_growth() -> None:
    trace = MeterTrace()
    trace.add(1, {"card_used": 9 * GIB})
    run = a_run(1.0, warmups=0, trace=trace)
    run.card_before = 2 * GIB
    assert on_card(record_of(run, None)) == 7 * GIB
    run.card_before = None
    assert on_card(record_of(run, None)) is None
    assert error_percent(110, 100) == pytest.approx(10)
    assert error_percent(90, 100) == pytest.approx(-10)


def test_a_phase_of_several_passes_has_its_largest_reading_in_its_own_time() -> None:
    trace = MeterTrace()
    for at, used, process in ((1, 50, 40), (11, 70, 60), (12, 99, 90), (15, 80, 65)):
        trace.add(at, {"card_used": used, "card_process": process})
    run = a_run(2.0, 2.0, warmups=0, trace=trace)
    run.loaded = {"phases": [phase("load", 0, 5, 30, 31)], "seconds": 5.0}
    run.passes[0]["phases"] = [phase("denoise", 10, 11.5, 500, 800), phase("prefix", 11.8, 12.5, 10, 20)]
    run.passes[1]["phases"] = [phase("denoise", 14, 16, 400, 900)]
    run.failed = {"phases": [phase("decode", 20, 21, 7, 8)]}
    found = {one.name: one for one in record_of(run, None).memory.phases or ()}
    assert (found["denoise"].allocated, found["denoise"].reserved) == (500, 900)
    assert (found["denoise"].device, found["denoise"].process) == (80, 65)
    assert (found["prefix"].device, found["prefix"].process) == (99, 90)
    assert (found["load"].device, found["load"].allocated) == (50, 30)
    assert found["decode"].allocated == 7
    assert found["decode"].device is None


def test_without_any_meter_every_number_is_absent() -> None:
    memory = record_of(a_run(1.0, warmups=0), None).memory
    assert memory.model_dump(exclude_none=True) == {}


# weight traffic


def test_traffic_is_the_last_passs_and_its_rate_is_bytes_over_copying() -> None:
    trace = MeterTrace()
    for at, generation in ((10.5, 5), (12.5, 4), (13.0, 3)):
        trace.add(at, {"pcie_generation": generation, "pcie_width": 16})
    run = a_run(2.0, 2.0, trace=trace)
    run.passes[0]["report"] |= {"streamed_bytes": {"denoise": 9999}, "resident_layers": 9}
    transfer = record_of(run, None).transfer
    assert transfer is not None
    assert (transfer.bytes_streamed, transfer.copies, transfer.resident_layers) == (400, 4, 0)
    assert transfer.bytes_per_second == 200
    assert transfer.wait_seconds == 0.75
    assert (transfer.pcie_generation, transfer.pcie_width) == (4, 16)  # under load in the timed pass


def test_unmetered_copies_and_none_have_no_rate() -> None:
    run = a_run(2.0, warmups=0)
    run.passes[0]["report"] |= {"copy_seconds": None, "wait_seconds": None}
    transfer = record_of(run, None).transfer
    assert transfer is not None
    assert transfer.bytes_streamed == 400
    assert transfer.bytes_per_second is None
    assert transfer.wait_seconds is None
    run.passes[0]["report"] |= {
        "streamed_bytes": {"denoise": 0}, "copies": {"denoise": 0}, "copy_seconds": {"denoise": 0.0},
        "wait_seconds": {"denoise": 0.0},
    }  # fmt: skip
    nothing = record_of(run, None).transfer
    assert nothing is not None
    assert nothing.bytes_streamed == 0
    assert nothing.bytes_per_second is None
    assert nothing.wait_seconds is None


def test_the_first_timed_pass_is_not_the_warm_up() -> None:
    run = CellRun(CELL, MeasuringProtocol(), started=100.0)
    for at, warmup in ((103.0, True), (107.0, False), (111.0, False)):
        runner._take(run, {"event": "pass", "edge": "begin", "at": at, "warmup": warmup})
    assert run.first_timed_pass == 7.0
    assert run.pass_began == [103.0, 107.0, 111.0]


@pytest.mark.parametrize(
    ("lowest", "total", "short"),
    [(0.9, 4, True), (1.1, 4, False), (3.0, 64, True), (3.3, 64, False)],
)
def test_memory_was_short_below_a_gibibyte_or_a_twentieth(lowest: float, total: int, short: bool) -> None:
    trace = MeterTrace()
    for at, available in enumerate((3.9, lowest)):
        trace.add(at, {"host_available": available * GIB, "host_total": total * GIB})
    assert runner._memory_was_short(CellRun(CELL, MeasuringProtocol(), trace=trace)) is short
    assert runner._memory_was_short(CellRun(CELL, MeasuringProtocol())) is False

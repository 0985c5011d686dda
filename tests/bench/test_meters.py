from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench_fakes import CONTEXT, TOTAL, Allocator, FakeNvml, fake_torch

from bench.meters import HostProbe, MeterTrace, NvmlCard, NvmlMemoryProbe, NvmlStateProbe, Sampler
from bench.meters.nvml import reason_names, visible_selector
from bench.meters.process_memory import out_of_memory_kills, peak_rss
from bench.meters.torch_memory import TorchMemory
from fitcheck.units import GIB, MIB


class Counter:
    period = 0.005

    def __init__(self, fail_after: int | None = None) -> None:
        self.reads = 0
        self.fail_after = fail_after

    def read(self) -> dict[str, float]:
        self.reads += 1
        if self.fail_after is not None and self.reads > self.fail_after:
            raise RuntimeError("fell off the bus")
        return {"count": self.reads}


def card(**options: Any) -> NvmlCard:
    found = NvmlCard.open(0, FakeNvml(**options))
    assert found is not None
    return found


def test_trace_summaries_over_a_window() -> None:
    trace = MeterTrace()
    for moment, value in enumerate([5.0, 9.0, 7.0, 1.0]):
        trace.add(moment, {"x": value})
    trace.add(9, {"bits": 5})
    trace.add(10, {"bits": 2})
    assert trace.peak("x") == 9
    assert trace.peak("x", since=2) == 7
    assert trace.lowest("x", until=2) == 5
    assert trace.mean("x", 1, 2) == 8
    assert trace.first("x") == 5
    assert trace.at_or_before("x", 2.5) == 7
    assert trace.combined("bits", 0, 20) == 7


def test_a_meter_without_readings_is_absent_and_not_zero() -> None:
    trace = MeterTrace()
    trace.add(0, {"x": 1.0})
    assert trace.peak("y") is None
    assert trace.mean("y") is None
    assert trace.lowest("y") is None
    assert trace.at_or_before("x", -1) is None


def test_sampler_reads_at_its_pace_until_the_block_ends() -> None:
    probe = Counter()
    with Sampler([probe]) as sampler:
        time.sleep(0.15)
    after = probe.reads
    assert 5 <= after <= 31
    time.sleep(0.03)
    assert probe.reads == after
    assert sampler.trace.peak("count") == after


def test_a_probe_that_fails_is_dropped_and_the_others_go_on() -> None:
    steady, failing = Counter(), Counter(fail_after=2)
    with Sampler([steady, failing]) as sampler:
        time.sleep(0.1)
    assert failing.reads == 3
    assert steady.reads > 4
    assert "fell off the bus" in sampler.lost["Counter"]


def test_host_probe_sees_a_growing_process() -> None:
    probe = HostProbe(os.getpid())
    before = probe.read()["host_rss"]
    block = bytearray(64 * MIB)
    for at in range(0, len(block), 4096):
        block[at] = 1
    grown = probe.read()
    assert grown["host_rss"] - before > 50 * MIB
    assert 0 < grown["host_available"] < grown["host_total"] == psutil.virtual_memory().total
    peak = peak_rss()
    assert peak is not None
    assert peak >= grown["host_rss"]


def test_host_probe_of_a_process_that_is_gone_reads_no_rss(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = HostProbe(os.getpid())

    def gone(self: psutil.Process) -> None:
        raise psutil.NoSuchProcess(self.pid)

    monkeypatch.setattr(psutil.Process, "memory_info", gone)
    values = probe.read()
    assert "host_rss" not in values
    assert "host_available" in values


def test_nvml_card_reads_everything_a_full_driver_has() -> None:
    full = card(others=((77, 3 * GIB),))
    assert full.name == "NVIDIA H100 80GB HBM3"
    assert full.pci_device_id == "10de:2330"
    assert full.memory() == (TOTAL, 3 * GIB, TOTAL - 3 * GIB)
    assert [(row.pid, row.used) for row in full.processes() or []] == [(77, 3 * GIB)]
    assert full.power_limit == 700
    state = full.state()
    assert state["power_watts"] == 123
    assert state["sm_clock_mhz"] == 1980
    assert state["pcie_generation"] == 5


def test_nvml_functions_that_are_not_supported_leave_no_key() -> None:
    poor = card(
        missing=frozenset(
            {
                "nvmlDeviceGetPowerUsage",
                "nvmlDeviceGetTotalEnergyConsumption",
                "nvmlDeviceGetMemoryInfo",
                "nvmlDeviceGetPciInfo",
            }
        )
    )
    assert "power_watts" not in poor.state()
    assert "energy_joules" not in poor.state()
    assert "temperature_celsius" in poor.state()
    assert poor.memory() is None
    assert poor.pci_device_id is None
    assert NvmlMemoryProbe(poor, lambda: {1}).read() == {}


def test_process_bytes_of_an_unlisted_pid_are_unknown() -> None:
    allocator = Allocator()
    allocator.context = CONTEXT
    own = card(allocator=allocator, others=((77, 5),))
    assert own.process_bytes({os.getpid()}) == CONTEXT
    assert own.process_bytes({123456}) is None
    assert card(others=((77, None),)).process_bytes({77}) is None
    assert NvmlMemoryProbe(own, lambda: {os.getpid()}).read() == {"card_used": CONTEXT + 5, "card_process": CONTEXT}
    assert NvmlStateProbe(own).read()["temperature_celsius"] == 41


def test_no_driver_and_no_such_card_are_normal() -> None:
    assert NvmlCard.open(3, FakeNvml()) is None
    assert NvmlCard.open(0, FakeNvml(missing=frozenset({"nvmlInit"}))) is None


def test_cuda_visible_devices_chooses_the_card() -> None:
    assert visible_selector({}) == "0"
    assert visible_selector({"CUDA_VISIBLE_DEVICES": "2,0"}) == "2"
    assert visible_selector({"CUDA_VISIBLE_DEVICES": "GPU-ab"}) == "GPU-ab"


@pytest.mark.parametrize("hidden", ["", "-1", " ", ",0"])
def test_a_variable_that_hides_every_card_shows_none(hidden: str) -> None:
    selector = visible_selector({"CUDA_VISIBLE_DEVICES": hidden})
    assert NvmlCard.open(selector, FakeNvml(missing=frozenset({"nvmlDeviceGetHandleByUUID"}))) is None


def test_the_beginning_of_a_uuid_is_enough_when_it_fits_one_card() -> None:
    class Two(FakeNvml):
        def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
            raise LookupError(uuid)

        def nvmlDeviceGetCount(self) -> int:
            return 2

        def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
            return f"card {index}"

        def nvmlDeviceGetUUID(self, handle: str) -> Any:  # older bindings answer in bytes
            return b"GPU-aa11" if handle == "card 0" else b"GPU-aa22"

    found = NvmlCard.open("GPU-AA2", Two())
    assert found is not None
    assert found.uuid == "GPU-aa22"
    assert NvmlCard.open("GPU-aa", Two()) is None
    assert NvmlCard.open("MIG-aa2", Two()) is None


def test_energy_goes_on_where_the_counter_starts_again() -> None:
    class Reloaded(FakeNvml):
        readings = iter([5_000, 7_000, 7_000, 1_000, 2_500])

        def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
            return next(self.readings)

    probe = NvmlStateProbe(NvmlCard(Reloaded(), "card"))
    assert [probe.read()["energy_joules"] for _ in range(5)] == [5, 7, 7, 8, 9.5]


def test_kills_for_want_of_memory_are_counted_where_the_kernel_counts_them(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 3\n")
    assert out_of_memory_kills(tmp_path / "vmstat") == 3
    (tmp_path / "vmstat").write_text("nr_free_pages 12\n")
    assert out_of_memory_kills(tmp_path / "vmstat") is None
    assert out_of_memory_kills(tmp_path / "missing") is None


def test_reason_bits_have_names() -> None:
    assert reason_names(0x8 | 0x1) == ["gpu idle", "hardware slowdown"]


def test_phases_get_their_own_peaks_and_nested_ones_count_for_both() -> None:
    allocator = Allocator()
    memory = TorchMemory(fake_torch(allocator), "cuda")
    allocator.take(100)
    with memory.phase("outer"):
        allocator.take(50)
        with memory.phase("inner"):
            allocator.take(500)
            allocator.give(500)
        allocator.take(10)
    allocator.take(5)
    allocator.give(165)
    memory.fold()
    peaks = {reading.name: reading.allocated for reading in memory.take()}
    assert peaks == {"inner": 650, "outer": 650}
    assert memory.allocated_peak == 650
    assert memory.take() == []


def test_without_a_cuda_allocator_bytes_are_absent() -> None:
    memory = TorchMemory(object(), "cpu")
    with memory.phase("denoise"):
        time.sleep(0.01)
    (reading,) = memory.take()
    assert reading.allocated is None
    assert reading.seconds >= 0.01
    assert memory.allocated_peak is None

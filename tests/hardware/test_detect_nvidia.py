"""NVIDIA detection against a stand-in for pynvml: every state is a report, every failure costs one value only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from nvml_fake import (
    FakeCard,
    FakeNvml,
    NVMLError,
    NVMLError_DriverNotLoaded,
    NVMLError_GpuIsLost,
    NVMLError_LibraryNotFound,
    NVMLError_LibRmVersionMismatch,
    NVMLError_NoPermission,
    NVMLError_NotSupported,
    NVMLError_Unknown,
    broken,
    h100,
    rtx_4070,
)

from fitcheck.hardware.detect import nvidia
from fitcheck.units import MIB

NO_SYSFS = Path("/nonexistent")


def test_a_data_center_card() -> None:
    nvml = FakeNvml(h100())
    report = nvidia.find(nvml, NO_SYSFS)
    assert nvml.open == 0
    assert report.notes == ()
    assert (report.driver, report.cuda) == ("580.95.05", "13.0")
    (gpu,) = report.gpus
    assert gpu.name == "NVIDIA H100 80GB HBM3"
    assert gpu.memory_total == 81559 * MIB
    assert gpu.memory_reserved == 478 * MIB
    assert gpu.memory_free == (81559 - 478 - 4) * MIB
    assert gpu.compute_capability == (9, 0)
    assert (gpu.pcie_generation, gpu.pcie_generation_max, gpu.pcie_width, gpu.pcie_width_max) == (5, 5, 16, 16)
    assert gpu.display is False
    assert gpu.power_limit == 700.0
    assert (gpu.processes, gpu.process_bytes) == (0, 0)
    assert gpu.mig is None
    assert gpu.shared is False


def test_a_desktop_card_with_a_display_and_a_link_at_rest() -> None:
    (gpu,) = nvidia.find(FakeNvml(rtx_4070()), NO_SYSFS).gpus
    assert gpu.display is True
    assert (gpu.pcie_generation, gpu.pcie_generation_max) == (1, 4)
    # one process draws and computes: it is counted once, with the larger of its two sizes
    assert gpu.processes == 2
    assert gpu.process_bytes == (310 + 130) * MIB


def test_every_value_names_the_function_it_came_from() -> None:
    (gpu,) = nvidia.find(FakeNvml(rtx_4070()), NO_SYSFS).gpus
    assert gpu.readings["memory_free"].source == "nvmlDeviceGetMemoryInfo_v2"
    assert gpu.readings["display"].source == "nvmlDeviceGetDisplayActive"
    assert gpu.readings["memory_total"].value == 12282 * MIB
    assert all(reading.source for reading in gpu.readings.values())


def test_two_cards_keep_the_drivers_order() -> None:
    report = nvidia.find(FakeNvml(rtx_4070(), FakeCard("NVIDIA GeForce RTX 3060", 12288, reserved=380)), NO_SYSFS)
    assert [gpu.name for gpu in report.gpus] == ["NVIDIA GeForce RTX 4070", "NVIDIA GeForce RTX 3060"]


SLICES = [
    FakeCard("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 40192, used=25),
    FakeCard("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9728, used=9728 - 4000, compute=[(77, 5700)]),
]


def test_a_card_cut_into_slices_is_its_slices() -> None:
    whole = FakeCard("NVIDIA A100-SXM4-80GB", 81920, capability=(8, 0), power=400_000, slices=SLICES)
    report = nvidia.find(FakeNvml(whole), NO_SYSFS)
    first, second = report.gpus
    assert (first.mig, second.mig) == ("3g.40gb", "1g.10gb")
    assert first.name == second.name == "NVIDIA A100-SXM4-80GB"
    assert first.memory_total == 40192 * MIB
    assert second.memory_free == 4000 * MIB
    assert second.processes == 1
    assert first.parent_total == 81920 * MIB
    assert first.compute_capability == (8, 0)
    assert first.pcie_width == 16
    assert report.notes == (
        "NVIDIA A100-SXM4-80GB is cut into MIG slices (3g.40gb, 1g.10gb); each is a card of its own here.",
    )


def test_a_card_in_mig_mode_without_slices_takes_no_work() -> None:
    report = nvidia.find(FakeNvml(FakeCard("NVIDIA A100-SXM4-80GB", 81920, slices=[])), NO_SYSFS)
    assert report.gpus == ()
    assert "is in MIG mode but has no slice" in report.notes[0]


FUNCTIONS = {
    "nvmlDeviceGetName": ("name", None),
    "nvmlDeviceGetMemoryInfo": ("memory_total", "memory_free"),
    "nvmlDeviceGetCudaComputeCapability": ("compute_capability", None),
    "nvmlDeviceGetCurrPcieLinkGeneration": ("pcie_generation", None),
    "nvmlDeviceGetMaxPcieLinkGeneration": ("pcie_generation_max", None),
    "nvmlDeviceGetCurrPcieLinkWidth": ("pcie_width", None),
    "nvmlDeviceGetMaxPcieLinkWidth": ("pcie_width_max", None),
    "nvmlDeviceGetDisplayActive": ("display", None),
    "nvmlDeviceGetEnforcedPowerLimit": ("power_limit", None),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("error", [NVMLError_Unknown, NVMLError_NotSupported, OSError, TypeError])
def test_one_failing_call_costs_one_value(function: str, error: type[Exception]) -> None:
    lost = {name for name in FUNCTIONS[function] if name}
    if function == "nvmlDeviceGetMemoryInfo":
        lost |= {"memory_reserved"}
    whole = nvidia.find(FakeNvml(rtx_4070()), NO_SYSFS).gpus[0]
    partial = nvidia.find(FakeNvml(rtx_4070(broken=broken(function, error=error))), NO_SYSFS).gpus[0]
    names = {field for pair in FUNCTIONS.values() for field in pair if field} | {"processes", "process_bytes"}
    for name in names:
        expected = None if name in lost else getattr(whole, name)
        assert getattr(partial, name) == expected, name
    failed = FUNCTIONS[function][0]
    assert partial.readings[failed].failure == error.__name__
    assert partial.readings[failed].value is None


def test_processes_are_unknown_only_when_no_call_answers() -> None:
    compute, graphics = "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"
    (gpu,) = nvidia.find(FakeNvml(rtx_4070(broken=broken(graphics))), NO_SYSFS).gpus
    assert (gpu.processes, gpu.process_bytes) == (1, 130 * MIB)
    (gpu,) = nvidia.find(FakeNvml(rtx_4070(broken=broken(compute, graphics))), NO_SYSFS).gpus
    assert (gpu.processes, gpu.process_bytes) == (None, None)


def test_processes_whose_memory_windows_hides_are_counted_without_a_size() -> None:
    (gpu,) = nvidia.find(FakeNvml(rtx_4070(graphics=[(1, None), (2, None)], compute=[])), NO_SYSFS).gpus
    assert (gpu.processes, gpu.process_bytes) == (2, None)


def test_the_number_that_means_not_known_is_not_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(rtx_4070(compute=[]))
    listed = [SimpleNamespace(pid=1, usedGpuMemory=0xFFFFFFFFFFFFFFFF)]
    monkeypatch.setattr(nvml, "nvmlDeviceGetGraphicsRunningProcesses", lambda card: listed)
    (gpu,) = nvidia.find(nvml, NO_SYSFS).gpus
    assert (gpu.processes, gpu.process_bytes) == (1, None)


def test_an_older_driver_answers_in_bytes_and_without_its_reserve() -> None:
    report = nvidia.find(FakeNvml(rtx_4070(), old=True), NO_SYSFS)
    (gpu,) = report.gpus
    assert report.driver == "580.95.05"
    assert gpu.name == "NVIDIA GeForce RTX 4070"
    assert gpu.memory_reserved is None
    # what is free is the same by either version of the call
    assert gpu.memory_free == nvidia.find(FakeNvml(rtx_4070()), NO_SYSFS).gpus[0].memory_free
    assert gpu.readings["memory_total"].source == "nvmlDeviceGetMemoryInfo"


def test_a_chip_that_works_in_host_memory() -> None:
    (gpu,) = nvidia.find(FakeNvml(FakeCard("NVIDIA GB10", None, capability=(12, 1))), NO_SYSFS).gpus
    assert gpu.memory_total is None
    assert gpu.shared is True


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NVMLError_LibraryNotFound, "No NVIDIA driver is installed."),
        (NVMLError_DriverNotLoaded, "installed but not running"),
        (NVMLError_LibRmVersionMismatch, "restart the machine"),
        (NVMLError_NoPermission, "no permission"),
        (NVMLError_Unknown, "did not answer (Unknown)"),
        (OSError, "did not answer (OSError)"),
    ],
)
def test_a_driver_that_does_not_start_is_a_sentence(error: type[Exception], sentence: str) -> None:
    report = nvidia.find(FakeNvml(start=error), NO_SYSFS)
    assert report.gpus == ()
    (note,) = report.notes
    assert sentence in note
    assert note.endswith(".")


def test_a_card_without_a_driver_is_said_to_be_one(tmp_path: Path) -> None:
    device = tmp_path / "bus" / "pci" / "devices" / "0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030000\n")
    report = nvidia.find(FakeNvml(start=NVMLError_LibraryNotFound), tmp_path)
    assert report.notes == ("An NVIDIA card is in this machine but its driver is not installed.",)


def test_a_driver_without_cards() -> None:
    assert nvidia.find(FakeNvml(), NO_SYSFS).notes == ("The NVIDIA driver runs but shows no card to this process.",)


def test_a_card_that_fell_off_the_bus_does_not_hide_the_other() -> None:
    report = nvidia.find(FakeNvml(h100(lost=True), h100()), NO_SYSFS)
    assert len(report.gpus) == 1
    assert report.notes == ("NVIDIA card 0 does not answer (GpuIsLost).",)
    assert issubclass(NVMLError_GpuIsLost, NVMLError)


def test_the_real_library_answers_or_says_why() -> None:
    report = nvidia.find(sysfs=NO_SYSFS)
    assert report.gpus or report.notes

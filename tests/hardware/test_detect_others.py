"""AMD, Intel and Apple graphics and the host, from files and commands that stand in for the system's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fitcheck.hardware.detect import amd, apple, intel, pci, system_memory
from fitcheck.units import GIB, MIB


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def drm(sysfs: Path, index: int, address: str, connectors: dict[str, str] | None = None, **files: object) -> Path:
    """A card under /sys/class/drm as Linux lays it out: a link to the device on its bus, behind a root port."""
    port = write(sysfs / "devices" / "pci0000:00" / "0000:00:01.1", vendor="0x1022", **{"class": "0x060400"})
    device = write(port / address, **{"class": "0x030000", **files})
    card = sysfs / "class" / "drm" / f"card{index}"
    card.mkdir(parents=True)
    (card / "device").symlink_to(device)
    for name, status in (connectors or {}).items():
        write(card.parent / f"card{index}-{name}", status=status)
    return device


RX_7900_XTX: dict[str, Any] = {
    "vendor": "0x1002",
    "device": "0x744c",
    "revision": "0xc8",
    "mem_info_vram_total": 24560 * MIB,
    "mem_info_vram_used": 512 * MIB,
    "mem_info_gtt_total": 16 * GIB,
    "mem_info_gtt_used": 30 * MIB,
    "current_link_speed": "16.0 GT/s PCIe",
    "max_link_speed": "16.0 GT/s PCIe",
    "current_link_width": 16,
    "max_link_width": 16,
}


@pytest.fixture
def names(tmp_path: Path) -> Path:
    rows = ["744C,\tC8,\tAMD Radeon RX 7900 XTX", "744C,\tCC,\tAMD Radeon RX 7900 XT", "15BF,\tC7,\tAMD Radeon 780M"]
    table = "\n".join(["# comment", "1.0.0", *rows, ""])
    path = tmp_path / "amdgpu.ids"
    path.write_text(table)
    return path


def test_an_amd_card(tmp_path: Path, names: Path) -> None:
    device = drm(tmp_path, 0, "0000:03:00.0", {"DP-1": "disconnected", "HDMI-A-1": "connected"}, **RX_7900_XTX)
    write(device / "hwmon" / "hwmon3", power1_cap=327_000_000)
    write(tmp_path / "module" / "amdgpu", version="6.12.12")
    report = amd.find(tmp_path, names, ())
    assert report.driver == "6.12.12"
    (gpu,) = report.gpus
    assert gpu.name == "AMD Radeon RX 7900 XTX"
    assert gpu.memory_total == 24560 * MIB
    assert gpu.memory_free == (24560 - 512) * MIB
    assert gpu.display is True
    assert gpu.power_limit == 327.0
    assert (gpu.pcie_generation_max, gpu.pcie_width) == (4, 16)
    assert gpu.shared is False
    assert gpu.readings["name"].source == "libdrm amdgpu.ids"


def test_the_revision_tells_cards_of_one_device_id_apart(tmp_path: Path, names: Path) -> None:
    drm(tmp_path, 0, "0000:03:00.0", **{**RX_7900_XTX, "revision": "0xcc"})
    assert amd.find(tmp_path, names, ()).gpus[0].name == "AMD Radeon RX 7900 XT"


def test_the_slowest_hop_to_the_processor_is_the_link(tmp_path: Path, names: Path) -> None:
    drm(tmp_path, 0, "0000:03:00.0", **RX_7900_XTX)
    slow = {"current_link_speed": "8.0 GT/s PCIe", "max_link_speed": "8.0 GT/s PCIe", "current_link_width": 4}
    write(tmp_path / "devices" / "pci0000:00" / "0000:00:01.1", **slow, max_link_width=16)
    (gpu,) = amd.find(tmp_path, names, ()).gpus
    assert (gpu.pcie_generation_max, gpu.pcie_width) == (3, 4)


def test_an_amd_card_without_any_name_keeps_its_memory(tmp_path: Path) -> None:
    drm(tmp_path, 0, "0000:03:00.0", **RX_7900_XTX)
    (gpu,) = amd.find(tmp_path, tmp_path / "missing", (), smi=SimpleNamespace()).gpus
    assert gpu.name is None
    assert gpu.memory_free == (24560 - 512) * MIB
    assert gpu.readings["name"].failure is not None


def test_amds_own_library_is_asked_for_a_name_that_no_file_has(tmp_path: Path) -> None:
    drm(tmp_path, 0, "0000:03:00.0", **RX_7900_XTX)
    asked: list[str] = []
    smi = SimpleNamespace(
        amdsmi_init=lambda: asked.append("init"),
        amdsmi_shut_down=lambda: asked.append("down"),
        amdsmi_get_processor_handles=lambda: ["first"],
        amdsmi_get_gpu_asic_info=lambda handle: {"market_name": "AMD Instinct MI300X OAM"},
    )
    (gpu,) = amd.find(tmp_path, tmp_path / "missing", (), smi=smi).gpus
    assert gpu.name == "AMD Instinct MI300X OAM"
    assert asked == ["init", "down"]
    assert gpu.readings["name"].source == "amdsmi market_name"


@pytest.mark.parametrize("file", ["mem_info_vram_total", "mem_info_vram_used", "current_link_speed", "revision"])
@pytest.mark.parametrize("content", [None, "", "garbage", "-"])
def test_an_odd_file_costs_one_value(tmp_path: Path, names: Path, file: str, content: str | None) -> None:
    device = drm(tmp_path, 0, "0000:03:00.0", **RX_7900_XTX)
    if content is None:
        (device / file).unlink()
    else:
        (device / file).write_text(content)
    (gpu,) = amd.find(tmp_path, names, (), smi=SimpleNamespace()).gpus
    assert (gpu.memory_total is None) == (file == "mem_info_vram_total")
    assert (gpu.memory_free is None) == file.startswith("mem_info")
    assert (gpu.pcie_generation is None) == (file == "current_link_speed")
    assert gpu.pcie_width == 16


def test_an_amd_card_without_its_driver(tmp_path: Path, names: Path) -> None:
    write(tmp_path / "bus" / "pci" / "devices" / "0000:03:00.0", vendor="0x1002", **{"class": "0x030000"})
    report = amd.find(tmp_path, names, ())
    assert report.gpus == ()
    assert "amdgpu driver does not run it" in report.notes[0]


def test_no_amd_card(tmp_path: Path, names: Path) -> None:
    report = amd.find(tmp_path, names, ())
    assert (report.gpus, report.notes) == ((), ())


PCI_IDS = """# list
1002  AMD
\t744c  Navi 31 [Radeon RX 7900 XT]
8086  Intel Corporation
\t4680  AlderLake-S GT1 [UHD Graphics 770]
\t56a0  DG2 [Arc A770]
\t\t1849 1234  a board
9999  Other
\t56a1  not Intel
"""


@pytest.fixture
def pci_ids(tmp_path: Path) -> tuple[Path, ...]:
    path = tmp_path / "pci.ids"
    path.write_text(PCI_IDS)
    return (tmp_path / "missing.ids", path)


def test_an_intel_card(tmp_path: Path, pci_ids: tuple[Path, ...]) -> None:
    drm(tmp_path, 1, "0000:03:00.0", {"DP-1": "disconnected"}, vendor="0x8086", device="0x56a0")
    write(tmp_path / "class" / "drm" / "card1", lmem_total_bytes=16 * GIB, lmem_avail_bytes=15 * GIB)
    (gpu,) = intel.find(tmp_path, pci_ids).gpus
    assert gpu.name == "Intel Arc A770"
    assert (gpu.memory_total, gpu.memory_free) == (16 * GIB, 15 * GIB)
    assert gpu.shared is False
    assert gpu.display is False


def test_intels_integrated_graphics_share_the_hosts_memory(tmp_path: Path, pci_ids: tuple[Path, ...]) -> None:
    drm(tmp_path, 0, "0000:00:02.0", {"eDP-1": "connected"}, vendor="0x8086", device="0x4680")
    (gpu,) = intel.find(tmp_path, pci_ids).gpus
    assert gpu.name == "Intel UHD Graphics 770"
    assert gpu.shared is True
    assert gpu.memory_total is None


@pytest.mark.parametrize(("device", "name"), [("0x56a0", "Arc A770"), ("0x56a1", None), ("0x1849", None)])
def test_names_are_read_from_the_right_vendor_only(pci_ids: tuple[Path, ...], device: str, name: str | None) -> None:
    assert pci.listed_name("0x8086", device, pci_ids) == name


def test_cards_are_taken_in_order_and_connectors_are_no_cards(tmp_path: Path) -> None:
    for index in (10, 2, 0):
        drm(tmp_path, index, f"0000:{index:02x}:00.0", {"DP-1": "unknown"}, vendor="0x1002")
    assert [card.name for card in pci.cards("AMD", tmp_path)] == ["card0", "card2", "card10"]
    assert pci.cards("Intel", tmp_path) == []


def runner(answers: dict[str, str]) -> apple.Run:
    def run(command: list[str]) -> str:
        key = command[-1] if command[0] == "sysctl" else command[0]
        if key not in answers:
            raise subprocess.CalledProcessError(1, command)
        return answers[key]

    return run


def test_an_apple_chip() -> None:
    answers = {"machdep.cpu.brand_string": "Apple M2 Max", "hw.memsize": str(64 * GIB), "iogpu.wired_limit_mb": "0"}
    (gpu,) = apple.find(runner(answers)).gpus
    assert gpu.name == "Apple M2 Max"
    assert gpu.memory_total == 64 * GIB
    assert gpu.host_free is None
    assert gpu.shared is True


def test_a_raised_limit_of_an_apple_chip_is_what_the_gpu_may_take() -> None:
    answers = {"machdep.cpu.brand_string": "Apple M4", "hw.memsize": str(32 * GIB), "iogpu.wired_limit_mb": "28672"}
    assert apple.find(runner(answers)).gpus[0].host_free == 28 * GIB


def test_an_older_macos_without_the_limit() -> None:
    answers = {"machdep.cpu.brand_string": "Apple M1", "hw.memsize": str(8 * GIB)}
    (gpu,) = apple.find(runner(answers)).gpus
    assert gpu.host_free is None
    assert gpu.readings["memory_limit"].failure == "CalledProcessError"


def test_an_intel_mac_with_a_card() -> None:
    listed = {
        "SPDisplaysDataType": [
            {"sppci_model": "Intel UHD Graphics 630", "spdisplays_vram_shared": "1536 MB"},
            {"sppci_model": "AMD Radeon Pro 5500M", "spdisplays_vram": "8 GB", "spdisplays_ndrvs": [{}]},
        ]
    }
    answers = {"machdep.cpu.brand_string": "Intel(R) Core(TM) i9", "system_profiler": json.dumps(listed)}
    integrated, card = apple.find(runner(answers)).gpus
    assert (integrated.vendor, integrated.shared, integrated.memory_total) == ("Intel", True, None)
    assert (card.vendor, card.name, card.memory_total) == ("AMD", "AMD Radeon Pro 5500M", 8 * GIB)
    assert card.display is True


@pytest.mark.parametrize(
    "answer", ["", "not json", "[]", "{}", '{"SPDisplaysDataType": 3}', '{"SPDisplaysDataType": [1, {}]}']
)
def test_whatever_system_profiler_prints_is_no_error(answer: str) -> None:
    report = apple.find(runner({"machdep.cpu.brand_string": "Intel", "system_profiler": answer}))
    assert [(gpu.name, gpu.memory_total) for gpu in report.gpus] == [(None, None)] * answer.endswith("{}]}")


def test_no_command_answers_at_all() -> None:
    report = apple.find(runner({}))
    assert report.gpus == ()
    assert report.notes == ("The graphics of this Mac could not be read.",)


def memory(total: int, available: int) -> Any:
    return lambda: SimpleNamespace(total=total, available=available)


def test_a_host_without_limits(tmp_path: Path) -> None:
    found = system_memory.find(tmp_path, tmp_path, memory(32 * GIB, 20 * GIB))
    assert (found.ram_total, found.ram_available) == (32 * GIB, 20 * GIB)
    assert found.disk_free is not None
    assert found.disk_free > 0
    assert found.operating_system
    assert found.notes == ()


def test_a_container_with_cgroup_version_2(tmp_path: Path) -> None:
    write(tmp_path / "proc" / "self", cgroup="0::/")
    group = write(tmp_path / "sys" / "fs" / "cgroup", **{"memory.max": 8 * GIB, "memory.current": 3 * GIB})
    write(group, **{"memory.stat": f"anon {2 * GIB}\ninactive_file {GIB}\nactive_file 4096"})
    found = system_memory.find(tmp_path, tmp_path, memory(64 * GIB, 60 * GIB))
    # a cached file counts as used but is given up at need
    assert (found.ram_total, found.ram_available) == (8 * GIB, 6 * GIB)
    assert found.notes == ("This process may use 8.0 GiB of the machine's memory (cgroup limit).",)
    assert found.readings["cgroup_limit"].value == 8 * GIB


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    write(tmp_path / "proc" / "self", cgroup="0::/user.slice/job")
    root = tmp_path / "sys" / "fs" / "cgroup"
    for folder, limit, used in ((root / "user.slice", 4 * GIB, 3 * GIB), (root / "user.slice" / "job", "max", GIB)):
        write(folder, **{"memory.max": limit, "memory.current": used, "memory.stat": "inactive_file 0"})
    found = system_memory.find(tmp_path, tmp_path, memory(64 * GIB, 60 * GIB))
    assert (found.ram_total, found.ram_available) == (4 * GIB, GIB)


def test_a_container_with_cgroup_version_1(tmp_path: Path) -> None:
    write(tmp_path / "proc" / "self", cgroup="5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/")
    group = tmp_path / "sys" / "fs" / "cgroup" / "memory"
    unlimited = {"memory.limit_in_bytes": 9223372036854771712, "memory.usage_in_bytes": GIB}
    write(group, **unlimited, **{"memory.stat": "total_inactive_file 0"})
    write(group / "docker" / "abc", **{"memory.limit_in_bytes": 16 * GIB, "memory.usage_in_bytes": 2 * GIB})
    write(group / "docker" / "abc", **{"memory.stat": f"inactive_file 5\ntotal_inactive_file {GIB}"})
    found = system_memory.find(tmp_path, tmp_path, memory(64 * GIB, 10 * GIB))
    assert found.ram_total == 16 * GIB
    # the machine itself has less free than the group would allow
    assert found.ram_available == 10 * GIB


@pytest.mark.parametrize("limit", ["max", "garbage", "", str(1 << 62)])
def test_a_group_without_a_limit_limits_nothing(tmp_path: Path, limit: str) -> None:
    write(tmp_path / "proc" / "self", cgroup="0::/")
    files = {"memory.max": limit, "memory.current": GIB, "memory.stat": "inactive_file 0"}
    write(tmp_path / "sys" / "fs" / "cgroup", **files)
    found = system_memory.find(tmp_path, tmp_path, memory(64 * GIB, 60 * GIB))
    assert (found.ram_total, found.ram_available, found.notes) == (64 * GIB, 60 * GIB, ())


def test_disk_of_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    found = system_memory.find(tmp_path / "models" / "not yet", tmp_path, memory(1, 1))
    assert found.disk_free is not None
    assert found.disk_free > 0


def test_memory_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    def fails() -> Any:
        raise OSError

    found = system_memory.find(tmp_path, tmp_path, fails)
    assert (found.ram_total, found.ram_available) == (None, None)
    assert found.readings["ram_total"].failure == "OSError"

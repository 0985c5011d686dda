"""From drivers' answers to a machine: matched cards, live values, a clear line for each state, a capture to share."""

from __future__ import annotations

import getpass
import json
import platform
import socket
from pathlib import Path
from typing import Any

import pytest
from nvml_fake import FakeCard, FakeNvml, NVMLError_LibraryNotFound, broken, h100, rtx_4070

from fitcheck.hardware.budget import budget
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.detect import FoundGpu, Survey, VendorReport, capture, detect, nvidia, survey
from fitcheck.hardware.detect.detected_machine import capture_of, machine_from
from fitcheck.hardware.detect.system_memory import FoundHost
from fitcheck.hardware.machine import Machine
from fitcheck.units import GIB, MIB

HOST = FoundHost(ram_total=32 * GIB, ram_available=24 * GIB, disk_free=500 * 10**9, operating_system="Linux (test)")


def surveyed(*cards: FakeCard, host: FoundHost = HOST, others: tuple[VendorReport, ...] = (), **driver: Any) -> Survey:
    return Survey((nvidia.find(FakeNvml(*cards, **driver), Path("/nonexistent")), *others), host)


def machine(*cards: FakeCard, system: str = "Linux", **options: Any) -> Machine:
    return machine_from(surveyed(*cards, **options), system)


def test_an_rtx_4070_with_a_display() -> None:
    found = machine(rtx_4070())
    (gpu,) = found.gpus
    assert gpu.card.slug == "rtx-4070"
    assert gpu.card.tensor_flops == find_card("RTX 4070").tensor_flops
    assert gpu.vram_total == 12282 * MIB
    assert gpu.vram_free == (12282 - 383 - 672) * MIB
    assert gpu.display is True
    # a link at rest shows generation 1; a model will run at what card and slot can do
    assert (gpu.link.pcie_generation, gpu.link.pcie_lanes) == (4, 16)
    assert (found.driver, found.cuda, found.detected) == ("580.95.05", "13.0", True)
    assert (found.ram_total, found.ram_available, found.disk_free) == (32 * GIB, 24 * GIB, 500 * 10**9)
    assert found.notes == ("2 processes hold 0.4 GiB on RTX 4070.",)
    given = budget(found)
    assert given.vram.best == gpu.vram_free
    assert given.vram.low < gpu.vram_free
    assert "free now" in given.basis


def test_live_values_win_over_the_database() -> None:
    (gpu,) = machine(h100(power=350_000, capability=(9, 1), width=(8, 16))).gpus
    assert gpu.card.slug == "h100-sxm5-80gb"
    assert gpu.card.power_watts == 350.0
    assert gpu.card.compute_capability == (9, 1)
    assert gpu.link.pcie_lanes == 8


def test_fewer_lanes_than_card_and_slot_can_do_are_said() -> None:
    assert "H100 SXM5 80 GB runs with 8 of 16 PCIe lanes." in machine(h100(width=(8, 16))).notes


def test_a_value_the_driver_does_not_give_comes_from_the_database() -> None:
    calls = [f"nvmlDeviceGet{part}PcieLink{what}" for part in ("Curr", "Max") for what in ("Generation", "Width")]
    calls += ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetCudaComputeCapability"]
    (gpu,) = machine(rtx_4070(broken=broken(*calls))).gpus
    card = find_card("RTX 4070")
    assert (gpu.link.pcie_generation, gpu.link.pcie_lanes) == (4, 16)
    assert gpu.vram_total == card.memory
    assert gpu.vram_free is None
    assert gpu.card == card


def test_a_card_that_no_database_knows_is_used_with_its_live_values() -> None:
    found = machine(FakeCard("NVIDIA GeForce RTX 9090", 65536, reserved=600, capability=(14, 0), generation=(6, 6)))
    (gpu,) = found.gpus
    assert gpu.card.name == "NVIDIA GeForce RTX 9090"
    assert gpu.card.tensor_flops is None
    assert gpu.card.compute_capability == (14, 0)
    assert gpu.link.pcie_generation == 6
    assert budget(found).vram.best == (65536 - 600) * MIB
    assert "'NVIDIA GeForce RTX 9090' is not one card of the database" in found.notes[0]


def test_two_cards() -> None:
    found = machine(rtx_4070(graphics=[], compute=[]), FakeCard("NVIDIA GeForce RTX 3060", 12288, reserved=380))
    assert [gpu.card.slug for gpu in found.gpus] == ["rtx-4070", "rtx-3060-12gb"]
    assert [gpu.index for gpu in found.gpus] == [0, 1]
    assert found.notes == ("2 cards found (0: RTX 4070, 1: RTX 3060 12 GB).",)
    assert budget(found, 1).vram.best == (12288 - 380) * MIB


def test_slices_have_their_part_of_the_card() -> None:
    slices = [FakeCard("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 40192, used=25)]
    found = machine(FakeCard("NVIDIA A100-SXM4-80GB", 81920, capability=(8, 0), slices=slices))
    (gpu,) = found.gpus
    whole = find_card("A100 SXM 80GB")
    assert gpu.mig == "3g.40gb"
    assert gpu.card.slug == whole.slug
    assert gpu.card.memory == 40192 * MIB
    assert gpu.card.tensor_flops is not None
    assert whole.tensor_flops is not None
    assert whole.memory_bandwidth is not None
    assert gpu.card.tensor_flops.value == pytest.approx(whole.tensor_flops.value * 3 / 7)
    assert "3g.40gb" in gpu.card.tensor_flops.source
    assert gpu.card.memory_bandwidth == pytest.approx(whole.memory_bandwidth * 40192 / 81920)
    assert budget(found).vram.best == (40192 - 25) * MIB
    assert "cut into MIG slices (3g.40gb)" in found.notes[0]


def test_a_chip_in_host_memory_has_the_hosts_memory() -> None:
    found = machine(FakeCard("NVIDIA GB10", None, capability=(12, 1)))
    (gpu,) = found.gpus
    assert gpu.card.slug == "gb10"
    assert gpu.vram_total == 32 * GIB
    assert gpu.vram_free is None
    # host and card share one memory: never more than what is free in it
    assert budget(found).vram.high <= 24 * GIB


def test_no_driver_on_a_machine_without_cards() -> None:
    found = machine(start=NVMLError_LibraryNotFound)
    assert found.gpus == ()
    assert found.notes == ("There is no NVIDIA driver, and no AMD or Intel card.",)
    assert found.ram_total == 32 * GIB


def test_no_driver_is_no_news_beside_another_card() -> None:
    amd = VendorReport((FoundGpu("AMD", "AMD Radeon RX 7900 XTX", 24560 * MIB, 24000 * MIB),), driver="6.12")
    found = machine(start=NVMLError_LibraryNotFound, others=(amd,))
    assert found.gpus[0].card.slug == "radeon-rx-7900-xtx"
    assert found.driver == "6.12"
    assert found.notes == ()


def test_on_windows_other_cards_have_to_be_named() -> None:
    found = machine(start=NVMLError_LibraryNotFound, system="Windows")
    assert "name another card with --gpu" in found.notes[-1]


def test_a_card_with_memory_of_its_own_comes_before_integrated_graphics() -> None:
    shared = VendorReport((FoundGpu("Intel", "Intel UHD Graphics 770", shared=True),))
    found = machine_from(Survey((shared, nvidia.find(FakeNvml(rtx_4070()), Path("/nonexistent"))), HOST), "Linux")
    assert [gpu.card.slug for gpu in found.gpus] == ["rtx-4070", "uhd-graphics-770"]


def test_integrated_graphics_take_their_share_of_the_host() -> None:
    gpu = FoundGpu("AMD", "AMD Radeon 780M", 512 * MIB, 300 * MIB, host_total=15 * GIB, host_free=14 * GIB, shared=True)
    found = machine_from(Survey((VendorReport((gpu,)),), HOST), "Linux")
    assert found.gpus[0].vram_total == 15 * GIB + 512 * MIB
    assert found.gpus[0].vram_free == 14 * GIB + 300 * MIB
    busy = FoundHost(32 * GIB, 2 * GIB, None, "Linux")
    found = machine_from(Survey((VendorReport((gpu,)),), busy), "Linux")
    assert found.gpus[0].vram_free == 2 * GIB + 300 * MIB


def test_a_card_of_its_own_memory_does_not_count_the_hosts() -> None:
    gpu = FoundGpu(
        "AMD", "AMD Radeon RX 7900 XTX", 24560 * MIB, 24000 * MIB, host_total=16 * GIB, host_free=15 * GIB, shared=False
    )
    found = machine_from(Survey((VendorReport((gpu,)),), HOST), "Linux")
    assert found.gpus[0].vram_free == 24000 * MIB


def test_an_apple_chip() -> None:
    gpu = FoundGpu("Apple", "Apple M2 Max", 64 * GIB, shared=True)
    found = machine_from(Survey((VendorReport((gpu,)),), FoundHost(64 * GIB, 60 * GIB, None, "macOS 15")), "Darwin")
    assert found.gpus[0].card.slug == "apple-m2-max"
    given = budget(found)
    assert given.vram.best == 48 * GIB
    raised = FoundGpu("Apple", "Apple M2 Max", 64 * GIB, host_free=60 * GIB, shared=True)
    found = machine_from(Survey((VendorReport((raised,)),), FoundHost(64 * GIB, 58 * GIB, None, "macOS 15")), "Darwin")
    assert budget(found).vram.best == 58 * GIB


def test_a_driver_without_a_name() -> None:
    found = machine_from(Survey((VendorReport((FoundGpu("AMD", None, 8 * GIB, 7 * GIB),)),), HOST), "Linux")
    assert found.gpus[0].card.memory == 8 * GIB
    assert budget(found).vram.best == 7 * GIB
    assert "whose driver tells no name" in found.notes[0]


STATES: list[Survey] = [
    surveyed(h100()),
    surveyed(rtx_4070(), h100()),
    surveyed(start=NVMLError_LibraryNotFound),
    surveyed(FakeCard("NVIDIA A100-SXM4-80GB", 81920, slices=[FakeCard("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9728)])),
    surveyed(FakeCard("NVIDIA GB10", None)),
    surveyed(rtx_4070(broken=broken("nvmlDeviceGetName", "nvmlDeviceGetDisplayActive"))),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("system", ["Linux", "Windows", "Darwin"])
def test_a_capture_is_json_with_a_source_for_every_value(state: Survey, system: str) -> None:
    captured = json.loads(json.dumps(capture_of(state, system)))
    assert captured["schema"] == 1
    assert captured["system"] == system
    assert len(captured["gpus"]) == len(state.gpus)
    for gpu in captured["gpus"]:
        for name, reading in gpu["readings"].items():
            assert reading["source"], name
            assert reading["value"] is not None or reading.get("failure") or name == "process_bytes"


def test_a_capture_says_what_failed_and_how() -> None:
    captured = capture_of(STATES[-1], "Linux")
    reading = captured["gpus"][0]["readings"]["name"]
    assert reading == {"value": None, "source": "nvmlDeviceGetName", "failure": "NVMLError_Unknown"}
    assert captured["gpus"][0]["matched"] is None


def test_an_error_text_that_names_the_user_does_not_reach_the_capture() -> None:
    class Talkative(Exception):
        def __init__(self) -> None:
            super().__init__("/home/someone/.cache serial 0123456789 GPU-992123ca-d6eb")

    state = surveyed(rtx_4070(broken=broken("nvmlDeviceGetDisplayActive", error=Talkative)))
    text = json.dumps(capture_of(state, "Linux"))
    assert "someone" not in text
    assert "0123456789" not in text
    assert "Talkative" in text


def test_the_capture_of_this_machine_names_neither_it_nor_its_user() -> None:
    text = json.dumps(capture())
    assert str(Path.home()) + "/" not in text
    assert socket.gethostname() not in text
    assert platform.node() not in text
    user = getpass.getuser()
    assert f"/{user}" not in text
    assert '"host"' in text


def test_this_machine_is_detected() -> None:
    found = detect(Path.cwd())
    assert found.detected
    assert found.ram_total is not None
    assert found.disk_free is not None
    assert found.gpus or found.notes
    assert len(survey().gpus) == len(found.gpus)

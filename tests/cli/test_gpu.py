"""``fitcheck gpu`` for the machines that people have, from stand-ins for their drivers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1] / "hardware"))
from nvml_fake import FakeCard, FakeNvml, NVMLError_LibraryNotFound, broken, h100, rtx_4070

from fitcheck.cli import gpu
from fitcheck.hardware import detect
from fitcheck.hardware.detect import FoundGpu, Survey, VendorReport, nvidia
from fitcheck.hardware.detect.system_memory import FoundHost
from fitcheck.units import GIB, MIB

HOST = FoundHost(ram_total=32 * GIB, ram_available=24 * GIB, disk_free=500 * 10**9, operating_system="Linux (test)")
Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command on a machine with these cards."""

    def invoke(*arguments: str, nvml: FakeNvml | None = None, others: tuple[FoundGpu, ...] = ()) -> Any:
        reports = [nvidia.find(nvml, Path("/nonexistent"))] if nvml is not None else []
        found = Survey((*reports, VendorReport(others)), HOST)
        monkeypatch.setattr(detect, "survey", lambda disk=None: found)
        monkeypatch.setattr("platform.system", lambda: "Linux")
        app = typer.Typer()
        gpu.register(app)
        app.command(hidden=True)(lambda: None)
        result = CliRunner().invoke(app, ["gpu", *arguments])
        assert result.exception is None, result.exception
        assert result.exit_code == 0
        return result

    return invoke


def lines(result: Any) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in result.stdout.splitlines())


def test_a_desktop(run: Run) -> None:
    result = run(nvml=FakeNvml(rtx_4070()))
    shown = lines(result)
    assert shown["card"] == "GeForce RTX 4070"
    assert shown["memory"] == "12.0 GiB in all, 11.0 GiB free"
    assert shown["usable"].startswith("11.0 GiB (10.7 to 11.0): 11.0 GiB free now")
    assert shown["display"] == "attached"
    assert shown["tensor rate"].startswith("58.29 TFLOP/s (derived: ")
    assert shown["compute capability"] == "8.9"
    assert shown["link"] == "PCIe 4 x16"
    assert shown["power limit"] == "200 W"
    assert shown["driver"] == "580.95.05 CUDA 13.0"
    assert shown["system memory"] == "32.0 GiB in all, 24.0 GiB usable"
    assert shown["disk"] == "500.0 GB free"
    # the narrative is not on stdout
    assert "2 processes hold 0.4 GiB" in result.stderr
    assert "processes" not in result.stdout


def test_two_cards_are_numbered(run: Run) -> None:
    shown = lines(run(nvml=FakeNvml(rtx_4070(), h100())))
    assert shown["card 0"] == "GeForce RTX 4070"
    assert shown["card 1"] == "H100 SXM5 80 GB"


def test_a_slice(run: Run) -> None:
    whole = FakeCard("NVIDIA A100-SXM4-80GB", 81920, slices=[FakeCard("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 40192)])
    assert lines(run(nvml=FakeNvml(whole)))["card"] == "A100 SXM4 80 GB, MIG slice 3g.40gb"


def test_no_card_is_a_normal_state(run: Run) -> None:
    result = run(nvml=FakeNvml(start=NVMLError_LibraryNotFound))
    assert lines(result)["card"] == "none found"
    assert "There is no NVIDIA driver" in result.stderr


def test_what_the_driver_does_not_say_is_left_out_or_unknown(run: Run) -> None:
    silent = broken("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetDisplayActive", "nvmlDeviceGetCudaComputeCapability")
    shown = lines(run(nvml=FakeNvml(FakeCard("NVIDIA GeForce RTX 9090", 65536, broken=silent))))
    assert shown["memory"] == "unknown in all, unknown free"
    assert shown["usable"] == "unknown"
    assert "display" not in shown
    assert "tensor rate" not in shown


def test_shared_memory_is_said(run: Run) -> None:
    shown = lines(run(others=(FoundGpu("Apple", "Apple M2 Max", 64 * GIB, shared=True),)))
    assert shown["memory"].endswith("(shared with the host)")


def test_json_is_the_machine_and_its_budgets(run: Run) -> None:
    result = run("--json", nvml=FakeNvml(rtx_4070()))
    document = json.loads(result.stdout)
    assert document["schema"] == gpu.SCHEMA
    (card,) = document["gpus"]
    assert card["card"]["slug"] == "rtx-4070"
    assert card["vram_total"] == 12282 * MIB
    assert card["vram_free"] == (12282 - 383 - 672) * MIB
    assert card["usable"]["low"] < card["usable"]["best"] == card["usable"]["high"] == card["vram_free"]
    assert (card["display"], card["mig"], card["pcie_generation"], card["pcie_lanes"]) == (True, None, 4, 16)
    assert document["ram_available"] == 24 * GIB
    assert document["notes"]
    assert json.loads(run("--json", nvml=FakeNvml(start=NVMLError_LibraryNotFound)).stdout)["gpus"] == []


def test_raw_is_a_capture_with_sources(run: Run) -> None:
    document = json.loads(run("--raw", nvml=FakeNvml(rtx_4070())).stdout)
    readings = document["gpus"][0]["readings"]
    assert readings["memory_total"] == {"value": 12282 * MIB, "source": "nvmlDeviceGetMemoryInfo_v2"}
    assert document["gpus"][0]["matched"] == "rtx-4070"
    assert document["drivers"][0]["driver"]["value"] == "580.95.05"


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    gpu._table([("card", "GeForce RTX 4070 [x]"), ("disk", "1 GB free")])
    printed = capsys.readouterr().out
    assert "GeForce RTX 4070 [x]" in printed


def test_this_machine_answers() -> None:
    app = typer.Typer()
    gpu.register(app)
    app.command(hidden=True)(lambda: None)
    result = CliRunner().invoke(app, ["gpu"])
    assert result.exit_code == 0
    assert "system memory: " in result.stdout

"""``fitcheck doctor`` as a shell runs it: exit codes, lines and JSON, on machines from stand-ins."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "hardware"))
from nvml_fake import FakeNvml, NVMLError_LibraryNotFound, rtx_4070

from fitcheck.hardware import detect
from fitcheck.hardware.detect import Survey, environment, limits, link_load, nvidia
from fitcheck.hardware.detect.environment import FoundEnvironment
from fitcheck.hardware.detect.limits import FoundLimits
from fitcheck.hardware.detect.link_load import LinkUnderLoad
from fitcheck.hardware.detect.system_memory import FoundHost
from fitcheck.units import GIB

HOST = FoundHost(64 * GIB, 56 * GIB, 500 * 10**9, "Linux (test)")
Doctor = Callable[..., Any]


@pytest.fixture
def doctor(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doctor:
    """Runs the command on a machine whose driver, limits and Python are stand-ins."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(limits, "find", lambda: FoundLimits(unlimited=True, swap_total=8 * GIB))
    told = FoundEnvironment("3.12.3", (("torch", "2.11.0+cu130"),), "cu130", ("sm_86", "sm_90"))
    monkeypatch.setattr(environment, "find", lambda python: told)
    monkeypatch.setattr(link_load, "find", lambda index: LinkUnderLoad(4, 16, 25e9))

    def invoke(*arguments: str, nvml: FakeNvml | None = None) -> Any:
        driver = nvml or FakeNvml(rtx_4070(used=50, graphics=[], compute=[]))
        found = Survey((nvidia.find(driver, Path("/nonexistent")),), HOST)
        monkeypatch.setattr(detect, "survey", lambda disk=None: found)
        monkeypatch.setattr("platform.system", lambda: "Linux")
        return run("doctor", *arguments)

    return invoke


def test_a_machine_in_order(doctor: Doctor) -> None:
    ran = doctor()
    assert ran.code == 0
    lines = ran.out.decode().splitlines()
    assert lines[0].split()[:2] == ["ok", "card"]
    assert "component\tminimum\ttested\tyours\tstatus" in lines
    assert "driver\t580\t\t580.95.05\tok" in lines
    assert ran.err == ""


def test_without_a_card_it_says_so_and_ends_with_3(doctor: Doctor) -> None:
    ran = doctor(nvml=FakeNvml(start=NVMLError_LibraryNotFound))
    assert ran.code == 3
    assert ran.out.decode().startswith("limits  card")
    assert "so: only programs that run on a processor" in ran.out.decode()


def test_what_stands_in_the_way_ends_with_4(doctor: Doctor) -> None:
    ran = doctor("--json", nvml=FakeNvml(rtx_4070(used=50), driver="535.54.03"))
    assert ran.code == 4
    document = json.loads(ran.out)
    assert document["level"] == "fails"
    (driver,) = [row for row in document["software"] if row["component"] == "driver"]
    assert (driver["status"], driver["yours"]) == ("fails", "535.54.03")


def test_quick_neither_copies_nor_reads(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(index: int) -> LinkUnderLoad:
        raise AssertionError

    monkeypatch.setattr(link_load, "find", never)
    shown = doctor("--quick").out.decode()
    assert "read speed not tried" in shown
    assert "under load" not in shown


def test_a_named_model_is_judged_here(doctor: Doctor) -> None:
    ran = doctor("--quick", "sensenova-u1-8b-mot", "--tier", "Q4_K_S")
    assert ran.code == 0
    assert "SenseNova-U1-8B-MoT fits GeForce RTX 4070" in ran.out.decode()
    ran = doctor("--quick", "sensenova-u1-8b-mot", nvml=FakeNvml(start=NVMLError_LibraryNotFound))
    assert ran.code == 4
    assert "runs on a graphics card, and this machine has none" in ran.out.decode()
    ran = doctor("--quick", "no-such-model")
    assert (ran.code, ran.out) == (2, b"")


def test_a_python_that_does_not_answer_is_refused(run: Callable[..., Any]) -> None:
    ran = run("doctor", "--quick", "--python", "/no/such/python")
    assert ran.code == 2
    assert "--python: /no/such/python is not a program;" in ran.err


def test_this_very_machine_is_examined(run: Callable[..., Any]) -> None:
    ran = run("doctor", "--quick", "--json")
    assert ran.code in (0, 3, 4)
    assert json.loads(ran.out)["schema"] == "fitcheck.doctor/1"

"""Findings of an examination: from what was seen to what follows and what to do."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "hardware"))
from nvml_fake import FakeCard, FakeNvml, NVMLError_LibraryNotFound, h100, rtx_4070

import fitcheck
from fitcheck.hardware.detect import FoundGpu, Survey, nvidia
from fitcheck.hardware.detect.detected_machine import machine_from
from fitcheck.hardware.detect.disk import FoundDisk
from fitcheck.hardware.detect.environment import FoundEnvironment
from fitcheck.hardware.detect.limits import FoundLimits
from fitcheck.hardware.detect.link_load import LinkUnderLoad
from fitcheck.hardware.detect.system_memory import FoundHost
from fitcheck.units import GIB, MIB
from fitcheck.verdict.examination import FindingLevel, MachineFinding, Seen, examine, software, to_json, worst

HOST = FoundHost(32 * GIB, 24 * GIB, 500 * 10**9, "Linux (test)")
FINE = FoundLimits(unlimited=True, swap_total=8 * GIB, swap_free=8 * GIB)
TORCH = FoundEnvironment(
    "3.12.3", (("torch", "2.11.0+cu130"),), "cu130", ("sm_75", "sm_80", "sm_86", "sm_90", "sm_120")
)
NVME = FoundDisk("ext4", 256 << 20, 0.1)


def seen(*cards: FakeCard, **changes: Any) -> Seen:
    driver = {name: changes.pop(name) for name in ("start", "driver") if name in changes}
    host = changes.pop("host", HOST)
    found = Survey((nvidia.find(FakeNvml(*cards, **driver), Path("/nonexistent")),), host)
    base = Seen(machine_from(found, "Linux"), tuple(found.gpus), FINE, TORCH, NVME)
    return replace(base, **changes)


def by_name(found: Seen, report: Any = None) -> dict[str, MachineFinding]:
    return {one.name: one for one in examine(found, report)}


def quiet(**changes: Any) -> FakeCard:
    return rtx_4070(used=100, graphics=[], compute=[], **changes)


def test_a_machine_in_order_limits_nothing() -> None:
    found = seen(quiet(), links=(LinkUnderLoad(4, 16, 25e9),))
    findings, rows = examine(found), software(found)
    assert worst(findings, rows) is FindingLevel.OK
    assert {one.level for one in findings} == {FindingLevel.OK}
    names = [one.name for one in findings]
    machine = ["card", "card memory", "link", "Python", "PyTorch's architectures"]
    assert names == [*machine, "system memory", "swap", "lockable memory", "disk"]
    assert all(not one.consequence and not one.remedy for one in findings)
    assert {"PyTorch wheel", "driver", "Python", "bfloat16", "build"} <= {row.name for row in rows}
    assert "25.0 GB/s from pinned memory" in by_name(found)["link"].found


def test_no_card_is_a_finding_with_a_way_out() -> None:
    found = seen(start=NVMLError_LibraryNotFound)
    card = by_name(found)["card"]
    assert card.level is FindingLevel.LIMITS
    assert "There is no NVIDIA driver" in card.found
    assert card.consequence
    assert "--gpu none" in card.remedy
    assert software(found) == ()
    assert worst(examine(found), ()) is FindingLevel.LIMITS


# what is wrong, the finding that says so, its level, words of it
WRONG: list[tuple[Seen, str, FindingLevel, str]] = [
    (seen(rtx_4070(used=4000)), "card memory", FindingLevel.LIMITS, "close what holds it"),
    (seen(quiet(width=(4, 16))), "link", FindingLevel.LIMITS, "seat the card"),
    (seen(quiet(), links=(LinkUnderLoad(3, 16, 12e9),)), "link", FindingLevel.LIMITS, "firmware"),
    (seen(quiet(), links=(LinkUnderLoad(4, 16, 3e9),)), "link", FindingLevel.LIMITS, "power saving"),
    (
        seen(quiet(), environment=replace(TORCH, architectures=("sm_100", "sm_120"))),
        "PyTorch's architectures",
        FindingLevel.FAILS,
        "no kernel image",
    ),
    (seen(quiet(), environment=FoundEnvironment("3.11.2")), "Python", FindingLevel.UNKNOWN, "--python"),
    (
        seen(quiet(), environment=FoundEnvironment(failure="TimeoutExpired")),
        "Python",
        FindingLevel.UNKNOWN,
        "TimeoutExpired",
    ),
    (seen(quiet(), limits=replace(FINE, swap_total=0, swap_free=0)), "swap", FindingLevel.NOTE, "swap file of 16 GB"),
    (seen(quiet(), limits=FoundLimits(lockable=8 * MIB)), "lockable memory", FindingLevel.NOTE, "ulimit -l unlimited"),
    (
        seen(quiet(), limits=replace(FINE, commit_limit=16 * GIB, committed=9 * GIB)),
        "commit limit",
        FindingLevel.NOTE,
        "vm.overcommit_memory=0",
    ),
    (seen(quiet(), container_limit=16 * GIB), "memory limit", FindingLevel.NOTE, "exit code 137"),
    (seen(quiet(), disk=FoundDisk("ext4", 256 << 20, 2.0)), "disk", FindingLevel.LIMITS, "NVMe"),
    (seen(quiet(), disk=FoundDisk("9p", 256 << 20, 0.1)), "disk", FindingLevel.LIMITS, "WSL 2"),
]


@pytest.mark.parametrize(("found", "name", "level", "words"), WRONG)
def test_what_is_wrong_is_said_with_its_consequence_and_a_remedy(
    found: Seen, name: str, level: FindingLevel, words: str
) -> None:
    one = by_name(found)[name]
    assert one.level is level
    assert words in f"{one.found} {one.consequence} {one.remedy}"
    assert (one.consequence and one.remedy) or level is FindingLevel.UNKNOWN


def test_a_driver_older_than_the_wheel_stands_in_the_way() -> None:
    found = seen(quiet(), driver="550.54.14")
    rows = {row.name: row for row in software(found)}
    assert (rows["driver"].yours, rows["driver"].minimum) == ("550.54.14", "580")
    assert worst(examine(found), software(found)) is FindingLevel.FAILS


def test_each_card_of_several_has_its_findings() -> None:
    names = set(by_name(seen(quiet(), h100())))
    assert {"card 0", "card 1", "card memory 0", "link 1"} <= names


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (("sm_80", "sm_86"), (8, 9), True),  # the same major revision
        (("sm_90",), (8, 9), False),
        (("sm_86",), (8, 0), False),  # a higher minor revision
        (("sm_90a",), (9, 0), True),
        (("sm_100a",), (10, 3), False),  # made for one chip
        (("compute_80",), (12, 0), True),  # PTX
        (("compute_120",), (9, 0), False),
    ],
)
def test_kernels_run_on_what_they_are_made_for(
    architectures: tuple[str, ...], capability: tuple[int, int], runs: bool
) -> None:
    found = seen(h100(capability=capability), environment=replace(TORCH, architectures=architectures))
    assert (by_name(found)["PyTorch's architectures"].level is FindingLevel.OK) == runs


def test_a_named_model_adds_its_verdict_and_what_it_takes() -> None:
    found = seen(quiet(), limits=FoundLimits(lockable=8 * MIB, swap_total=GIB), disk=FoundDisk("ext4", 10**9, 4.0))
    report = fitcheck.check("sensenova-u1-8b-mot", found.machine, tier="Q4_K_S", mode="low")
    findings = by_name(found, report)
    assert "pinned memory of NVIDIA's driver is not bound by it" in findings["lockable memory"].consequence
    assert "to load this model" in findings["disk"].consequence
    assert findings["SenseNova-U1-8B-MoT"].found == report.answer
    assert {row.name for row in software(found, report)} >= {"PyTorch wheel", "disk"}
    assert "build" not in {row.name for row in software(found, report)}


def test_of_other_vendors_it_is_not_known_whether_pinned_memory_counts() -> None:
    machine = fitcheck.check("sensenova-u1-8b-mot", "RX 7900 XTX", ram="64GB", tier="Q4_K_S", mode="low")
    other = Seen(machine.machine, (FoundGpu("AMD", "RX 7900 XTX"),), FoundLimits(lockable=8 * MIB), TORCH, NVME)
    said = by_name(other, machine)["lockable memory"].consequence
    assert "is not known, and this model pins " in said


def test_as_json_nothing_tells_where_files_lie() -> None:
    found = seen(quiet(), disk=FoundDisk("ext4", 256 << 20, 2.0))
    document = to_json(examine(found), software(found))
    assert (document["schema"], document["level"]) == ("fitcheck.doctor/1", "limits")
    assert all(set(one) == {"name", "level", "found", "consequence", "remedy"} for one in document["findings"])
    assert str(Path.home()) not in json.dumps(document)

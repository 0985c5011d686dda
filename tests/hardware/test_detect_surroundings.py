"""Limits, environments, disks and links as systems tell them, from stand-ins; what may not be read is not known."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fitcheck.errors import OptionError
from fitcheck.hardware.detect import disk, environment, limits, link_load
from fitcheck.units import GIB, MIB


def swap(total: int, free: int) -> Any:
    return lambda: SimpleNamespace(total=total, free=free)


def proc(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# limits


def test_limits_are_read(tmp_path: Path) -> None:
    found = limits.find(tmp_path, swap(8 * GIB, 6 * GIB), lambda: 8 * MIB)
    assert (found.lockable, found.unlimited) == (8 * MIB, False)
    assert (found.swap_total, found.swap_free) == (8 * GIB, 6 * GIB)
    assert (found.commit_limit, found.committed) == (None, None)


def test_no_limit_and_no_answer_are_not_the_same(tmp_path: Path) -> None:
    def refused() -> int:
        raise ImportError

    assert limits.find(tmp_path, swap(0, 0), lambda: -1).unlimited
    found = limits.find(tmp_path, swap(0, 0), refused)
    assert (found.lockable, found.unlimited) == (None, False)
    assert limits.find().readings["swap_total"].failure is None  # this very machine answers


def test_a_system_that_promises_no_more_than_it_has(tmp_path: Path) -> None:
    meminfo = "MemTotal: 32000 kB\nCommitLimit:    16000000 kB\nCommitted_AS:    9000000 kB\nHugePages_Total:       0\n"
    root = proc(tmp_path, proc__sys__vm__overcommit_memory="2\n", proc__meminfo=meminfo)
    found = limits.find(root, swap(0, 0), lambda: -1)
    assert (found.commit_limit, found.committed) == (16000000 << 10, 9000000 << 10)
    proc(root, proc__sys__vm__overcommit_memory="0\n")
    assert limits.find(root, swap(0, 0), lambda: -1).commit_limit is None


# environments


def answers(*told: Any) -> environment.Run:
    left = list(told)

    def run(command: Sequence[str], seconds: int) -> str:
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return json.dumps(one)

    return run


@pytest.mark.parametrize(
    ("torch", "built", "wheel"),
    [
        ("2.11.0+cu130", {"cuda": "13.0"}, "cu130"),
        ("2.9.1", {"cuda": "12.8"}, "cu128"),
        ("2.9.1+rocm6.4", {}, "rocm6.4"),
        ("2.10.0a0+git1234", {"hip": "7.1.25424"}, "rocm7.1"),
        ("2.9.0", {"xpu": "20250101"}, "xpu"),
        ("2.13.0+cpu", {}, "cpu"),
        ("2.13.0", {}, None),
    ],
)
def test_the_build_of_pytorch(torch: str, built: dict[str, str], wheel: str | None) -> None:
    told = {"python": "3.12.3", "packages": {"torch": torch, "diffusers": "0.42.1"}, "built": built}
    found = environment.find(run=answers(told, ["sm_90", "compute_90"]))
    assert found.wheel == wheel
    assert found.torch == torch.partition("+")[0]
    asked = wheel is not None and wheel.startswith(("cu", "rocm"))
    assert found.architectures == (("sm_90", "compute_90") if asked else ())


def test_an_environment_without_pytorch_and_one_that_does_not_start() -> None:
    found = environment.find(run=answers({"python": "3.11.2", "packages": {}, "built": {}}))
    assert (found.python, found.torch, found.wheel) == ("3.11.2", None, None)
    assert environment.find(run=answers(OSError())).failure == "OSError"
    told = {"python": "3.12.3", "packages": {"torch": "2.9.0+cu128"}, "built": {}}
    assert environment.find(run=answers(told, subprocess.TimeoutExpired("python", 60))).architectures == ()
    strange: list[Any] = [[], {"python": "3"}, "text", {"python": 3, "packages": [], "built": {}}]
    for odd in strange:
        assert environment.find(run=answers(odd)).failure is not None


def test_this_environment_answers_without_importing_anything_heavy() -> None:
    found = environment.find()
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert dict(found.packages).get("torch", "").startswith(found.torch or "")
    assert found.failure is None


def test_a_python_that_is_named_must_answer(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no-python is not a program"):
        environment.find(str(tmp_path / "no-python"))
    with pytest.raises(OptionError, match="does not answer as a Python does"):
        environment.find("/bin/echo")


# disks


def test_a_large_file_is_read_to_a_bound(tmp_path: Path) -> None:
    file = tmp_path / "models" / "model.gguf"
    file.parent.mkdir()
    with file.open("wb") as out:
        out.truncate(300 << 20)
    (tmp_path / "small.txt").write_text("x")
    ticks = iter(range(1000))
    found = disk.find(tmp_path, Path("/nonexistent"), lambda: next(ticks) / 100)
    assert found.read == disk.MOST_BYTES
    assert found.seconds is not None
    assert found.rate == pytest.approx(disk.MOST_BYTES / found.seconds)
    assert disk.find(file).read == disk.MOST_BYTES


def test_a_slow_disk_is_left_after_two_seconds(tmp_path: Path) -> None:
    with (tmp_path / "model.gguf").open("wb") as out:
        out.truncate(300 << 20)
    ticks = iter(range(1000))
    found = disk.find(tmp_path, Path("/nonexistent"), lambda: next(ticks))
    assert found.read is not None
    assert found.read < disk.MOST_BYTES
    assert found.rate == pytest.approx(found.read / (found.seconds or 0))


def test_nothing_to_read_is_not_a_speed(tmp_path: Path) -> None:
    assert disk.find(tmp_path).rate is None
    assert disk.find(tmp_path / "not" / "there").rate is None
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert disk.find(tmp_path).rate is None


def test_the_kind_of_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nC: {tmp_path} 9p rw 0 0\nshort\n")
    assert disk.file_system(tmp_path / "models", mounts) == "9p"
    assert disk.file_system(Path("/usr"), mounts) == "ext4"
    assert disk.file_system(Path("/usr"), tmp_path / "none") is None


# links


class FakeDriver:
    """A CUDA driver that copies at once; ``broken`` names the call that fails."""

    def __init__(self, broken: str = "") -> None:
        self.broken, self.copies = broken, 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == self.broken:
                return 2
            if name == "cuDeviceGetPCIBusId":
                arguments[0].value = b"0000:01:00.0"
            self.copies += name == "cuMemcpyHtoD_v2"
            return 0

        return call


class FakeLink:
    """NVML's view of the link by its address."""

    def __init__(self, generation: int, width: int) -> None:
        self.generation, self.width = generation, width

    def nvmlDeviceGetHandleByPciBusId(self, bus: bytes) -> bytes:
        assert bus == b"0000:01:00.0"
        return bus

    def nvmlDeviceGetCurrPcieLinkGeneration(self, _: bytes) -> int:
        return self.generation

    def nvmlDeviceGetCurrPcieLinkWidth(self, _: bytes) -> int:
        return self.width


def clock(step: float) -> Any:
    ticks = iter(range(10**6))
    return lambda: next(ticks) * step


def test_copies_run_for_a_while_and_the_link_is_seen_meanwhile() -> None:
    driver = FakeDriver()
    found = link_load.loaded(driver, FakeLink(4, 16), 0, clock(0.01))
    assert (found.generation, found.width) == (4, 16)
    assert 10 < driver.copies < 1000
    assert found.pinned_rate is not None
    assert found.pinned_rate > 0


@pytest.mark.parametrize("call", ["cuInit", "cuMemAllocHost_v2", "cuMemAlloc_v2", "cuMemcpyHtoD_v2"])
def test_a_driver_that_refuses_is_an_error_of_the_child(call: str) -> None:
    with pytest.raises(link_load.DriverError, match=call):
        link_load.loaded(FakeDriver(call), FakeLink(4, 16), 0, clock(0.01))


def test_nvml_that_does_not_tell_leaves_the_rate() -> None:
    found = link_load.loaded(FakeDriver(), SimpleNamespace(), 0, clock(0.01))
    assert (found.generation, found.width) == (None, None)
    assert found.pinned_rate


def _printed(text: str, command: Sequence[str]) -> str:
    assert command[-1] == "0"
    return text


def test_the_child_is_read_with_care() -> None:
    told = '{"generation": 4, "width": 16, "pinned_rate": 2.5e10}'
    assert link_load.find(0, lambda _: told) == link_load.LinkUnderLoad(4, 16, 2.5e10)
    for odd in ("", "[]", "{}", '{"generation": "x"}', '{"generation": -4, "width": null, "pinned_rate": {}}'):
        assert link_load.find(0, partial(_printed, odd)) is None
    assert ctypes.sizeof(ctypes.c_void_p) == 8  # the addresses that the driver hands out

"""What is looked at before anything is loaded: memory, folder, card, cap, lock."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from bench_fakes import FakeNvml
from rich.console import Console
from test_suite import CELLS, fake_runner

from bench import preflight
from bench.job import Request
from bench.jobs import jobs_of
from bench.lock import bench_lock, folder_lock
from bench.meters import NvmlCard
from bench.predict import machine_seen, predict
from bench.runner import CellRun, MeasuringProtocol
from bench.suite import Setting, run_suite
from fitcheck.errors import InputError
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory, Phase
from fitcheck.units import GIB, MIB, Interval


def test_a_card_too_small_is_only_warned_about_because_its_failure_is_data(nvml: object) -> None:
    (full,) = jobs_of(Request.of("sensenova-u1-8b-mot", tiers=("BF16",), mode=("full",)))
    card = NvmlCard(FakeNvml(total=12 * GIB), "card")
    footprint = predict(full, machine_seen(card, None), warm=True)
    assert footprint is not None
    finding = preflight.vram_finding(card, footprint, None)
    assert finding is not None
    assert finding.level == "warn"
    assert preflight.vram_finding(NvmlCard(FakeNvml(), "card"), footprint, None) is None
    capped = preflight.vram_finding(NvmlCard(FakeNvml(), "card"), footprint, 12 * GIB)
    assert capped is not None
    assert capped.level == "warn"


def test_a_cap_above_the_card_is_refused(nvml: object) -> None:
    setting = Setting(None, MeasuringProtocol(cap=90 * GIB))
    with pytest.raises(InputError, match=r"90\.0 GiB is more than the 80\.0 GiB of NVIDIA H100"):
        run_suite(CELLS, setting, Console(file=io.StringIO()), runner=fake_runner)


def test_a_second_bench_on_the_same_machine_is_refused_and_a_crash_frees_it(tmp_path: Path) -> None:
    hold = (
        "import time\nfrom bench.lock import bench_lock\n"
        "with bench_lock():\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(InputError, match=f"running on this machine.*process {holder.pid}"),
        bench_lock(),
    ):
        raise AssertionError("two benches hold one machine")
    with folder_lock(tmp_path), folder_lock(tmp_path / "other{}"):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with bench_lock():
        pass


def test_another_users_lock_file_can_be_locked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in /tmp that another user's bench left there cannot be opened for writing."""
    real = os.open

    def theirs(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode)

    with bench_lock():
        pass
    monkeypatch.setattr("bench.lock.os.open", theirs)
    with (
        bench_lock(),
        pytest.raises(InputError, match="another fitcheck bench is running on this machine"),
        bench_lock(),
    ):
        raise AssertionError("two benches hold one machine")
    with pytest.raises(InputError, match="cannot be opened"), folder_lock(Path("never-made")):
        raise AssertionError("there is no file to lock")


def test_a_folder_that_cannot_be_written_is_refused_first(nvml: object, tmp_path: Path) -> None:
    def never(*arguments: Any) -> CellRun:
        raise AssertionError("a process was started")

    (tmp_path / "file").write_text("x")
    setting = Setting(tmp_path / "file" / "under", MeasuringProtocol())
    with pytest.raises(InputError, match=r"--out: .* cannot be written"):
        run_suite(CELLS, setting, Console(file=io.StringIO()), runner=never)


def test_a_full_disk_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(InputError, match="make room"):
        preflight.require_folder(tmp_path)


def test_groups_in_files_need_a_disk_with_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mounted(kind: str) -> None:
        mounts = [
            SimpleNamespace(mountpoint="/", fstype="ext4"),
            SimpleNamespace(mountpoint=str(tmp_path), fstype=kind),
        ]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)

    inside = tmp_path / "below"
    inside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(inside))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=20 * GIB))
    mounted("ext4")
    preflight.require_disk(20 * GIB)
    with pytest.raises(InputError, match=r"20\.0 GiB left and the weights need 20\.1 GiB; make room"):
        preflight.require_disk(20 * GIB + 100 * MIB)
    mounted("tmpfs")
    with pytest.raises(InputError, match=r"which is memory \(tmpfs\); set TMPDIR"):
        preflight.require_disk(1)


def test_a_containers_file_cache_is_memory_that_can_be_had(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 500\nactive_file 200\nfile 750\n")
    assert preflight.available_ram(tmp_path) == 800
    (tmp_path / "memory.stat").write_text("nothing that is known\n")
    assert preflight.available_ram(tmp_path) == 100
    old = tmp_path / "memory"
    old.mkdir()
    (tmp_path / "memory.max").unlink()
    (old / "memory.limit_in_bytes").write_text("1000\n")
    (old / "memory.usage_in_bytes").write_text("950\n")
    (old / "memory.stat").write_text("inactive_file 1\nactive_file 1\ntotal_inactive_file 30\ntotal_active_file 10\n")
    assert preflight.available_ram(tmp_path) == 90


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("5000\n")
    assert preflight.available_ram(tmp_path) == 4000
    (tmp_path / "memory.max").write_text("max\n")
    assert preflight.available_ram(tmp_path) > 1 << 20


def test_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"extra 'bench': .*pip install '"):
        preflight.require_torch()


def test_no_driver_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "Path", lambda path: Path("/nonexistent"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(InputError, match="no GPU was found"):
        preflight.require_card(None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES hides every GPU"):
        preflight.require_card(None)


def footprint(card: int, host: int, pinned: int = 0) -> Footprint:
    """A cell that needs at least so many bytes of the card and of the host."""
    whole = Interval(card, card, 2 * card)
    memory = HostMemory(pinned, 0, host - pinned, Interval(host, host, 2 * host))
    return Footprint((CardMemory((Phase("denoise", card, 0, 0, 0, 0),), whole, whole, whole, whole),), memory, 0)


def test_system_memory_is_enough_with_a_gibibyte_left_for_the_system() -> None:
    need = footprint(1, 20 * GIB, pinned=15 * GIB)
    assert preflight.ram_finding(need, 21 * GIB) is None
    short = preflight.ram_finding(need, 21 * GIB - 1)
    assert short is not None
    assert short.level == "refuse"
    assert "this needs 21.0 GiB, 15.0 GiB of it pinned; choose a smaller tier." in short.text
    unpinned = preflight.ram_finding(footprint(1, 20 * GIB), 1 * GIB)
    assert unpinned is not None
    assert "pinned" not in unpinned.text


@pytest.mark.parametrize(
    ("free", "need", "cap", "level"),
    [
        (10, 10, None, None),
        (9, 10, None, "refuse"),  # others hold what this needs
        (9, 16, None, "refuse"),
        (9, 17, None, "warn"),  # the card itself is too small: its failure is data
        (16, 12, 12, None),
        (9, 12, 12, "refuse"),
        (16, 13, 12, "warn"),  # too small as capped, whatever is free
        (9, 13, 12, "warn"),
    ],
)
def test_a_card_that_others_fill_is_refused_and_one_that_is_too_small_is_not(
    free: int, need: int, cap: int | None, level: str | None
) -> None:
    card = NvmlCard(FakeNvml(total=16 * GIB, others=((7, (16 - free) * GIB),)), "card")
    found = preflight.vram_finding(card, footprint(need * GIB, 1), None if cap is None else cap * GIB)
    assert (found and found.level) == level
    blind = NvmlCard(FakeNvml(missing=frozenset({"nvmlDeviceGetMemoryInfo"})), "card")
    assert preflight.vram_finding(blind, footprint(need * GIB, 1), None) is None


def test_the_bench_itself_is_no_other_process() -> None:
    mine = NvmlCard(FakeNvml(others=((os.getpid(), 1 * GIB),)), "card")
    assert list(preflight.card_findings(mine)) == []
    both = NvmlCard(FakeNvml(others=((os.getpid(), 1 * GIB), (os.getpid() + 1, None))), "card")
    (found,) = preflight.card_findings(both)
    assert found.level == "warn"
    assert found.text.startswith(f"1 other process(es) use the card: {os.getpid() + 1}; close them")


def test_a_cap_as_large_as_the_card_is_one() -> None:
    card = NvmlCard(FakeNvml(), "card")
    preflight.require_cap(80 * GIB, card)
    preflight.require_cap(None, card)
    preflight.require_cap(90 * GIB, None)
    with pytest.raises(InputError, match="--vram"):
        preflight.require_cap(80 * GIB + 1, card)


def test_a_disk_needs_room_for_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=64 * MIB))
    preflight.require_folder(tmp_path / "made" / "here")
    assert list((tmp_path / "made" / "here").iterdir()) == []

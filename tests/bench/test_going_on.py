"""A series that was ended at any moment goes on: no cell twice, none lost, whatever its files were cut to."""

from __future__ import annotations

import errno
import gzip
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_suite import CELLS, fake_runner

from bench import series, suite
from bench.assemble import record_of
from bench.engines.diffusers.pipeline_series import PipelineSeries, names_of
from bench.engines.diffusers.pipeline_series import jobs as pipeline_jobs
from bench.going_on import append, cell_name, entry_names, replace, whole_lines, whole_members
from bench.job import Job
from bench.lock import folder_lock
from bench.runner import MeasuringProtocol
from bench.suite import Finished, Setting, Summary, run_suite
from fitcheck.errors import InputError
from fitcheck.records import store
from fitcheck.records.reading import parse

MODEL = "sensenova-u1-8b-mot"
ENTRY = {"do": "run", "model": MODEL, "tier": "Q4_K_S", "mode": "full,low,balanced", "steps": 2, "repeats": 1,
         "warmup": 0}  # fmt: skip


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, nvml: object) -> list[str]:
    """The modes that were measured, one a process."""
    seen: list[str] = []

    def counted(cell: Job, *arguments: Any) -> Any:
        seen.append(cell.placement.mode)
        return fake_runner(cell, *arguments)

    def quick_suite(cells: Sequence[Job], setting: Setting, console: Console, finished: Finished) -> Summary:
        return run_suite(cells, setting, console, finished, counted)

    monkeypatch.setattr(series, "run_suite", quick_suite)
    return seen


def run(folder: Path, plan: list[dict[str, Any]]) -> int:
    (folder / "plan.json").write_text(json.dumps(plan))
    return series.main([str(folder / "plan.json"), "--out", str(folder / "out"), "--budget", "100", "--ram", "64GiB"])


def records(out: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (out / series.RECORDS).read_bytes().splitlines()]


@pytest.mark.parametrize("cut", [0, 1, 500, "a record", "two records", "the summary's line"])
def test_a_series_goes_on_where_its_files_were_cut(cut: int | str, ran: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, [ENTRY]) == 0
    out, before = tmp_path / "out", records(tmp_path / "out")
    path, whole = out / series.RECORDS, (out / series.RECORDS).read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    left = {"a record": ends[1], "two records": ends[0], "the summary's line": ends[1]}
    if isinstance(cut, str):
        os.truncate(path, left[cut])
    elif cut:
        os.truncate(path, len(whole) - cut)
    missing = 3 - len([end for end in ends if end <= path.stat().st_size])
    ran.clear()
    assert run(tmp_path, [ENTRY]) == 0
    assert ran == ["full", "low", "balanced"][3 - missing :]
    assert len(records(out)) == 3
    assert records(out)[: 3 - missing] == before[: 3 - missing]
    entries = json.loads((out / "summary.json").read_text())["entries"]
    assert [entry["record"] for entry in entries] == records(out)


def test_an_entry_that_stands_twice_is_measured_twice_and_a_plan_may_grow(ran: list[str], tmp_path: Path) -> None:
    one = ENTRY | {"mode": "full"}
    assert run(tmp_path, [one, one]) == 0
    assert ran == ["full", "full"]
    assert run(tmp_path, [ENTRY | {"mode": "low"}, one, one | {"seconds": 5}]) == 0
    assert ran == ["full", "full", "low"]


def test_what_was_not_run_is_tried_again(ran: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, [ENTRY | {"mode": "full", "seconds": 1000}]) == 1
    assert run(tmp_path, [ENTRY | {"mode": "full"}]) == 0
    (entry,) = json.loads((tmp_path / "out" / "summary.json").read_text())["entries"]
    assert entry["outcome"] == "ok"


def test_records_of_unknown_cells_are_not_repeated_silently(ran: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, [ENTRY | {"mode": "full"}]) == 0
    (tmp_path / "out" / "summary.json").write_text("{")
    assert run(tmp_path, [ENTRY | {"mode": "full"}]) == 2
    assert ran == ["full"]


def test_two_series_do_not_share_a_folder(ran: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    with folder_lock(tmp_path / "out"):
        assert run(tmp_path, [ENTRY]) == 2
    assert ran == []
    assert "another series writes to" in capsys.readouterr().err


def test_ctrl_c_ends_the_series_and_not_one_entry(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(suite, "record_of", pressed)
        assert run(tmp_path, [ENTRY, ENTRY]) == 130
    assert ran == ["full"]
    assert run(tmp_path, [ENTRY]) == 0
    assert ran == ["full", "full", "low", "balanced"]


def test_a_full_disk_ends_the_series_and_the_record_is_kept_elsewhere(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(series, "append", full)
    monkeypatch.setenv("FITCHECK_RECORDS", str(tmp_path / "own"))
    assert run(tmp_path, [ENTRY]) == 1
    assert ran == ["full"], "what cannot be kept is not measured"
    assert "No space left on device); the record is kept in" in " ".join(capsys.readouterr().err.split())
    (kept,) = store.record_files(tmp_path / "own")
    assert store.read(kept).outcome.result == "ok"
    monkeypatch.undo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full")
def test_what_a_full_disk_took_of_a_line_is_taken_back(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        append(Path("/dev/full"), b"x" * 10)
    path = tmp_path / "x"
    append(path, b"one\n")
    append(path, b"two\n")
    assert whole_lines(path) == [b"one", b"two"]
    replace(path, "three\n")
    assert path.read_text() == "three\n"


@pytest.mark.parametrize("left", range(0, 200, 7))
def test_gzip_members_are_read_up_to_the_cut(left: int, tmp_path: Path) -> None:
    members = [gzip.compress(f"line {number}\n".encode() * 9) for number in range(4)]
    path = tmp_path / "x.gz"
    path.write_bytes(b"".join(members)[: left + 5])
    sizes = [sum(map(len, members[:count])) for count in range(5)]
    whole = max(count for count, size in enumerate(sizes) if size <= left + 5)
    assert whole_members(path) == b"".join(f"line {number}\n".encode() * 9 for number in range(whole))
    assert path.stat().st_size == sizes[whole]
    assert whole_members(path).count(b"\n") == 9 * whole


def test_a_pipelines_series_knows_its_processes_again(tmp_path: Path, nvml: Callable[..., None]) -> None:
    plan = [{"model": "sd1.5", "tier": "fp16", "modes": ["none", "model"], "sizes": [[512, 512]], "steps": 2}]
    planned = pipeline_jobs(plan * 2, "cuda", False)
    names = names_of(planned)
    assert len(set(names)) == 4
    assert names == names_of(pipeline_jobs(plan * 2, "cuda", False))
    kept = PipelineSeries(tmp_path, Console(quiet=True), None)
    run = fake_runner(CELLS[0], MeasuringProtocol(repeats=1, warmup=0))
    kept.keep([run, run], names[0])
    kept.keep([run], names[1])
    again = PipelineSeries(tmp_path, Console(quiet=True), None)
    assert again.names == set(names[:2])
    path = tmp_path / "runs.jsonl.gz"
    os.truncate(path, path.stat().st_size - 1)
    again = PipelineSeries(tmp_path, Console(quiet=True), None)
    assert again.names == {names[0]}
    assert len(gzip.decompress(path.read_bytes()).splitlines()) == 2


def test_names_depend_on_what_is_measured_alone() -> None:
    first, second, third = entry_names([{"a": 1, "seconds": 5}, {"seconds": 9, "a": 1}, {"a": 2}])
    assert first.partition(".")[0] == second.partition(".")[0] != third.partition(".")[0]
    assert first != second
    assert len({cell_name(first, cell) for cell in CELLS}) == 3


def test_a_run_that_no_record_can_be_made_of_is_kept_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nvml: object
) -> None:
    def odd(*arguments: Any) -> None:
        raise ValueError("an odd figure")

    monkeypatch.setattr(suite, "record_of", odd)
    setting = Setting(tmp_path, MeasuringProtocol(repeats=1, warmup=0), ram=64 << 30)
    with pytest.raises(InputError, match=r"no record can be made \(an odd figure\); what it gave is kept in"):
        run_suite(CELLS[:1], setting, Console(quiet=True), runner=fake_runner)
    (kept,) = (tmp_path / ".unfinished").iterdir()
    assert json.loads(kept.read_bytes())["passes"][0]["seconds"] > 0


@pytest.mark.parametrize(("jump", "words"), [(86_400, "jumped by +86400 s"), (-7200, "jumped by -7200 s")])
def test_a_clock_that_jumps_is_told_and_changes_no_time(
    jump: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nvml: object
) -> None:
    real, began = time.time, time.monotonic()
    monkeypatch.setattr(time, "time", lambda: real() + jump * (time.monotonic() - began > 0.05))
    done = fake_runner(CELLS[0], MeasuringProtocol(repeats=1, warmup=0))
    monkeypatch.undo()
    record = record_of(done, None)
    assert record.notes is not None
    assert words in record.notes
    assert record.samples[0].total < 5
    assert parse(store.encode(record), "x").record == store.seal(record)


@pytest.mark.parametrize("now", [12.0, -1e6, 1e15])
def test_a_clock_that_was_never_set_loses_no_cell(now: float, monkeypatch: pytest.MonkeyPatch, nvml: object) -> None:
    monkeypatch.setattr(time, "time", lambda: now)
    record = record_of(fake_runner(CELLS[0], MeasuringProtocol(repeats=1, warmup=0)), None)
    assert record.notes is not None
    assert "clock was not set" in record.notes
    assert parse(store.encode(record), "x").record.outcome.result == "ok"

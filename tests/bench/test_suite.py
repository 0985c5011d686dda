"""Several cells: records as each is done, refusals, interruptions, the plan and the time left."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench_fakes import FakeNvml
from rich.console import Console
from test_runner import ARGV

from bench import preflight, suite
from bench.job import Job, Request
from bench.jobs import jobs_of
from bench.lock import card_lock
from bench.meters import NvmlCard
from bench.predict import machine_seen, predict
from bench.progress import TimeLeft
from bench.results_table import print_plan, print_table
from bench.runner import CellRun, Listener, MeasuringProtocol, Stopped, run_cell
from bench.suite import Setting, Summary, run_suite
from fitcheck.errors import InputError
from fitcheck.records import store
from fitcheck.records.schema import PassRecord
from fitcheck.units import GIB

CELLS = jobs_of(Request.of("sensenova-u1-8b-mot", tiers=("Q4_K_S",), mode=("full", "low", "balanced"), steps=2))


def fake_runner(
    cell: Job,
    protocol: MeasuringProtocol,
    card: NvmlCard | None = None,
    listener: Listener = lambda event: None,
    deadline: float | None = None,
) -> CellRun:
    return run_cell(cell, protocol, card, listener, deadline, ARGV)


class Series:
    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.text = io.StringIO()

    def run(self, cells: tuple[Job, ...] = CELLS, runner: Any = fake_runner, **options: Any) -> Summary:
        setting = Setting(self.out, MeasuringProtocol(repeats=1, warmup=0, hang_seconds=20), ram=64 * GIB, **options)
        return run_suite(cells, setting, Console(file=self.text, width=200), runner=runner)


@pytest.fixture
def bench(tmp_path: Path, nvml: object) -> Series:
    return Series(tmp_path / "out")


def test_each_cell_leaves_its_record(bench: Series) -> None:
    summary = bench.run()
    assert summary.exit_code == 0
    assert bench.out is not None
    assert len(list(store.record_files(bench.out))) == len(summary.paths) == 3
    modes = [
        record.runtime.mode
        for record in map(store.read, store.record_files(bench.out))
        if isinstance(record, PassRecord)
    ]
    assert sorted(filter(None, modes)) == ["balanced", "full", "low"]
    table = Console(file=io.StringIO(), width=160, record=True)
    print_table(summary.rows, table)
    shown = table.export_text()
    assert "predicted, error" in shown
    assert "Q4_K_S low/upstream" in shown


def test_ctrl_c_keeps_what_is_finished(bench: Series) -> None:
    calls = []

    def interrupted(*arguments: Any) -> CellRun:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fake_runner(*arguments)

    summary = bench.run(runner=interrupted)
    assert summary.exit_code == 130
    assert len(summary.paths) == 1
    assert summary.paths[0].exists()
    assert "interrupted during Q4_K_S low/upstream" in bench.text.getvalue()
    assert "1 of 3 cells are finished and kept" in bench.text.getvalue()


@pytest.mark.parametrize("moment", ["ram_finding", "record_of"])
def test_ctrl_c_before_and_after_a_run_is_answered_like_one_during_it(
    bench: Series, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    calls = []
    real = getattr(suite, moment)

    def pressed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(suite, moment, pressed)
    summary = bench.run()
    assert summary.exit_code == 130
    assert [path.exists() for path in summary.paths] == [True]
    assert "interrupted during Q4_K_S low/upstream" in bench.text.getvalue()
    assert "1 of 3 cells are finished and kept" in bench.text.getvalue()


def test_a_folder_that_fills_up_ends_the_series_and_keeps_its_table(
    bench: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.write

    def full(root: Path, record: PassRecord) -> Path:
        if record.runtime.mode == "low":
            raise InputError("x.json: the record cannot be written (No space left on device).")
        return real(root, record)

    monkeypatch.setattr(store, "write", full)
    summary = bench.run()
    assert summary.exit_code == 1
    assert [row.record.runtime.mode for row in summary.rows] == ["full", "low"]
    assert len(summary.paths) == 1
    assert [cell.placement.mode for cell, why in summary.skipped if "No space left" in why] == ["balanced"]
    assert "stopped: x.json: the record cannot be written (No space left on device)." in bench.text.getvalue()


def test_a_last_record_that_cannot_be_written_is_no_success(bench: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(root: Path, record: PassRecord) -> Path:
        raise InputError("no room")

    monkeypatch.setattr(store, "write", full)
    assert bench.run(CELLS[:1]).exit_code == 1


def test_a_weights_file_is_hashed_before_anything_is_measured(bench: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def gone(path: str) -> str:
        seen.append(path)
        raise InputError(f"--gguf: {path} cannot be read (gone).")

    def never(*arguments: Any) -> CellRun:
        raise AssertionError("a process was started")

    monkeypatch.setattr(suite, "file_sha256", gone)
    real = tuple(replace(cell, gguf="/x/weights.gguf") for cell in CELLS)
    with pytest.raises(InputError, match="cannot be read"):
        bench.run(real, runner=never)
    assert seen == ["/x/weights.gguf"]


def test_an_out_of_memory_is_an_answer_and_a_crash_is_not(bench: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "gpu-oom@denoise")
    assert bench.run(CELLS[:1]).exit_code == 0
    monkeypatch.setenv("FAKE_ENGINE", "bug@denoise")
    summary = bench.run(CELLS[:1])
    assert summary.exit_code == 1
    assert summary.rows[0].record.outcome.result == "error"
    assert "a plain bug" in bench.text.getvalue()


def test_time_that_runs_out_leaves_the_rest_unrun(bench: Series) -> None:
    def late(*arguments: Any) -> CellRun:
        if arguments[0].placement.mode == "low":
            raise Stopped("the time that was given is used up")
        return fake_runner(*arguments)

    summary = bench.run(runner=late)
    assert [cell.placement.mode for cell, _ in summary.skipped] == ["low", "balanced"]
    assert len(summary.rows) == 1


def test_too_little_system_memory_is_refused_before_anything_is_pinned(
    bench: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any) -> CellRun:
        raise AssertionError("a process was started")

    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=16 * GIB))
    heavy = jobs_of(Request.of("sensenova-u1-8b-mot", tiers=("BF16",), mode=("low",)))
    setting = Setting(None, MeasuringProtocol(), ram=None)
    with pytest.raises(
        InputError,
        match=r"16\.0 GiB of system memory are available and this needs \d\d\.\d GiB, \d\d\.\d GiB of it pinned",
    ):
        run_suite(heavy, setting, Console(file=io.StringIO()), runner=never)


def test_a_cell_alone_is_refused_in_one_sentence_and_leaves_no_folder(bench: Series) -> None:
    (heavy,) = jobs_of(Request.of("sensenova-u1-8b-mot", tiers=("BF16",), mode=("low",)))
    setting = Setting(None, MeasuringProtocol(), ram=16 * GIB)
    with pytest.raises(InputError) as caught:
        run_suite([heavy], setting, Console(file=bench.text), runner=fake_runner)
    assert str(caught.value).startswith("16.0 GiB of system memory are available and this needs ")
    assert "--ram" not in str(caught.value), "what was given is not asked for again"
    assert bench.text.getvalue() == ""


@pytest.mark.parametrize("why", ["cap", "lock", "no card"])
def test_a_refusal_leaves_no_empty_folder(why: str, bench: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.out is not None
    setting = Setting(bench.out, MeasuringProtocol(cap=90 * GIB if why == "cap" else None))
    if why == "no card":
        monkeypatch.setattr(NvmlCard, "open", lambda selector: None)
        monkeypatch.setattr(preflight, "Path", lambda path: Path("/nonexistent"))
    holds = card_lock(FakeNvml().nvmlDeviceGetUUID("card") if why == "lock" else "GPU-another", "x")
    with holds, pytest.raises(InputError):
        run_suite(CELLS, setting, Console(file=bench.text), runner=fake_runner)
    assert not bench.out.exists()


def test_cells_that_are_all_refused_say_each_why_and_end_in_one_sentence(bench: Series) -> None:
    heavy = jobs_of(Request.of("sensenova-u1-8b-mot", tiers=("BF16",), mode=("low", "balanced")))
    setting = Setting(None, MeasuringProtocol(), ram=16 * GIB)
    with pytest.raises(InputError, match=r"no cell could run; BF16 low/upstream .*: 16\.0 GiB of system memory"):
        run_suite(heavy, setting, Console(file=bench.text, width=200), runner=fake_runner)
    assert "[2/2] BF16 balanced/upstream t2i 2048×2048 8 steps cfg 1: refused; 16.0 GiB" in bench.text.getvalue()


def test_a_card_that_others_fill_is_refused_and_force_runs_anyway(bench: Series, nvml: Callable[..., None]) -> None:
    nvml(others=((77, 78 * GIB),))
    with pytest.raises(InputError, match=r"2\.0 GiB of the card's 80\.0 GiB are free.*close other programs"):
        bench.run(CELLS[:1])
    assert bench.run(CELLS[:1], force=True).exit_code == 0
    assert "1 other process(es) use the card: 77 (78.0 GiB)" in bench.text.getvalue()


def test_throttling_and_a_narrow_link_warn(bench: Series, nvml: Callable[..., None]) -> None:
    nvml(reasons=0x40 | 0x4, width=8)
    assert bench.run(CELLS[:1]).exit_code == 0
    said = bench.text.getvalue()
    assert "warning: the card is throttled now: hardware thermal slowdown" in said
    assert "8 of 16 PCIe lanes" in said


def test_scaled_down_records_never_go_among_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="never go into results"):
        suite.default_out(True, tmp_path / "results" / "x")
    assert suite.default_out(True, None) is None
    assert suite.default_out(True, tmp_path) == tmp_path


def test_the_plan_shows_needs_without_running() -> None:
    console = Console(file=io.StringIO(), width=160, record=True)
    predictions = [
        (one, predict(one, machine_seen(None, 12 * GIB), True)) for one in (*CELLS, replace(CELLS[0], tiny=True))
    ]
    print_plan(predictions, 12 * GIB, console)
    shown = console.export_text()
    assert "card capped to 12.0 GiB" in shown
    assert "unknown" in shown
    allocated = predictions[1][1]
    assert allocated is not None
    assert f"{allocated.cards[0].allocated.best / GIB:.2f}" in shown


def test_time_left_comes_from_what_was_seen() -> None:
    clock = TimeLeft(cells=3, passes=4)
    clock.begin(100)
    assert clock.left(105) is None
    clock.take({"event": "loaded", "at": 110})
    clock.take({"event": "pass", "edge": "begin", "at": 110})
    clock.take({"event": "pass", "edge": "end", "at": 115, "seconds": 5})
    assert clock.left(115) == pytest.approx(15 + 2 * 30)
    clock.finish(140)
    clock.begin(140)
    assert clock.left(140) == pytest.approx(80)


def test_refused_cells_are_no_time_and_none_is_left_for_them() -> None:
    clock = TimeLeft(cells=4, passes=1)
    clock.skip()
    clock.begin(1000)
    clock.finish(1040)
    clock.skip()
    clock.begin(1040)
    assert clock.left(1040) == pytest.approx(40)
    assert clock.left(1050) == pytest.approx(30)


def test_a_refused_cell_counts_as_done_and_not_as_timed(bench: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: list[TimeLeft] = []
    real = TimeLeft.__init__

    def noted(clock: TimeLeft, *arguments: Any) -> None:
        real(clock, *arguments)
        clocks.append(clock)

    monkeypatch.setattr(TimeLeft, "__init__", noted)
    heavy = jobs_of(Request.of("sensenova-u1-8b-mot", tiers=("BF16",), mode=("low", "full"), steps=2))
    setting = Setting(None, MeasuringProtocol(repeats=1, warmup=0), ram=16 * GIB)
    summary = run_suite(heavy, setting, Console(file=bench.text, width=200), runner=fake_runner)
    assert "[1/2] BF16 low/upstream" in bench.text.getvalue()
    assert "[2/2] BF16 full" in bench.text.getvalue()
    assert summary.exit_code == 1
    (clock,) = clocks
    left = clock.left(time.monotonic())
    assert left is not None
    assert left < 60

"""Several cells: records as each is done, refusals, interruptions, locks, the series."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench_fakes import GIB, FakeNvml
from rich.console import Console
from test_runner import ARGV

from bench import preflight, series, suite
from bench.cell import Cell
from bench.lock import card_lock
from bench.meters import NvmlCard
from bench.plan import Request, cells_of
from bench.predict import CardView, predict
from bench.progress import Clock
from bench.report import print_plan, print_table
from bench.runner import CellRun, Protocol, Stopped, run_cell
from bench.suite import Setting, Summary, run_suite
from bench.unpack import unpack
from fitcheck.cli.main import application
from fitcheck.errors import InputError
from fitcheck.records import store
from fitcheck.records.schema import PassRecord

CELLS = cells_of(Request("sensenova-u1-8b-mot", tiers=("Q4_K_S",), modes=("full", "low", "balanced"), steps=2))


def fake_runner(*arguments: Any) -> CellRun:
    return run_cell(*arguments, argv=ARGV)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a fake card into the parent."""

    def place(**options: Any) -> None:
        monkeypatch.setattr(suite.NvmlCard, "open", lambda selector: NvmlCard(FakeNvml(**options), "card"))

    place()
    return place


class Series:
    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.text = io.StringIO()

    def run(self, cells: tuple[Cell, ...] = CELLS, runner: Any = fake_runner, **options: Any) -> Summary:
        setting = Setting(self.out, Protocol(repeats=1, warmup=0, hang_seconds=20), ram=64 * GIB, **options)
        return run_suite(cells, setting, Console(file=self.text, width=200), runner=runner)


@pytest.fixture
def bench(tmp_path: Path, nvml: object) -> Series:
    return Series(tmp_path / "out")


def test_each_cell_leaves_its_record(bench: Series) -> None:
    summary = bench.run()
    assert summary.exit_code == 0
    assert bench.out is not None
    assert len(list(store.record_files(bench.out))) == len(summary.paths) == 3
    modes = [record.runtime.mode for record in store.load(bench.out) if isinstance(record, PassRecord)]
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

    monkeypatch.setattr(suite.store, "write", full)
    summary = bench.run()
    assert summary.exit_code == 1
    assert [row.record.runtime.mode for row in summary.rows] == ["full", "low"]
    assert len(summary.paths) == 1
    assert [cell.placement.mode for cell, why in summary.skipped if "No space left" in why] == ["balanced"]
    assert "stopped: x.json: the record cannot be written (No space left on device)." in bench.text.getvalue()


def test_a_last_record_that_cannot_be_written_is_no_success(bench: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(root: Path, record: PassRecord) -> Path:
        raise InputError("no room")

    monkeypatch.setattr(suite.store, "write", full)
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
    heavy = cells_of(Request("sensenova-u1-8b-mot", tiers=("BF16",), modes=("low",)))
    setting = Setting(None, Protocol(), ram=None)
    with pytest.raises(
        InputError,
        match=r"16\.0 GiB of system memory are available and this needs \d\d\.\d GiB, \d\d\.\d GiB of it pinned",
    ):
        run_suite(heavy, setting, Console(file=io.StringIO()), runner=never)


def test_a_cell_alone_is_refused_in_one_sentence_and_leaves_no_folder(bench: Series) -> None:
    (heavy,) = cells_of(Request("sensenova-u1-8b-mot", tiers=("BF16",), modes=("low",)))
    setting = Setting(None, Protocol(), ram=16 * GIB)
    with pytest.raises(InputError) as caught:
        run_suite([heavy], setting, Console(file=bench.text), runner=fake_runner)
    assert str(caught.value).startswith("16.0 GiB of system memory are available and this needs ")
    assert "--ram" not in str(caught.value), "what was given is not asked for again"
    assert bench.text.getvalue() == ""


@pytest.mark.parametrize("why", ["cap", "lock", "no card"])
def test_a_refusal_leaves_no_empty_folder(why: str, bench: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.out is not None
    setting = Setting(bench.out, Protocol(cap=90 * GIB if why == "cap" else None))
    if why == "no card":
        monkeypatch.setattr(suite.NvmlCard, "open", lambda selector: None)
        monkeypatch.setattr(preflight, "Path", lambda path: Path("/nonexistent"))
    holds = card_lock(FakeNvml().nvmlDeviceGetUUID("card") if why == "lock" else "GPU-another", "x")
    with holds, pytest.raises(InputError):
        run_suite(CELLS, setting, Console(file=bench.text), runner=fake_runner)
    assert not bench.out.exists()


def test_cells_that_are_all_refused_say_each_why_and_end_in_one_sentence(bench: Series) -> None:
    heavy = cells_of(Request("sensenova-u1-8b-mot", tiers=("BF16",), modes=("low", "balanced")))
    setting = Setting(None, Protocol(), ram=16 * GIB)
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


def test_a_card_too_small_is_only_warned_about_because_its_failure_is_data(nvml: object) -> None:
    (full,) = cells_of(Request("sensenova-u1-8b-mot", tiers=("BF16",), modes=("full",)))
    card = NvmlCard(FakeNvml(total=12 * GIB), "card")
    footprint = predict(full, CardView.of(card, None), warm=True)
    assert footprint is not None
    finding = preflight.vram_finding(card, footprint, None)
    assert finding is not None
    assert finding.level == "warn"
    assert preflight.vram_finding(NvmlCard(FakeNvml(), "card"), footprint, None) is None
    capped = preflight.vram_finding(NvmlCard(FakeNvml(), "card"), footprint, 12 * GIB)
    assert capped is not None
    assert capped.level == "warn"


def test_a_cap_above_the_card_is_refused(nvml: object) -> None:
    setting = Setting(None, Protocol(cap=90 * GIB))
    with pytest.raises(InputError, match=r"90\.0 GiB is more than the 80\.0 GiB of NVIDIA H100"):
        run_suite(CELLS, setting, Console(file=io.StringIO()), runner=fake_runner)


def test_a_second_bench_on_the_same_card_is_refused_and_a_crash_frees_it() -> None:
    hold = (
        "import time\nfrom bench.lock import card_lock\n"
        "with card_lock('GPU-lock-test', 'x'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(InputError, match=f"running on the card.*process {holder.pid}"),
        card_lock("GPU-lock-test", "the card"),
    ):
        raise AssertionError("two benches hold one card")
    with card_lock("GPU-other-card", "another card"):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with card_lock("GPU-lock-test", "the card"):
        pass


def test_another_users_lock_file_can_be_locked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in /tmp that another user's bench left there cannot be opened for writing."""
    real = os.open

    def theirs(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode)

    with card_lock("GPU-left-behind", "the card"):
        pass
    monkeypatch.setattr("bench.lock.os.open", theirs)
    with (
        card_lock("GPU-left-behind", "the card"),
        pytest.raises(InputError, match="another fitcheck bench is running on the card"),
        card_lock("GPU-left-behind", "the card"),
    ):
        raise AssertionError("two benches hold one card")
    with pytest.raises(InputError, match="cannot be opened"), card_lock("GPU-never-made", "the card"):
        raise AssertionError("there is no file to lock")


def test_a_folder_that_cannot_be_written_is_refused_first(bench: Series, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    bench.out = tmp_path / "file" / "under"
    with pytest.raises(InputError, match=r"--out: .* cannot be written"):
        bench.run()


def test_a_full_disk_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = preflight.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(InputError, match="make room"):
        preflight.require_folder(tmp_path)


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
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "fitcheck\[bench\]"'):
        preflight.require_torch()


def test_no_driver_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "Path", lambda path: Path("/nonexistent"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(InputError, match="no GPU was found"):
        preflight.require_card(None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES hides every GPU"):
        preflight.require_card(None)


def test_scaled_down_records_never_go_among_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="never go into results"):
        suite.default_out(True, tmp_path / "results" / "x")
    assert suite.default_out(True, None) is None
    assert suite.default_out(True, tmp_path) == tmp_path


def test_the_plan_shows_needs_without_running() -> None:
    console = Console(file=io.StringIO(), width=160, record=True)
    predictions = [
        (one, predict(one, CardView((8, 9), 12 * GIB), True)) for one in (*CELLS, replace(CELLS[0], tiny=True))
    ]
    print_plan(predictions, 12 * GIB, console)
    shown = console.export_text()
    assert "card capped to 12.0 GiB" in shown
    assert "unknown" in shown
    allocated = predictions[1][1]
    assert allocated is not None
    assert f"{allocated.allocated.best / GIB:.2f}" in shown


def test_time_left_comes_from_what_was_seen() -> None:
    clock = Clock(cells=3, passes=4)
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
    clock = Clock(cells=4, passes=1)
    clock.skip()
    clock.begin(1000)
    clock.finish(1040)
    clock.skip()
    clock.begin(1040)
    assert clock.left(1040) == pytest.approx(40)
    assert clock.left(1050) == pytest.approx(30)


def test_a_refused_cell_counts_as_done_and_not_as_timed(bench: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: list[Clock] = []
    real = Clock.__init__

    def noted(clock: Clock, *arguments: Any) -> None:
        real(clock, *arguments)
        clocks.append(clock)

    monkeypatch.setattr(Clock, "__init__", noted)
    heavy = cells_of(Request("sensenova-u1-8b-mot", tiers=("BF16",), modes=("low", "full"), steps=2))
    setting = Setting(None, Protocol(repeats=1, warmup=0), ram=16 * GIB)
    summary = run_suite(heavy, setting, Console(file=bench.text, width=200), runner=fake_runner)
    assert "[1/2] BF16 low/upstream" in bench.text.getvalue()
    assert "[2/2] BF16 full" in bench.text.getvalue()
    assert summary.exit_code == 1
    (clock,) = clocks
    left = clock.left(time.monotonic())
    assert left is not None
    assert left < 60


def test_a_series_leaves_records_a_summary_and_says_what_did_not_run(
    tmp_path: Path, nvml: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick_suite(*arguments: Any) -> Summary:
        return run_suite(*arguments, runner=fake_runner)

    monkeypatch.setattr(series, "run_suite", quick_suite)
    model = "sensenova-u1-8b-mot"
    plan = [
        {
            "do": "run",
            "model": model,
            "tier": "Q4_K_S",
            "mode": "full",
            "steps": 2,
            "repeats": 1,
            "warmup": 0,
            "vram": "12GB",
        },
        {"do": "run", "model": model, "tier": "Q4_K_S", "mode": "sideways"},
        {"do": "run", "model": model, "colour": "green"},
        {"do": "limit", "model": model, "tier": "BF16", "mode": "low"},
        {"do": "run", "model": model, "tier": "Q4_K_S", "mode": "low", "seconds": 1000},
    ]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    out = tmp_path / "out"
    code = series.main([str(tmp_path / "plan.json"), "--out", str(out), "--budget", "100", "--ram", "20GiB"])
    assert code == 1
    assert sorted(path.name for path in out.iterdir()) == ["records.jsonl", "summary.json"]
    entries = json.loads((out / "summary.json").read_text())["entries"]
    assert [entry["outcome"] for entry in entries] == ["ok", "not run", "not run", "not run", "not run"]
    assert "colour" in entries[2]["message"]
    assert "20.0 GiB of system memory are available and this needs" in entries[3]["message"]
    assert entries[4]["message"] == "no time left"
    (path,) = unpack(out / "records.jsonl", tmp_path / "filed")
    record = store.read(path)
    assert isinstance(record, PassRecord)
    assert record.protocol.cap is not None
    assert unpack(out / "records.jsonl", tmp_path / "filed") == [path]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"do": "fly"}, "do: 'fly' is not a measurement; choose from run, limit, link"),
        ({"do": ["run"]}, "is not a measurement"),
        ({"steps": "many"}, 'steps: "many" is no number'),
        ({"steps": None}, "steps: null is no number"),
        ({"seconds": "soon"}, 'seconds: "soon" is no number'),
        ({"seconds": float("nan")}, "seconds: NaN is no number"),
        ({"cfg": [4]}, "cfg: [4] is no number"),
        ({"repeats": 0}, "repeats: 0 is no number"),
        ({"warmup": -1}, "warmup: -1 is no number"),
        ({"do": "limit", "mode": "low", "resolution_mib": "fine"}, 'resolution_mib: "fine" is no number'),
        ({"size": 5}, "size"),
        ({"vram": "much"}, "vram"),
        ({"model": 7}, "'7' is not in the catalog"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_left_out_with_one_sentence(
    entry: dict[str, object], words: str, nvml: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps([{"model": "sensenova-u1-8b-mot", "tier": "Q4_K_S"} | entry]))
    assert series.main([str(plan), "--out", str(tmp_path / "out"), "--budget", "50"]) == 1
    (left,) = json.loads((tmp_path / "out" / "summary.json").read_text())["entries"]
    assert left["outcome"] == "not run"
    assert words in left["message"]
    assert "Traceback" not in capsys.readouterr().err


def test_unpack_refuses_what_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"kind": "pass"}\n')
    with pytest.raises(InputError, match=r"x.jsonl:1"):
        unpack(tmp_path / "x.jsonl", tmp_path / "filed")
    with pytest.raises(InputError, match="cannot be read"):
        unpack(tmp_path / "missing.jsonl", tmp_path / "filed")


def fitcheck(*arguments: str) -> object:
    return application(("bench",))(["bench", *arguments], standalone_mode=False)


def test_limit_refuses_to_pin_what_the_machine_does_not_have(nvml: object, tmp_path: Path) -> None:
    options = ("--tier", "BF16", "--mode", "low", "--ram", "20GiB", "--out", str(tmp_path))
    with pytest.raises(InputError, match=r"20\.0 GiB of system memory are available and this needs \d+\.\d GiB"):
        fitcheck("limit", "sensenova-u1-8b-mot", *options)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "0.5", "1e9"])
def test_a_time_to_hang_that_is_none_is_refused(seconds: str, nvml: object, tmp_path: Path) -> None:
    for command in ("run", "limit"):
        with pytest.raises(InputError, match="--hang-seconds"):
            fitcheck(command, "sensenova-u1-8b-mot", "--hang-seconds", seconds, "--out", str(tmp_path))


@pytest.mark.parametrize("option", ["--mode", "--policy", "--task"])
def test_a_list_that_names_nothing_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"{option}: names nothing to run"):
        fitcheck("run", "sensenova-u1-8b-mot", "--tiny", "--device", "cpu", option, ", ,")


@pytest.mark.parametrize(
    "option", [("--vram", "8GB"), ("--mode", "full"), ("--tiny",), ("--dry-run",), ("--steps", "8")]
)
def test_what_llama_cpp_would_not_hear_is_refused(option: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{option[0]}: a GGUF file of a language model"):
        fitcheck("run", str(tmp_path / "model.gguf"), *option)


def test_a_language_models_records_need_their_folder_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("llama.cpp was started")

    monkeypatch.setattr("bench.llamacpp.run_llamacpp", never)
    with pytest.raises(InputError, match=r"--out: .* cannot be written"):
        fitcheck("run", str(tmp_path / "model.gguf"), "--out", str(tmp_path / "file"))


def test_a_language_model_waits_for_the_bench_on_its_card(
    nvml: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("llama.cpp was started")

    monkeypatch.setattr("bench.llamacpp.run_llamacpp", never)
    uuid = FakeNvml().nvmlDeviceGetUUID("card")
    with card_lock(uuid, "x"), pytest.raises(InputError, match="another fitcheck bench is running on NVIDIA H100"):
        fitcheck("run", str(tmp_path / "model.gguf"), "--out", str(tmp_path / "out"))


def test_exec_says_who_else_is_on_the_card(
    nvml: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nvml(others=((77, 3 * GIB),), reasons=0x8)
    assert fitcheck("exec", "--out", str(tmp_path), "--", sys.executable, "-c", "pass") == 0
    said = capsys.readouterr().err
    assert "warning: 1 other process(es) use the card: 77 (3.0 GiB)" in said
    assert "hardware slowdown" in said


def test_exec_without_a_command_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs a command after --, like: fitcheck bench exec -- python"):
        fitcheck("exec", "--out", str(tmp_path))


@pytest.mark.parametrize("command", [("link",), ("limit", "sensenova-u1-8b-mot")])
def test_link_and_limit_leave_no_empty_folder_where_another_bench_runs(
    command: tuple[str, ...], nvml: object, tmp_path: Path
) -> None:
    held = card_lock(FakeNvml().nvmlDeviceGetUUID("card"), "x")
    with held, pytest.raises(InputError, match="another fitcheck bench is running on NVIDIA H100"):
        fitcheck(*command, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()

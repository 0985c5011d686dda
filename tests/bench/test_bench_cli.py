"""The commands of ``fitcheck bench`` before and after what they measure."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.engines.base import PrintedNumber
from bench.engines.llamacpp.measuring import LlamaRun
from bench.lock import bench_lock
from fitcheck.cli.main import application
from fitcheck.errors import InputError
from fitcheck.units import GIB


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

    monkeypatch.setattr("bench.engines.llamacpp.measuring.run_llamacpp", never)
    with pytest.raises(InputError, match=r"--out: .* cannot be written"):
        fitcheck("run", str(tmp_path / "model.gguf"), "--out", str(tmp_path / "file"))


def test_a_language_model_waits_for_the_bench_on_its_card(
    nvml: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("llama.cpp was started")

    monkeypatch.setattr("bench.engines.llamacpp.measuring.run_llamacpp", never)
    with bench_lock(), pytest.raises(InputError, match="another fitcheck bench is running on this machine"):
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


def test_a_program_from_outside_is_not_measured_beside_another_bench(tmp_path: Path) -> None:
    said = rf"another fitcheck bench is running on this machine \(process {os.getpid()}\); wait for it or end it"
    with bench_lock(), pytest.raises(InputError, match=said):
        fitcheck("exec", "--out", str(tmp_path), "--", sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", [("link",), ("limit", "sensenova-u1-8b-mot")])
def test_link_and_limit_leave_no_empty_folder_where_another_bench_runs(
    command: tuple[str, ...], nvml: object, tmp_path: Path
) -> None:
    with bench_lock(), pytest.raises(InputError, match="another fitcheck bench is running on this machine"):
        fitcheck(*command, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_language_models_options_reach_its_program(
    nvml: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {}

    def run(file: Path, options: Any, **others: Any) -> Any:
        given.update(others, file=file, options=options)
        return LlamaRun((), (), (PrintedNumber("kv", 100.0, 101.0),))

    monkeypatch.setattr("bench.engines.llamacpp.measuring.run_llamacpp", run)
    options = ("--ngl", "7", "--cache-type", "q8_0,f16", "--prompt-tokens", "64", "--repeats", "2")
    fitcheck("run", str(tmp_path / "model.gguf"), *options, "--out", str(tmp_path / "out"))
    asked = given["options"]
    assert (asked.gpu_layers, asked.cache_type_k, asked.cache_type_v) == (7, "q8_0", "f16")
    assert (given["prompt"], given["new"], given["repeats"]) == ((64,), (128,), 2)
    assert "+1.00%" in capsys.readouterr().out


def test_a_model_is_called_as_check_calls_it() -> None:
    from bench.engines import registry
    from fitcheck.cli.bench_options import Cells

    request = Cells(model="flux dev", tier="bf16").request()
    assert request.target == "flux.1-dev"
    assert registry.serving(request).name == "diffusers"

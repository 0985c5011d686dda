"""``fitcheck import``: records from other tools' outputs, with what they lack said aloud."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fitcheck.records import schema, store

Run = Callable[..., Any]
CAPTURES = Path(__file__).parents[1] / "records" / "data" / "captures"
PROFILE = ("--model", "sensenova-u1-8b-mot", "--tier", "Q4_K_M", "--card", "RTX 4070", "--task", "t2i", "--mode", "low")


def test_llama_bench_becomes_a_local_record(run: Run, tmp_path: Path) -> None:
    ran = run("import", "llama-bench", CAPTURES / "llama-bench-smollm2.json", "--as", "octocat")
    assert ran.code == 0
    (path,) = map(Path, ran.out.decode().split())
    assert path.is_relative_to(tmp_path / "local" / "cpu" / "smollm2-135m")
    assert store.read(path).submitter == "octocat"
    assert "llama-bench does not state: model.repository" in ran.err
    assert "has no place in a record: cpu_mask" in ran.err


def test_the_same_file_twice_is_one_record_although_it_states_no_time(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "profile.txt"
    file.write_bytes((CAPTURES / "sensenova-profile-three-calls.txt").read_bytes())
    os.utime(file, (1_790_000_000, 1_790_000_000))
    first = run("import", "sensenova-profile", file, *PROFILE)
    second = run("import", "sensenova-profile", file, *PROFILE)
    assert first.out == second.out
    record = store.read(Path(first.out.decode().strip()))
    assert record.created == 1_790_000_000
    dated = run("import", "sensenova-profile", file, *PROFILE, "--date", "2026-05-31")
    assert store.read(Path(dated.out.decode().strip())).created == 1_780_185_600


def test_size_and_out(run: Run, tmp_path: Path) -> None:
    file = CAPTURES / "sensenova-profile-one-call.txt"
    ran = run("import", "sensenova-profile", file, *PROFILE, "--size", "1536x2720", "--steps", "8", "--out", "mine")
    assert ran.code == 0
    record = store.read(Path(ran.out.decode().strip()))
    assert isinstance(record, schema.PassRecord)
    assert (record.workload.width, record.workload.height, record.workload.steps) == (1536, 2720, 8)
    assert not (tmp_path / "local").exists()


def test_optimum_benchmark(run: Run) -> None:
    ran = run("import", "optimum-benchmark", CAPTURES / "optimum-benchmark-tiny-llama.json")
    assert ran.code == 0
    assert store.read(Path(ran.out.decode().strip())).kind == "external"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("llama-bench", "nowhere.json"), "cannot be read"),
        (("llama-bench", CAPTURES), "cannot be read"),
        (("llama-bench", CAPTURES / "README.md"), "llama-bench"),
        (("llama-bench", CAPTURES / "llama-bench-smollm2.md"), "--model"),
        (("sensenova-profile", CAPTURES / "sensenova-profile-one-call.txt"), "--size"),
        (("sensenova-profile", CAPTURES / "sensenova-profile-cpu.txt", "--date", "yesterday"), "--date"),
        (("optimum-benchmark", CAPTURES / "llama-bench-smollm2.json"), "optimum-benchmark"),
        (("llama-bench", CAPTURES / "llama-bench-smollm2.json", "--gguf", CAPTURES / "README.md"), "README.md"),
        (("magic", CAPTURES / "README.md"), "magic"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(run: Run, arguments: tuple[object, ...], sentence: str) -> None:
    ran = run("import", *arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert sentence in ran.err
    assert "Traceback" not in ran.err


def llama_bench(file: str) -> str:
    """Its JSON for a prompt and an answer on an RTX 4070."""
    common = {
        "build_commit": "0c1e570",
        "build_number": 9272,
        "gpu_info": "NVIDIA GeForce RTX 4070",
        "backends": "CUDA",
        "model_filename": f"/home/ann/models/{file}",
        "model_type": "llama 8B Q4_K - Medium",
        "n_gpu_layers": 99,
        "flash_attn": True,
        "type_k": "f16",
        "type_v": "f16",
        "n_depth": 0,
        "test_time": "2026-11-20T10:00:00Z",
        "stddev_ts": 0.1,
    }
    tests = ({"n_prompt": 512, "n_gen": 0, "avg_ts": 1500.0}, {"n_prompt": 0, "n_gen": 128, "avg_ts": 45.0})
    return json.dumps([common | test for test in tests])


def test_what_is_imported_is_the_answer_of_its_card_and_model(run: Run, tmp_path: Path) -> None:
    """The model's file is called as its publisher does, and not as the catalog."""
    asked = ("check", "llama-3.1-8b", "--gpu", "RTX 4070", "--tier", "Q4_K_M", "--ram", "32GB")
    (tmp_path / "out.json").write_text(llama_bench("Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf"))
    assert b"tokens a second (estimated)." in run(*asked).out
    ran = run("import", "llama-bench", "out.json")
    assert ran.code == 0
    assert "/rtx-4070/llama-3.1-8b/" in ran.out.decode()
    assert "no model of the catalog" not in ran.err
    assert b"39 to 54 tokens a second (memory estimated, speed measured)." in run(*asked).out


def test_a_publishers_own_mixture_is_filed_under_its_model_and_told_to_speak_for_no_tier(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "out.json").write_text(llama_bench("Llama-3.1-8B-Instruct-UD-Q4_K_XL.gguf"))
    ran = run("import", "llama-bench", "out.json")
    assert ran.code == 0
    assert "/rtx-4070/llama-3.1-8b/" in ran.out.decode()
    assert "'UD-Q4_K_XL' is no known tier of llama-3.1-8b, so no answer counts it; --tier names one" in ran.err


def test_a_model_that_no_answer_counts_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(llama_bench("my-own-8B-Q4_K_M.gguf"))
    ran = run("import", "llama-bench", "out.json")
    assert ran.code == 0
    assert "'my-own-8b' is no model of the catalog, so no answer counts it; --model SLUG names one" in ran.err
    assert "no model of the catalog" not in run("import", "llama-bench", "out.json", "--model", "llama-3.1-8b").err

"""``fitcheck explain --oom``: from a pasted message to what was full and what to do next."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fitcheck.memory.oom_message import MAX_CHARACTERS
from fitcheck.units import GIB

FULL = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 has a total capacity of 11.60 GiB "
    "of which 1.06 GiB is free. Including non-PyTorch memory, this process has 9.60 GiB memory in use. Of the "
    "allocated memory 9.18 GiB is allocated by PyTorch, and 82.97 MiB is reserved by PyTorch but unallocated."
)
Paste = Callable[..., Any]


@pytest.fixture
def paste(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Paste:
    """Runs ``fitcheck explain ARGUMENTS --oom -`` with a text on standard input."""

    def pasted(text: str | bytes, *arguments: str) -> Any:
        raw = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw), isatty=lambda: False))
        return run("explain", *arguments, "--oom", "-")

    return pasted


def test_a_message_explains_itself(paste: Paste) -> None:
    ran = paste(FULL)
    assert ran.code == 0
    lines = ran.out.decode().splitlines()
    assert lines[0] == "PyTorch on CUDA ran out of memory. The card was full (card 0)."
    assert "  asked for at last              2.25 GiB" in lines
    assert lines[-1].startswith("Next: Use a smaller tier")


def test_with_a_model_the_estimate_and_a_step_that_takes_as_much_less(paste: Paste) -> None:
    options = ("--gpu", "RTX 4070", "--ram", "64GB", "--tier", "Q8_0", "--mode", "model")
    found = json.loads(paste(FULL, "flux.1-dev", *options, "--json").out)
    assert found["schema"] == "fitcheck.oom/1"
    assert (found["cause"], found["device"]) == ("card full", 0)
    assert found["amounts"]["tried"] == round(2.25 * GIB)
    estimate, step = found["estimate"], found["step"]
    assert (estimate["tier"], estimate["mode"], estimate["verdict"]) == ("Q8_0", "model", "no")
    assert step["verdict"] != "no"
    assert step["need"] <= estimate["card"]["best"] - (found["amounts"]["tried"] - found["amounts"]["free"])
    shown = paste(FULL, "flux.1-dev", *options).out.decode()
    assert "The estimate for Q8_0 in mode model on GeForce RTX 4070: " in shown
    assert f"Next: {step['change']}: " in shown


def test_the_step_is_what_check_says_too(paste: Paste, run: Callable[..., Any]) -> None:
    options = ("--gpu", "RTX 4070", "--ram", "64GB", "--tier", "Q8_0", "--mode", "model")
    step = json.loads(paste(FULL, "flux.1-dev", *options, "--json").out)["step"]
    flag, mode = step["change"].split()
    assert flag == "--mode"
    checked = json.loads(run("check", "flux.1-dev", *options[:-1], mode, "--json").out)["cells"][0]
    assert (checked["verdict"], checked["card"]["best"]) == (step["verdict"], step["need"])


def test_system_memory_is_compared_where_that_was_full(paste: Paste) -> None:
    text = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes. Error code 12"
    options = ("--gpu", "RTX 4070", "--ram", "32GB", "--tier", "Q8_0", "--mode", "low")
    found = json.loads(paste(text, "sensenova-u1-8b-mot", *options, "--json").out)
    assert found["cause"] == "host"
    assert found["estimate"]["host"]["best"] - found["step"]["need"] >= 8 << 30 or "GB" in found["step"]["change"]
    assert "system memory" in paste(text, "sensenova-u1-8b-mot", *options).out.decode()


def test_where_it_should_fit_the_answer_says_what_that_means(paste: Paste) -> None:
    shown = paste(
        FULL, "sensenova-u1-8b-mot", "--gpu", "RTX 5090", "--ram", "64GB", "--tier", "Q4_K_S", "--mode", "fast"
    )
    assert "The message's card has 11.6 GiB and the one asked about" in shown.out.decode()
    other = FULL.replace("11.60 GiB", "31.36 GiB").replace("9.18 GiB", "5.18 GiB")
    shown = paste(
        other, "sensenova-u1-8b-mot", "--gpu", "RTX 5090", "--ram", "64GB", "--tier", "Q4_K_S", "--mode", "fast"
    )
    assert "By the estimate it fits: something else took memory" in shown.out.decode()


LLAMA = "ggml_backend_cuda_buffer_type_alloc_buffer: allocating {} MiB on device 0: cudaMalloc failed: out of memory"
OPTIONS = ("qwen3-32b", "--gpu", "RTX 4090", "--ram", "32GB", "--tier")


def test_system_memory_is_no_step_where_the_card_was_full(paste: Paste) -> None:
    for tier, size in (("Q4_K_M", "4096.00"), ("Q6_K", "21435.32")):
        found = json.loads(paste(LLAMA.format(size), *OPTIONS, tier, "--json").out)
        assert found["cause"] == "card full"
        assert found["step"] is None or "system memory" not in found["step"]["change"]


def test_nothing_is_bought_where_the_estimate_fits(paste: Paste) -> None:
    found = json.loads(paste(LLAMA.format("4096.00"), *OPTIONS, "Q4_K_M", "--json").out)
    assert found["estimate"]["verdict"] == "fits"
    assert "something else took memory" in found["contradiction"]
    assert found["step"] is None
    assert found["next"].startswith("Use a smaller tier")


def test_a_message_of_more_than_the_cell_ever_takes_is_of_another_run(paste: Paste) -> None:
    one_buffer = json.loads(paste(LLAMA.format("25000.00"), *OPTIONS, "Q4_K_M", "--json").out)
    assert "The message tells of 24.4 GiB, which is more than this ever takes" in one_buffer["contradiction"]
    options = ("flux.1-dev", "--gpu", "RTX 4070", "--ram", "64GB", "--tier", "Q8_0", "--mode", "sequential")
    in_tensors = json.loads(paste(FULL, *options, "--json").out)
    assert in_tensors["estimate"]["card"]["high"] < in_tensors["amounts"]["allocated"]
    assert "name its --tier, --mode and sizes" in in_tensors["contradiction"]
    same = json.loads(paste(FULL, *options[:-1], "model", "--json").out)
    assert same["contradiction"] is None


def test_a_share_that_a_server_claims_is_not_what_the_model_takes(paste: Paste) -> None:
    """vLLM asks for nine tenths of a card whatever the model: that tells nothing against an 8B on 24 GB."""
    text = (
        "Free memory on device (5.2/24.0 GiB) on startup is less than desired GPU memory utilization (0.9, 21.6 GiB)."
    )
    found = json.loads(paste(text, "qwen3-8b", "--gpu", "RTX 3090", "--tier", "Q4_K_M", "--json").out)
    assert (found["cause"], found["step"]) == ("claimed", None)
    assert "something else took memory" in found["contradiction"]
    assert found["next"].startswith("Close what else holds the card")


def test_a_share_too_small_for_the_cache_is_no_question_of_another_program(paste: Paste) -> None:
    text = (
        "To serve at least one request with the models's max seq len (40960), (5.63 GiB KV cache is needed, which is "
        "larger than the available KV cache memory (3.21 GiB)."
    )
    found = json.loads(paste(text, "qwen3-8b", "--gpu", "RTX 3090", "--tier", "Q4_K_M", "--json").out)
    assert (found["cause"], found["estimate"]["verdict"], found["step"]) == ("cache", "fits", None)
    assert found["contradiction"].startswith("The estimate is of llama.cpp, which takes what it needs; vLLM takes its")
    assert "--max-model-len" in found["next"]


def test_standard_input_that_is_closed_holds_nothing(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    ran = run("explain", "--oom", "-")
    assert (ran.code, ran.out) == (2, b"")
    assert "nothing was handed in" in ran.err


def test_words_of_a_name_keep_their_letters(paste: Paste) -> None:
    assert b"\ncuBLAS found no room for its workspace\n" in paste("CUBLAS_STATUS_ALLOC_FAILED").out


def test_a_file_is_read_too(run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "error.log"
    file.write_text(f"step 1\n{FULL}\nstep 2\n", "utf-8")
    assert run("explain", "--oom", file).out.startswith(b"PyTorch on CUDA ran out of memory.")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "nothing was handed in"),
        ("hello", "no message of a program that ran out of memory"),
        ("no kernel image is available", "that is not memory"),
        (b"\xff\xfe\x00" * 100, "no message of a program"),
        (b"x" * (4 * MAX_CHARACTERS + 10), "give the lines around the error alone"),
    ],
)
def test_other_texts_are_refused_in_one_sentence(paste: Paste, text: str | bytes, reason: str) -> None:
    ran = paste(text)
    assert (ran.code, ran.out) == (2, b"")
    assert reason in ran.err
    assert ran.err.count("\n") == 1


def test_nothing_of_a_message_reaches_the_terminal_as_it_is(paste: Paste) -> None:
    ran = paste(f"\x1b]0;title\x07{FULL}\x1b[2J‮")
    assert b"\x1b" not in ran.out
    assert b"\x07" not in ran.out


def test_without_a_message_a_model_is_needed(run: Callable[..., Any], tmp_path: Path) -> None:
    large = tmp_path / "large.log"
    with large.open("wb") as out:
        out.truncate(5 << 20)
    for arguments, reason in (
        (("--oom", large), "give the lines around the error alone"),
        ((), "name a model"),
        (("--oom", tmp_path / "none.txt"), "there is no file"),
        (("--oom", tmp_path), "not a regular file"),
        (("sensenova-u1-8b-mot", "--gpu", "RTX 4070", "--json"), "goes with --oom"),
    ):
        ran = run("explain", *arguments)
        assert ran.code == 2
        assert reason in ran.err

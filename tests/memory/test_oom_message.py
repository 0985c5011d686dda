"""Messages of programs that ran out of memory: real ones from public threads, and what nobody should choke on."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.errors import OptionError
from fitcheck.memory.oom_message import MAX_CHARACTERS, read_message

DATA = Path(__file__).parents[2] / "fitcheck/memory/data/out_of_memory.json"
MESSAGES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "out_of_memory_messages.json").read_text("utf-8"))[
    "messages"
]
UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def in_bytes(text: str) -> int:
    number, unit = text.split()
    return round(float(number) * UNITS[unit])


def forms() -> Iterator[dict[str, Any]]:
    yield from json.loads(DATA.read_bytes())["forms"]


def test_there_are_enough_real_messages_of_enough_forms() -> None:
    assert len(MESSAGES) >= 30
    assert len({one["text"] for one in MESSAGES}) == len(MESSAGES)
    assert len({one["form"] for one in MESSAGES}) >= 20
    assert all(one["url"].startswith("https://github.com/") for one in MESSAGES)
    assert sum(bool(one["date"]) for one in MESSAGES) >= 45


@pytest.mark.parametrize("message", MESSAGES, ids=[f"{one['form']}-{i}" for i, one in enumerate(MESSAGES)])
def test_a_real_message_is_read(message: dict[str, Any]) -> None:
    found = read_message(message["text"])
    assert (found.form, found.cause) == (message["form"], message["cause"])
    assert found.device == message["device"]
    assert found.amounts == {name: in_bytes(text) for name, text in message["amounts"].items()}
    assert found.what
    assert found.step


def test_the_last_message_of_a_log_counts() -> None:
    text = "\n".join(one["text"] for one in MESSAGES if one["form"] == "torch-cuda")
    last = [one for one in MESSAGES if one["form"] == "torch-cuda"][-1]
    assert read_message(text).amounts["tried"] == in_bytes(last["amounts"]["tried"])


def test_a_message_in_the_colours_of_a_terminal_and_wrapped_lines_is_read() -> None:
    text = (
        "\x1b[31mCUDA out of memory. \x1b[0mTried to allocate 2.00\nGiB. "
        "GPU 0 has a total capacity of\r\n 8.00 GiB of which 1.00 GiB is free."
    )
    found = read_message(text)
    assert found.amounts == {"tried": 2 << 30, "total": 8 << 30, "free": 1 << 30}
    assert found.short == 1 << 30


def test_a_count_that_pytorch_does_not_know_is_left_out() -> None:
    """Under Windows and WSL PyTorch prints the largest number of 64 bits for what it cannot ask the driver."""
    text = (
        "CUDA out of memory. Tried to allocate 108.00 MiB. GPU 0 has a total capacity of 11.99 GiB of which 0 bytes is "
        "free. Including non-PyTorch memory, this process has 17179869184.00 GiB memory in use. Of the allocated "
        "memory 10.51 GiB is allocated by PyTorch, and 205.55 MiB is reserved by PyTorch but unallocated."
    )
    found = read_message(text)
    assert set(found.amounts) == {"tried", "total", "free", "allocated", "unallocated"}
    assert found.cause == "card full"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "nothing was handed in"),
        ("  \n ", "nothing was handed in"),
        ("hello world", "no message of a program that ran out of memory"),
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "no kernels"),
        ("AssertionError: Torch not compiled with CUDA enabled", "without CUDA"),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`", "number format"),
        ("OSError: [Errno 28] No space left on device", "the disk"),
        ("x" * (MAX_CHARACTERS + 1), "give the lines around the error alone"),
    ],
)
def test_what_is_no_such_message_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        read_message(text)


@pytest.mark.parametrize(
    ("text", "program", "cause"),
    [
        ("Error: llama runner process has terminated: cudaMalloc failed: out of memory", "Ollama", "card full"),
        ("cudaMalloc failed: out of memory", "CUDA", "card full"),
        ("llama runner exited, you may not have enough memory to run the model", "Ollama", "unknown"),
    ],
)
def test_what_hands_out_card_memory_alone_is_not_blamed_on_pinned_memory(text: str, program: str, cause: str) -> None:
    found = read_message(text)
    assert (found.program, found.cause) == (program, cause)


REPEATED = ("CUDA out of memory. Tried to allocate ", "pin_memory ", "GPU 0 ", "9", "(", "Killed\n", "\x1b[", " free;")


@pytest.mark.parametrize("unit", REPEATED)
def test_a_megabyte_of_anything_is_answered_in_seconds(unit: str) -> None:
    text = (unit * (MAX_CHARACTERS // len(unit) + 1))[:MAX_CHARACTERS]
    before = time.process_time()
    with contextlib.suppress(OptionError):
        read_message(text)
    assert time.process_time() - before < 4


@given(st.text(max_size=300), st.sampled_from([one["text"] for one in MESSAGES]), st.text(max_size=300))
def test_text_around_a_message_does_not_hide_it(before: str, message: str, after: str) -> None:
    assert read_message(f"{before}\n{message}\n{after}").what


@given(st.text(alphabet=st.sampled_from("CUDA out of memory. Tried to allocate 0123456789.MGiB()\n;"), max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read_message(f"CUDA out of memory. Tried to allocate {text}")
    except OptionError:
        return
    assert all(amount >= 0 for amount in found.amounts.values())


def test_every_form_but_the_vaguest_has_a_real_message_or_says_what_was_full() -> None:
    causes = json.loads(DATA.read_bytes())["causes"]
    seen = {one["form"] for one in MESSAGES}
    for form in forms():
        assert form["where"] in causes or form["where"] == "card"
    assert {one["id"] for one in forms()} - seen == {"torch-mps-buffer", "malloc", "any", "ollama-exited"}


def test_a_window_that_tells_nothing_is_refused_with_where_the_reason_stands() -> None:
    """lmstudio-ai/lmstudio-bug-tracker, issue 417; with the log behind it the log is read."""
    text = "🥲 Failed to load the model\n\nError loading model.\n\n(Exit code: 18446744073709515000). Unknown error."
    with pytest.raises(OptionError, match="LM Studio's window does not say what failed"):
        read_message(text)
    log = "llama_init_from_model: failed to initialize the context: failed to allocate compute pp buffers"
    assert read_message(f"{text}\n{log}").form == "ggml-context"


@pytest.mark.parametrize(
    ("text", "form"),
    [("RuntimeError: CUDA out of memory.", "cuda-driver"), ("HIP out of memory", "hip-error")],
)
def test_a_message_cut_off_before_its_amounts_still_names_the_card(text: str, form: str) -> None:
    found = read_message(text)
    assert (found.form, found.cause, found.amounts) == (form, "card full", {})

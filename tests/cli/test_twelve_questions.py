"""Twelve questions that people have before they know a file or a slug: each is answered by one command, offline, with a
verdict, what it takes and how fast."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from fitcheck.cli.main import main

GPU12 = ("--gpu", "RTX 3060 12GB", "--ram", "32GB")
# the question → the words of one command, and what its answer must say
QUESTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "an 8B on 12 GB": (("check", "llama 3.1 8b", *GPU12), r"Llama 3\.1 8B fits .*GiB card memory.* tokens a second"),
    "a 30B mixture on 12 GB": (("check", "qwen3 30b", *GPU12), r"Qwen3 30B A3B fits .*n-cpu-moe.* tokens a second"),
    "gpt-oss 20b": (("check", "gpt-oss 20b", *GPU12), r"gpt-oss 20B (fits|should run) .* tokens a second"),
    "gpt-oss 120b": (("check", "gpt-oss 120b", *GPU12), r"gpt-oss 120B does not run .* short by [\d.]+ GiB"),
    "72B on two 24 GB cards": (
        ("check", "qwen2.5 72b", "--gpu", "2x RTX 3090"),
        r"Qwen2\.5 72B fits 2 × GeForce RTX 3090: .* tokens a second",
    ),
    "FLUX.1-dev on 12 GB": (("check", "flux.1-dev", *GPU12), r"FLUX\.1 \[dev\] fits .* in mode .* an image"),
    "Wan 2.2 14B on 24 GB": (
        ("check", "wan 2.2 14b", "--gpu", "RTX 4090", "--ram", "64GB"),
        r"Wan 2\.2 T2V A14B (fits|should run) .* in mode .* a video",
    ),
    "SDXL on 8 GB": (("check", "sdxl", "--gpu", "RTX 4060"), r"Stable Diffusion XL (fits|should run) .* an image"),
    "SenseNova-U1 on 12 GB": (
        ("check", "sensenova-u1-8b-mot", "--gpu", "RTX 4070"),
        r"SenseNova-U1-8B-MoT (fits|should run) .* in mode .* an image",
    ),
    "70B on an M3 Max": (
        ("check", "llama 3.3 70b", "--gpu", "M3 Max 64GB"),
        r"Llama 3\.3 70B fits Apple M3 Max: .* tokens a second",
    ),
    "32B on a 7900 XTX": (("check", "qwen3 32b", "--gpu", "7900 XTX"), r"Qwen3 32B fits Radeon RX 7900 XTX: .* tokens"),
    "a 4060 laptop": (("runs", "--gpu", "4060 laptop", "--for", "chat"), r"chat: runs(.|\n)*\tfits\t.* tokens/s"),
    "what runs here": (("runs", "--gpu", "RTX 3060 12GB", "--for", "image"), r"image: runs(.|\n)* an image"),
    "what card under 600 USD for both": (
        ("cards", "--under", "600", "--fits", "llama-3.1-8b", "--fits", "sdxl"),
        r"GeForce RTX 3060 12 GB\t\d+\tfits",
    ),
}


def refuse(*_: Any, **__: Any) -> None:
    """Stands for a network that is not there."""
    raise OSError("no network in this test")


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_command_answers(
    question: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words, says = QUESTIONS[question]
    monkeypatch.setenv("FITCHECK_RECORDS", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(sys, "argv", ["fitcheck", *words])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert ended.value.code in (0, 3, 4)
    assert re.search(says, " ".join(out.split()) if "(.|" not in says and "\\t" not in says else out), out[:600]


def test_pictures_without_a_card_are_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No list of nearest models follows, because none is near."""
    monkeypatch.setattr(sys, "argv", ["fitcheck", "runs", "--gpu", "none", "--ram", "16GB", "--for", "image"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert capsys.readouterr().out == "image: nothing in the catalog runs without a card\n"

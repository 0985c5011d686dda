"""The question on a terminal, the glossary, and what a shell offers while a line is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fitcheck.cli import completers
from fitcheck.cli.guide import command
from fitcheck.cli.main import COMMANDS
from fitcheck.cli.words import lines
from fitcheck.hardware.asked import asked_machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.verdict.glossary import glossary
from fitcheck.verdict.quantities import LEVELS
from tests.cli.terminal import on_a_terminal

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-c", "import sys; sys.argv[0] = 'fitcheck'; from fitcheck.cli.main import main; main()"]


def test_an_answer_becomes_a_command_and_its_answer() -> None:
    code, shown, _ = on_a_terminal(RUN, typed="RTX 4070\ngpt-oss-20b\n", kind="xterm")
    assert "This machine: " in shown or "No graphics card" in shown or "no graphics card" in shown
    assert "$ fitcheck check gpt-oss-20b --gpu 'RTX 4070'" in shown
    assert "GeForce RTX 4070" in shown
    assert code in (0, 3, 4)


def test_enter_leaves() -> None:
    code, shown, _ = on_a_terminal(RUN, typed="\n", kind="xterm")
    assert code == 0
    assert "$ fitcheck" not in shown


@pytest.mark.parametrize(
    ("what", "card", "arguments"),
    [
        ("chat", "RTX 4070", ["runs", "--for", "chat", "--gpu", "RTX 4070"]),
        ("qwen3 30b", "", ["check", "qwen3 30b"]),
        ("plan flux.1-dev --budget 700", "RTX 4070", ["plan", "flux.1-dev", "--budget", "700"]),
        ("fitcheck models", "", ["models"]),
        ('an open "quote', "none", ["check", 'an open "quote', "--gpu", "none"]),
    ],
)
def test_what_is_typed_is_understood(what: str, card: str, arguments: list[str]) -> None:
    assert command(what, card, COMMANDS) == arguments


def test_the_glossary_has_the_words_of_every_answer() -> None:
    found = glossary()
    assert set(found["verdicts"]) == {str(one) for one in Verdict}
    assert set(LEVELS) <= set(found["how we know"])
    assert "balanced" in found["modes of sensenova"]
    assert all(len(line) <= 80 for line in lines(found, 80))


def test_the_glossary_is_a_document_too() -> None:
    done = subprocess.run([*RUN, "explain", "--words", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"schema": "fitcheck.words/1", "words": glossary()}


def offered(line: str) -> list[str]:
    """What bash is offered for a line whose last word is unfinished."""
    asked = {"_FITCHECK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    environment = {**os.environ, **asked, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(RUN, capture_output=True, text=True, check=False, env=environment)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("fitcheck ", ["check", "runs", "import", "site"]),
        ("fitcheck ru", ["runs"]),
        ("fitcheck check llama-3.1", ["llama-3.1-8b", "llama-3.1-70b"]),
        ("fitcheck check llama-3.1-8b --gpu rtx-40", ["rtx-4070", "rtx-4090"]),
        ("fitcheck check llama-3.1-8b --ctx 4096 --gpu titan", ["titan-rtx"]),
        ("fitcheck check sensenova-u1-8b-mot --tier Q", ["Q4_K_S", "Q8_0"]),
        ("fitcheck check sensenova-u1-8b-mot --tier Q8_0,Q4", ["Q8_0,Q4_K_S"]),
        ("fitcheck check flux.1-dev --mode g", ["group-block", "group-leaf-stream"]),
        ("fitcheck check sensenova-u1-8b-mot --task v", ["vqa"]),
        ("fitcheck plan gpt-oss-20b --have rtx-30", ["rtx-3060-12gb"]),
        ("fitcheck runs --for ", ["chat", "vision"]),
        ("fitcheck runs --os w", ["windows", "wsl"]),
        ("fitcheck check --offl", ["--offline"]),
    ],
)
def test_a_shell_is_offered_what_can_follow(line: str, some: list[str]) -> None:
    found = offered(line)
    assert set(some) <= set(found)
    assert all(one.lower().startswith(line.rpartition(" ")[2].lower()) for one in found)


def test_all_that_is_offered_is_taken() -> None:
    assert all(catalog.has(name) for name in completers.models("qwen"))
    for name in completers.cards("rx-9"):
        assert asked_machine(name).gpus[0].card.slug == name
    assert completers.models("no such model") == []


def test_files_are_offered_for_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model.gguf", "notes.txt", "weights.safetensors"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more").mkdir()
    monkeypatch.chdir(tmp_path)
    assert completers.models("./") == ["./model.gguf", "./more/", "./weights.safetensors"]
    assert completers.models(f"{tmp_path}/mo") == [f"{tmp_path}/model.gguf", f"{tmp_path}/more/"]
    assert completers.models("/no/such/folder/x") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str) -> None:
    done = subprocess.run([*RUN, "--show-completion", shell], capture_output=True, text=True, check=True)
    assert "_FITCHECK_COMPLETE" in done.stdout


Completer = Callable[[str], list[str]]


@pytest.mark.parametrize("completer", [completers.models, completers.cards, completers.tiers, completers.modes])
def test_nobody_waits_for_a_list_without_end(completer: Completer) -> None:
    assert 0 < len(completer("")) <= completers.MOST


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("check",), "name a model, like `fitcheck check llama-3.1-8b --gpu 'RTX 4070'`"),
        (("plan",), "name a model"),
        (("runs", "chat"), "--for chat"),
        (("compare", "sdxl"), "name the machines"),
        (("check", "sdxl", "--gpu", "RTX", "4070"), "put quotes around"),
        (("check", "sdxl", "--quant", "q4"), "--tier Q4_K_M"),
    ],
)
def test_a_line_that_lacks_something_is_told_what_to_type(words: tuple[str, ...], says: str) -> None:
    done = subprocess.run([*RUN, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1

"""The first screen, the module as a command, and a pipe whose reader goes away."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fitcheck.cli.start import NEXT, start


def test_the_first_screen_is_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    start()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(("This machine: ", "No graphics card"))
    assert len(lines) <= 24
    assert lines[-len(NEXT)].strip().startswith("fitcheck runs")


@pytest.mark.parametrize("words", [["cards", "--all"], ["models"], []])
def test_a_reader_that_leaves_is_no_failure(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "fitcheck", *words], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.returncode == 0
    assert b"Broken" not in done.stderr


def test_no_words_outside_a_terminal_are_answered_with_the_help() -> None:
    done = subprocess.run([sys.executable, "-m", "fitcheck"], capture_output=True, text=True, check=False, stdin=0)
    assert done.returncode == 0
    assert "runs" in done.stdout
    assert "least memory by tier and mode, the cards that do it, what to change" in " ".join(done.stdout.split())
    assert "..." not in done.stdout.partition("Commands:")[2]
    assert done.stderr == ""

"""docs/measuring.md: what it asks a stranger to type exists, and what needs no card runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from fitcheck.cli.main import application

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "measuring.md").read_text("utf-8")


def commands(kind: str) -> list[str]:
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.startswith("fitcheck ")]


@pytest.mark.parametrize("command", commands("sh"))
def test_what_needs_no_card_runs(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)[1:]
    try:
        code = application((words[0],))(words, standalone_mode=False)
    except typer.Exit as left:
        code = left.exit_code
    assert code in (None, 0, 3), "3 is an answer as well: tight"
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("command", commands("console"))
def test_what_needs_a_card_names_options_that_exist(command: str) -> None:
    words = shlex.split(command)[1:]
    ours = words[: words.index("--")] if "--" in words else words
    group = typer.main.get_command(application(("bench",)))
    assert isinstance(group, TyperGroup)
    bench = group.commands["bench"]
    assert isinstance(bench, TyperGroup)
    known = {name for option in bench.commands[ours[1]].params for name in option.opts}
    assert {word for word in ours if word.startswith("--")} <= known


def test_links_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", PAGE) if "://" not in link]
    assert links
    assert all((ROOT / "docs" / link).exists() for link in links)

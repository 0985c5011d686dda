"""README says what is true: its outputs are what the commands print, its commands run, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
CODES = {0, 3, 4, 5}  # fits, tight, no, unknown; 2 would be a question that cannot be answered


def commands() -> list[str]:
    """Every ``fitcheck …`` line of the blocks that need neither a GPU nor a network nor a file (those are console)."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.startswith("fitcheck ")]


def test_there_are_commands_and_outputs() -> None:
    assert len(commands()) >= 8
    assert README.count("<!-- output of: fitcheck ") == README.count("<!-- end of output -->") == 3


@pytest.mark.parametrize("command", commands())
def test_a_command_runs(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    code = "from fitcheck.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode in CODES, done.stderr
    assert done.stdout.strip() or "validate" in words


def test_no_page_tells_to_install_the_other_project_of_that_name() -> None:
    """The package index holds a stranger's `fitcheck`; this distribution is called fitcheck-vram."""
    install = re.compile(r"\b(?:install|inject|uvx)\s+(?:-\S+\s+)*[\"']?fitcheck(?![\w-])")
    assert install.search("pip install -U\n'fitcheck[mcp]'")
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("fitcheck/pages/templates/*")]
    assert len(pages) > 20
    assert [page.name for page in pages if install.search(page.read_text("utf-8"))] == []


def test_outputs_are_current() -> None:
    script = ROOT / "scripts" / "update_readme.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing

"""``fitcheck accuracy --keep`` and ``--check``: a baseline that what gets worse fails against."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from fitcheck.cli import accuracy
from tests.cli.conftest import Run

KEY = "published | sensenova seconds | blind | cell"


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of a test share their rows and what records are worth, five seconds of each."""
    for name in ("_rows", "_worth"):
        monkeypatch.setattr(accuracy, name, cache(getattr(accuracy, name)))


@pytest.mark.usefixtures("once")
def test_what_was_kept_is_not_worse_and_a_better_baseline_fails_by_name(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    kept = run("accuracy", "--blind", "--markdown", "--keep", str(path))
    assert kept.code == 0
    shown = kept.out.decode()
    assert "| median width |" in shown
    assert "| published | sensenova allocated | machine |" in shown
    assert not any(part in shown for part in ("| cell |", "(fitted on)", "(sets a width)"))  # kept all the same
    same = run("accuracy", "--check", str(path))
    assert same.code == 0
    assert "none worse" in same.out.decode()
    baseline = json.loads(path.read_text("utf-8"))
    baseline[KEY]["median"] /= 2
    path.write_text(json.dumps(baseline), "utf-8")
    worse = run("accuracy", "--check", str(path))
    assert worse.code == 1
    changed, fault = worse.out.decode().splitlines()
    assert changed.startswith(f"{KEY}: ")
    assert " -> " in changed
    assert fault.startswith(f"worse: {KEY}: median error")


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"rows": 1}}', "not json"])
def test_what_is_no_baseline_is_said_in_one_sentence(run: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, "utf-8")
    done = run("accuracy", "--check", str(path), "--keep", str(tmp_path / "kept.json"))
    assert done.code == 2
    assert not (tmp_path / "kept.json").exists()  # it is read first: nobody waits for the rows of a slip
    assert done.err.startswith("fitcheck: --check: ")
    assert "baseline" in done.err

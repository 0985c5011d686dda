"""``fitcheck validate``: one line a problem, exit code 1 when anything is rejected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fitcheck.records import store

Run = Callable[..., Any]


def placed(record: Path, root: Path) -> Path:
    return store.write(root, store.read(record))


def test_a_clean_tree_prints_nothing(run: Run, record: Path) -> None:
    placed(record, Path("results"))
    ran = run("validate")
    assert (ran.code, ran.out) == (0, b"")
    assert "1 files, 1 valid, 0 flagged." in ran.err


def test_one_line_for_each_problem_and_exit_code_1(run: Run, record: Path, tmp_path: Path) -> None:
    placed(record, Path("results"))
    (tmp_path / "results" / "a.json").write_text("{")
    (tmp_path / "results" / "b\n\x1b[2J.txt").write_text("x")
    ran = run("validate", "results")
    lines = ran.out.decode().splitlines()
    assert ran.code == 1
    assert [line.split()[0] for line in lines] == ["reject", "reject"]
    assert all("\x1b" not in line for line in lines)
    assert "[unreadable]" in lines[0]
    assert "[not-a-record]" in lines[1]
    assert "3 files, 1 valid" in ran.err


def test_json_and_quiet(run: Run, record: Path) -> None:
    ran = run("validate", record, "--json")
    answer = json.loads(ran.out)
    assert ran.code == 0
    assert answer["valid"] == 1
    assert [(problem["rank"], problem["code"]) for problem in answer["problems"]] == [("note", "file-name")]
    assert run("validate", record, "--quiet").out == b""


def test_what_does_not_exist_is_exit_code_2(run: Run) -> None:
    ran = run("validate", "nowhere")
    assert (ran.code, ran.out) == (2, b"")
    assert "no such file or folder" in ran.err
    assert run("validate").code == 2

"""The pull request check and the issue form: least privilege, pinned actions, data never run as code."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOW = (ROOT / ".github" / "workflows" / "results.yml").read_text("utf-8")


def test_every_action_is_pinned_to_a_commit() -> None:
    uses = re.findall(r"uses:\s*(\S+)", WORKFLOW)
    assert uses
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", use) for use in uses)


def test_the_token_can_only_read_and_is_not_left_behind() -> None:
    assert re.findall(r"permissions:\n((?:  .*\n)+)", WORKFLOW) == ["  contents: read\n"]
    assert "pull_request_target" not in WORKFLOW
    assert "secrets." not in WORKFLOW
    assert WORKFLOW.count("actions/checkout@") == WORKFLOW.count("persist-credentials: false")


def test_the_code_is_the_base_branch_and_nothing_of_the_pull_request_enters_a_shell() -> None:
    assert re.findall(r"pip install (\S+)", WORKFLOW) == ["./base"]
    scripts = re.findall(r"run: (?:\|\n((?:          .*\n)+)|(.*)\n)", WORKFLOW)
    assert len(scripts) == 3
    assert not any("${{" in part for script in scripts for part in script)


GUARD = re.search(r"says why\n(?:.*\n)*?        run: \|\n((?:          .*\n)+)", WORKFLOW)
RECORD = f"results/rtx-4070/model/{'a' * 64}.json"


def pull_request(root: Path, change: str, body: str) -> tuple[int, str]:
    """(exit code, output) of the check on a merge commit that does ``change`` to an accepted record."""

    def git(*words: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    record = root / RECORD
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    git("add", "-A")
    git("commit", "-q", "-m", "accepted")
    git("checkout", "-q", "-b", "pull")
    does: dict[str, Callable[[], object]] = {
        "add": lambda: record.with_name("b" * 64 + ".json").write_text("{}"),
        "edit": lambda: record.write_text("{ }"),
        "delete": record.unlink,
        "rename": lambda: record.rename(record.with_name("b" * 64 + ".json")),
    }
    does[change]()
    (root / "other").write_text("x")
    git("add", "-A")
    git("commit", "-q", "-m", "change")
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "pull")
    assert GUARD is not None
    done = subprocess.run(
        ["bash", "-e", "-c", textwrap.dedent(GUARD[1])],
        cwd=root,
        env={**os.environ, "DESCRIPTION": body},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("change", ["edit", "delete", "rename"])
def test_an_accepted_record_changes_only_with_a_reason(change: str, tmp_path: Path) -> None:
    for number, body in enumerate(["", "tidy", "reason:   ", "no reason: none", "$(touch pwned) `touch pwned`"]):
        code, said = pull_request(_new(tmp_path, number), change, body)
        assert code == 1, body
        assert "say why" in said
    assert pull_request(_new(tmp_path, 9), change, "Hello\nReason: the card was misread; $(touch pwned)\n")[0] == 0
    assert not list(tmp_path.rglob("pwned"))


def test_records_are_added_without_one(tmp_path: Path) -> None:
    assert pull_request(tmp_path, "add", "") == (0, "")


def _new(root: Path, number: int) -> Path:
    made = root / str(number)
    made.mkdir()
    return made


def test_documents_name_commands_that_exist() -> None:
    text = (ROOT / "docs" / "submitting-results.md").read_text("utf-8") + (ROOT / "results" / "README.md").read_text(
        "utf-8"
    )
    modules = {"validate": "validate", "submit": "submit", "import": "import_", "results": "results"}
    for command, module in modules.items():
        source = (ROOT / "fitcheck" / "cli" / f"{module}.py").read_text("utf-8")
        used = re.findall(rf"fitcheck {command} ([^\n`|]*)", text)
        assert used, command
        for option in {option for line in used for option in re.findall(r"--[a-z-]+", line)}:
            name = option.removeprefix("--").replace("-", "_")
            assert f'"{option}"' in source or re.search(rf"^        {name}: ", source, re.MULTILINE), (
                f"{command} {option}"
            )


def test_what_the_documents_name_is_there() -> None:
    for name in ("scripts/pack_results.py", "scripts/export_schema.py", "results/schema/record-v1.json"):
        assert (ROOT / name).is_file()
    assert "dry-run" in (ROOT / ".github" / "ISSUE_TEMPLATE" / "result.yml").read_text("utf-8")

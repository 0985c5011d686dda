"""The check of a pull request that shows accuracy before and after: against the base's figures, not its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
KEPT = "tests/answers/accuracy.json"
# stands for the command: says the figures that it was handed, and fails as it does where something got worse
STAND_IN = '#!/bin/sh\necho "$*" | sed "s/ [^ ]*$//"\ncat "$5"\nexit "$WORSE"\n'


def pull_request(root: Path, worse: int, body: str = "") -> tuple[int, str, str]:
    """(exit code, output, the page's summary) on the merge commit of a branch that edits the kept figures."""

    def git(*words: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)

    for name in (".ci", "tests/answers", "bin"):
        (root / name).mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "accuracy", root / ".ci" / "accuracy")
    (root / "bin" / "fitcheck").write_text(STAND_IN)
    (root / "bin" / "fitcheck").chmod(0o755)
    (root / KEPT).write_text("figures of the base\n")
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "base")
    git("checkout", "-q", "-b", "pull")
    (root / KEPT).write_text("figures that hide it\n")
    git("commit", "-q", "-a", "-m", "keep")
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "pull")
    summary = root / "summary"
    done = subprocess.run(
        [root / ".ci" / "accuracy"],
        env={
            **os.environ,
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
            "WORSE": str(worse),
            "DESCRIPTION": body,
            "GITHUB_STEP_SUMMARY": str(summary),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, summary.read_text("utf-8")


def test_the_figures_are_those_of_the_branch_that_it_goes_to(tmp_path: Path) -> None:
    code, out, summary = pull_request(tmp_path, 0)
    assert code == 0
    assert out == "accuracy --results results --check\nfigures of the base\n"
    assert summary == f"### Accuracy, before -> after\n```\n{out}```\n"


@pytest.mark.parametrize(("body", "code"), [("", 1), ("It is fine.", 1), ("x\nReason: a wrong row was taken out", 0)])
def test_what_gets_worse_needs_a_reason_and_is_shown(tmp_path: Path, body: str, code: int) -> None:
    found, out, summary = pull_request(tmp_path, 1, body)
    assert found == code
    assert ("::error::" in out) is (code == 1)
    assert "figures of the base" in summary


def test_a_command_that_breaks_is_no_reason_matter(tmp_path: Path) -> None:
    assert pull_request(tmp_path, 2, "Reason: none")[0] == 2


def test_the_job_sees_both_trees_and_hands_the_description_over_as_data() -> None:
    job = WORKFLOW.split("\n  accuracy:\n")[1].split("\n  versions:\n")[0]
    assert "if: github.event_name == 'pull_request'" in job
    assert "fetch-depth: 2" in job
    assert "run: .ci/accuracy" in job
    assert not any("${{" in line for line in re.findall(r"run: (.*)", job))
    assert job.count("actions/checkout@") == job.count("persist-credentials: false") == 1

"""``fitcheck submit``: what the dry run prints is what is sent, byte for byte, and it is kept locally first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fitcheck.records import store

Run = Callable[..., Any]
RECORDS_TESTS = Path(__file__).parents[1] / "records"


@pytest.fixture
def dataset_standin(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(RECORDS_TESTS)
    import dataset_standin

    return dataset_standin


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_dry_run_prints_exactly_what_a_folder_gets(run: Run, record: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    dry = run("submit", record, "--to", shared, "--dry-run")
    assert dry.code == 0
    assert files(shared) == {}
    assert not (tmp_path / "local").exists(), "a dry run keeps nothing either"
    sent = run("submit", record, "--to", shared)
    assert sent.code == 0
    (path,) = sent.out.decode().split()
    assert files(shared) == {path: dry.out}
    assert files(tmp_path / "local") == {path: dry.out}
    again = run("submit", record, "--to", shared)
    assert (again.code, again.out) == (0, b"")
    assert "0 sent" in again.err
    assert files(shared) == {path: dry.out}


def test_a_dry_run_of_what_is_rejected_does_not_say_that_it_would_be_sent(
    run: Run, record: Path, tmp_path: Path
) -> None:
    document = json.loads(record.read_bytes())
    document.pop("id", None)
    document["tags"] = ["tiny"]
    record.write_text(json.dumps(document))
    (tmp_path / "shared").mkdir()
    ran = run("submit", record, "--to", tmp_path / "shared", "--dry-run")
    assert "[tiny]" in ran.err
    assert "Would be sent, once what is rejected is corrected or left out, to" in ran.err


def test_a_dry_run_needs_no_target(run: Run, record: Path) -> None:
    ran = run("submit", record, "--dry-run")
    assert (ran.code, ran.out) == (0, record.read_bytes())
    assert "once this is mended: --clone" in ran.err


def test_a_handle_and_two_files_at_once(run: Run, record: Path, tmp_path: Path) -> None:
    llm = tmp_path / "llm.json"
    llm.write_bytes((RECORDS_TESTS / "data" / "v1" / "llm.json").read_bytes())
    shared = tmp_path / "shared"
    shared.mkdir()
    dry = run("submit", record, llm, record, "--to", shared, "--as", "octocat", "--dry-run")
    assert dry.out.count(b'"submitter":"octocat"') == 2
    run("submit", record, llm, record, "--to", shared, "--as", "octocat")
    assert b"".join(files(shared)[path] for path in sorted(files(shared))) != b""
    assert sorted(files(shared).values()) == sorted(line + b"\n" for line in dry.out.splitlines())


def test_what_is_rejected_is_not_sent(run: Run, record: Path, tmp_path: Path) -> None:
    broken = store.read(record).model_copy(update={"notes": "mail ann@example.org"})
    record.write_bytes(store.encode(broken))
    shared = tmp_path / "shared"
    shared.mkdir()
    ran = run("submit", record, "--to", shared)
    assert ran.code == 1
    assert "[email]" in ran.err
    assert "Nothing was sent" in ran.err
    assert files(shared) == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--to", "hub"), "--dataset"),
        (("--to", "no/such/folder"), "--to"),
        (("--to", "repo"), "not a git clone"),
        (("--to", ".", "--sign", "no-key"), "--sign"),
        (("--to", ".", "--as", "Bob <bob@x.org>"), "--as: 'Bob <bob@x.org>' is not a handle"),
    ],
)
def test_wrong_options_are_one_sentence_and_exit_code_2(
    run: Run, record: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    ran = run("submit", record, *arguments)
    assert ran.code == 2
    assert sentence in ran.err
    assert ran.err.strip().splitlines()[-1].startswith("fitcheck: ")
    assert "Traceback" not in ran.err


def test_the_record_is_kept_when_the_target_fails(run: Run, record: Path, tmp_path: Path) -> None:
    ran = run("submit", record, "--to", "repo")
    assert ran.code == 2
    assert list(files(tmp_path / "local").values()) == [record.read_bytes()]


def test_a_repository_gets_a_branch(run: Run, record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = {
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@b.c",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@b.c",
    }
    for name, value in (identity | {"GIT_CONFIG_GLOBAL": "/dev/null"}).items():
        monkeypatch.setenv(name, value)

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, check=True, text=True).stdout

    git("init", "--quiet", "--initial-branch=main", "clone")
    (tmp_path / "clone" / "results").mkdir()
    (tmp_path / "clone" / "results" / "README.md").write_text("x")
    git("-C", "clone", "add", ".")
    git("-C", "clone", "commit", "--quiet", "-m", "x")
    dry = run("submit", record, "--clone", "clone", "--dry-run")
    assert dry.out == record.read_bytes()
    assert "by A <a@b.c>" in dry.err
    ran = run("submit", record, "--clone", "clone", "--no-push")
    assert ran.code == 0
    branch = git("-C", "clone", "branch", "--list", "results/*", "--format=%(refname:short)").strip()
    assert branch in dry.err
    path = ran.out.decode().strip()
    assert git("-C", "clone", "show", f"{branch}:results/{path}").encode() == record.read_bytes()


def test_a_hub_gets_a_pull_request_through_hf_endpoint(record: Path, tmp_path: Path, dataset_standin: Any) -> None:
    """The whole program in its own process, because the hub's library reads HF_ENDPOINT when it is imported."""
    code = "import fitcheck.cli.main as m; m.COMMANDS = ('submit',); m.main()"
    command = [sys.executable, "-c", code, "submit", str(record), "--to", "hub", "--dataset", dataset_standin.DATASET]
    with dataset_standin.DatasetHub() as hub:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.address,
            "HF_TOKEN": dataset_standin.TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "hf"),
            "FITCHECK_RECORDS": str(tmp_path / "local"),
        }
        first = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert first.returncode == 0, first.stderr
        path = first.stdout.strip()
        assert hub.everything() == [(f"results/{path}", record.read_bytes())]
        assert f"{hub.address}/datasets/{dataset_standin.DATASET}/discussions/1" in first.stderr
        second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (second.returncode, second.stdout) == (0, "")
        assert len(hub.pull_requests) == 1
        refused = subprocess.run(
            command, env={**environment, "HF_TOKEN": "hf_wrong"}, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 2
        assert "refused" in refused.stderr
        assert "hf_wrong" not in refused.stderr
        assert "Traceback" not in refused.stderr
        assert len(hub.bodies) == 1, "credentials are checked before anything is sent"

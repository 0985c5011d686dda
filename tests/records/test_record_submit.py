"""Submission to a folder and a repository: identical bytes, exactly one copy, and nothing lost when it is cut short."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from record_samples import NOW, make_llm, make_pass, samples
from submitting import payloads, prepared, record_file, round_trip

from fitcheck.errors import InputError
from fitcheck.records import schema, store
from fitcheck.records.findings import Rank
from fitcheck.records.submit import prepare, save_locally
from fitcheck.records.targets import batch_name, batch_title, folder, repo
from fitcheck.records.validate import accepted, validate

GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
}


def git(where: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(where), *arguments], capture_output=True, check=True, env={**os.environ, **GIT}
    )
    return done.stdout.decode()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a bare repository that has a results/ folder."""
    for name, value in GIT.items():
        monkeypatch.setenv(name, value)
    upstream, made = tmp_path / "upstream.git", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(upstream))
    git(tmp_path, "clone", "--quiet", str(upstream), str(made))
    git(made, "checkout", "--quiet", "-b", "main")
    (made / "results").mkdir()
    (made / "results" / "README.md").write_text("results\n")
    git(made, "add", "results")
    git(made, "commit", "--quiet", "-m", "start")
    git(made, "push", "--quiet", "-u", "origin", "main")
    git(made, "remote", "set-head", "origin", "main")
    return made


def test_preparing_keeps_the_bytes_of_a_stored_record(tmp_path: Path) -> None:
    record = make_pass()
    (item,) = prepared(tmp_path, record)
    assert [payload.content for payload in item.payloads] == [store.encode(record)]
    assert item.payloads[0].path == store.relative_path(record).as_posix()
    assert item.findings == ()


def test_a_record_without_id_gets_one_and_odd_formatting_is_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    document = store.document_of(make_pass())
    file.write_text(json.dumps(document, indent=4))
    item = prepare(file, NOW, identity={})
    assert item.payloads[0].content == store.encode(make_pass())
    assert not item.rejected


def test_a_handle_makes_a_new_record(tmp_path: Path) -> None:
    item = prepare(record_file(tmp_path, make_pass()), NOW, submitter="octocat", identity={})
    assert item.record.submitter == "octocat"
    assert item.record.id != store.seal(make_pass()).id
    with pytest.raises(InputError, match=r"--as: .* is not a handle"):
        prepare(record_file(tmp_path, make_pass()), NOW, submitter="../x", identity={})


def test_an_edited_record_is_refused_with_advice(tmp_path: Path) -> None:
    file = record_file(tmp_path, make_pass())
    file.write_bytes(file.read_bytes().replace(b'"steps":50', b'"steps":51'))
    with pytest.raises(InputError, match="take the field `id` out"):
        prepare(file, NOW, identity={})


def test_a_name_of_this_machine_stops_it(tmp_path: Path) -> None:
    file = record_file(tmp_path, make_pass(notes="on annsbox"))
    item = prepare(file, NOW, identity={"annsbox": "this machine's name"})
    assert item.rejected
    assert [finding.rank for finding in item.findings] == [Rank.REJECT]


def test_saving_locally_is_the_store(tmp_path: Path) -> None:
    items = prepared(tmp_path, make_pass(), make_llm())
    root = tmp_path / "local"
    paths = save_locally(items, root)
    assert save_locally(items, root) == paths
    assert [path.read_bytes() for path in paths] == [payload.content for payload in payloads(items)]


def test_a_batch_has_one_name_in_any_order(tmp_path: Path) -> None:
    sent = payloads(prepared(tmp_path, make_pass(), make_llm()))
    assert batch_name(sent) == batch_name(sent[::-1])
    assert batch_name(sent) != batch_name(sent[:1])
    assert batch_title(sent).startswith("Add 2 results (")


def test_round_trip_through_a_folder(tmp_path: Path) -> None:
    sent = payloads(
        prepared(
            tmp_path,
            make_pass(),
            make_llm(),
            make_pass(samples=samples(90.0, 91.0, 92.0), notes="ünïcode ✓\nsecond line"),
        )
    )
    target = tmp_path / "shared"
    first = folder.submit(sent, target)
    assert first.sent == tuple(payload.path for payload in sent)
    again = folder.submit(sent, target)
    assert (again.sent, len(again.kept)) == ((), 3)
    round_trip(target, sent)


def test_round_trip_through_a_repository(tmp_path: Path, clone: Path) -> None:
    sent = payloads(prepared(tmp_path, make_pass(), make_llm()))
    (clone / "results" / "README.md").write_text("half an edit of the user's\n")
    (clone / "staged.txt").write_text("staged by the user")
    git(clone, "add", "staged.txt")
    before = git(clone, "status", "--porcelain"), git(clone, "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    receipt = repo.submit(sent, repo.open_clone(clone))
    branch = repo.branch_of(sent)
    assert receipt.sent == tuple(payload.path for payload in sent)
    assert (git(clone, "status", "--porcelain"), git(clone, "rev-parse", "HEAD", "--abbrev-ref", "HEAD")) == before
    upstream = tmp_path / "upstream.git"
    assert git(upstream, "rev-list", "--count", f"main..{branch}").strip() == "1"
    changed = git(upstream, "diff", "--name-status", "main", branch).splitlines()
    assert sorted(changed) == sorted(f"A\tresults/{payload.path}" for payload in sent)
    assert repo.submit(sent, repo.open_clone(clone)).sent == receipt.sent, "submitting again is harmless"
    assert git(upstream, "rev-list", "--count", f"main..{branch}").strip() == "1", "and adds nothing"
    merged = tmp_path / "merged"
    git(tmp_path, "clone", "--quiet", "--branch", branch, str(upstream), str(merged))
    round_trip(merged / "results", sent)
    git(upstream, "update-ref", "refs/heads/main", branch)
    accepted = repo.submit(sent, repo.open_clone(clone))
    assert (accepted.sent, len(accepted.kept)) == ((), 2)


def test_a_repository_with_other_content_at_the_path_is_not_touched(tmp_path: Path, clone: Path) -> None:
    (item,) = prepared(tmp_path, make_pass())
    path = clone / "results" / item.payloads[0].path
    path.parent.mkdir(parents=True)
    path.write_text("other")
    git(clone, "add", "results")
    git(clone, "commit", "--quiet", "-m", "other")
    git(clone, "push", "--quiet", "origin", "main")
    with pytest.raises(InputError, match="other content"):
        repo.submit(list(item.payloads), repo.open_clone(clone))


def test_without_push_the_branch_stays_here(tmp_path: Path, clone: Path) -> None:
    sent = payloads(prepared(tmp_path, make_pass()))
    receipt = repo.submit(sent, repo.open_clone(clone, fetch=False), push=False)
    assert "git push origin" in receipt.next_step
    assert git(tmp_path / "upstream.git", "branch", "--list", "results/*") == ""
    assert git(clone, "cat-file", "blob", f"{repo.branch_of(sent)}:results/{sent[0].path}").encode() == sent[0].content


def test_problems_of_the_clone_are_sentences(tmp_path: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = payloads(prepared(tmp_path, make_pass()))
    with pytest.raises(InputError, match="not a git clone"):
        repo.open_clone(tmp_path)
    with pytest.raises(InputError, match="no remote 'fork'"):
        repo.open_clone(clone, remote="fork")
    git(clone, "remote", "set-url", "origin", "https://ann:secret@127.0.0.1:1/x.git")
    with pytest.raises(InputError, match="cannot be reached") as error:
        repo.open_clone(clone)
    assert "secret" not in str(error.value)
    git(clone, "remote", "set-url", "origin", str(tmp_path / "gone.git"))
    with pytest.raises(InputError, match="cannot be reached"):
        repo.open_clone(clone)
    opened = repo.open_clone(clone, fetch=False)
    with pytest.raises(InputError, match="cannot push"):
        repo.submit(sent, opened)
    for name in GIT:
        if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "")
    with pytest.raises(InputError, match=r"user\.name"):
        repo.submit(sent, opened, push=False)


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r/compare/main...results/ab?expand=1"),
        ("git@github.com:o/r.git", "https://github.com/o/r/compare/main...results/ab?expand=1"),
        ("ssh://git@github.com:22/o/r", "https://github.com/o/r/compare/main...results/ab?expand=1"),
        ("https://ann:token@codeberg.org/o/r/", "https://codeberg.org/o/r/compare/main...results/ab"),
        ("/srv/git/r.git", None),
        ("https://example.org/o/r.git", None),
    ],
)
def test_addresses_of_pull_requests(remote: str, address: str | None) -> None:
    assert repo.pull_request_address(remote, "main", "results/ab") == address


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_submit_killed_at_52_random_points_is_completed_by_a_retry(tmp_path: Path, clone: Path) -> None:
    """The whole process group dies, git children included, but not the server; then one retry leaves one branch with
    one commit."""
    chance = random.Random(8)
    git(clone, "config", "remote.origin.receivepack", "setsid git-receive-pack")
    upstream = tmp_path / "upstream.git"
    batches = [payloads(prepared(tmp_path, make_pass(created=NOW - 10_000 - number))) for number in range(13)]
    opened = repo.open_clone(clone, fetch=False)
    start = time.perf_counter()
    repo.submit(payloads(prepared(tmp_path, make_pass(created=NOW - 9_000))), opened)
    usual = time.perf_counter() - start
    cut_short = 0
    for number, sent in enumerate(batches):
        latest, wanted = usual, cut_short + 4
        while cut_short < wanted:
            child = os.fork()
            if child == 0:
                try:
                    os.setsid()
                    folder.submit(sent, tmp_path / "local")
                    repo.submit(sent, opened)
                finally:
                    os._exit(0)
            time.sleep(chance.uniform(0.002, latest))
            with contextlib.suppress(ProcessLookupError):  # the group, once the child has made its own
                os.killpg(child, signal.SIGKILL)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            cut_short += os.WIFSIGNALED(status)
            latest *= 1.0 if os.WIFSIGNALED(status) else 0.7  # it was done already: kill the next one earlier
        repo.submit(sent, opened)
        folder.submit(sent, tmp_path / "local")
        branch = repo.branch_of(sent)
        assert git(upstream, "rev-list", "--count", f"main..{branch}").strip() == "1", number
        assert git(upstream, "cat-file", "blob", f"{branch}:results/{sent[0].path}").encode() == sent[0].content
    left = sorted(path.name for path in (tmp_path / "local").rglob("*") if path.is_file())
    assert left == sorted(Path(sent[0].path).name for sent in batches)
    assert git(upstream, "fsck", "--strict", "--no-dangling") == ""
    assert cut_short == 52


def test_a_lock_left_by_a_killed_git_is_removed_when_stale(tmp_path: Path, clone: Path) -> None:
    sent = payloads(prepared(tmp_path, make_pass()))
    lock = clone / ".git" / "refs" / "heads" / f"{repo.branch_of(sent)}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (time.time() - 60, time.time() - 60))
    repo.submit(sent, repo.open_clone(clone, fetch=False), push=False)
    assert not lock.exists()


def test_the_same_measurement_is_a_duplicate_however_it_is_credited_or_dated(tmp_path: Path) -> None:
    for change in ({}, {"created": NOW - 86_399}, {"submitter": "eve"}, {"notes": "mine"}):
        store.write(tmp_path, make_pass(**change))
    store.write(tmp_path, make_pass(samples=samples(90.0, 91.0)))
    out_of_memory = schema.Outcome(result="oom-gpu")
    for created in (NOW - 50, NOW - 60):  # no numbers: two runs that failed the same way are two runs
        store.write(tmp_path, make_pass(created=created, samples=(), outcome=out_of_memory))
    report = validate([tmp_path], NOW)
    assert [problem.finding.code for problem in report.of(Rank.FLAG)] == ["duplicate"] * 3
    assert len(accepted(tmp_path, NOW)[0]) == 4


def test_an_oom_record_is_first_class(tmp_path: Path) -> None:
    outcome = schema.Outcome(result="oom-gpu", phase="denoise", allocated=11 << 30, requested=2 << 30)
    (item,) = prepared(tmp_path, make_pass(samples=(), outcome=outcome, transfer=None))
    assert not item.rejected
    folder.submit(item.payloads, tmp_path / "results")
    assert [(finding.rank, finding.code) for finding in item.findings] == [(Rank.NOTE, "failed")]
    assert validate([tmp_path / "results"], NOW).valid == 1

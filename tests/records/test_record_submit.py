"""Submission: identical bytes at every target, exactly one copy, and nothing lost when it is cut short."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from dataset_standin import DATASET, TOKEN, DatasetHub
from record_samples import NOW, make_llm, make_pass, samples

from fitcheck.errors import InputError
from fitcheck.records import query, schema, store
from fitcheck.records.findings import Rank
from fitcheck.records.submit import Prepared, prepare, save_locally
from fitcheck.records.targets import Payload, batch_name, batch_title, folder, hub, repo
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


def record_file(where: Path, record: Any) -> Path:
    file = where / f"{record.kind}-{record.created}.json"
    file.write_bytes(store.encode(record))
    return file


def prepared(where: Path, *records: Any) -> list[Prepared]:
    return [prepare(record_file(where, record), NOW, identity={}) for record in records]


def payloads(items: list[Prepared]) -> list[Payload]:
    return [payload for item in items for payload in item.payloads]


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


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite runs with HF_HUB_OFFLINE; these tests talk to 127.0.0.1."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def api_of(standin: DatasetHub) -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=standin.address, token=TOKEN)


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
    with pytest.raises(InputError, match="submitter"):
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


def round_trip(root: Path, sent: list[Payload]) -> None:
    """Validate clean, and query back the identical bytes."""
    report = validate([root], NOW)
    assert (report.valid, report.problems) == (len(sent), [])
    found = query.rows(query.run(query.open_records(root), "SELECT id, document FROM records"))
    assert {row["document"].encode() for row in found} == {payload.content for payload in sent}
    parquet = root.parent / "compact.parquet"
    assert query.compact([root], parquet) == len(sent)
    found = query.rows(query.run(query.open_records(parquet), "SELECT document FROM records"))
    assert {row["document"].encode() for row in found} == {payload.content for payload in sent}


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


def test_round_trip_through_a_hub(tmp_path: Path, online: None) -> None:
    sent = payloads(prepared(tmp_path, make_pass(), make_llm()))
    with DatasetHub() as standin:
        receipt = hub.submit(sent, DATASET, api_of(standin), "ann")
        assert receipt.sent == tuple(payload.path for payload in sent)
        assert receipt.place == f"{standin.address}/datasets/{DATASET}/discussions/1"
        assert standin.everything() == [(f"results/{payload.path}", payload.content) for payload in sent]
        again = hub.submit(sent, DATASET, api_of(standin), "ann")
        assert (again.sent, len(again.kept)) == ((), 2)
        assert again.place == receipt.place
        more = payloads(prepared(tmp_path, make_pass(), make_pass(samples=samples(80.0, 81.0, 82.0), notes="new")))
        assert len(hub.submit(more, DATASET, api_of(standin), "ann").sent) == 1, "only what is new is sent"
        assert len(standin.everything()) == 3
        standin.main |= dict(standin.everything())
        standin.pull_requests.clear()
        assert hub.submit(sent, DATASET, api_of(standin), "ann").sent == ()
        merged = tmp_path / "merged"
        for path, content in standin.main.items():
            (merged / path).parent.mkdir(parents=True, exist_ok=True)
            (merged / path).write_bytes(content)
        assert standin.unknown == []
    round_trip(merged / "results", [*sent, more[1]])


@pytest.mark.parametrize("fault", ["lose_answers", "fail_commits"])
def test_a_lost_connection_leaves_exactly_one_copy(tmp_path: Path, online: None, fault: str) -> None:
    sent = payloads(prepared(tmp_path, make_pass()))
    with DatasetHub(**{fault: 1}) as standin:
        receipt = hub.submit(sent, DATASET, api_of(standin), "ann")
        assert standin.everything() == [(f"results/{sent[0].path}", sent[0].content)]
        assert receipt.place.endswith("/discussions/1")


def test_a_hub_that_stays_away_is_one_sentence(tmp_path: Path, online: None) -> None:
    sent = payloads(prepared(tmp_path, make_pass()))
    with DatasetHub() as standin:
        api = api_of(standin)
    with pytest.raises(InputError, match="submit again to retry"):
        hub.submit(sent, DATASET, api, "ann")


def test_other_content_on_the_hub_is_not_touched(tmp_path: Path, online: None) -> None:
    sent = payloads(prepared(tmp_path, make_pass()))
    with DatasetHub(main={f"results/{sent[0].path}": b"other"}) as standin:
        with pytest.raises(InputError, match="other content"):
            hub.submit(sent, DATASET, api_of(standin), "ann")
        assert standin.pull_requests == []


def key_pair(where: Path, name: str) -> Path:
    where.mkdir(exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(where / name)], check=True)
    return where / name


@pytest.mark.skipif(os.system("command -v ssh-keygen > /dev/null") != 0, reason="needs ssh-keygen")
def test_signatures_are_made_sent_and_verified(tmp_path: Path) -> None:
    ann, bob = key_pair(tmp_path / "keys", "ann"), key_pair(tmp_path / "keys", "bob")
    file = record_file(tmp_path, make_pass())
    item = prepare(file, NOW, submitter="ann", key=ann, identity={})
    assert [payload.path.endswith(".json.sig") for payload in item.payloads] == [False, True]
    root = tmp_path / "results"
    folder.submit(item.payloads, root)

    def finding() -> tuple[Rank, str]:
        (problem,) = validate([root], NOW).problems
        return problem.finding.rank, problem.finding.message

    assert finding() == (Rank.NOTE, "signed with some key; no list of signers says whose")
    signers = root / "allowed_signers"
    signers.write_text(f"ann {ann.with_suffix('.pub').read_text()}")
    assert finding() == (Rank.NOTE, "signed by ann")
    signers.write_text(f"bob {bob.with_suffix('.pub').read_text()}")
    assert finding() == (Rank.FLAG, "signed with a key that allowed_signers does not list: nobody vouches for it")
    signers.write_text(f"bob {ann.with_suffix('.pub').read_text()}")
    assert finding()[0] is Rank.REJECT
    signature = root / item.payloads[1].path
    forged = prepare(file, NOW, submitter="eve", key=bob, identity={})
    signature.write_bytes(forged.payloads[1].content)
    assert finding()[0] is Rank.REJECT
    signature.write_bytes(b"-----BEGIN SSH SIGNATURE-----\nnonsense\n-----END SSH SIGNATURE-----\n")
    assert finding()[0] is Rank.REJECT
    with pytest.raises(InputError, match="not a key file"):
        prepare(file, NOW, key=tmp_path / "nothing", identity={})
    (tmp_path / "text").write_text("not a key")
    with pytest.raises(InputError, match="could not sign"):
        prepare(file, NOW, key=tmp_path / "text", identity={})


@pytest.mark.skipif(os.system("command -v ssh-keygen > /dev/null") != 0, reason="needs ssh-keygen")
def test_a_signature_is_neither_stripped_nor_taken_over(tmp_path: Path) -> None:
    ann = key_pair(tmp_path / "keys", "ann")
    item = prepare(record_file(tmp_path, make_pass()), NOW, submitter="ann", key=ann, identity={})
    root = tmp_path / "results"
    folder.submit(item.payloads, root)
    (root / "allowed_signers").write_text(f"# signers\nann,anna {ann.with_suffix('.pub').read_text()}")
    stored = root / item.payloads[0].path
    assert prepare(stored, NOW, identity={}).payloads == item.payloads, "sent again, it keeps its signature"
    with pytest.raises(InputError, match="credited to ann"):
        prepare(stored, NOW, submitter="eve", identity={})
    (root / item.payloads[1].path).unlink()
    (problem,) = validate([root], NOW).problems
    assert (problem.finding.rank, problem.finding.code) == (Rank.FLAG, "signature-missing")
    with pytest.raises(InputError, match="credited to ann"):
        prepare(stored, NOW, submitter="eve", identity={})


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


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b'{"name":5}', b"null", b"", b"\xff"])
def test_a_hub_that_answers_with_something_else_is_one_sentence(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = HfApi(endpoint=f"http://127.0.0.1:{server.server_address[1]}", token=TOKEN)
        monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
        said: list[str] = []
        for step in (lambda: hub.connect(DATASET), lambda: hub.submit([Payload("x/y", b"{}")], DATASET, api, "ann")):
            try:
                step()
            except InputError as problem:
                said.append(str(problem))
        server.shutdown()
    assert said
    assert all("\n" not in one and one.startswith("--to hub") for one in said)

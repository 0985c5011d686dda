"""Submitting to a git repository: one commit on a branch of the submitter's clone, pushed to their remote.

The commit is built from git's own objects with a private index, so the clone's files, index and checked-out branch stay
as they are. The branch appears in one atomic step; until then a killed submit leaves only unreachable objects.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import InputError, NetworkError, RecordError
from fitcheck.records.targets import Payload, Receipt, batch_name, batch_title

FOLDER = "results"
_TIMEOUT = 120
_STALE_LOCK_SECONDS = 2.0
_HOSTS = {
    "github.com": "https://github.com/{path}/compare/{base}...{branch}?expand=1",
    "gitlab.com": "https://gitlab.com/{path}/-/merge_requests/new?merge_request[source_branch]={branch}",
    "codeberg.org": "https://codeberg.org/{path}/compare/{base}...{branch}",
}
_REMOTE = re.compile(r"(?:https?://(?:[^@/]*@)?|ssh://(?:[^@/]*@)?|[^@/]*@)([\w.-]+)(?::\d+)?[:/](.+?)(?:\.git)?/?")


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone that results can be committed in. ``base`` is the commit that they are added to."""

    root: Path
    remote: str
    base: str
    base_branch: str


def open_clone(path: Path, remote: str = "origin", fetch: bool = True) -> Clone:
    """The clone at ``path``, its remote reached once so that a missing network or login shows before any work.

    Raises InputError when it is no clone of fitcheck, or the remote cannot be reached.
    """
    root = Path(_git(path, "rev-parse", "--show-toplevel", why=f"--clone: {path} is not a git clone").strip())
    remotes = _git(root, "remote").split()
    if fetch and remote not in remotes:
        raise RecordError(f"--clone: {root} has no remote {remote!r}; add one with `git remote add`, or use --no-push.")
    if fetch:
        _git(root, "fetch", "--quiet", remote, why=f"the remote {remote!r} cannot be reached or does not let you in")
    for name in (f"refs/remotes/{remote}/HEAD", f"refs/remotes/{remote}/main", f"refs/remotes/{remote}/master", "HEAD"):
        found = _try(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if found is not None:
            target = _try(root, "symbolic-ref", "--quiet", "--short", name) or name
            base_branch = target.strip().removeprefix("refs/remotes/").removeprefix(f"{remote}/")
            break
    else:
        raise RecordError(f"--clone: {root} has no commit yet; clone fitcheck's repository first.")
    if _try(root, "rev-parse", "--verify", "--quiet", f"{found.strip()}:{FOLDER}") is None:
        raise RecordError(f"--clone: {root} has no folder {FOLDER}/; give a clone of fitcheck's repository.")
    return Clone(root, remote, found.strip(), base_branch)


def author(clone: Clone) -> str:
    """The name and address that the commit will carry. Raises InputError when git does not know one."""
    identity = _git(
        clone.root, "var", "GIT_AUTHOR_IDENT", why="git does not know your name; set user.name and user.email"
    )
    return identity.rsplit(" ", 2)[0]


def branch_of(payloads: Sequence[Payload]) -> str:
    """The branch of a batch, "results/" and 12 hex digits: the same files go to the same branch."""
    return f"results/{batch_name(payloads)}"


def submit(payloads: Sequence[Payload], clone: Clone, push: bool = True) -> Receipt:
    """Commit what the base lacks on its own branch and push that. The same set again finds its branch and adds nothing.

    Raises InputError when the base has other content at a path, or git or the remote refuses.
    """
    missing = _missing(payloads, clone.root, clone.base)
    kept = tuple(payload.path for payload in payloads if payload not in missing)
    if not missing:
        return Receipt(f"{clone.root} ({clone.base_branch})", (), kept, "nothing to do: all of it is accepted already")
    branch = branch_of(missing)
    if push:
        probe = ("push", "--quiet", "--dry-run", clone.remote, f"{clone.base}:refs/heads/{branch}-probe")
        _git(
            clone.root,
            *probe,
            why=f"you cannot push to {clone.remote!r}; fork the repository and use the fork as remote",
        )
    known = _try(clone.root, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
    if known is None or _missing(missing, clone.root, known.strip()):
        author(clone)
        commit = _commit(missing, clone)
        _set_branch(clone.root, branch, commit)
        known = commit
    if push:
        _push(clone, known.strip(), branch)
    return Receipt(
        f"branch {branch}", tuple(payload.path for payload in missing), kept, _next_step(clone, branch, pushed=push)
    )


def _push(clone: Clone, commit: str, branch: str) -> None:
    """Push, and try again shortly after a failure: the other side may still be busy with a push that was cut short."""
    import tenacity

    why = f"the push to {clone.remote!r} failed; the commit is kept on {branch}, submit again to retry"
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_exponential(multiplier=0.3, max=5),
        retry=tenacity.retry_if_exception_type(InputError),
        reraise=True,
    )
    retrying(_git, clone.root, "push", "--quiet", clone.remote, f"{commit}:refs/heads/{branch}", why=why)


def _missing(payloads: Sequence[Payload], root: Path, commit: str) -> list[Payload]:
    """Those that ``commit`` does not have. Raises InputError when it has a path with other content."""
    missing = []
    for payload in payloads:
        there = _try(root, "rev-parse", "--verify", "--quiet", f"{commit}:{FOLDER}/{payload.path}")
        if there is None:
            missing.append(payload)
        elif there.strip() != payload.git_blob:
            raise RecordError(f"{FOLDER}/{payload.path}: the repository has this file with other content.")
    return missing


def _commit(payloads: Sequence[Payload], clone: Clone) -> str:
    with tempfile.TemporaryDirectory(prefix="fitcheck-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        _git(clone.root, "read-tree", clone.base, environment=index)
        for payload in payloads:
            blob = _git(clone.root, "hash-object", "-w", "--stdin", content=payload.content).strip()
            entry = f"100644,{blob},{FOLDER}/{payload.path}"
            _git(clone.root, "update-index", "--add", "--cacheinfo", entry, environment=index)
        tree = _git(clone.root, "write-tree", environment=index).strip()
    return _git(clone.root, "commit-tree", tree, "-p", clone.base, "-m", batch_title(payloads)).strip()


def _set_branch(root: Path, branch: str, commit: str) -> None:
    """Point the branch at ``commit``. A lock that a killed git left on this branch is removed once it is stale: git
    holds such a lock for milliseconds, and only this set of records uses the branch."""
    if _try(root, "update-ref", f"refs/heads/{branch}", commit) is not None:
        return
    lock = root / _git(root, "rev-parse", "--git-path", f"refs/heads/{branch}.lock").strip()
    if lock.exists():
        time.sleep(max(0.0, _STALE_LOCK_SECONDS - (time.time() - lock.stat().st_mtime)))
        lock.unlink(missing_ok=True)
    _git(root, "update-ref", f"refs/heads/{branch}", commit, why=f"git cannot make the branch {branch}")


def _next_step(clone: Clone, branch: str, pushed: bool) -> str:
    if not pushed:
        return f"push it with `git push {clone.remote} {branch}`, then open a pull request"
    address = pull_request_address(
        _git(clone.root, "remote", "get-url", clone.remote).strip(), clone.base_branch, branch
    )
    return f"open a pull request: {address}" if address else f"open a pull request from the branch {branch}"


def pull_request_address(remote: str, base: str, branch: str) -> str | None:
    """Where a browser opens the pull request for a pushed branch; None for a host whose pages are not known."""
    match = _REMOTE.fullmatch(remote)
    if match is None or match[1] not in _HOSTS:
        return None
    return _HOSTS[match[1]].format(path=match[2], base=base, branch=branch)


def _kind(arguments: Sequence[str]) -> type[InputError]:
    """What a failure of this git command is about: the remote, or the clone."""
    return NetworkError if arguments[0] in ("fetch", "push") else RecordError


def _run(
    root: Path, arguments: Sequence[str], content: bytes, environment: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    settings = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **environment}
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, input=content, env=settings, capture_output=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise RecordError("git is not installed; install it, or submit with --to FOLDER.") from error
    except subprocess.TimeoutExpired as error:
        raise _kind(arguments)(
            f"git {arguments[0]} did not finish in {_TIMEOUT} s; the record is saved, submit again."
        ) from error


def _git(
    root: Path, *arguments: str, why: str = "", content: bytes = b"", environment: dict[str, str] | None = None
) -> str:
    result = _run(root, arguments, content, environment or {})
    if result.returncode:
        lines = result.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise _kind(arguments)(f"{why or f'git {arguments[0]} failed'} ({_public(lines[-1])[:200]}).")
    return result.stdout.decode("utf-8", "replace")


def _public(line: str) -> str:
    """git prints the remote's address on failure; a password or token in it must not be repeated."""
    return re.sub(r"(https?://)[^@/\s']+@", r"\1", line)


def _try(root: Path, *arguments: str) -> str | None:
    result = _run(root, arguments, b"", {})
    return result.stdout.decode("utf-8", "replace") if result.returncode == 0 else None

"""Kills what writes at random moments: ``python tests/fuzzing/kills.py [--points 200]``.

Each surface runs in a process group of its own that gets SIGKILL somewhere in its usual time. After that no file may be
half-written; the same work again, unkilled, has to leave what it would have left without the kill: nothing lost,
nothing twice, no temporary file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / room) for room in ("fuzzing", "records", "bench"))]

import psutil
from record_samples import NOW, make_pass

from fitcheck.records import store

Tree = dict[str, bytes]


def tree(root: Path) -> Tree:
    """Every file below ``root``, hidden ones too."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def published(root: Path) -> Tree:
    """The files that a reader would look at: temporary ones are hidden."""
    return {
        path: content for path, content in tree(root).items() if not any(p.startswith(".") for p in path.split("/"))
    }


@dataclass(frozen=True)
class Surface:
    """``act`` does the work in a folder; ``inspect`` looks at the folder after a kill and ``finish`` after the work was
    done again: both raise AssertionError. ``share`` is how many of the kills it gets, of 20."""

    name: str
    begin: Callable[[Path], None]
    act: Callable[[Path], None]
    inspect: Callable[[Path], None]
    finish: Callable[[Path], None]
    share: int


def forked(act: Callable[[Path], None], folder: Path) -> int:
    """Starts ``act`` in a process group of its own; its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        with (folder / ".said").open("wb") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        act(folder)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def killed(child: int, seconds: float) -> bool:
    """Kills the group of ``child`` after so long; whether that came before its end."""
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):  # the group, once the child has made its own
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def run(surface: Surface, points: int, seed: int = 0) -> int:
    """Kills ``surface`` so often; the number of kills. Raises AssertionError for what was lost, half or twice."""
    chance, done, usual = random.Random(seed), 0, 0.0
    while done < points:
        with tempfile.TemporaryDirectory(prefix="kills-") as name:
            folder = Path(name)
            surface.begin(folder)
            if not usual:
                started = time.monotonic()
                _whole(surface, folder)
                usual = time.monotonic() - started
                continue
            child = forked(surface.act, folder)
            if not killed(child, chance.uniform(0.0, usual)):
                usual *= 0.9  # it was faster than the first one
                continue
            done += 1
            surface.inspect(folder)
            _whole(surface, folder)
    return done


def _whole(surface: Surface, folder: Path) -> None:
    _, status = os.waitpid(forked(surface.act, folder), 0)
    said = (folder / ".said").read_text("utf-8", "replace")
    assert os.waitstatus_to_exitcode(status) == 0, f"{surface.name} does not go on after a kill: {said[-2000:]}"
    surface.finish(folder)


# ---- the store of records, and sending to a folder

RECORDS = [make_pass(created=NOW - 10_000 - number) for number in range(40)]
FILES = {store.relative_path(one).as_posix(): store.encode(one) for one in RECORDS}


def nothing(folder: Path) -> None:
    """There is nothing to lay out before."""


def write_records(folder: Path) -> None:
    for one in RECORDS:
        store.write(folder / "own", one)


def no_half_record(*roots: str) -> Callable[[Path], None]:
    def look(folder: Path) -> None:
        for root in roots:
            for path, content in published(folder / root).items():
                assert FILES.get(path) == content, f"{path}: {len(content)} bytes"

    return look


def every_record(*roots: str) -> Callable[[Path], None]:
    def look(folder: Path) -> None:
        for root in roots:
            assert tree(folder / root) == FILES

    return look


def lay_out_records(folder: Path) -> None:
    (folder / "to").mkdir()
    (folder / "from").mkdir()
    for number, content in enumerate(FILES.values()):
        (folder / "from" / f"{number}.json").write_bytes(content)


def submit(folder: Path) -> None:
    from fitcheck.cli.main import application

    os.environ["FITCHECK_RECORDS"] = str(folder / "own")
    files = [str(path) for path in sorted((folder / "from").iterdir())]
    application(("submit",))(["submit", *files, "--to", str(folder / "to")], standalone_mode=False)


# ---- the site


class Site:
    """The site of one card built over the site of another."""

    def __init__(self) -> None:
        from fitcheck.pages import build
        from fitcheck.pages.site_inputs import gather

        self._build = build.build
        self._before, self._after = gather(None, "rtx-3060-12gb"), gather(None, "rtx-4070")
        with tempfile.TemporaryDirectory() as name:
            self._build(self._before, Path(name), jobs=1)
            self.old = tree(Path(name))
            self._build(self._after, Path(name), jobs=1)
            self.new = tree(Path(name))

    def begin(self, folder: Path) -> None:
        for path, content in self.old.items():
            place = folder / "site" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def act(self, folder: Path) -> None:
        self._build(self._after, folder / "site", jobs=1)

    def inspect(self, folder: Path) -> None:
        for path, content in published(folder / "site").items():
            assert content in (self.old.get(path), self.new.get(path)), f"{path} is half-written"

    def finish(self, folder: Path) -> None:
        assert tree(folder / "site") == self.new


# ---- a program measured from outside

MEASURED = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()} '); time.sleep(0.8)"


def bench_exec(folder: Path) -> None:
    from bench.external import run_external
    from bench.unfinished import recover

    recover(folder / "own")
    done = run_external([sys.executable, "-c", MEASURED, str(folder / "ran")], root=folder / "own")
    store.write(folder / "own", store.seal(done.record))
    done.draft.drop()


def _runs(folder: Path) -> list[int]:
    return [int(one) for one in (folder / "ran").read_text().split()] if (folder / "ran").exists() else []


def nothing_runs_on(folder: Path) -> None:
    end = time.monotonic() + 10
    while any(psutil.pid_exists(one) for one in _runs(folder)):
        assert time.monotonic() < end, "the program outlives its bench"
        time.sleep(0.02)
    for path in store.record_files(folder / "own") if (folder / "own").exists() else ():
        store.read(path)
    drafts = list((folder / "own" / ".unfinished").glob("*.json"))
    for path in drafts:
        store.read(path)
    # what had not run long enough for a first draft is no measurement yet
    (folder / "had").write_text(
        str(len(drafts) or len(list(store.record_files(folder / "own"))) if (folder / "own").exists() else 0)
    )


def measured_twice(folder: Path) -> None:
    records = list(store.record_files(folder / "own"))
    had = int((folder / "had").read_text()) if (folder / "had").exists() else 0
    assert len(records) == had + 1, f"{len(records)} records, {had} before"
    outcomes = sorted(store.read(path).outcome.result for path in records)
    assert outcomes.count("ok") >= 1
    assert not (folder / "own" / ".unfinished").exists()


# ---- a series


def series(folder: Path) -> None:
    from bench_fakes import FakeNvml
    from rich.console import Console
    from test_suite import fake_runner

    from bench import series as under_way
    from bench.meters import NvmlCard
    from bench.suite import run_suite

    def counted(cell: Any, *arguments: Any) -> Any:
        with (folder / "began").open("a") as file:
            file.write(f"{cell.placement.mode}\n")
        return fake_runner(cell, *arguments)

    def suite(cells: Sequence[Any], setting: Any, console: Console, finished: Any) -> Any:
        return run_suite(cells, setting, console, finished, counted)

    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    setattr(under_way, "run_suite", suite)  # noqa: B010 - it is no name that others may import
    NvmlCard.open = lambda selector=0, nvml=None: NvmlCard(FakeNvml(), "card")  # type: ignore[method-assign]
    raise SystemExit(
        under_way.main([str(folder / "plan.json"), "--out", str(folder / "out"), "--budget", "300", "--ram", "64GiB"])
    )


def lay_out_plan(folder: Path) -> None:
    entry = {"model": "sensenova-u1-8b-mot", "tier": "Q4_K_S", "mode": "full,low,balanced", "steps": 2, "repeats": 1,
             "warmup": 0}  # fmt: skip
    (folder / "plan.json").write_text(json.dumps([entry, entry | {"mode": "full"}]))


def _kept(folder: Path) -> list[str]:
    path = folder / "out" / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["id"] for line in lines if line.endswith(b"\n")]


def remember(folder: Path) -> None:
    (folder / "kept").write_text(json.dumps(_kept(folder)))
    (folder / "began").unlink(missing_ok=True)
    summary = folder / "out" / "summary.json"
    if summary.exists():
        json.loads(summary.read_bytes())


def went_on(folder: Path) -> None:
    before = json.loads((folder / "kept").read_text()) if (folder / "kept").exists() else []
    after, began = _kept(folder), (folder / "began").read_text().split() if (folder / "began").exists() else []
    assert after[: len(before)] == before, "a record was lost"
    assert len(after) == len(set(after)) == 4
    assert began == ["full", "low", "balanced", "full"][len(before) :], "a cell was repeated or left out"
    entries = json.loads((folder / "out" / "summary.json").read_bytes())["entries"]
    assert [entry["record"] for entry in entries] == after
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["records.jsonl", "summary.json"]


def surfaces() -> list[Surface]:
    """Everything that writes what must not be lost."""
    site = Site()
    return [
        Surface("store", nothing, write_records, no_half_record("own"), every_record("own"), 6),
        Surface("submit", lay_out_records, submit, no_half_record("own", "to"), every_record("own", "to"), 4),
        Surface("site build", site.begin, site.act, site.inspect, site.finish, 3),
        Surface("bench exec", nothing, bench_exec, nothing_runs_on, measured_twice, 3),
        Surface("series", lay_out_plan, series, remember, went_on, 4),
    ]


def main() -> int:
    """0 when every kill was survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    every = surfaces()
    whole, total = sum(one.share for one in every), 0
    for surface in every:
        started = time.process_time()
        total += run(surface, -(-given.points * surface.share // whole), given.seed)
        print(f"{surface.name}: {total} kills so far, all survived ({time.process_time() - started:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    with contextlib.suppress(subprocess.SubprocessError):
        sys.exit(main())

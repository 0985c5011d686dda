"""``fitcheck regress`` as a shell runs it: exit codes, JSON, Markdown, and one sentence for what cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "records" / "regressions"))

from regression_runs import a_model, a_record

from fitcheck.records import schema, store

Run = Callable[..., Any]
JITTER = (0.99, 1.0, 1.01, 1.004, 0.996)


def fill(root: Path, revision: str, slower: float = 1.0, day: int = -100, **changes: Any) -> list[Path]:
    made = [
        a_record(100 * slower * jitter, 101 * slower * jitter, revision=revision, day=day + n, **changes)
        for n, jitter in enumerate(JITTER)
    ]
    return [store.write(root, record) for record in made]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    for number, revision in enumerate(("v1", "v2", "v3", "v4")):
        fill(root, revision, day=-300 + 10 * number)
    return root


def test_watch_raises_the_alarm_in_every_format(run: Run, tree: Path, tmp_path: Path) -> None:
    fill(tmp_path / "new", "v5", 1.1, day=-20)
    done = run("regress", "watch", "--against", tree, tmp_path / "new", "--json", "--summary", tmp_path / "pr.md")
    assert done.code == 1
    document = json.loads(done.out)
    assert document["format"] == 1
    assert document["regression"] is True
    found = {one["metric"]: one for one in document["judgements"]}
    assert found["seconds"]["verdict"] == "regression"
    assert found["seconds"]["ratio"] == pytest.approx(1.1, rel=0.01)
    assert found["seconds"]["causes"] == ["runtime"]
    assert found["allocated"]["verdict"] == "unchanged"
    text = (tmp_path / "pr.md").read_text("utf-8")
    assert text.startswith("**REGRESSION")
    assert "| regression |" in text
    table = run("regress", "watch", "--against", tree, tmp_path / "new")
    assert table.code == 1
    assert b"v4 -> v5" in table.out


def test_watch_is_content_with_an_equal_release(run: Run, tree: Path, tmp_path: Path) -> None:
    fill(tmp_path / "new", "v5", day=-20)
    done = run("regress", "watch", "--against", tree, tmp_path / "new", "--json")
    assert done.code == 0
    assert json.loads(done.out)["regression"] is False


def test_an_acknowledged_change_passes_until_it_grows_or_expires(run: Run, tree: Path, tmp_path: Path) -> None:
    fill(tmp_path / "new", "v5", 1.1, day=-20)
    kept = tmp_path / "regressions.toml"
    entry = '[[acknowledged]]\nseries = "*"\nmetric = "*"\nratio = {}\nreason = "exact attention"\n{}'
    kept.write_text(entry.format(1.15, ""), "utf-8")
    done = run("regress", "watch", "--against", tree, tmp_path / "new", "--json")
    assert done.code == 0
    assert json.loads(done.out)["summary"]["acknowledged"] > 0
    kept.write_text(entry.format(1.05, ""), "utf-8")
    assert run("regress", "watch", "--against", tree, tmp_path / "new").code == 1
    kept.write_text(entry.format(1.15, "until = 2020-01-01\n"), "utf-8")
    assert run("regress", "watch", "--against", tree, tmp_path / "new").code == 1


def test_a_pinned_baseline_is_the_one_compared_with(run: Run, tree: Path, tmp_path: Path) -> None:
    pinned = fill(tree, "old", 0.8, day=-400)
    fill(tmp_path / "new", "v5", day=-20)
    assert run("regress", "watch", "--against", tree, tmp_path / "new").code == 0
    names = json.dumps([path.stem for path in pinned])
    (tmp_path / "regressions.toml").write_text(
        f'[[pinned]]\nseries = "*"\nrecords = {names}\nreason = "1.0"\n', "utf-8"
    )
    assert run("regress", "watch", "--against", tree, tmp_path / "new").code == 1


def test_compare_by_query_and_history(run: Run, tree: Path) -> None:
    fill(tree, "v5", 1.2, day=-20)
    assert run("regress", "compare", "revision=v4", "revision=v5").code == 1
    assert run("regress", "compare", "revision=v5", "revision=v4").code == 0
    done = run("regress", "history", "--model", "sensenova-u1-8b-mot", "--metric", "seconds", "--json")
    assert done.code == 1
    (track,) = json.loads(done.out)["tracks"]
    (change,) = track["changes"]
    assert change["index"] == 20
    assert change["judgement"]["changes"][0]["after"] == ["v5"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["", "revision=v1"], "empty query"),
        (["revision=none", "revision=v1"], "none of 20 records"),
        (["colour=red", "revision=v1"], "'colour' is nothing to ask for"),
        (["revision=v1", "revision=v1"], "on both sides"),
        (["missing/", "revision=v1"], "no such file or folder"),
        (["since=yesterday", "revision=v1"], "is not a date"),
        (["revision=v1", "revision=v2", "--effect", "-3"], "percentage above 0"),
    ],
)
def test_bad_input_is_one_sentence(run: Run, tree: Path, arguments: list[str], words: str) -> None:
    done = run("regress", "compare", *arguments)
    assert done.code == 2
    assert words in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_a_baseline_of_another_cell_is_refused_by_name(run: Run, tree: Path, tmp_path: Path) -> None:
    fill(tmp_path / "new", "v5", mode="balanced")
    done = run("regress", "compare", tree, tmp_path / "new")
    assert done.code == 2
    assert "runtime.mode is balanced, there low" in done.err
    assert run("regress", "compare", tree, tmp_path / "new", "--across", "runtime.mode").code == 0


def test_flagged_doubled_and_foreign_records_are_left_out_and_said(run: Run, tree: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    fill(new, "v5", day=-20)
    flagged = a_record(100.0, 180.0, revision="v5", day=-19)  # a spread that validation flags
    store.write(new, flagged)
    doubled = a_record(99.0, 99.99, revision="v5", day=-20, notes="again")
    store.write(new, doubled)
    (new / "future.json").write_text('{"schema_version": 99}', "utf-8")
    done = run("regress", "watch", "--against", tree, new)
    assert done.code == 0
    assert "1 record was left out as flagged by validation (spread 1)" in done.err
    assert "1 record was left out as the same measurement" in done.err
    assert "1 record was left out as not valid" in done.err
    assert "version" in done.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[acknowledged]]\nseries = 1\n", "ratio"),
        ('[[acknowledged]]\nseries = "*"\nmetric = "*"\nratio = 1.1\n', "reason is missing"),
        ('[[pinned]]\nseries = "*"\nrecords = []\nreason = "x"\n', "list of record ids"),
        ("pinned = 3\n", "[[pinned]]"),
        ("[other]\n", "'other' is unknown"),
        ("not toml", "not valid TOML"),
    ],
)
def test_a_file_of_pins_that_cannot_be_read(run: Run, tree: Path, tmp_path: Path, text: str, words: str) -> None:
    kept = tmp_path / "bad.toml"
    kept.write_text(text, "utf-8")
    done = run("regress", "compare", "revision=v1", "revision=v2", "--kept", kept)
    assert done.code == 2
    assert words in done.err


BENCH = """
import json, sys
sys.path[:0] = {paths}
from pathlib import Path
from regression_runs import a_model, a_record
from fitcheck.records import schema, store
number = int(sys.argv[1][1:])
slow = 1.2 if number >= {place} else 1.0
store.write(Path(sys.argv[2]), a_record(*(100 * slow * j for j in (0.995, 1.0, 1.004)), revision=sys.argv[1]))
"""


def test_bisect_runs_a_command_at_each_step(run: Run, tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "records"
    paths = [str(folder), str(folder / "regressions"), str(folder.parents[1])]
    script = tmp_path / "bench.py"
    script.write_text(BENCH.format(paths=paths, place=6), "utf-8")
    (tmp_path / "row").write_text("".join(f"r{number}\n" for number in range(10)), "utf-8")
    command = ("--", sys.executable, script, "{revision}", "{out}")
    done = run("regress", "bisect", "--revisions", "row", "--json", *command)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["first_bad"], found["last_good"]) == ("r6", "r5")
    assert found["ratio"] == pytest.approx(1.2, rel=0.01)


def test_bisect_takes_commits_from_git(run: Run, tmp_path: Path) -> None:
    from fitcheck.cli.regress_bisect import revisions_between

    def git(*arguments: str) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init", "-q")
    for number in range(4):
        git("commit", "-q", "--allow-empty", "-m", str(number))
    git("tag", "bad")
    git("tag", "good", "HEAD~2")
    assert len(revisions_between(tmp_path, "good", "bad")) == 3
    done = run("regress", "bisect", "--good", "bad", "--bad", "good", "--repository", tmp_path, "--", "true")
    assert done.code == 2
    assert "the good one has to be the older" in done.err


def test_bisect_needs_both_ends_to_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "row").write_text("a\nb\n", "utf-8")
    done = run("regress", "bisect", "--revisions", "row", "--", sys.executable, "-c", "raise SystemExit(3)")
    assert done.code == 2
    assert "both ends have to run" in done.err


def test_a_candidate_from_before_its_baseline_is_told(run: Run, tree: Path, tmp_path: Path) -> None:
    fill(tmp_path / "new", "v5", day=-900)
    done = run("regress", "watch", "--against", tree, tmp_path / "new", "--all")
    assert done.code == 0
    assert b"is older than the baseline: the sides are swapped, or a clock went" in b" ".join(done.out.split())


def test_a_version_that_goes_back_in_a_history_is_told(run: Run, tree: Path) -> None:
    for number, torch in enumerate(("2.9.1", "2.11.0", "2.10.0")):
        software = a_record().software.model_copy(update={"torch": torch})
        fill(tree, "v5", day=-50 + 10 * number, software=software)
    done = run("regress", "history")
    assert "torch 2.10.0 comes after 2.11.0: a downgrade, or a clock went backwards" in done.err


def test_records_of_several_schema_versions_are_told_apart(run: Run, tree: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    fill(new, "v5", day=-20)
    for number, version in enumerate((0, 99, "one")):
        (new / f"{number}.json").write_text(json.dumps({"schema_version": version, "kind": "pass"}), "utf-8")
    done = run("regress", "watch", "--against", tree, new)
    assert done.code == 0
    (line,) = [line for line in done.err.splitlines() if "left out" in line]
    assert line.startswith("3 records were left out as not valid; the first is ")
    only = run("regress", "watch", "--against", tree, new / "1.json")
    assert only.code == 2
    assert len(only.err.strip().splitlines()) == 1


def test_without_any_baseline_a_release_is_held_to_what_is_expected_of_it(run: Run, tmp_path: Path) -> None:
    card = schema.CardInfo(slug="h100-sxm5-80gb", name="NVIDIA H100", vendor="nvidia", memory=85_520_809_984)
    sizes = schema.WorkloadSizes(task="t2i", width=2048, height=2048, steps=50, cfg=4.0)
    asked: dict[str, Any] = {"card": card, "workload": sizes, "model": a_model(tier="BF16"), "mode": "balanced"}
    protocol = schema.Protocol(name="bench", version=1, warmup=1, repeats=2)
    (tmp_path / "results").mkdir()
    # PR 241 promises 29 to 37 s where there were 61 s before (docs/gpu_mem_profiler.md)
    for seconds, code in ((31.5, 0), (61.4, 1)):
        new = tmp_path / f"new{code}"
        store.write(new, a_record(seconds, seconds * 1.01, protocol=protocol, memory=schema.Memory(), **asked))
        done = run("regress", "watch", "--against", tmp_path / "results", new, "--json")
        assert done.code == code
        document = json.loads(done.out)
        assert any("holds no record yet" in note for note in document["notes"])
        (one,) = [one for one in document["judgements"] if one["metric"] == "seconds"]
        assert one["expected"]["missed"] is bool(code)
        assert one["verdict"] == ("regression" if code else "cannot tell")

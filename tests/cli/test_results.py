"""``fitcheck results``: list, show, query, compact."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fitcheck.records import store

Run = Callable[..., Any]
STORED = Path(__file__).parents[1] / "records" / "data" / "v1"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    for file in STORED.glob("*.json"):
        store.write(root, store.read(file))
    flagged = store.read(STORED / "pass.json").model_copy(update={"created": 1_780_000_000, "notes": "<b>bold</b>"})
    store.write(root, flagged)
    return root


def test_list_filters_and_marks_what_surprises(run: Run, tree: Path) -> None:
    rows = json.loads(run("results", "list", "--json").out)
    assert len(rows) == 5
    assert [row["date"] for row in rows] == sorted((row["date"] for row in rows), reverse=True)
    passes = json.loads(run("results", "list", "--model", "sensenova-u1-8b-mot", "--kind", "pass", "--json").out)
    assert [(row["mode"], row["seconds"], row["flags"]) for row in passes] == [
        ("low", 100.75, []),
        ("low", 100.75, ["odd-text"]),
    ]
    assert len(json.loads(run("results", "list", "--until", "2026-06-01", "--json").out)) == 1
    assert len(json.loads(run("results", "list", "--since", "2026-06-01", "--limit", "2", "--json").out)) == 2
    assert json.loads(run("results", "list", "--card", "rtx-9999", "--json").out) == []


def test_list_as_table_and_csv(run: Run, tree: Path) -> None:
    table = run("results", "list", "--kind", "pass").out.decode()
    assert "6.00 GiB" in table
    assert "odd-text" in table
    rows = list(csv.DictReader(io.StringIO(run("results", "list", "--kind", "pass", "--csv").out.decode())))
    assert [row["flags"] for row in rows] == ["", "odd-text"]
    assert rows[0]["allocated"] == str(6 << 30)


def test_show(run: Run, tree: Path) -> None:
    path = next(tree.glob("*/link/*.json"))
    shown = run("results", "show", path.stem[:10])
    assert json.loads(shown.out)["id"] == path.stem
    assert run("results", "show", path.stem[:10].upper(), "--raw").out == path.read_bytes()
    odd = next(file for file in tree.rglob("*.json") if b"bold" in file.read_bytes())
    assert "flagged: odd-text" in run("results", "show", odd.stem).err
    assert run("results", "show", "zz").code == 2
    assert "several" in run("results", "show", "").err


def test_query_over_json_and_parquet(run: Run, tree: Path, tmp_path: Path) -> None:
    sql = "SELECT kind, count(*) AS n FROM records GROUP BY kind ORDER BY kind"
    expected = [{"kind": k, "n": n} for k, n in (("external", 1), ("link", 1), ("llm", 1), ("pass", 2))]
    assert json.loads(run("results", "query", sql, "--json").out) == expected
    compacted = run("results", "compact", tmp_path / "all.parquet")
    assert (compacted.code, compacted.out.decode().strip()) == (0, str(tmp_path / "all.parquet"))
    assert json.loads(run("results", "query", sql, "--json", "--from", tmp_path / "all.parquet").out) == expected
    assert run("results", "query", sql, "--csv").out.decode().splitlines()[0] == "kind,n"
    assert run("results", "query", "SELECT 1 AS one WHERE false", "--csv").out == b"one\n"
    assert run("results", "query", sql, "--parquet", "kinds.parquet").code == 0
    assert (tmp_path / "kinds.parquet").stat().st_size > 100
    written = run("results", "list", "--kind", "pass", "--parquet", "passes.parquet")
    assert written.code == 0
    count = run("results", "query", "SELECT count(*) AS n FROM records", "--json", "--from", "passes.parquet")
    assert json.loads(count.out) == [{"n": 2}]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("query", "DROP TABLE records"), "one SQL query that reads"),
        (("query", "SELECT nope FROM records"), "nope"),
        (("query", "SELECT 1", "--from", "nowhere"), "nowhere"),
        (("query", "SELECT 1", "--parquet", "x.csv"), ".parquet"),
        (("list", "--since", "tomorrow"), "--since"),
        (("compact", "x.txt"), ".parquet"),
    ],
)
def test_mistakes_are_one_sentence(run: Run, tree: Path, arguments: tuple[str, ...], sentence: str) -> None:
    ran = run("results", *arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert sentence in ran.err
    assert "Traceback" not in ran.err


def test_nothing_to_look_at_is_said(run: Run) -> None:
    ran = run("results", "list")
    assert ran.code == 2
    assert "--from" in ran.err

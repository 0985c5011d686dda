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


def test_a_model_is_called_as_check_calls_it(run: Run, tree: Path) -> None:
    by_slug = run("results", "list", "--model", "sensenova-u1-8b-mot", "--csv").out
    assert by_slug.count(b"\n") > 1
    assert run("results", "list", "--model", "sensenova u1 8b", "--csv").out == by_slug
    assert run("results", "list", "--model", "flux").code == 2


def test_list_as_table_and_csv(run: Run, tree: Path) -> None:
    table = run("results", "list", "--kind", "pass").out.decode()
    assert "6.00 GiB" in table
    assert "odd-text" in table
    rows = list(csv.DictReader(io.StringIO(run("results", "list", "--kind", "pass", "--csv").out.decode())))
    assert [row["flags"] for row in rows] == ["", "odd-text"]
    assert rows[0]["allocated"] == str(6 << 30)


def test_a_card_is_known_by_any_of_its_names(run: Run, tree: Path) -> None:
    slug = json.loads(run("results", "list", "--kind", "pass", "--json").out)[0]["card"]
    assert slug == "rtx-4070"
    by_slug = run("results", "list", "--card", slug, "--csv")
    assert by_slug.out.count(b"\n") > 2
    assert run("results", "list", "--card", "NVIDIA GeForce RTX 4070", "--csv").out == by_slug.out


def test_an_empty_list_says_what_there_is(run: Run, tree: Path) -> None:
    done = run("results", "list", "--card", "H100")
    assert done.code == 0
    assert "sensenova-u1-8b-mot on rtx-4070" in done.err


def test_what_never_passed_the_validator_is_shown_inert(run: Run, tree: Path) -> None:
    slug = "\x1b[31mred\u202e"
    odd = {
        "id": "zz",
        "kind": "pass",
        "created": 9 * 10**18,
        "card": {"slug": slug, "name": "\x9b2J"},
        "model": {"slug": "[red]m", "tier": "a\nb"},
        "outcome": {"result": "ok"},
        "samples": [{"total": 1e308}],
    }
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "odd.json").write_text(json.dumps(odd))
    table = run("results", "list").out.decode()
    assert "?[31mred?" in table
    assert "[red]m" in table
    assert table.replace("\n", "").isprintable()
    shown = run("results", "show", "zz").out.decode()
    assert shown.replace("\n", "").isprintable()
    assert json.loads(shown) == odd
    listed = run("results", "list", "--json").out.decode()
    assert listed.replace("\n", "").isprintable()
    assert {row["id"]: row for row in json.loads(listed)}["zz"]["card"] == slug


def test_numbers_that_json_and_units_lack(run: Run, tree: Path) -> None:
    sql = "SELECT 'inf'::DOUBLE AS seconds, 'nan'::DOUBLE AS allocated, 'x' AS cap, true AS device"
    assert json.loads(run("results", "query", sql, "--json").out)[0]["seconds"] is None
    assert run("results", "query", sql).out.decode().split("\n")[1].split() == ["inf", "nan", "x", "True"]


def test_a_parquet_file_replaces_no_folder_and_leaves_nothing_behind(run: Run, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.parquet").mkdir()
    before = sorted(tmp_path.iterdir())
    for words in (("compact", "folder.parquet"), ("list", "--parquet", "folder.parquet"), ("compact", "no/x.parquet")):
        done = run("results", *words)
        assert done.code == 2
        assert "can be replaced" in done.err or "no such folder" in done.err
    assert sorted(tmp_path.iterdir()) == before


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

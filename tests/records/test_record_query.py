"""One table over JSON and Parquet: the same columns, the same answers, nothing but reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from record_samples import NOW, card, make_external, make_link, make_llm, make_pass, model, protocol, samples

from fitcheck.errors import InputError
from fitcheck.records import query, schema, store
from fitcheck.units import GIB, format_date

RECORDS: list[schema.AnyRecord] = [
    make_pass(),
    make_pass(created=NOW - 40 * 86400, samples=samples(90.0, 80.0, 85.0)),
    make_pass(protocol=protocol(steps_run=4)),
    make_pass(card=card(slug="rtx-3060-12gb"), model=model(tier="Q8_0"), notes='it\'s "quoted"; naïve'),
    make_pass(samples=(), outcome=schema.Outcome(result="oom-gpu")),
    make_pass(
        protocol=protocol(cap=schema.Cap(bytes=8 * GIB, enforced_by="ballast")), model=model(weights="synthetic")
    ),
    make_link(),
    make_llm(),
    make_external(),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree") / "it's a results tree"
    for record in RECORDS:
        store.write(root, record)
    return root


@pytest.fixture(scope="module")
def parquet(tree: Path) -> Path:
    out = tree.parent / "it's.parquet"
    assert query.compact([tree], out) == len(RECORDS)
    return out


def ask(source: Path, sql: str, *values: object) -> list[dict[str, Any]]:
    return query.rows(query.run(query.open_records(source), sql, values))


QUERIES = [
    "SELECT * FROM records ORDER BY id",
    "SELECT card, model, tier, count(*) AS n, median(seconds) AS s FROM records GROUP BY ALL ORDER BY ALL",
    "SELECT document FROM records WHERE outcome <> 'ok'",
    "SELECT quantile_cont(seconds, 0.5) FROM records WHERE created > TIMESTAMP '2026-01-01'",
    "SELECT id FROM records WHERE json_extract(document, '$.power.joules') IS NOT NULL ORDER BY id",
]


@pytest.mark.parametrize("sql", QUERIES)
def test_json_and_parquet_answer_the_same(tree: Path, parquet: Path, sql: str) -> None:
    assert ask(tree, sql) == ask(parquet, sql)
    assert ask(tree, sql)


def test_every_column_says_what_the_record_says(tree: Path) -> None:
    record = store.seal(RECORDS[0])
    assert isinstance(record, schema.PassRecord)
    (row,) = ask(tree, "SELECT * FROM records WHERE id = ?", record.id)
    assert tuple(row) == query.COLUMNS
    assert row["seconds"] == 100.75
    assert (row["samples"], row["task"], row["width"], row["steps"]) == (3, "t2i", 2048, 50)
    assert row["created"].timestamp() == pytest.approx(record.created, abs=86400)
    assert (row["allocated"], row["pinned"], row["card_memory"]) == (6 * GIB, 16 * GIB, 12282 << 20)
    assert (row["mode"], row["revision"], row["probe"], row["cap"]) == ("low", "pr243", False, None)
    assert (row["torch"], row["driver"], row["llama_cpp"]) == ("2.9.1+cu128", "580.95.05", None)
    assert row["document"].encode() == store.encode(record)


def test_probes_have_no_seconds_and_caps_are_columns(tree: Path) -> None:
    assert ask(tree, "SELECT seconds, allocated FROM records WHERE probe") == [{"seconds": None, "allocated": 6 * GIB}]
    assert ask(tree, "SELECT cap, weights FROM records WHERE cap IS NOT NULL") == [
        {"cap": 8 * GIB, "weights": "synthetic"}
    ]
    assert ask(tree, "SELECT prefill_rate FROM records WHERE kind = 'llm'") == [{"prefill_rate": 5000.5}]
    assert ask(tree, "SELECT model FROM records WHERE kind = 'link'") == [{"model": "link"}]


@pytest.mark.parametrize(
    ("filters", "since", "until", "expected"),
    [
        ({"card": "RTX-3060-12GB"}, None, None, 1),
        ({"tier": "q4_k_m", "kind": "pass"}, None, None, 5),
        ({"mode": "full"}, None, None, 0),
        ({"task": "t2i"}, "2026-11-01", None, 5),
        ({"task": "t2i"}, None, "2026-11-01", 1),
        ({"card": "x' OR '1'='1"}, None, None, 0),
    ],
)
def test_conditions(
    tree: Path, filters: dict[str, str | None], since: str | None, until: str | None, expected: int
) -> None:
    where, values = query.condition(filters, since, until)
    assert ask(tree, f"SELECT count(*) AS n FROM records WHERE {where}", *values) == [{"n": expected}]


def test_the_last_day_counts_whole(tree: Path) -> None:
    day = date_of(RECORDS[0])
    where, values = query.condition({}, day, day)
    same = [record for record in RECORDS if date_of(record) == day]
    assert ask(tree, f"SELECT count(*) AS n FROM records WHERE {where}", *values) == [{"n": len(same)}]
    assert same


def date_of(record: schema.AnyRecord) -> str:
    return format_date(record.created)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "nonsense",
        "SELECT 1; SELECT 2",
        "DROP VIEW records",
        "COPY (SELECT 1) TO '/tmp/fitcheck-must-not-exist'",
        "ATTACH 'x.db'",
        "INSERT INTO records VALUES (1)",
        "SELECT nope FROM records",
        "SELECT card FROM",
    ],
)
def test_what_is_not_one_readable_query_is_one_sentence(tree: Path, sql: str) -> None:
    with pytest.raises(InputError) as error:
        ask(tree, sql)
    assert "\n" not in str(error.value)
    assert not Path("/tmp/fitcheck-must-not-exist").exists()


def test_files_that_are_no_records_are_left_out(tmp_path: Path) -> None:
    path = store.write(tmp_path, make_pass())
    (path.parent / "broken.json").write_text('{"id": "x", "kind"')
    (path.parent / "other.json").write_text('{"id": [1], "samples": "no"}')
    (path.parent / "list.json").write_text("[1, 2]")
    assert ask(tmp_path, "SELECT count(*) AS n FROM records") == [{"n": 1}]


def test_an_empty_tree_has_the_columns_and_no_rows(tmp_path: Path) -> None:
    assert ask(tmp_path, "SELECT * FROM records") == []
    assert query.compact([tmp_path], tmp_path / "x.parquet") == 0
    assert ask(tmp_path / "x.parquet", "SELECT count(*) AS n, max(seconds) AS s FROM records") == [{"n": 0, "s": None}]


def test_the_same_record_in_two_sources_is_one_row(tree: Path, parquet: Path) -> None:
    both = query.rows(query.run(query.open_records(tree, parquet), "SELECT count(*) AS n FROM records"))
    assert both == [{"n": len(RECORDS)}]


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        query.open_records(tmp_path / "nope")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match="not a Parquet file"):
        query.open_records(tmp_path / "x.txt")
    (tmp_path / "x.parquet").write_text("x")
    with pytest.raises(InputError, match="cannot be queried"):
        ask(tmp_path / "x.parquet", "SELECT 1 FROM records")
    with pytest.raises(InputError, match=r"ends in \.parquet"):
        query.compact([tmp_path], tmp_path / "out.csv")
    with pytest.raises(InputError, match="no such folder"):
        query.compact([tmp_path], tmp_path / "no" / "out.parquet")


def test_a_failed_compaction_leaves_the_old_file(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    query.compact([tree], out)
    before = out.read_bytes()
    (tmp_path / "bad.parquet").write_text("x")
    with pytest.raises(InputError):
        query.compact([tree, tmp_path / "bad.parquet"], out)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.parquet", "x.parquet"]


def test_frames_for_the_pages(tree: Path) -> None:
    frame = query.frame("SELECT card, seconds FROM records WHERE kind = 'pass' ORDER BY seconds", tree)
    assert list(frame.columns) == ["card", "seconds"]
    assert len(frame) == 6

"""A query is a stranger's text, and so is every file of a tree: neither reaches beyond the records nor hides one."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_samples import make_pass

from fitcheck.errors import InputError, OptionError, RecordError
from fitcheck.records import query, query_bounds, store


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile") / "tree"
    store.write(root, make_pass())
    (root.parent / "secret.csv").write_text("a,b\n1,hf_SECRET\n")
    (root.parent / "secret.json").write_text('{"a":"hf_SECRET"}')
    return root


@pytest.fixture(scope="module")
def packed(tree: Path) -> Path:
    out = tree.parent / "rec[o]rds*.parquet"
    assert query.compact([tree], out) == 1
    return out


OUTSIDE = [
    "SELECT * FROM read_csv('{there}/secret.csv')",
    "SELECT * FROM '{there}/secret.csv'",
    "SELECT * FROM read_json('{there}/secret.json')",
    "SELECT * FROM read_text('{there}/secret.csv')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM read_text('{there}/*')",
    "SELECT * FROM glob('{there}/*') WHERE length(file) > 0",
    "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM settings",  # a variable of the program that asks
    "SELECT * FROM query('COPY (SELECT 1) TO ''{there}/out.csv''')",
]


@pytest.mark.parametrize("sql", OUTSIDE)
@pytest.mark.parametrize("kind", ["tree", "packed"])
def test_a_query_reaches_the_records_alone(
    sql: str, kind: str, tree: Path, packed: Path, request: pytest.FixtureRequest
) -> None:
    source: Path = request.getfixturevalue(kind)
    connection = query.open_records(source)
    with pytest.raises(InputError):
        query.rows(query.run(connection, sql.format(there=tree.parent)))
    assert query.rows(query.run(connection, "SELECT count(*) AS n FROM records")) == [{"n": 1}]
    assert not (tree.parent / "out.csv").exists()


@pytest.mark.parametrize(
    "name", ["enable_external_access", "autoload_known_extensions", "autoinstall_known_extensions", "allowed_paths"]
)
def test_the_engine_is_locked(name: str, tree: Path) -> None:
    connection = query.open_records(tree)
    found = query.rows(query.run(connection, f"SELECT value FROM duckdb_settings() WHERE name = '{name}'"))
    assert found[0]["value"] in ("false", "[]")
    with pytest.raises(Exception, match="locked"):
        connection.execute(f"SET {name} = true")


def test_columns_of_one_name_are_all_there(tree: Path) -> None:
    result = query.run(query.open_records(tree), "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a")
    assert query.rows(result) == [{"a": 1, "a_1": 2, "a_1_1": 3, "a_2": 4}]


def test_a_result_too_large_to_show_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_MOST_ROWS", 1000)
    with pytest.raises(InputError, match="too large"):
        query.rows(query.run(query.open_records(tree), "SELECT * FROM range(5000)"))


def test_a_query_is_written_beside_nothing_else(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "it's.parquet"
    query.export([tree], "SELECT card FROM records", out)
    assert query.rows(query.run(query.open_records(out), "SELECT * FROM records")) == [{"card": "rtx-4070"}]
    assert [path.name for path in tmp_path.iterdir()] == ["it's.parquet"]


@pytest.mark.parametrize("name", ["br[a]ck", "st*r", "q?", "it's", "a{b}", "sp ace", "\u202e"])
def test_a_folder_is_not_a_pattern(name: str, tmp_path: Path) -> None:
    store.write(tmp_path / name, make_pass())
    assert len(query.rows(query.run(query.open_records(tmp_path / name), "SELECT id FROM records"))) == 1


def _spoil(path: Path, how: str) -> None:
    if how == "fifo":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif how.startswith("link "):
        path.symlink_to(how.removeprefix("link "))
    else:
        path.write_bytes(how.encode("latin-1"))


@pytest.mark.parametrize(
    "how", ["fifo", "folder", "sparse", "link /dev/zero", "link b.json", "link nowhere", '{"id":"\xff"}', "{", "\0" * 9]
)
def test_one_bad_file_hides_no_record(how: str, tmp_path: Path) -> None:
    good = store.write(tmp_path, make_pass())
    _spoil(good.with_name("b.json"), how)
    refused: list[str] = []
    connection = query.open_records(tmp_path, refused=refused)
    assert query.rows(query.run(connection, "SELECT id FROM records")) == [{"id": good.stem}]
    assert len(refused) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(
        st.sampled_from(["id", "kind", "created", "samples", "memory", "rates", "card", "protocol", "tags"]), JSON
    )
)
def test_any_json_beside_a_record_leaves_it_readable(fields: dict[str, object], tmp_path: Path) -> None:
    good = store.write(tmp_path, make_pass())
    good.with_name("b.json").write_text(json.dumps(fields))
    found = query.rows(query.run(query.open_records(tmp_path), "SELECT * EXCLUDE (document) FROM records"))
    assert good.stem in {row["id"] for row in found}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(100000) a, range(10000000) b WHERE a.range + b.range = 7",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    ],
)
def test_a_query_without_end_is_ended(sql: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_bounds, "MOST_SECONDS", 0.3)
    begun = time.monotonic()
    with pytest.raises(OptionError, match=r"takes longer than 0\.3 s; narrow it"):
        query.rows(query.run(query.open_records(tree), sql))
    with pytest.raises(OptionError, match=r"takes longer than 0\.3 s; narrow it"):
        query.export([tree], sql, tmp_path / "out.parquet")
    assert time.monotonic() - begun < 10
    assert list(tmp_path.glob("*out*")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the bound is of Linux")
def test_a_value_that_no_machine_has_room_for_is_refused_at_once(tree: Path) -> None:
    import resource

    before, begun = resource.getrlimit(resource.RLIMIT_AS), time.monotonic()
    with pytest.raises(RecordError, match="Out of Memory"):
        query.rows(query.run(query.open_records(tree), "SELECT len(range(2000000000))"))
    assert time.monotonic() - begun < 10
    assert resource.getrlimit(resource.RLIMIT_AS) == before

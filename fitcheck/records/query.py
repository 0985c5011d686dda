"""Records as one table, over the JSON tree or over Parquet, with the same columns and the same SQL.

``records`` has a row for each record: plain columns for what people filter and group by, and ``document``, the exact
text of its file. Bytes are integers, times seconds; ``seconds`` is the median of the timed runs and NULL for probes.
Any engine that reads Parquet runs the same queries on the compacted file.
"""

# The statements below are put together from this module's own text and quoted paths; values are always parameters.
# ruff: noqa: S608

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitcheck.errors import InputError, extra

if TYPE_CHECKING:
    import duckdb
    import pandas

# what json_transform reads out of a document; everything else stays in ``document``
_SHAPE = """{
  "id":"VARCHAR","kind":"VARCHAR","created":"BIGINT","submitter":"VARCHAR","tags":["VARCHAR"],
  "source":{"tool":"VARCHAR"},
  "model":{"slug":"VARCHAR","tier":"VARCHAR","weights":"VARCHAR","tensor_digest":"VARCHAR","sha256":"VARCHAR"},
  "runtime":{"name":"VARCHAR","revision":"VARCHAR","commit":"VARCHAR","version":"VARCHAR","mode":"VARCHAR",
    "policy":"VARCHAR","prefetch":"BIGINT"},
  "workload":{"task":"VARCHAR","width":"BIGINT","height":"BIGINT","steps":"BIGINT","cfg":"DOUBLE","batch":"BIGINT"},
  "card":{"slug":"VARCHAR","name":"VARCHAR","vendor":"VARCHAR","memory":"BIGINT","pci_id":"VARCHAR","driver":"VARCHAR"},
  "software":{"torch":"VARCHAR","llama_cpp":"VARCHAR"},
  "machine":{"cpu":"VARCHAR","ram":"BIGINT","os":"VARCHAR"},
  "protocol":{"name":"VARCHAR","cap":{"bytes":"BIGINT"},"steps_run":"BIGINT"},
  "samples":[{"total":"DOUBLE","warmup":"BOOLEAN"}],
  "memory":{"allocated":"BIGINT","reserved":"BIGINT","process":"BIGINT","device":"BIGINT","rss":"BIGINT",
    "pinned_rounded":"BIGINT"},
  "transfer":{"bytes_streamed":"BIGINT","bytes_per_second":"DOUBLE"},
  "power":{"joules":"DOUBLE","watts_mean":"DOUBLE"},
  "outcome":{"result":"VARCHAR"},
  "limit":{"works":"BIGINT","fails":"BIGINT"},
  "rates":[{"prompt_tokens":"BIGINT","new_tokens":"BIGINT","mean":"DOUBLE"}]
}"""

# column -> SQL over the transformed document ``r``
_COLUMNS = {
    "id": "r.id",
    "kind": "r.kind",
    # up to the year 9999: a record beyond it stays, without a date
    "created": "CASE WHEN r.created BETWEEN 0 AND 253402300799 THEN make_timestamp(r.created * 1000000) END",
    "card": "coalesce(r.card.slug, 'cpu')",
    "card_name": "r.card.name",
    "card_memory": "r.card.memory",
    "model": "coalesce(r.model.slug, 'link')",
    "tier": "r.model.tier",
    "weights": "r.model.weights",
    "runtime": "r.runtime.name",
    "revision": "r.runtime.revision",
    "mode": "r.runtime.mode",
    "policy": "r.runtime.policy",
    "prefetch": "r.runtime.prefetch",
    "task": "r.workload.task",
    "width": "r.workload.width",
    "height": "r.workload.height",
    "steps": "r.workload.steps",
    "cfg": "r.workload.cfg",
    "batch": "r.workload.batch",
    "outcome": "r.outcome.result",
    "cap": "r.protocol.cap.bytes",
    "probe": "r.protocol.steps_run IS NOT NULL",
    "samples": "len([s.total for s in r.samples if NOT s.warmup])",
    "seconds": "CASE WHEN r.protocol.steps_run IS NULL "
    "THEN list_aggregate([s.total for s in r.samples if NOT s.warmup], 'median') END",
    "allocated": "r.memory.allocated",
    "reserved": "r.memory.reserved",
    "process": "r.memory.process",
    "device": "r.memory.device",
    "rss": "r.memory.rss",
    "pinned": "r.memory.pinned_rounded",
    "streamed": "r.transfer.bytes_streamed",
    "link_rate": "r.transfer.bytes_per_second",
    "joules": "r.power.joules",
    "watts": "r.power.watts_mean",
    "limit_works": 'r."limit".works',
    "limit_fails": 'r."limit".fails',
    "prefill_rate": "list_max([t.mean for t in r.rates if t.new_tokens = 0])",
    "decode_rate": "list_max([t.mean for t in r.rates if t.prompt_tokens = 0])",
    "os": "r.machine.os",
    "ram": "r.machine.ram",
    "cpu": "r.machine.cpu",
    "driver": "r.card.driver",
    "torch": "r.software.torch",
    "llama_cpp": "r.software.llama_cpp",
    "tool": "r.source.tool",
    "submitter": "r.submitter",
    "document": "content",
}
COLUMNS = tuple(_COLUMNS)
_SORTED_BY = "card, model, tier, runtime, revision, mode, policy, task, width, height, created, id"
FILTERS = ("model", "card", "tier", "mode", "runtime", "kind", "task")


def open_records(*sources: Path) -> duckdb.DuckDBPyConnection:
    """A connection in which ``records`` is the table of all sources: folders of JSON files or Parquet files.

    Raises InputError when a source is neither, or duckdb is not installed.
    """
    connection = _connect()
    # a tree is read once; Parquet is read in place, so that only the needed columns and row groups are
    kind = "VIEW" if all(source.is_file() for source in sources) else "TABLE"
    with _as_input_errors():
        connection.execute(f"CREATE TEMP {kind} records AS {_union(sources)}")
    return connection


def _connect() -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
    except ImportError as error:
        raise InputError(f"this needs duckdb; {extra('results')}.") from error
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    return connection


def _union(sources: Sequence[Path]) -> str:
    """All sources as one selection; the same record in two of them is one record."""
    union = " UNION ALL BY NAME ".join(_selection(source) for source in sources)
    if len(sources) == 1:
        return union
    return f"SELECT * FROM ({union}) QUALIFY row_number() OVER (PARTITION BY id) = 1"


def _selection(source: Path) -> str:
    if source.is_file():
        if source.suffix != ".parquet":
            raise InputError(f"{source}: is not a Parquet file; make one with `fitcheck results compact`.")
        return f"SELECT * FROM read_parquet({_quoted(source)})"
    if not source.is_dir():
        raise InputError(f"{source}: there is no such folder or Parquet file.")
    if next(source.glob("*/*/*.json"), None) is None:
        return _flat("SELECT NULL::VARCHAR AS content")  # no id, so no row
    return _flat(f"SELECT content FROM read_text({_quoted(source.absolute() / '*' / '*' / '*.json')})")


def _flat(texts: str) -> str:
    columns = ", ".join(f'{expression} AS "{name}"' for name, expression in _COLUMNS.items())
    read = f"CASE WHEN json_valid(content) THEN json_transform(content, {_quoted(_SHAPE)}) END"
    documents = f"SELECT content, {read} AS r FROM ({texts})"
    return f"SELECT {columns} FROM ({documents}) AS d WHERE r.id IS NOT NULL AND r.kind IS NOT NULL"


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


@contextlib.contextmanager
def _as_input_errors() -> Iterator[None]:
    import duckdb

    try:
        yield
    except RuntimeError as error:
        if "interrupted" in str(error).lower():  # how duckdb hands on Ctrl-C
            raise KeyboardInterrupt from error
        raise
    except duckdb.Error as error:
        raise InputError(f"the records cannot be queried: {str(error).strip().splitlines()[0][:300]}") from error


def run(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()) -> duckdb.DuckDBPyRelation:
    """The result of one SELECT. Raises InputError with the engine's first line when it is refused."""
    import duckdb

    with _as_input_errors():
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise InputError(
                "give one SQL query that reads, like SELECT card, median(seconds) FROM records GROUP BY card."
            )
        return connection.sql(sql, params=list(parameters) or None)


def condition(
    filters: dict[str, str | None], since: str | None = None, until: str | None = None
) -> tuple[str, list[object]]:
    """(SQL condition, its parameters) for equality on some of ``FILTERS`` and a range of dates (ISO, UTC)."""
    clauses, parameters = ["true"], list[object]()
    for name, value in filters.items():
        if value is not None:
            clauses.append(f"lower({name}) = lower(?)")
            parameters.append(value)
    for clause, date in (("created >= ?::TIMESTAMP", since), ("created < ?::TIMESTAMP + INTERVAL 1 DAY", until)):
        if date is not None:
            clauses.append(clause)
            parameters.append(date)
    return " AND ".join(clauses), parameters


def frame(sql: str, *sources: Path) -> pandas.DataFrame:
    """The result of a query over ``records`` as a pandas frame, for the pages."""
    result: pandas.DataFrame = run(open_records(*sources), sql).df()
    return result


def rows(relation: duckdb.DuckDBPyRelation) -> list[dict[str, Any]]:
    with _as_input_errors():
        return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


def compact(sources: Sequence[Path], out: Path) -> int:
    """Write all records as one Parquet file, sorted so that a cell's rows lie together; returns their number.

    The file appears whole or not at all. Raises InputError when it cannot be written.
    """
    connection = _connect()
    with _parquet(out) as temporary:
        connection.execute(
            f"COPY (SELECT * FROM ({_union(sources)}) ORDER BY {_SORTED_BY}) TO {_quoted(temporary)} "
            "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 65536)"
        )
        count = connection.execute(f"SELECT count(*) FROM read_parquet({_quoted(temporary)})").fetchone()
    return int(count[0]) if count else 0


def write_parquet(relation: duckdb.DuckDBPyRelation, out: Path) -> None:
    """The rows of a query as a Parquet file, whole or not at all. Raises InputError when it cannot be written."""
    with _parquet(out) as temporary:
        relation.write_parquet(str(temporary), compression="zstd")


@contextlib.contextmanager
def _parquet(out: Path) -> Iterator[Path]:
    """A temporary file beside ``out`` that takes its name when all went well."""
    import duckdb

    if out.suffix != ".parquet":
        raise InputError(f"{out}: give the file a name that ends in .parquet.")
    if out.exists() and not out.is_file():
        raise InputError(f"{out}: is not a file that can be replaced.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out.absolute().parent}: there is no such folder to write {out.name} to.")
    try:
        handle, name = tempfile.mkstemp(dir=out.absolute().parent, prefix=f".{out.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}).") from error
    except duckdb.Error as error:
        problem = "cannot be written" if isinstance(error, duckdb.IOException) else "its rows cannot be read"
        raise InputError(f"{out}: {problem} ({str(error).splitlines()[0][:300]}).") from error

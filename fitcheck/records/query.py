"""Records as one table, over the JSON tree or over Parquet, with the same columns and the same SQL.

``records`` has a row for each record: plain columns for what people filter and group by, and ``document``, the exact
text of its file. Bytes are integers, times seconds; ``seconds`` is the median of the timed runs and NULL for probes.
Any engine that reads Parquet runs the same queries on the compacted file.

A query comes from outside, so it is confined: once the records are read, the engine may open no file, load no
extension and change no setting (https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview). Only the
Parquet files that hold the records, and a file that is being written, stay open to it.
"""

# The statements below are put together from this module's own text and quoted paths; values are always parameters.
# ruff: noqa: S608

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import InputError, MissingExtraError, OptionError, RecordError, extra
from fitcheck.records.bounded import read_bounded
from fitcheck.records.query_bounds import bounded

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


# bounds of a query's work; a result that does not fit is an error, never a full disk or an exhausted machine
_MEMORY = "2GB"
_MOST_ROWS = 1_000_000
_MOST_CELLS_BYTES = 1 << 30
# texts handed to the engine at once
_BATCH_BYTES = 64 << 20

Refused = list[str]


@dataclass(frozen=True, slots=True)
class Result:
    """One readable query, checked and not yet run, with the connection that it runs on."""

    connection: duckdb.DuckDBPyConnection
    sql: str
    parameters: list[object] | None
    columns: list[str]

    def relation(self) -> duckdb.DuckDBPyRelation:
        """A relation that has not run yet, made anew at each call with the parameters bound."""
        return self.connection.sql(self.sql, params=self.parameters)


def open_records(
    *sources: Path, refused: Refused | None = None, writable: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection in which ``records`` is the table of all sources: folders of JSON files or Parquet files.

    It can read those sources and write ``writable``, nothing else. A file that is no record adds a sentence to
    ``refused``. Raises InputError when a source is neither, or duckdb is not installed.
    """
    connection = _connect()
    with _as_input_errors():
        selection = _union(connection, sources, refused)
        # a tree is read once; Parquet is read in place, so that only the needed columns and row groups are
        kind = "VIEW" if all(source.is_file() for source in sources) else "TABLE"
        connection.execute(f"CREATE TEMP {kind} records AS {selection}")
        connection.execute("DROP TABLE IF EXISTS texts")
        # the engine writes a file under a name of its own first
        written = [writable, writable.with_name(f"tmp_{writable.name}")] if writable else []
        _confine(connection, [*(source for source in sources if source.is_file()), *written])
    return connection


def _connect() -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError(f"this needs duckdb; {extra('results')}.") from error
    connection = duckdb.connect()
    settings = {
        "enable_progress_bar": "false",
        # no file of its own beside the user's, and no variable of this program as a table
        "temp_directory": "''",
        "memory_limit": f"'{_MEMORY}'",
        "python_enable_replacements": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    for name, value in settings.items():
        connection.execute(f"SET {name} = {value}")
    return connection


def _confine(connection: duckdb.DuckDBPyConnection, files: Iterable[Path]) -> None:
    """From here on the connection opens none but these files, and nothing that it runs can change that."""
    # a file's name as a pattern is asked for before the file itself
    names = {name: None for file in files for name in (str(file.absolute()), _literal(file))}
    listed = ", ".join(map(_quoted, names))
    connection.execute(f"SET allowed_paths = [{listed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _union(connection: duckdb.DuckDBPyConnection, sources: Sequence[Path], refused: Refused | None) -> str:
    """All sources as one selection; the same record in two of them is one record."""
    connection.execute("CREATE TEMP TABLE texts (source INTEGER, content VARCHAR)")
    union = " UNION ALL BY NAME ".join(
        _selection(connection, number, source, refused) for number, source in enumerate(sources)
    )
    if len(sources) == 1:
        return union
    return f"SELECT * FROM ({union}) QUALIFY row_number() OVER (PARTITION BY id) = 1"


def _selection(connection: duckdb.DuckDBPyConnection, number: int, source: Path, refused: Refused | None) -> str:
    if source.is_file():
        if source.suffix != ".parquet":
            raise RecordError(f"{source}: is not a Parquet file; make one with `fitcheck results compact`.")
        return f"SELECT * FROM read_parquet({_quoted(_literal(source))})"
    if not source.is_dir():
        raise RecordError(f"{source}: there is no such folder or Parquet file.")
    for texts in _batches(source, refused):
        connection.execute("INSERT INTO texts SELECT ?, unnest(?::VARCHAR[])", [number, texts])
    _refuse_what_is_no_record(connection, number, source, refused)
    return _flat(f"SELECT content FROM texts WHERE source = {number}")


def _batches(root: Path, refused: Refused | None) -> Iterator[list[str]]:
    """The texts of a tree's files, so many at a time that they fit; each file stands alone, and one that is too
    large, no file, no text or behind a link is left out with its reason."""
    texts, size = list[str](), 0
    for path in sorted(root.glob("*/*/*.json")):
        try:
            text = read_bounded(path).decode("utf-8")
        except (InputError, UnicodeDecodeError) as error:
            if refused is not None:
                problem = str(error) if isinstance(error, InputError) else f"{path}: is not UTF-8 text."
                refused.append(problem)
            continue
        texts.append(text.replace("\0", " "))
        size += len(text)
        if size > _BATCH_BYTES:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


def _refuse_what_is_no_record(
    connection: duckdb.DuckDBPyConnection, number: int, source: Path, refused: Refused | None
) -> None:
    if refused is None:
        return
    rows = f"SELECT content FROM texts WHERE source = {number}"
    found = connection.execute(f"SELECT (SELECT count(*) FROM ({rows})), (SELECT count(*) FROM ({_flat(rows)}))")
    read, kept = found.fetchone() or (0, 0)
    if read > kept:
        refused.append(f"{source}: {read - kept} of its files hold no record; `fitcheck validate` says which.")


def _literal(path: Path) -> str:
    """A path in which the engine finds no pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path.absolute()))


def _unique(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        number, free = 0, name
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


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
    except duckdb.InterruptException as error:  # the clock's, or Ctrl-C
        raise KeyboardInterrupt from error
    except RuntimeError as error:
        if "interrupted" in str(error).lower():  # how duckdb hands on Ctrl-C
            raise KeyboardInterrupt from error
        raise
    except duckdb.Error as error:
        raise RecordError(f"the records cannot be queried: {str(error).strip().splitlines()[0][:300]}") from error


def run(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()) -> Result:
    """The result of one SELECT. Raises InputError with the engine's first line when it is refused."""
    import duckdb

    with bounded(connection), _as_input_errors():
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise OptionError(
                "give one SQL query that reads, like SELECT card, median(seconds) FROM records GROUP BY card."
            )
        given = list(parameters) or None
        # each name once, a second ``a`` is ``a_1`` as in the engine's own tables: rows are told apart by column
        return Result(connection, sql, given, _unique(connection.sql(sql, params=given).columns))


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
    asked = run(open_records(*sources), sql)  # older engines forget a relation whose connection nobody keeps
    found: pandas.DataFrame = asked.relation().df()
    return found


def rows(result: Result) -> list[dict[str, Any]]:
    """The rows by column. Raises InputError for more than a million of them or a gibibyte of text."""
    found: list[dict[str, Any]] = []
    size, names = 0, result.columns
    with bounded(result.connection), _as_input_errors():
        running = result.connection.execute(result.sql, result.parameters)
        while part := running.fetchmany(64):
            found += [dict(zip(names, row, strict=True)) for row in part]
            size += sum(len(value) for row in part for value in row if isinstance(value, str | bytes))
            if len(found) > _MOST_ROWS or size > _MOST_CELLS_BYTES:
                raise OptionError("the result is too large to be shown; narrow the query or write it with --parquet.")
    return found


def compact(sources: Sequence[Path], out: Path, refused: Refused | None = None) -> int:
    """Write all records as one Parquet file, sorted so that a cell's rows lie together; returns their number.

    The file appears whole or not at all. Raises InputError when it cannot be written.
    """
    connection = _connect()
    with _parquet(out) as temporary:
        connection.execute(
            f"COPY (SELECT * FROM ({_union(connection, sources, refused)}) ORDER BY {_SORTED_BY}) TO "
            f"{_quoted(temporary)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 65536)"
        )
        count = connection.execute(f"SELECT count(*) FROM read_parquet({_quoted(_literal(temporary))})").fetchone()
    return int(count[0]) if count else 0


def export(
    sources: Sequence[Path], sql: str, out: Path, parameters: Sequence[object] = (), refused: Refused | None = None
) -> None:
    """The rows of a query as a Parquet file, whole or not at all. Raises InputError when it cannot be written."""
    with _parquet(out) as temporary:
        result = run(open_records(*sources, refused=refused, writable=temporary), sql, parameters)
        with bounded(result.connection), _as_input_errors():
            result.relation().write_parquet(str(temporary), compression="zstd")


@contextlib.contextmanager
def _parquet(out: Path) -> Iterator[Path]:
    """A temporary file beside ``out`` that takes its name when all went well."""
    import duckdb

    if out.suffix != ".parquet":
        raise OptionError(f"{out}: give the file a name that ends in .parquet.")
    if out.exists() and not out.is_file():
        raise OptionError(f"{out}: is not a file that can be replaced.")
    if not out.absolute().parent.is_dir():
        raise OptionError(f"{out.absolute().parent}: there is no such folder to write {out.name} to.")
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
        raise RecordError(f"{out}: cannot be written ({error.strerror or error}).") from error
    except duckdb.Error as error:
        problem = "cannot be written" if isinstance(error, duckdb.IOException) else "its rows cannot be read"
        raise RecordError(f"{out}: {problem} ({str(error).splitlines()[0][:300]}).") from error

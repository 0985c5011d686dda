"""``fitcheck results``: look at records, by cell or with SQL, and compact them to Parquet."""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fitcheck.cli.grouped import QuickGroup
from fitcheck.cli.printable import json_text, one_line, printable
from fitcheck.cli.record_filters import card_slug, model_slug
from fitcheck.errors import OptionError, RecordError

Text = str | None
File = Path | None
From = Annotated[
    list[Path] | None,
    typer.Option("--from", help="Folders of records or Parquet files; results/ and your own records by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="As CSV.")]
AsParquet = Annotated[File, typer.Option("--parquet", help="Write a Parquet file instead.")]

_MOST_SAID = 20
_BYTES = ("allocated", "reserved", "process", "device", "rss", "cap", "pinned")
_LISTED = (
    "substr(id, 1, 12) AS id, strftime(created, '%Y-%m-%d') AS date, card, model, tier, runtime, mode, task, "
    "outcome, seconds, allocated, device, decode_rate, cap, weights, samples"
)

# what a list goes without first where a terminal is narrow
_SPARE = ("samples", "weights", "cap", "decode_rate", "flags", "runtime", "device", "date", "task", "outcome")


def register(app: typer.Typer) -> None:
    """Adds the group ``fitcheck results`` with ``list``, ``show``, ``query`` and ``compact``."""
    results = typer.Typer(
        cls=QuickGroup, no_args_is_help=True, help="Look at measurements: list, show, query, compact."
    )
    app.add_typer(results, name="results")

    @results.command(name="list")
    def list_(
        model: Annotated[Text, typer.Option(help="Only this model.")] = None,
        card: Annotated[Text, typer.Option(help="Only this card, like 'RTX 4070'.")] = None,
        tier: Annotated[Text, typer.Option(help="Only this quant tier.")] = None,
        mode: Annotated[Text, typer.Option(help="Only this offload mode.")] = None,
        runtime: Annotated[Text, typer.Option(help="Only this runtime.")] = None,
        kind: Annotated[Text, typer.Option(help="pass, link, external or llm.")] = None,
        task: Annotated[Text, typer.Option(help="t2i, editing, t2v, i2v, interleave, vqa, chat or embed.")] = None,
        since: Annotated[Text, typer.Option(help="Measured on this day or later, YYYY-MM-DD.")] = None,
        until: Annotated[Text, typer.Option(help="Measured on this day or earlier, YYYY-MM-DD.")] = None,
        limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 100,
        sources: From = None,
        as_json: AsJson = False,
        as_csv: AsCsv = False,
        parquet: AsParquet = None,
    ) -> None:
        """Measurements by model, card, tier, mode and date, newest first; what surprises is marked."""
        from fitcheck.records import query

        model, card = model_slug(model), card_slug(card)
        filters = dict(zip(query.FILTERS, (model, card, tier, mode, runtime, kind, task), strict=True))
        where, parameters = query.condition(filters, _date(since, "--since"), _date(until, "--until"))
        order = f"WHERE {where} ORDER BY records.created DESC, records.id LIMIT {limit}"
        refused: list[str] = []
        if parquet is not None:
            _write_parquet(_sources(sources), f"SELECT * FROM records {order}", parquet, parameters)  # noqa: S608
            return
        connection = query.open_records(*_sources(sources), refused=refused)
        found = query.rows(query.run(connection, f"SELECT {_LISTED}, document FROM records {order}", parameters))  # noqa: S608
        now = time.time()
        for row in found:
            row["flags"] = _flags(row.pop("document"), now)
        _emit(found, as_json, as_csv, spare=_SPARE)
        _say_refused(refused)
        if not found:
            cells = query.rows(query.run(connection, "SELECT DISTINCT card, model FROM records ORDER BY ALL LIMIT 12"))
            there = ", ".join(f"{cell['model']} on {cell['card']}" for cell in cells) or "none"
            print(f"Records that are here: {one_line(there)}.", file=sys.stderr)

    @results.command()
    def show(
        record: Annotated[str, typer.Argument(help="A record's id or the first digits of it.")],
        sources: From = None,
        raw: Annotated[bool, typer.Option("--raw", help="The stored bytes, unchanged.")] = False,
    ) -> None:
        """One measurement in full."""
        from fitcheck.records import query

        connection = query.open_records(*_sources(sources))
        found = query.rows(
            query.run(connection, "SELECT id, document FROM records WHERE starts_with(id, lower(?)) LIMIT 3", [record])
        )
        if len(found) != 1:
            problem = "no record has an id that begins so" if not found else "several ids begin so, give more digits"
            raise RecordError(f"{record!r}: {problem}; see `fitcheck results list`.")
        document = found[0]["document"]
        if raw:
            sys.stdout.buffer.write(document.encode())
            sys.stdout.buffer.flush()
        else:
            print(json_text(json.loads(document)))
        for code in _flags(document, time.time()):
            print(f"flagged: {code}", file=sys.stderr)

    @results.command()
    def query(
        sql: Annotated[str, typer.Argument(help="SQL over the table `records`.")],
        sources: From = None,
        as_json: AsJson = False,
        as_csv: AsCsv = False,
        parquet: AsParquet = None,
    ) -> None:
        """Ask anything: SQL over the table `records`, like SELECT card, median(seconds) FROM records GROUP BY card."""
        from fitcheck.records import query as engine

        if parquet is not None:
            _write_parquet(_sources(sources), sql, parquet)
            return
        refused: list[str] = []
        result = engine.run(engine.open_records(*_sources(sources), refused=refused), sql)
        _emit(engine.rows(result), as_json, as_csv, result.columns)
        _say_refused(refused)

    @results.command()
    def compact(
        out: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
        sources: From = None,
    ) -> None:
        """Put all records into one Parquet file, for fast queries here or in any other engine."""
        from fitcheck.records import query

        refused: list[str] = []
        count = query.compact(_sources(sources), out, refused)
        _say_refused(refused)
        print(one_line(str(out)))
        print(f"{count} records.", file=sys.stderr)


def _sources(given: list[Path] | None) -> list[Path]:
    from fitcheck.records.places import local_root

    if given:
        return given
    found = [path for path in (Path("results"), local_root()) if path.is_dir()]
    if not found:
        raise RecordError("there is no folder results/ here and you have no records yet; say where with --from.")
    return found


def _date(text: str | None, option: str) -> str | None:
    import datetime

    if text is None:
        return None
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise OptionError(f"{option}: {text!r} is not a date; write it like 2026-05-31.") from error


def _flags(document: str, now: float) -> list[str]:
    """Codes of what surprises or cannot be in a stored record."""
    from fitcheck.records.findings import Rank
    from fitcheck.records.validate import check_record

    _, findings = check_record(document.encode(), now)
    return list(dict.fromkeys(finding.code for finding in findings if finding.rank is not Rank.NOTE))


def _write_parquet(sources: list[Path], sql: str, out: Path, parameters: Sequence[object] = ()) -> None:
    from fitcheck.records import query

    refused: list[str] = []
    query.export(sources, sql, out, parameters, refused)
    _say_refused(refused)
    print(one_line(str(out)))


def _say_refused(refused: list[str]) -> None:
    """What was left out and why; a stranger's folder may hold any number of such files."""
    for sentence in refused[:_MOST_SAID]:
        print(f"left out: {one_line(sentence)}", file=sys.stderr)
    if len(refused) > _MOST_SAID:
        print(f"left out: {len(refused) - _MOST_SAID} more.", file=sys.stderr)


def _emit(
    rows: list[dict[str, Any]], as_json: bool, as_csv: bool, columns: Sequence[str] = (), spare: Sequence[str] = ()
) -> None:
    names = list(rows[0]) if rows else list(columns)
    if as_json:
        print(json_text([{name: _in_json(value) for name, value in row.items()} for row in rows]))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([printable(name) for name in names])
        writer.writerows([[_in_csv(row[name]) for name in names] for row in rows])
    else:
        _table(rows, names, spare)


def _in_json(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _in_csv(value: Any) -> Any:
    """Numbers as they are; text without what a terminal would act on."""
    cell = _cell(value)
    return cell if cell is None or isinstance(cell, int | float) else printable(str(cell))


def _table(rows: list[dict[str, Any]], names: list[str], spare: Sequence[str]) -> None:
    from fitcheck.cli.listing import draw

    shown = [name for name in names if any(row[name] not in (None, [], "") for row in rows)]
    right = {one_line(name) for name in shown if isinstance(rows[0][name], int | float)}
    heads, texts = [one_line(name) for name in shown], [[_text(name, row[name]) for name in shown] for row in rows]
    if shown:
        draw(heads, texts, spare, needed=heads[:0:-1], right=right, elsewhere="--csv")
    print(f"{len(rows)} rows.", file=sys.stderr)


def _text(name: str, value: Any) -> str:
    """A value as people read it; a column that a query named as it liked may hold anything."""
    from fitcheck.units import format_gib, format_seconds

    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if value is None:
        return "–"
    if number and name == "seconds":
        return format_seconds(value)
    if number and name in _BYTES:
        return format_gib(value, 2)
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(_cell(value)))

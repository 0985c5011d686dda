"""``fitcheck accuracy``: predicted against measured, per row and in sum, and whether it got worse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fitcheck.errors import RecordError

if TYPE_CHECKING:
    from fitcheck.verdict.accuracy import AccuracyRow
    from fitcheck.verdict.accuracy_summary import AccuracySummary
    from fitcheck.verdict.left_out import Worth

HEADER = ("measured", "quantity", "left out", "rows", "median error", "worst error", "inside", "median width")


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck accuracy``; the command raises RecordError when ``--results`` is no folder."""

    @app.command()
    def accuracy(
        results: Annotated[
            Path | None, typer.Option("--results", help="A results folder whose records are compared as well.")
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
        markdown: Annotated[bool, typer.Option("--markdown", help="The summary as a Markdown table.")] = False,
        blind: Annotated[
            bool,
            typer.Option(
                "--blind", help="Of the summary what tests the estimate: unseen rows, their machine left out."
            ),
        ] = False,
        check: Annotated[
            Path | None, typer.Option("--check", help="A kept baseline; exit code 1 where something got worse.")
        ] = None,
        keep: Annotated[Path | None, typer.Option("--keep", help="Write the summary as the new baseline.")] = None,
    ) -> None:
        """Predicted against measured; no row tests itself, and rows that a constant was fitted on stand apart."""
        baseline = None if check is None else _baseline(check)
        rows = _rows(results)
        from fitcheck.verdict.accuracy_summary import (
            by_cell_kind,
            figure_summaries,
            kept,
            same_machine_summaries,
            summarize,
        )

        known = _worth(results, same_machine=True)
        summaries = [*summarize(rows), *same_machine_summaries(known), *figure_summaries()]
        if keep is not None:
            keep.write_text(json.dumps(kept(summaries), indent=1) + "\n", "utf-8")
        if check is not None and baseline is not None:
            _check(check, baseline, summaries)
        elif json_:
            _print_json(rows, summaries, by_cell_kind(rows), _by_machine(results, known))
        elif markdown:
            _print_markdown([_line(one) for one in summaries if not blind or _tests(one)])
        else:
            _print_tables(rows, [one for one in summaries if not blind or _tests(one)], by_cell_kind(rows))
            _print_worth(_by_machine(results, known))


def _tests(one: AccuracySummary) -> bool:
    """Whether a line is of rows that entered nothing, predicted without any of their machine's."""
    from fitcheck.verdict.accuracy import Leave, Part

    return one.part == Part.BLIND and one.left_out != Leave.CELL


def _rows(results: Path | None) -> list[AccuracyRow]:
    """All rows, each with its cell left out and again with its machine left out. Raises RecordError."""
    from fitcheck.verdict.accuracy import Leave, published_rows, recorded_rows

    if results is not None and not results.is_dir():
        raise RecordError(f"--results: {results} is not a folder.")
    found = [row for leave in Leave for row in published_rows(leave)]
    return found if results is None else found + [row for leave in Leave for row in recorded_rows(results, leave)]


def _worth(results: Path | None, *, same_machine: bool) -> list[Worth]:
    """What calibration is worth on the given or the accepted records."""
    from fitcheck.records.run_index import accepted
    from fitcheck.verdict.accuracy import index_of
    from fitcheck.verdict.left_out import left_out, worth

    index = accepted() if results is None else index_of(results)
    return worth(left_out(index, same_machine=same_machine))


def _by_machine(results: Path | None, known: Sequence[Worth]) -> list[tuple[str, Worth]]:
    """The same for another machine, then what is ``known`` for the same one."""
    return [("another", one) for one in _worth(results, same_machine=False)] + [("the same", one) for one in known]


def _print_worth(lines: Sequence[tuple[str, Worth]]) -> None:
    from fitcheck.cli.listing import draw

    header = (
        "runtime",
        "seconds of",
        "machine",
        "cells",
        "median error without",
        "with",
        "worst without",
        "with",
        "inside",
    )
    title = "What calibration is worth: every measured cell predicted without records and with all but its own"
    table = []
    for machine, one in lines:
        errors = (one.without, one.with_others, one.worst_without, one.worst_with)
        name = "the whole" if one.name == "seconds" else one.name
        inside = f"{one.covered} of {one.rows}"
        table.append([one.runtime, name, machine, str(one.rows), *(f"{error:.1%}" for error in errors), inside])
    print()
    draw(header, table, ("worst without", "cells"), title=title)


def _check(path: Path, baseline: dict[str, dict[str, Any]], summaries: Sequence[AccuracySummary]) -> None:
    """Before and after of what changed; exit code 1 where something is worse than in the baseline."""
    from fitcheck.verdict.accuracy_summary import before_and_after, worse

    for line in before_and_after(summaries, baseline):
        print(line)
    faults = worse(summaries, baseline)
    for fault in faults:
        print(f"worse: {fault}")
    if faults:
        raise typer.Exit(1)
    print(f"{len(summaries)} lines, none worse than in {path}.")


def _baseline(path: Path) -> dict[str, dict[str, Any]]:
    """The kept figures, read before the work. Raises RecordError for what is no baseline."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise RecordError(f"--check: {path} cannot be read as a baseline ({problem}); write one with --keep.") from None
    needed = {"rows", "median", "worst", "covered", "width"}
    if not isinstance(found, dict) or not all(isinstance(one, dict) and needed <= one.keys() for one in found.values()):
        raise RecordError(f"--check: {path} is not a baseline of this command; write one with --keep.")
    return found


def _line(one: AccuracySummary) -> tuple[str, ...]:
    from fitcheck.verdict.accuracy import Part

    return (
        one.origin,
        one.quantity + ("" if one.part == Part.BLIND else f" ({one.part})"),
        one.left_out,
        str(one.rows),
        f"{one.median:.2%}",
        f"{one.worst:.2%}",
        "" if one.covered is None else f"{one.covered} of {one.rows}",
        "" if one.width is None or one.covered is None else f"{one.width:.2f}",
    )


def _print_json(
    rows: Sequence[AccuracyRow],
    summaries: Sequence[AccuracySummary],
    kinds: Sequence[AccuracySummary],
    calibration: Sequence[tuple[str, Worth]],
) -> None:
    document = {
        "schema": "fitcheck.accuracy/2",
        "rows": [asdict(row) | {"error": row.error, "covered": row.covered, "width": row.width} for row in rows],
        "summary": [asdict(summary) for summary in summaries],
        "by_cell_kind": [asdict(summary) for summary in kinds],
        "calibration": [{"machine": machine} | asdict(one) for machine, one in calibration],
    }
    print(json.dumps(document, indent=2))


def _print_markdown(lines: Sequence[tuple[str, ...]]) -> None:
    print("| " + " | ".join(HEADER) + " |")
    print("|" + " --- |" * len(HEADER))
    for line in lines:
        print("| " + " | ".join(line) + " |")


def _print_tables(
    rows: Sequence[AccuracyRow], summaries: Sequence[AccuracySummary], kinds: Sequence[AccuracySummary]
) -> None:
    from fitcheck.cli.listing import draw
    from fitcheck.verdict.accuracy import Part

    columns = ("quantity", "predicted", "interval", "measured", "error", "left out", "part", "cell")
    lines = [
        (
            row.quantity,
            f"{row.predicted:.2f} {row.unit}",
            f"{row.low:.2f} – {row.high:.2f}",
            f"{row.published:.2f}",
            f"{row.error:+.2%}",
            row.left_out,
            ("" if row.part == Part.BLIND else row.part) + ("" if row.covered else " outside"),
            row.cell,
        )
        for row in rows
    ]
    draw(columns, lines, ("left out", "interval", "part"), right=("predicted", "interval", "measured", "error"))
    for title, found in (("Blind rows by kind of cell", kinds), ("By quantity", summaries)):
        print()
        draw(HEADER, [_line(one) for one in found], ("median width", "left out", "rows"), title=title)

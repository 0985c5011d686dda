"""``fitcheck accuracy``: predicted against published, per row and in sum."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fitcheck.errors import RecordError


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck accuracy``; the command raises RecordError when ``--results`` is no folder."""

    @app.command()
    def accuracy(
        results: Annotated[
            Path | None, typer.Option("--results", help="A results folder whose records are compared as well.")
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
        markdown: Annotated[bool, typer.Option("--markdown", help="The summary as a Markdown table.")] = False,
    ) -> None:
        """Predicted against measured; rows that a constant was fitted on stand apart."""
        from rich.table import Table

        from fitcheck.cli.output import console
        from fitcheck.verdict.accuracy import figure_summaries, published_rows, recorded_rows, summarize

        rows = published_rows()
        if results is not None:
            if not results.is_dir():
                raise RecordError(f"--results: {results} is not a folder.")
            rows += recorded_rows(results)
        summaries = [*summarize(rows), *figure_summaries()]
        if json_:
            document = {
                "schema": "fitcheck.accuracy/1",
                "rows": [asdict(row) | {"error": row.error, "covered": row.covered} for row in rows],
                "summary": [asdict(summary) for summary in summaries],
            }
            print(json.dumps(document, indent=2))
            return
        lines = [
            (
                summary.origin,
                summary.quantity + (" (fitted on)" if summary.fitted else ""),
                str(summary.rows),
                f"{summary.median:.2%}",
                f"{summary.worst:.2%}",
                "" if summary.covered is None else f"{summary.covered} of {summary.rows}",
            )
            for summary in summaries
        ]
        header = ("measured", "quantity", "rows", "median error", "worst error", "inside the interval")
        if markdown:
            print("| " + " | ".join(header) + " |")
            print("|" + " --- |" * len(header))
            for line in lines:
                print("| " + " | ".join(line) + " |")
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("cell", "quantity", "predicted", "interval", "measured", "error", ""):
            table.add_column(name, justify="left" if name in ("cell", "quantity", "") else "right", no_wrap=True)
        for row in rows:
            table.add_row(
                row.cell,
                row.quantity,
                f"{row.predicted:.2f} {row.unit}",
                f"{row.low:.2f} – {row.high:.2f}",
                f"{row.published:.2f}",
                f"{row.error:+.2%}",
                ("fitted on" if row.fitted else "") + ("" if row.covered else " outside"),
            )
        out = console()
        out.print(table)
        out.print()
        summary_table = Table(*header, box=None, pad_edge=False, header_style="bold")
        for line in lines:
            summary_table.add_row(*line)
        out.print(summary_table)

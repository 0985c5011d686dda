"""``fitcheck check``: every tier and mode of a model on a machine, best choice first."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from fitcheck.cli.options import Question, answer, question_command
from fitcheck.cli.output import emit
from fitcheck.errors import OptionError
from fitcheck.memory.weighing import Verdict

EXIT_CODES = {Verdict.FITS: 0, Verdict.TIGHT: 3, Verdict.NO: 4, Verdict.UNKNOWN: 5}


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck check``, whose exit code is the verdict of the best cell."""

    @question_command(app)
    def check(
        question: Question,
        json_: Annotated[bool, typer.Option("--json", help="The whole report as JSON (docs/json.md).")] = False,
        markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
        html: Annotated[
            Path | None, typer.Option("--html", help="Also write one self-contained page to this file.")
        ] = None,
    ) -> None:
        """Will it run, in which tier and mode, how fast? Exit code: 0 fits, 3 tight, 4 no, 5 unknown, 2 bad input."""
        if json_ and markdown:
            raise OptionError("--json and --markdown exclude each other; name one of them.")
        report = answer(question)
        if html is not None:
            from fitcheck.cli.html import write_report

            write_report(report, html, shlex.join(["fitcheck", *sys.argv[1:]]))
        emit(report, "json" if json_ else "markdown" if markdown else "table")
        raise typer.Exit(EXIT_CODES[report.best.verdict])

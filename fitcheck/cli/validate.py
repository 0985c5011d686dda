"""``fitcheck validate``: are these records true, as far as anyone can tell?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fitcheck.cli.printable import one_line

DEFAULT_ROOT = Path("results")


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck validate``, which ends with 1 when a record is rejected."""

    @app.command()
    def validate(
        paths: Annotated[
            list[Path] | None,
            typer.Argument(help="Record files or trees of them; results/ by default.", show_default=False),
        ] = None,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out notes.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    ) -> None:
        """Check records: one line for each problem, exit code 1 when any is rejected.

        reject: cannot be, the file is not accepted. flag: surprises, kept and shown as flagged. note: good to know.
        """
        from fitcheck.errors import RecordError
        from fitcheck.records.findings import Rank
        from fitcheck.records.validate import validate as check
        from fitcheck.verdict.expectation import doubt

        chosen = paths or [DEFAULT_ROOT]
        for path in chosen:
            if not path.exists() and not path.is_symlink():
                raise RecordError(f"{path}: there is no such file or folder; give records or a folder of them.")
        report = check(chosen, doubt=doubt)
        shown = [problem for problem in report.problems if not (quiet and problem.finding.rank is Rank.NOTE)]
        if as_json:
            listed = [
                {
                    "path": str(problem.path),
                    "rank": problem.finding.rank.value,
                    "code": problem.finding.code,
                    "message": problem.finding.message,
                }
                for problem in shown
            ]
            print(json.dumps({"files": report.files, "valid": report.valid, "problems": listed}, indent=2))
        else:
            for problem in shown:
                finding = problem.finding
                line = one_line(f"{problem.path}: {finding.message} [{finding.code}]")
                print(f"{finding.rank.value:6}  {line}")
        flagged = len({problem.path for problem in report.of(Rank.FLAG)})
        print(f"{report.files} files, {report.valid} valid, {flagged} flagged.", file=sys.stderr)
        if report.rejected:
            raise typer.Exit(1)

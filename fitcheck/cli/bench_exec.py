"""``fitcheck bench exec``: any program, measured from outside."""

from __future__ import annotations

from typing import Annotated

import typer

from fitcheck.cli.bench_options import Out, say_where
from fitcheck.cli.consoles import console


def register(bench: typer.Typer) -> None:
    """Adds ``exec`` to the group ``fitcheck bench``; it ends with the exit code of the program it measured."""

    @bench.command("exec", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def execute(
        command: Annotated[
            list[str] | None, typer.Argument(metavar="COMMAND", help="The program and its arguments, after --.")
        ] = None,
        name: Annotated[
            str | None, typer.Option(help="What to call the program in the record. Default: its file name.")
        ] = None,
        out: Out = None,
    ) -> None:
        """Measure any program from outside: memory of its process tree and of the card, power, time, exit code.

        The program keeps this terminal; its exit code becomes this command's. The record does not hold its arguments.
        """
        from bench.external import resolve, run_external
        from bench.lock import bench_lock
        from bench.meters import NvmlCard
        from bench.meters.nvml import visible_selector
        from bench.preflight import card_findings, require_folder
        from bench.results_table import external_line
        from bench.suite import default_out
        from bench.unfinished import recover
        from fitcheck.records import store

        argv = resolve(command or [])
        folder = default_out(False, out)
        if folder is not None:
            require_folder(folder)
        notes = console(stderr=True)
        card = NvmlCard.open(visible_selector())
        if card is None:
            notes.print("No GPU is visible here: host memory and time are measured alone.")
        for finding in card_findings(card) if card else ():
            notes.print(f"warning: {finding.text}", soft_wrap=True)
        left = [] if folder is None else recover(folder)
        if left:
            notes.print(f"{len(left)} records of runs that were killed are kept now.")
        with bench_lock():
            finished = run_external(argv, name, card, root=folder)
        record = store.seal(finished.record)
        notes.print(external_line(record), soft_wrap=True)
        say_where(notes, [*left, *([] if folder is None else [store.write(folder, record)])])
        finished.draft.drop()
        code = 130 if finished.interrupted else finished.code
        raise typer.Exit(128 - code if code < 0 else code)

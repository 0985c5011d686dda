"""``fitcheck bench link``: what the card and its link can do, measured alone."""

from __future__ import annotations

from typing import Annotated

import typer

from fitcheck.cli.bench_options import Out, say_where
from fitcheck.cli.consoles import console


def register(bench: typer.Typer) -> None:
    """Adds ``link`` to the group ``fitcheck bench``; it ends with 1 when the measurement did not finish."""

    @bench.command()
    def link(
        quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes and types.")] = False,
        out: Out = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the record.")] = False,
    ) -> None:
        """Measure the card alone: copies by block size, pinning, matrix products, dequantization, the context."""
        from bench.link_report import print_link
        from bench.link_test import run_link
        from bench.preflight import require_folder
        from bench.suite import bench_card, default_out
        from fitcheck.records import store

        notes = console(stderr=True)
        folder = default_out(False, out)
        with bench_card("cuda", notes) as card:
            if folder is not None:
                require_folder(folder)
            record = store.seal(run_link(card, quick))
        paths = [] if folder is None else [store.write(folder, record)]
        if as_json:
            typer.echo(store.encode(record).decode(), nl=False)
        else:
            print_link(record, console())
        say_where(notes, paths)
        if record.outcome.result != "ok":
            notes.print(f"{record.outcome.result}: {record.outcome.message}")
            raise typer.Exit(1)

"""Tables of answers: on a terminal aligned and never cut, in a pipe tab-separated."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fitcheck.cli.printable import one_line
from fitcheck.units import format_seconds, format_span
from fitcheck.verdict.headline import unit
from fitcheck.verdict.report import Cell

UNKNOWN = "unknown"


def speed(cell: Cell) -> str:
    """The expected speed with its unit: tokens a second of text that is read along, else seconds."""
    if cell.workload.task.read_along:
        rate = cell.rate("generation")
        return UNKNOWN if rate is None else f"{format_span(*(_figure(end) for end in (rate.low, rate.high)))} tokens/s"
    span = cell.seconds
    if span is None:
        return UNKNOWN
    return f"{format_span(format_seconds(span.low), format_seconds(span.high))} {unit(cell)}"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the rows. A terminal that is too narrow for them wraps the last column, and no other."""
    safe = [[one_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (columns, *safe):
            print("\t".join(row))
        return
    from rich.table import Table

    from fitcheck.cli.output import console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        table.add_column(name, no_wrap=position < len(columns) - 1, overflow="fold")
    from rich.text import Text

    for row in safe:
        table.add_row(*map(Text, row))
    console().print(table)

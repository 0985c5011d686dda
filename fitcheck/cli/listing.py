"""Tables of answers: on a terminal aligned and never cut, in a pipe tab-separated."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

from fitcheck.cli.printable import one_line
from fitcheck.units import format_span, format_time_span
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.headline import unit

UNKNOWN = "unknown"
# letters between two columns, where there is no room for so many, and of a last column that wraps at the least
GAP, NARROW = 2, 1
LEAST_LAST = 18
# which tier speaks for a model in a list of models or cards
LEADING = (
    "the tier that `fitcheck check` leads with, of those that are not coarse (a KL divergence over 0.05 from 16 bits, "
    "where it was published)"
)


def speed(cell: Cell) -> str:
    """The expected speed with its unit: tokens a second of text that is read along, else seconds."""
    if cell.workload.task.read_along:
        rate = cell.pace
        return UNKNOWN if rate is None else f"{format_span(*(_figure(end) for end in (rate.low, rate.high)))} tokens/s"
    span = cell.seconds
    if span is None:
        return UNKNOWN
    return f"{format_time_span(span.low, span.high)} {unit(cell)}"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = ()) -> None:
    """Print the rows. A terminal that is too narrow for them goes without the ``spare`` columns, one after the other,
    and says so; then the last column wraps, and no other is cut."""
    safe = [[one_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (columns, *safe):
            print("\t".join(row))
        return
    draw(columns, safe, spare)


def draw(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    spare: Sequence[str] = (),
    *,
    needed: Sequence[str] = (),
    right: Collection[str] = (),
    title: str = "",
    elsewhere: str = "--json",
) -> None:
    """Print the rows aligned, those of ``right`` to the right. Where there is no room the ``spare`` columns go, one
    after the other, and at last the ``needed`` ones (``fitting``), and it is said that ``elsewhere`` has them; then the
    last column wraps, and no other is cut."""
    from rich.text import Text

    from fitcheck.cli.consoles import bare_table, console

    out = console()
    kept = fitting(columns, rows, spare, out.width, needed)
    wide = {at: max(len(row[at]) for row in (columns, *rows)) for at in kept}
    gap = GAP if _taken([*wide.values()], GAP) <= out.width else NARROW
    room = out.width - sum([*wide.values()][:-1]) - gap * (len(kept) - 1)
    table = bare_table(title=title)
    table.padding = (0, gap, 0, 0)
    for position, at in enumerate(kept):
        last, longest = position == len(kept) - 1, wide[at]
        table.add_column(
            columns[at],
            justify="right" if columns[at] in right else "left",
            no_wrap=not last,
            overflow="fold",
            min_width=max(1, min(longest, LEAST_LAST, room)) if last else longest,
        )
    for row in rows:
        table.add_row(*(Text(row[at]) for at in kept))
    out.print(table)
    gone = [name for at, name in enumerate(columns) if at not in kept]
    if gone:
        words = f"No room for {', '.join(filter(None, gone))}: a wider terminal or {elsewhere} has them."
        console(stderr=True).print(words, style="dim")


def fitting(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    spare: Sequence[str],
    width: int,
    needed: Sequence[str] = (),
) -> list[int]:
    """Which columns stand beside each other in ``width`` letters uncut, the last one apart, which may wrap; the
    ``spare`` ones go in their order where there is no room, then, where a narrow gap makes none either, the ``needed``
    ones."""
    kept = list(range(len(columns)))
    for name, gap in ((None, GAP), *((one, GAP) for one in spare), (None, NARROW), *((one, NARROW) for one in needed)):
        kept = [at for at in kept if columns[at] != name]
        wide = [max(len(row[at]) for row in (columns, *rows)) for at in kept]
        if _taken(wide, gap) <= width:
            break
    return kept


def _taken(wide: Sequence[int], gap: int) -> int:
    """Letters that columns of these widths take at the least."""
    return sum(wide[:-1]) + min(wide[-1], LEAST_LAST) + gap * (len(wide) - 1)

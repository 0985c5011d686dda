"""How a report is printed: a table for people, Markdown for issues, JSON for programs. Notes go to stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fitcheck.cli.consoles import PlainLines, bare_table, console, lines_to
from fitcheck.memory.weighing import Verdict
from fitcheck.models.tier_quality import Range, TierQuality, figures
from fitcheck.models.workload import Task
from fitcheck.units import format_span, format_speeds, format_time_span, format_times
from fitcheck.verdict.cell import Cell, Flip
from fitcheck.verdict.coarseness import quality_words
from fitcheck.verdict.report import Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_COLOURS = {Verdict.FITS: "green", Verdict.TIGHT: "yellow", Verdict.UNKNOWN: "magenta", Verdict.NO: "red"}
_FIRST = ("tier", "mode", "verdict", "card GiB", "usable GiB", "system GiB", "disk GB")
_LAST = ("binds", "what would change it")
_NUMERIC = ("usable GiB", "disk GB", "context")
_GAP, _NARROW = 2, 1  # spaces between columns, and where there is no room for so many


QUALITY = "KLD"


def columns(report: Report) -> tuple[str, ...]:
    """The table's columns: seconds of an image, or tokens a second and quality of text."""
    timing = ("context", "tokens/s", "seconds", QUALITY) if _is_text(report) else ("seconds",)
    return (*_FIRST, *timing, *_LAST)


def _is_text(report: Report) -> bool:
    return report.workload.task.read_along


def row(report: Report, cell: Cell) -> list[str]:
    """The cells of one line, in the order of ``columns``."""
    footprint, card = cell.footprint, cell.memory.card
    flip = "" if cell.flip is None else f"{cell.flip.change} ({cell.flip.verdict})"
    return [
        cell.tier.name if cell.tier.published else f"{cell.tier.name} ({_unpublished(cell)})",
        cell.placement.mode,
        str(cell.verdict),
        _span(card.low, card.best, card.high),
        f"{report.budget.vram.best / 2**30:.1f}",
        _span(footprint.host.total.low, footprint.host.total.best, footprint.host.total.high),
        f"{footprint.disk / 1e9:.1f}",
        *((str(cell.workload.context), _tokens(cell)) if _is_text(report) else ()),
        _seconds(cell),
        *((quality(cell),) if _is_text(report) else ()),
        str(cell.judgement.binding),
        flip,
    ]


def _unpublished(cell: Cell) -> str:
    return "to convert" if len(cell.commands) > 1 else "unpublished"


def _seconds(cell: Cell) -> str:
    span = cell.seconds
    if span is None:
        return "unknown"
    low, best, high = format_times(span.low, span.best, span.high)
    return f"{best} ({format_span(low, high)})"


def _tokens(cell: Cell) -> str:
    """Tokens generated a second, or read where none are."""
    span = cell.pace
    if span is None:
        return "unknown"
    low, best, high = format_speeds(span)
    return f"{best} ({low} – {high})"


def quality(cell: Cell) -> str:
    """The divergence of the tier from 16 bits for a table; "?" where nobody has measured it."""
    found = cell.quality
    return "?" if found is None or found.divergence is None else figures(found.divergence)


def worst_quality(found: TierQuality | None) -> str:
    """The larger divergence of the two that a tier may have, for a list; "?" where nobody has measured it."""
    divergence = None if found is None else found.divergence
    return "?" if divergence is None else figures(Range(divergence.high, divergence.high))


def quality_line(report: Report) -> str:
    """What the best cell's tier costs in quality, as a sentence; where nobody has measured it, what stands in where
    several are put in order by it."""
    best = report.best
    if best.quality is None and not (best.workload.task.read_along and len(report.model.tiers) > 1):
        return ""
    return f"Quality of {best.tier.name}: {quality_words(report.model, best.tier)}."


def _span(low: float, best: float, high: float) -> str:
    gib = 2**30
    return f"{best / gib:.1f} ({low / gib:.1f} – {high / gib:.1f})"


def emit(report: Report, style: str) -> None:
    """Print the report to stdout as ``table``, ``markdown`` or ``json``."""
    if style == "json":
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
        return
    if style == "markdown":
        print(f"**{report.answer}**\n")
        for line in _under(report):
            print(f"{line}\n")
        names = columns(report)
        print("| " + " | ".join(names) + " |")
        print("|" + " --- |" * len(names))
        for cell in report.cells:
            print("| " + " | ".join(text.replace("|", "\\|") for text in row(report, cell)) + " |")
        for line in filter(None, (quality_line(report), report.software_line)):
            print(f"\n{line}")
        return
    out = lines_to()
    say(out, report)
    if isinstance(out, PlainLines):
        out.print(_in_columns(report))
    else:
        out.print(_fitting(out, report))
    for line in filter(None, (quality_line(report), report.software_line)):
        out.print(line)
    for command in report.best.commands:
        out.print(f"  {command}", soft_wrap=True)
    narrate(report)


def say(out: Console | PlainLines, report: Report) -> None:
    """The answer, and under it what would change it and what it assumes."""
    out.print(report.answer, style="bold")
    for line in _under(report):
        out.print(line)


def change_line(flip: Flip) -> str:
    """What would better an answer, as a sentence. What leaves it open is not called better."""
    to = "that may help" if flip.verdict is Verdict.UNKNOWN else "to a better answer"
    return f"Smallest change {to}: {flip.change} ({flip.verdict})."


def _under(report: Report) -> list[str]:
    flip = report.best.flip
    change = [] if flip is None else [change_line(flip)]
    return [*change, *([report.assumed_line] if report.assumed else [])]


def _fitting(out: Console, report: Report) -> Table | Text:
    """The table with all that this terminal has room for, and no cell cut: a narrow one goes without the intervals."""
    names, rows = columns(report), [row(report, cell) for cell in report.cells]
    widths = _widths(names, rows)
    if sum(widths) + _GAP * (len(widths) - 1) <= out.width:
        return _in_lines(report, [names, *rows], widths, coloured=out.color_system is not None)
    wide = _table(report, names, rows)
    if _fits(out, wide):
        return wide
    console(stderr=True).print(
        "Shortened to this terminal: a wider one, --markdown or --json shows every interval.", style="dim"
    )
    short = [
        dict(zip(names, texts, strict=True)) | _short(cell) for cell, texts in zip(report.cells, rows, strict=True)
    ]
    kept = [name for name in names if name not in ("usable GiB", "disk GB", "context", QUALITY)]
    if _is_text(report):
        kept.remove("seconds")
    for shown in (kept, kept[:-1]):
        heads = [name.replace(" GiB", "\nGiB") for name in shown]
        found = _table(report, heads, [[cells[name] for name in shown] for cells in short])
        if _fits(out, found):
            return found
    found.padding = (0, _NARROW, 0, 0)
    _fits(out, found, _NARROW)
    return found


def _in_columns(report: Report) -> str:
    """The table where nothing wraps and nobody sees styles, as rich would lay it out."""
    names, rows = columns(report), [row(report, cell) for cell in report.cells]
    return _joined(_laid([names, *rows], _widths(names, rows)))


def _laid(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[list[str]]:
    """The cells of all rows, of which the first has the columns' names, as wide as their columns."""
    return [[_padded(*cell) for cell in zip(rows[0], texts, widths, strict=True)] for texts in rows]


def _joined(laid: Sequence[Sequence[str]]) -> str:
    return "\n".join((" " * _GAP).join(cells) for cells in laid)


def _widths(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(_width, texts)) for texts in zip(names, *rows, strict=True)]


def _width(text: str) -> int:
    """Letters that a terminal takes for it, of which some scripts have two."""
    plain = text.translate(_NARROW_SIGNS)
    if plain.isascii() and plain.isprintable():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


# signs of our own that take one letter
_NARROW_SIGNS = str.maketrans("–×·…", "----")


def _in_lines(report: Report, rows: Sequence[Sequence[str]], widths: Sequence[int], *, coloured: bool) -> Text:
    """The table where nothing wraps, as rich would lay it out: cell by cell that takes a tenth of the whole answer, and
    so do styles where nobody sees them."""
    from rich.text import Text

    laid = _laid(rows, widths)
    if not coloured:
        return Text(_joined(laid), no_wrap=True)
    found = Text(no_wrap=True)
    for position, cells in enumerate(laid):
        styles = [""] * len(cells) if position else ["bold"] * len(cells)
        if position:
            styles[2] = _COLOURS[report.cells[position - 1].verdict]
        for at, (text, style) in enumerate(zip(cells, styles, strict=True)):
            found.append(" " * _GAP if at else "\n" if position else "")
            found.append(text, style)
    return found


def _padded(name: str, text: str, width: int) -> str:
    """A cell of the column of that ``name``, as wide as the column."""
    blank = " " * (width - _width(text))
    return blank + text if name in _NUMERIC else text + blank


def _fits(out: Console, table: Table, gap: int = _GAP) -> bool:
    """Whether there is room for all columns at their least width. Then those that do not wrap have it, so that nobody
    measures them cell by cell, which takes as long as the answer."""
    if sum(column.min_width or 0 for column in table.columns) + gap * (len(table.columns) - 1) > out.width:
        return False
    for column in table.columns:
        column.width = column.min_width if column.no_wrap else None
    return True


def _short(cell: Cell) -> dict[str, str]:
    """Cells without their intervals, and the time as an interval alone."""
    span = cell.seconds
    return {
        "card GiB": f"{cell.need / 2**30:.1f}",
        "system GiB": f"{cell.footprint.host.total.best / 2**30:.1f}",
        "seconds": "unknown" if span is None else format_time_span(span.low, span.high),
    }


def _table(report: Report, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.text import Text

    table = bare_table()
    for position, name in enumerate(names):
        numeric, wraps = name in _NUMERIC, name == _LAST[-1]
        texts = [*name.splitlines(), *(cells[position] for cells in rows)]
        longest = max(map(_width, " ".join(texts).split() if wraps else texts))
        table.add_column(name, justify="right" if numeric else "left", no_wrap=not wraps, min_width=longest)
    for cell, cells in zip(report.cells, rows, strict=True):
        shown = [Text(text) for text in cells]
        shown[2].stylize(_COLOURS[cell.verdict])
        table.add_row(*shown)
    return table


def narrate(report: Report) -> None:
    """What the numbers rest on, on stderr."""
    err = lines_to(stderr=True)
    work = report.workload
    size = f" {work.width}x{work.height}, {work.steps} steps, cfg {work.cfg:g};"
    if work.task is Task.VQA:
        size = ""
    elif work.task.read_along:
        answer = f", an answer of {work.new_tokens}" if work.new_tokens else ""
        size = f" {work.context} tokens of context, a prompt of {work.prompt_tokens}{answer};"
    err.print(f"{work.task}:{size} usable card memory: {report.budget.basis}.", style="dim")
    known = [f"{name} {how.level}: {how.note}" for name, how in report.best.evidence.named if how.records]
    for note in (*report.machine.notes, *report.notes, *known, *report.best.footprint.assumptions):
        err.print(f"· {note}", style="dim")

"""How a report is printed: a table for people, Markdown for issues, JSON for programs. Notes go to stderr."""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.table import Table

from fitcheck.units import format_gib, format_seconds
from fitcheck.verdict.judge import Verdict
from fitcheck.verdict.report import Cell, Report

_COLOURS = {Verdict.FITS: "green", Verdict.TIGHT: "yellow", Verdict.UNKNOWN: "magenta", Verdict.NO: "red"}
COLUMNS = (
    "tier",
    "mode",
    "verdict",
    "card GiB",
    "usable GiB",
    "system GiB",
    "disk GB",
    "seconds",
    "binds",
    "what would change it",
)


def console(stderr: bool = False) -> Console:
    """A console that never wraps inside a pipe."""
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 200
    return Console(stderr=stderr, width=width, highlight=False)


def headline(report: Report) -> str:
    """The answer in one sentence."""
    cell, card = report.best, report.machine.gpus[0].card
    where = card.name
    if cell.verdict is Verdict.NO:
        return f"{report.model.name} does not run on {where}: {cell.judgement.reason}"
    if cell.verdict is Verdict.UNKNOWN:
        return f"Whether {report.model.name} runs on {where} is unknown: {cell.judgement.reason}"
    word = "fits" if cell.verdict is Verdict.FITS else "is a tight fit on"
    time = ""
    if cell.duration is not None:
        span = cell.duration.seconds
        time = f", {format_seconds(span.low)} to {format_seconds(span.high)} {_unit(cell)}"
    return (
        f"{report.model.name} {word} {where}: {cell.tier.name} in mode {cell.placement.mode} takes "
        f"{format_gib(cell.footprint.card.best)} of {format_gib(report.budget.vram.best)} card memory and "
        f"{format_gib(cell.footprint.host.total.best)} of system memory{time} ({cell.evidence.level})."
    )


def _unit(cell: Cell) -> str:
    return {"vqa": "an answer", "interleave": "an answer with images"}.get(str(cell.workload.task), "an image")


def row(report: Report, cell: Cell) -> list[str]:
    """The cells of one line, in the order of ``COLUMNS``."""
    footprint = cell.footprint
    span = cell.duration.seconds if cell.duration is not None else None
    flip = "" if cell.flip is None else f"{cell.flip.change} ({cell.flip.verdict})"
    return [
        cell.tier.name if cell.tier.published else f"{cell.tier.name} (unpublished)",
        cell.placement.mode,
        str(cell.verdict),
        _span(footprint.card.low, footprint.card.best, footprint.card.high),
        f"{report.budget.vram.best / 2**30:.1f}",
        _span(footprint.host.total.low, footprint.host.total.best, footprint.host.total.high),
        f"{footprint.disk / 1e9:.1f}",
        "unknown"
        if span is None
        else f"{format_seconds(span.best)} ({format_seconds(span.low)} – {format_seconds(span.high)})",
        str(cell.judgement.binding),
        flip,
    ]


def _span(low: float, best: float, high: float) -> str:
    gib = 2**30
    return f"{best / gib:.1f} ({low / gib:.1f} – {high / gib:.1f})"


def emit(report: Report, style: str) -> None:
    """Print the report to stdout as ``table``, ``markdown`` or ``json``."""
    if style == "json":
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
        return
    if style == "markdown":
        print(f"**{headline(report)}**\n")
        print("| " + " | ".join(COLUMNS) + " |")
        print("|" + " --- |" * len(COLUMNS))
        for cell in report.cells:
            print("| " + " | ".join(text.replace("|", "\\|") for text in row(report, cell)) + " |")
        return
    out = console()
    out.print(headline(report), style="bold")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(
            name, justify="right" if name in ("usable GiB", "disk GB") else "left", no_wrap=name != COLUMNS[-1]
        )
    for cell in report.cells:
        texts = row(report, cell)
        texts[2] = f"[{_COLOURS[cell.verdict]}]{texts[2]}[/]"
        table.add_row(*texts)
    out.print(table)
    for command in report.best.commands:
        out.print(f"  {command}", soft_wrap=True, markup=False)
    narrate(report)


def narrate(report: Report) -> None:
    """What the numbers rest on, on stderr."""
    err = console(stderr=True)
    work = report.workload
    size = "" if str(work.task) == "vqa" else f" {work.width}x{work.height}, {work.steps} steps, cfg {work.cfg:g};"
    err.print(f"{work.task}:{size} usable card memory: {report.budget.basis}.", style="dim", markup=False)
    for note in (*report.machine.notes, *report.notes, *report.best.assumptions):
        err.print(f"· {note}", style="dim", markup=False)

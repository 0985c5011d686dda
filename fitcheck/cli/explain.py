"""``fitcheck explain``: phases × categories of one cell, and where the numbers come from."""

from __future__ import annotations

import typer

from fitcheck.cli.options import Question, answer, takes_question
from fitcheck.runtimes.sensenova.seconds import Duration
from fitcheck.verdict.report import AnswerDuration, Timed

CATEGORIES = ("resident", "window", "kv_cache", "activations", "scratch", "allocated")
_MEANING = {
    "resident": "weights that stay",
    "window": "streamed weights in flight",
    "kv_cache": "keys and values",
    "activations": "tensors of the pass",
    "scratch": "dequantized weights",
    "allocated": "sum at the peak",
}


def _parts(duration: Timed) -> str:
    """The best estimates that the seconds are made of."""
    if isinstance(duration, Duration):
        return (
            f"compute {duration.compute:.2f}, dequantization {duration.dequantization:.2f}, "
            f"streaming {duration.stream:.2f} before overlap"
        )
    if isinstance(duration, AnswerDuration):
        return f"reading the prompt {duration.prompt:.2f}, writing the answer {duration.generation:.2f}"
    return "parts unknown"


def register(app: typer.Typer) -> None:
    @app.command()
    @takes_question
    def explain(question: Question) -> None:
        """What is on the card in each phase and what is on the host, for the best cell of the options."""
        from rich.markup import escape
        from rich.table import Table

        from fitcheck.cli.output import console, headline
        from fitcheck.units import format_gb, format_gib

        report = answer(question)
        cell, out = report.best, console()
        footprint = cell.footprint
        out.print(headline(report), style="bold", markup=False)
        table = Table(
            box=None,
            pad_edge=False,
            header_style="bold",
            title=f"{escape(cell.tier.name)}, {cell.placement.mode}: GiB on the card",
        )
        table.add_column("phase")
        for category in CATEGORIES:
            table.add_column(f"{category.replace('_', ' ')}\n{_MEANING[category]}", justify="right")
        for phase in footprint.phases:
            mark = " ← peak" if phase is footprint.peak else ""
            table.add_row(phase.name + mark, *(f"{getattr(phase, category) / 2**30:.3f}" for category in CATEGORIES))
        out.print(table)
        lines = [
            ("allocated", footprint.allocated),
            ("reserved", footprint.reserved),
            ("on the card, with context", footprint.card),
            ("smallest card that works", footprint.required),
            ("system memory", footprint.host.total),
        ]
        for name, span in lines:
            out.print(
                f"{name:28} {format_gib(span.best, 2)}  ({format_gib(span.low, 2)} to {format_gib(span.high, 2)})"
            )
        host = footprint.host
        out.print(
            f"{'':28} pinned {format_gib(host.pinned, 2)}, pageable {format_gib(host.pageable, 2)}, "
            f"process {format_gib(host.process, 2)}"
        )
        out.print(f"{'disk':28} {format_gb(footprint.disk)}")
        if cell.duration is not None:
            took = cell.duration.seconds
            parts = _parts(cell.duration)
            out.print(
                f"{'seconds':28} {took.best:.2f}  ({took.low:.2f} to {took.high:.2f}): "
                f"{parts}; {cell.duration.binding} binds"
            )
        for note in (*report.notes, *cell.assumptions):
            out.print(f"· {note}", markup=False)

"""``fitcheck explain``: phases × categories of one cell, and where the numbers come from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.cli.explain_oom import Explaining, OomOption, explain_message
from fitcheck.cli.grouped import GroupedCommand
from fitcheck.cli.options import answer, runtime_options, takes
from fitcheck.errors import OptionError
from fitcheck.memory.footprint import CATEGORIES
from fitcheck.speed.duration import Duration

if TYPE_CHECKING:
    from fitcheck.verdict.cell import Cell

_COLUMNS = (*CATEGORIES, "allocated")
_MEANING = {
    "resident": "weights that stay",
    "window": "streamed weights in flight",
    "kv_cache": "keys and values",
    "activations": "tensors of the pass",
    "scratch": "dequantized weights",
    "allocated": "sum at the peak",
}


def _explain_words(as_json: bool) -> None:
    from fitcheck.cli.words import tell, to_json
    from fitcheck.verdict.glossary import glossary

    if as_json:
        print(json.dumps(to_json(glossary()), indent=2, ensure_ascii=False))
    else:
        tell(glossary())


def _took(duration: Duration) -> str:
    """Seconds with what they are made of by the estimate, rounded so that they add up."""
    span = duration.seconds
    if span is None:
        return f"unknown; {duration.binding} binds"
    sums = [round(each, 2) for each in accumulate(value for _, value in duration.shares)]
    shown = zip(duration.shares, sums, [0.0, *sums[:-1]], strict=True)
    parts = ", ".join(f"{name} {upto - before:.2f}" for (name, _), upto, before in shown)
    return f"{span.best:.2f}  ({span.low:.2f} to {span.high:.2f}), estimated parts: {parts}; {duration.binding} binds"


def register(app: typer.Typer) -> None:
    """Adds ``fitcheck explain``, which takes the options of ``fitcheck check`` and shows the best cell alone."""

    def explain(
        question: Explaining,
        oom: OomOption = None,
        words: Annotated[bool, typer.Option("--words", help="What the words of an answer mean.")] = False,
        json_: Annotated[bool, typer.Option("--json", help="With --oom or --words: as JSON (docs/json.md).")] = False,
    ) -> None:
        """What is on the card in each phase and what is on the host, for the best cell of the options; with --oom what
        a message of a program that ran out of memory means, with --words what the words mean."""
        if words:
            _explain_words(json_)
            return
        if oom is not None:
            explain_message(question, oom, as_json=json_)
            return
        if not question.model:
            raise OptionError("explain: name a model, hand in an out-of-memory message with --oom, or ask for --words.")
        if json_:
            raise OptionError(
                "--json: goes with --oom or --words; `fitcheck check --json` has every phase of each cell."
            )

        from fitcheck.cli.consoles import bare_table, console
        from fitcheck.cli.output import say
        from fitcheck.models.tier_quality import NOT_MEASURED
        from fitcheck.units import format_gb, format_gib

        report = answer(question)
        cell, out = report.best, console()
        footprint, memory = cell.footprint, cell.memory
        say(out, report)
        table = bare_table("phase", title=f"{cell.tier.name}, {cell.placement.mode}: GiB on {_shown_card(cell)}")
        for category in _COLUMNS:
            table.add_column(f"{category.replace('_', ' ')}\n{_MEANING[category]}", justify="right")
        for phase in memory.phases:
            mark = " ← peak" if phase is memory.peak else ""
            table.add_row(phase.name + mark, *(f"{getattr(phase, category) / 2**30:.3f}" for category in _COLUMNS))
        out.print(table)
        lines = [
            ("allocated", memory.allocated),
            ("reserved", memory.reserved),
            ("on the card, with context", memory.card),
            ("smallest card that works", memory.required),
            ("system memory", footprint.host.total),
        ]
        for name, span in lines:
            out.print(
                f"{name:28} {format_gib(span.best, 2)}  ({format_gib(span.low, 2)} to {format_gib(span.high, 2)})"
            )
            if name == "smallest card that works":
                for line in _each_card(cell):
                    out.print(line, soft_wrap=True)
        host = footprint.host
        out.print(
            f"{'':28} pinned {format_gib(host.pinned, 2)}, pageable {format_gib(host.pageable, 2)}, "
            f"process {format_gib(host.process, 2)}"
        )
        out.print(f"{'disk':28} {format_gb(footprint.disk)}")
        quality = NOT_MEASURED if cell.quality is None else cell.quality.words
        out.print(f"{'quality of the tier':28} {quality}", soft_wrap=True)
        if cell.duration is not None:
            out.print(f"{'seconds':28} {_took(cell.duration)}")
        out.print("how we know")
        for name, how in cell.evidence.named:
            out.print(f"  {name:26} {how.level}: {how.note}", soft_wrap=True)
        for note in (*report.notes, *cell.footprint.assumptions):
            out.print(f"· {note}")

    app.command(cls=GroupedCommand)(takes(Explaining, runtime_options(), explain))


def _shown_card(cell: Cell) -> str:
    """Which card the phases are of: of several the one that is shortest."""
    gpus, at = cell.ask.machine.gpus, cell.judgement.gpu
    return "the card" if len(gpus) < 2 else f"card {at}, {gpus[at].card.name}"


def _each_card(cell: Cell) -> Iterator[str]:
    """What each of several cards holds, of what can be used of it."""
    from fitcheck.units import format_gib

    gpus = cell.ask.machine.gpus
    if len(gpus) < 2:
        return
    cards = zip(gpus, cell.footprint.cards, cell.ask.budgets, strict=True)
    for at, (gpu, memory, have) in enumerate(cards):
        held, room = format_gib(memory.card.best, 2), format_gib(have.vram.best, 2)
        yield f"{f'card {at}':28} {held} of {room}, {gpu.card.name}"

"""The answer in a sentence, made from the cell that the report speaks of and what binds it."""

from __future__ import annotations

from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.workload import Task
from fitcheck.speed.floor import speed_words
from fitcheck.units import format_gib, format_time_span
from fitcheck.verdict.cell import Cell


def headline(cell: Cell, where: str, card_memory: int) -> str:
    """The answer in one sentence: ``where`` is the machine in words, ``card_memory`` the bytes that the card of the
    cell has to give."""
    name, reason = cell.ask.model.name, cell.reason
    if cell.verdict is Verdict.NO:
        return f"{name} does not run on {where}: {reason}"
    if cell.verdict is Verdict.UNKNOWN:
        return f"Whether {name} runs on {where} is unknown: {reason}"
    if cell.judgement.binding is Constraint.SPEED:
        slow = f"{reason[:1].lower()}{reason[1:-1]}"
        return f"{name} on {where} {slow}; {_taken(cell, card_memory)} ({_known(cell)})."
    word = "fits" if cell.verdict is Verdict.FITS else cell.judgement.gist
    verb, _, rest = word.partition(",")
    so = f"{verb} {'on ' if cell.verdict is not Verdict.FITS else ''}{where}{',' + rest if rest else ''}"
    return f"{name} {so}: {_taken(cell, card_memory)}{_time(cell)} ({_known(cell)})."


def _taken(cell: Cell, card_memory: int) -> str:
    """The choice and the memory that it takes: ``Q4_K_S in mode low takes 3.6 GiB of 10.9 GiB card memory …``."""
    how = f"in mode {cell.placement.mode}"
    if cell.workload.task.read_along:
        how = f"with {cell.placement.mode} at {cell.workload.context} tokens of context"
    card = f"{format_gib(cell.need)} of {format_gib(card_memory)} card memory and "
    if cell.need > card_memory:  # the allocator gives its cache back
        card = f"all {format_gib(card_memory)} of card memory ({format_gib(cell.need)} where there is room) and "
    return (
        f"{cell.tier.name} {how} takes {card if cell.ask.machine.gpus else ''}"
        f"{format_gib(cell.footprint.host.total.best)} of system memory"
    )


def _known(cell: Cell) -> str:
    """How the numbers of the sentence are known: in one word, or memory and speed each in its own."""
    evidence, shown = cell.evidence, _time(cell) or cell.judgement.slow
    speed = dict(evidence.rates).get(cell.workload.task.rate, evidence.seconds).level
    if not evidence.timed or not shown or speed == evidence.memory.level:
        return evidence.memory.level
    return f"memory {evidence.memory.level}, speed {speed}"


def _time(cell: Cell) -> str:
    """The speed in the unit that a person reads; empty where it is unknown."""
    rate, span = cell.pace, cell.seconds
    if cell.workload.task is Task.EMBED:
        return "" if rate is None else f", reading {speed_words(rate)}"
    if cell.workload.task.read_along:
        return "" if rate is None else f", {speed_words(rate)}"
    return "" if span is None else f", {format_time_span(span.low, span.high, ' to ')} {unit(cell)}"


def unit(cell: Cell) -> str:
    """What the seconds make: a batch's images come out together."""
    one = cell.workload.task.one
    return one if cell.workload.batch == 1 else f"a batch of {cell.workload.batch}"

"""A message of a program that ran out of memory beside what the estimate says, and the next step down."""

from __future__ import annotations

from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.oom_message import OomMessage
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Change, Runtime, Wanted
from fitcheck.units import format_gib
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.cell_json import interval_json
from fitcheck.verdict.changes import expected, more_memory
from fitcheck.verdict.judge import judge
from fitcheck.verdict.report import Report

SCHEMA = "fitcheck.oom/1"
_AMOUNTS = {
    "tried": "asked for at last",
    "free": "free then",
    "total": "on the card in all",
    "own": "held by this process",
    "processes": "held by the processes listed",
    "allocated": "in tensors",
    "unallocated": "reserved, not in use",
    "reserved": "reserved in all",
    "pools": "in private pools (CUDA graphs)",
    "other": "taken by others",
    "used": "in use",
    "allowed": "allowed at most",
}
_FITS = (
    "By the estimate it fits: something else took memory (other programs, a second model, a larger picture or "
    "context than asked here), or the estimate is wrong; a record of it would help."
)
_OF_ANOTHER = (
    "The estimate is of {runtime}, which takes what it needs; {program} takes its share of the card first and keeps "
    "the rest of it for keys and values, so the one says little of the other."
)
_FEW = 1 << 30  # amounts below are written in MiB


@dataclass(frozen=True, slots=True)
class StepDown:
    """A change that needs less of what was full: what it then takes, in bytes, and the verdict that it gets."""

    words: str
    need: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Explained:
    """The message, and where a model was named the cell that the estimate is about, with the next step down."""

    message: OomMessage
    report: Report | None = None
    step: StepDown | None = None

    @property
    def headline(self) -> str:
        """What was full, as one sentence."""
        message = self.message
        where = f" (card {message.device})" if message.device is not None else ""
        return f"{message.program} ran out of memory. {message.what}{where}."

    @property
    def amounts(self) -> list[tuple[str, str]]:
        """The numbers of the message in words."""
        found = self.message.amounts
        return [(words, amount(found[name])) for name, words in _AMOUNTS.items() if name in found]

    @property
    def estimate(self) -> str:
        """What the estimate says of the named model, as one sentence; empty where none was named."""
        if self.report is None:
            return ""
        cell = self.report.best
        span, resource = (
            (cell.footprint.host.total, "system memory") if self.message.on_host else (cell.memory.card, "card memory")
        )
        have = _budget(self.report, self.message.on_host)
        of = "" if have is None else f" of {format_gib(have)} that can be used"
        return (
            f"The estimate for {cell.tier.name} in mode {cell.placement.mode} on {self.report.place}: "
            f"{format_gib(span.best)} ({format_gib(span.low)} to {format_gib(span.high)}) of {resource}{of}: "
            f"{cell.judgement.gist}."
        )

    @property
    def contradiction(self) -> str:
        """Where message and estimate disagree, what that means; empty where they do not."""
        if self.report is None:
            return ""
        cell, message = self.report.best, self.message
        if message.lacks_cache:
            return _OF_ANOTHER.format(program=message.program, runtime=cell.placement.runtime)
        found = _another_card(cell, self.report, message) or _another_cell(cell, message)
        return found or (_FITS if cell.verdict is Verdict.FITS else "")

    @property
    def next(self) -> str:
        """The next thing to try."""
        general = f"{self.message.step[:1].upper()}{self.message.step[1:]}."
        if self.step is None:
            return general
        took = format_gib(self.step.need)
        return f"{self.step.words}: {took} and {self.step.verdict}, by the estimate. Otherwise: {self.message.step}."

    def to_json(self) -> dict[str, Any]:
        """Bytes are integers, unknown is null."""
        message, step, report = self.message, self.step, self.report
        cell = None if report is None else report.best
        return {
            "schema": SCHEMA,
            "form": message.form,
            "program": message.program,
            "cause": message.cause,
            "full": self.headline,
            "device": message.device,
            "amounts": dict(message.amounts),
            "words": message.words or None,
            "estimate": None if cell is None else _cell_json(cell),
            "contradiction": self.contradiction or None,
            "step": None if step is None else {"change": step.words, "need": step.need, "verdict": str(step.verdict)},
            "next": self.next,
        }


def amount(count: int) -> str:
    """Bytes as a person compares them: MiB below one GiB."""
    return f"{count / (1 << 20):.1f} MiB" if count < _FEW else format_gib(count, 2)


def explained(message: OomMessage, report: Report | None = None, wanted: Wanted | None = None) -> Explained:
    """The message beside a report, if there is one, whose best cell is what was run."""
    if report is None or message.claims_share or message.lacks_cache:
        return Explained(message, report)
    return Explained(message, report, next_step_down(report.best, wanted or Wanted(), message))


def next_step_down(cell: Cell, wanted: Wanted, message: OomMessage) -> StepDown | None:
    """The first change that takes as much less of what was full as the message says was missing, and is not refused
    by anything else; without a number in the message the first that takes less at all. Where none does and the
    estimate too says that it is short, the least to buy of what was full. ``None`` where there is nothing."""
    runtime = registry.get(cell.placement.runtime)
    now, short = _need(cell.footprint, message, cell.judgement.gpu), message.short or 1
    for change in runtime.changes(cell.ask, wanted):
        step = _tried(runtime, change, message)
        if step.verdict is not Verdict.NO and step.need <= now - short:
            return step
    if cell.verdict is Verdict.FITS:  # the estimate sees nothing that is short: no reason to buy more of it
        return None
    full = Constraint.RAM if message.on_host else Constraint.VRAM
    bought = (change for change in more_memory(cell.ask) if change.eases is None or full in change.eases)
    steps = (_tried(runtime, change, message) for change in bought)
    return next((step for step in steps if step.verdict is Verdict.FITS), None)


def _another_card(cell: Cell, report: Report, message: OomMessage) -> str:
    """That the message comes from a smaller card than the one on which the cell fits; else empty."""
    total, gpu = message.amounts.get("total"), report.gpu
    if cell.verdict is not Verdict.FITS or message.on_host or total is None or gpu is None:
        return ""
    if total >= 0.9 * gpu.vram_total:
        return ""
    return (
        f"The message's card has {format_gib(total)} and the one asked about {format_gib(gpu.vram_total)}: "
        "name the card that it ran on with --gpu."
    )


def _another_cell(cell: Cell, message: OomMessage) -> str:
    """That the program held more than the cell ever does, so that the cell is not what was run; else empty."""
    if message.on_host or message.claims_share or not cell.footprint.cards:
        return ""
    tensors, most = message.amounts.get("allocated"), cell.memory.allocated.high
    if tensors is None:
        tensors, most = message.amounts.get("tried", 0), cell.memory.card.high
    if tensors <= most:
        return ""
    return (
        f"The message tells of {format_gib(tensors)}, which is more than this ever takes ({format_gib(most)} at most): "
        "something else ran, so name its --tier, --mode and sizes."
    )


def _tried(runtime: Runtime, change: Change, message: OomMessage) -> StepDown:
    footprint, duration = expected(runtime, change.ask)
    judged = judge(runtime, change.ask, footprint, duration)
    return StepDown(change.words, _need(footprint, message, judged.gpu), judged.verdict)


def _need(footprint: Footprint, message: OomMessage, gpu: int) -> int:
    """Bytes of what was full that a footprint takes."""
    if message.on_host or not footprint.cards:
        return footprint.host.total.best
    if message.device is not None and message.device < len(footprint.cards):
        gpu = message.device
    return footprint.cards[gpu].card.best


def _budget(report: Report, on_host: bool) -> int | None:
    if not on_host:
        return report.budget.vram.best
    return None if report.budget.ram is None else report.budget.ram.best


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "tier": cell.tier.name,
        "runtime": cell.placement.runtime,
        "mode": cell.placement.mode,
        "verdict": str(cell.verdict),
        "card": interval_json(cell.memory.card),
        "host": interval_json(cell.footprint.host.total),
    }

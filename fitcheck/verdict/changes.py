"""The smallest single change that gives a better verdict: what is free first, then what can be bought."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.runtimes.base import Ask, Change, Runtime, Wanted
from fitcheck.runtimes.level import level_of
from fitcheck.units import GB, GIB, Interval
from fitcheck.verdict.evidence import Known
from fitcheck.verdict.judge import Judgement
from fitcheck.verdict.report import Flip

RAM_SIZES = tuple(size * GIB for size in (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512))
VRAM_SIZES = tuple(
    size * GIB for size in (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 141, 180, 192, 288)
)
# what no change of settings or amounts mends
_FIXED = (Constraint.COMPUTE_CAPABILITY, Constraint.RUNTIME, Constraint.MODEL)


def smallest_change(
    runtime: Runtime, ask: Ask, wanted: Wanted, judgement: Judgement, known: Known | None = None
) -> Flip | None:
    """The first change that gives a better verdict; ``None`` when none does. ``known`` are records of the card.

    Free changes that only move from ``no`` to ``tight`` count as well: the cell then runs.
    """
    if judgement.verdict is Verdict.FITS or judgement.binding in _FIXED:
        return None
    if judgement.binding is Constraint.DISK:
        short = judgement.margin(Constraint.DISK)
        missing = 0 if short is None else -short.left
        return Flip(f"{-(-missing // GB)} GB more free disk", Verdict.FITS)
    for change in _candidates(runtime, ask, wanted):
        footprint = runtime.footprint(change.ask) if known is None else known.footprint(runtime, change.ask)
        better = level_of(runtime, change.ask, footprint).verdict
        if better.rank < judgement.verdict.rank:
            return Flip(change.words, better)
    return None


def _candidates(runtime: Runtime, ask: Ask, wanted: Wanted) -> Iterator[Change]:
    yield from runtime.changes(ask, wanted)
    if ask.machine.gpus:
        yield from _more_memory(ask)


def _more_memory(ask: Ask) -> Iterator[Change]:
    """More memory in the next sizes that are sold, cheapest kind first."""
    machine, gpu = ask.machine, ask.card
    shared = gpu.card.unified_memory
    if machine.ram_total is not None:
        for size in (size for size in RAM_SIZES if size > machine.ram_total):
            gpus = tuple(replace(one, vram_total=size) if one.card.unified_memory else one for one in machine.gpus)
            larger = replace(machine, ram_total=size, ram_available=None, gpus=gpus)
            yield Change(f"{size // GIB} GB of {'shared' if shared else 'system'} memory", replace(ask, machine=larger))
    if shared or len(machine.gpus) > 1 or not gpu.vram_total:
        return
    for size in (size for size in VRAM_SIZES if size > gpu.vram_total):
        yield Change(f"a card with {size // GIB} GB", _with_card(ask, size))


def _with_card(ask: Ask, size: int) -> Ask:
    """The same card with as much more of its memory usable as it would be larger."""
    gpu, vram = ask.card, ask.budgets[ask.gpu].vram
    scaled = Interval(*(round(value * (size / gpu.vram_total)) for value in (vram.low, vram.best, vram.high)))
    return replace(ask, machine=replace(ask.machine, gpus=(replace(gpu, usable=scaled),)))

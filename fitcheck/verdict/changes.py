"""The smallest single change that gives a better verdict: what is free first, then what can be bought."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from fitcheck.hardware.budget import with_larger_card
from fitcheck.hardware.machine import Machine
from fitcheck.hardware.others import without_others
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Constraint, Margin, Verdict
from fitcheck.runtimes import held, registry
from fitcheck.runtimes.base import Ask, Change, Runtime, Wanted
from fitcheck.runtimes.level import Level
from fitcheck.speed.duration import Duration
from fitcheck.speed.floor import NO_FLOOR, Floor, too_slow
from fitcheck.units import GB, GIB
from fitcheck.verdict.cell import Cell, Flip
from fitcheck.verdict.coarseness import is_broken
from fitcheck.verdict.judge import Judgement, judge, judged
from fitcheck.verdict.usual_memory import RAM_SIZES
from fitcheck.verdict.weighed_cell import at_best

if TYPE_CHECKING:
    from fitcheck.verdict.evidence import Known

VRAM_SIZES = tuple(
    size * GIB for size in (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 141, 180, 192, 288)
)
SHARED = frozenset({Constraint.VRAM, Constraint.RAM})
# what no change of settings or amounts mends
FIXED = (Constraint.COMPUTE_CAPABILITY, Constraint.RUNTIME, Constraint.MODEL)


def smallest_change(
    runtime: Runtime,
    ask: Ask,
    wanted: Wanted,
    judgement: Judgement,
    floor: Floor = NO_FLOOR,
    known: Known | None = None,
) -> Flip | None:
    """The first change that gives a better verdict; ``None`` when none does. ``known`` are records of the card.

    Free changes that only move from ``no`` to ``tight`` count as well: the cell then runs. See ``_preference`` for what
    comes before what.
    """
    if judgement.verdict is Verdict.FITS or judgement.binding in FIXED:
        return None
    hangs_on = {one.constraint for one in judgement.margins if one.verdict is judgement.verdict} | {judgement.binding}
    found: tuple[int, Flip] | None = None
    for change in _candidates(runtime, ask, wanted, judgement):
        if change.eases is not None and not hangs_on <= change.eases:
            continue
        broken = change.ask.tier.name != ask.tier.name and is_broken(ask.model, change.ask.tier)
        if broken and (judgement.verdict is Verdict.TIGHT or (found is not None and found[0] <= _BROKEN)):
            continue  # what runs is not bettered by a file that is as good as broken
        better = _better(runtime, change.ask, judgement.verdict, floor, known)
        if better is None:
            continue
        preference = _preference(better, broken=broken)
        if found is None or preference < found[0]:
            found = preference, Flip(change.words, better, change.bought)
        if preference == _RUNS:
            break
    return None if found is None else found[1]


_RUNS, _BROKEN, _PERHAPS = range(3)


def _preference(better: Verdict, *, broken: bool) -> int:
    """The order of changes, the first one better: to what runs, to what runs with a file that is as good as broken, to
    what nobody has shown to run. Within one the cheapest kind leads, as candidates come."""
    if better is Verdict.UNKNOWN:
        return _PERHAPS
    return _BROKEN if broken else _RUNS


def _better(runtime: Runtime, ask: Ask, now: Verdict, floor: Floor, known: Known | None) -> Verdict | None:
    """The verdict of ``ask`` where it is better than ``now``. How long it takes can only worsen what amounts and
    platform say, so it is worked out where these are better; and so can what the runtime spreads memory by, where no
    record speaks of it."""
    if not may_better(runtime, ask, now, floor, known):
        return None
    if known is None and held.estimated(runtime, ask)[1].verdict.rank >= now.rank:
        return None
    footprint, level = _memory(runtime, ask, known)
    if level.verdict.rank >= now.rank:
        return None
    found = judged(level, ask, footprint, _duration(runtime, ask, footprint, known), floor).verdict
    return found if found.rank < now.rank else None


def may_better(runtime: Runtime, ask: Ask, now: Verdict, floor: Floor, known: Known | None) -> bool:
    """Whether what is quick to work out leaves it open that the verdict of ``ask`` is better than ``now``."""
    hoped = at_best(runtime, ask, known)
    if hoped is not None and hoped.verdict.rank >= now.rank:
        return False
    # what is too slow is tight
    return not (now is Verdict.TIGHT and known is None and too_slow(ask.workload, runtime.foreseen(ask), floor))


def expected(runtime: Runtime, ask: Ask, known: Known | None = None) -> tuple[Footprint, Duration | None]:
    """Memory and time of an ask as its cell would show them, with what records say of the card."""
    footprint, _ = _memory(runtime, ask, known)
    return footprint, _duration(runtime, ask, footprint, known)


def _memory(runtime: Runtime, ask: Ask, known: Known | None) -> tuple[Footprint, Level]:
    footprint = held.shown(runtime, ask) if known is None else known.footprint(runtime, ask)
    return footprint, held.shown_level(runtime, ask, footprint)


def _duration(runtime: Runtime, ask: Ask, footprint: Footprint, known: Known | None) -> Duration | None:
    calibration = None if known is None else known.calibration(runtime, ask, footprint)
    return runtime.duration(ask, footprint, calibration)


def least_purchase(cell: Cell, floor: Floor = NO_FLOOR) -> Flip | None:
    """The least memory to buy, system memory before cards, with which exactly this placement gets a better verdict;
    ``None`` when none does, or speed is what lacks: then another placement is wanted."""
    runtime, now = registry.get(cell.placement.runtime), cell.judgement
    if cell.verdict is Verdict.FITS or now.binding in (*FIXED, Constraint.SPEED) or not cell.ask.machine.gpus:
        return None
    hangs_on = {one.constraint for one in now.margins if one.verdict is now.verdict} | {now.binding}
    for change in more_memory(cell.ask):
        if change.eases is not None and hangs_on <= change.eases:
            same = change.ask.machine.gpus == cell.ask.machine.gpus  # system memory alone changes no footprint
            footprint, duration = (cell.footprint, cell.duration) if same else expected(runtime, change.ask)
            better = judge(runtime, change.ask, footprint, duration, floor).verdict
            if better.rank < now.verdict.rank:
                return Flip(change.words, better, change.bought)
    return None


def _candidates(runtime: Runtime, ask: Ask, wanted: Wanted, judgement: Judgement) -> Iterator[Change]:
    short = judgement.margin(Constraint.DISK)
    if judgement.binding is Constraint.DISK and short is not None:
        yield _more_disk(ask, short)
    yield from _without_others(runtime, ask, wanted, anew=judgement.binding is Constraint.SPEED)
    yield from runtime.changes(ask, wanted)
    if judgement.binding is Constraint.SPEED:
        yield from _anew_with_more(runtime, ask, wanted)
    else:
        yield from more_memory(ask)


def _more_disk(ask: Ask, short: Margin) -> Change:
    """What is missing of free disk, in whole GB."""
    more = -(short.left // GB)
    machine = replace(ask.machine, disk_free=short.available + more * GB)
    return Change(f"{more} GB more free disk", replace(ask, machine=machine), frozenset({Constraint.DISK}))


def _without_others(runtime: Runtime, ask: Ask, wanted: Wanted, *, anew: bool) -> Iterator[Change]:
    """The memory that other programs hold now; ``anew`` with the placement that is best in it."""
    for words, machine, cards, host in without_others(ask.machine):
        if anew:
            for other in runtime.asks(ask.model, (ask.tier,), wanted, machine):
                yield Change(words, other)
        else:
            eases = SHARED if _is_shared(ask) or (cards and host) else {Constraint.VRAM if cards else Constraint.RAM}
            yield Change(words, replace(ask, machine=machine), frozenset(eases))


def _anew_with_more(runtime: Runtime, ask: Ask, wanted: Wanted) -> Iterator[Change]:
    """More memory with the placement that is best in it: what is quick streams from pinned memory, of which it takes
    more, or lies on the card. A runtime that searches has more on the card already than more system memory would help.
    """
    larger = () if runtime.searches or _is_shared(ask) else _more_ram(ask)
    for words, machine in (*larger, *(_larger_cards(ask) if _one_card_of_its_own(ask) else ())):
        for other in runtime.asks(ask.model, (ask.tier,), wanted, machine):
            yield Change(words, other, bought=True)


def more_memory(ask: Ask) -> Iterator[Change]:
    """More memory in the next sizes that are sold, cheapest kind first."""
    eases = SHARED if _is_shared(ask) else frozenset({Constraint.RAM})
    for words, larger in _more_ram(ask):
        yield Change(words, replace(ask, machine=larger), eases, bought=True)
    if not _one_card_of_its_own(ask):
        return
    for words, larger in _larger_cards(ask):
        yield Change(words, replace(ask, machine=larger), frozenset({Constraint.VRAM}), bought=True)


def _is_shared(ask: Ask) -> bool:
    """Whether card and system use one memory."""
    return bool(ask.machine.gpus) and ask.card.card.unified_memory and not ask.card.carved


def _more_ram(ask: Ask) -> Iterator[tuple[str, Machine]]:
    """The machine with the next larger system memories that are sold, and how to call these."""
    machine, kind = ask.machine, "shared" if _is_shared(ask) else "system"
    for size in RAM_SIZES:
        if machine.ram_total is not None and size > machine.ram_total:
            gpus = tuple(replace(one, vram_total=size) if one.card.unified_memory else one for one in machine.gpus)
            yield f"{size // GIB} GB of {kind} memory", replace(machine, ram_total=size, ram_available=None, gpus=gpus)


def _one_card_of_its_own(ask: Ask) -> bool:
    """Whether it can be said which card would be another one, and how large it is."""
    return len(ask.machine.gpus) == 1 and not ask.card.card.unified_memory and bool(ask.card.vram_total)


def _larger_cards(ask: Ask) -> Iterator[tuple[str, Machine]]:
    """The machine with the next larger cards that are sold, and how to call these."""
    for size in VRAM_SIZES:
        machine = with_larger_card(ask.machine, ask.gpu, size)
        if machine is not None:
            yield f"a card with {size // GIB} GB", machine

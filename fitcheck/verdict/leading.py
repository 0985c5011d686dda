"""The cells of which one leads an answer, for lists that show no other: of what is waited for, most need no seconds,
and of what does not run many not even to be weighed.

What a cell holds says how well it can stand at best, because how long it takes only worsens that; and of what does not
run, how far it is from running. So cells are timed group after group, as ``order`` would put them before it looks at
time, until none that is left can lead. A runtime that knows quickly what a cell needs at the least says how well it can
stand before it is weighed, and it is weighed when its turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush

from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.model import Tier
from fitcheck.runtimes import held
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.runtimes.level import AMOUNTS, Level
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.order import NEAR, wait_of
from fitcheck.verdict.weighed_cell import WeighedCell

AskOf = tuple[Runtime, Ask]
# where a cell stands before time is looked at, the least first
Standing = tuple[int, tuple[float, ...]]

# of what a cell holds, the least by which one between others may hold less (``Runtime.closer``)
_BETWEEN = 0.3
_ANYWHERE: Standing = (-1, ())


def that_may_lead(
    asks: Sequence[AskOf],
    hoped: Sequence[Level | None],
    weighed: Callable[[Runtime, Ask], WeighedCell],
    timed: Callable[[WeighedCell], Cell],
    waits: Callable[[Runtime, Ask], float | None] = lambda *_: None,
) -> list[Cell]:
    """The cells of ``asks`` among which the one is that leads all of them. ``hoped`` are levels that theirs are not
    better than, ``weighed`` gives what a cell holds, ``timed`` all of it, and ``waits`` how long it is waited for
    where that is known before."""
    waiting: list[_Waiting] = [
        (standing(level, ask), at, None) for at, ((_, ask), level) in enumerate(zip(asks, hoped, strict=True))
    ]
    heapify(waiting)
    found: list[Cell] = []
    alike: list[Cell] = []
    reached = _ANYWHERE
    while waiting:
        stands, at, cell = heappop(waiting)
        if stands != reached:
            found += alike
            alike, reached = [], stands
            if found and _is_settled(found, stands):
                break
        runtime, ask = asks[at]
        if cell is None:
            if (most := _longest_wait(ask, alike, stands)) is not None and (waits(runtime, ask) or 0.0) > most:
                continue
            cell = weighed(runtime, ask)
        stood = standing(cell.level, ask)
        if stood == stands:
            alike.append(timed(cell))
        else:
            heappush(waiting, (stood, at, cell))
    return found + alike


# where it stands, its number among the asks, and what is known of it
_Waiting = tuple[Standing, int, WeighedCell | None]


def _longest_wait(ask: Ask, alike: Sequence[Cell], stands: Standing) -> float | None:
    """How long a cell that stands at best as those ``alike`` is waited for at most where it can lead: of what runs the
    quickest compete on quality (``order.by_waiting``), of the rest the quickest leads. ``None`` where none of them is
    as good."""
    rivals = [cell for cell in alike if cell.tier.published or not ask.tier.published]
    quickest = min((wait_of(cell.seconds, cell.workload) for cell in rivals if _is_as(cell, stands)), default=None)
    return None if quickest is None else quickest * (1.0 if stands[0] == Verdict.NO.rank else NEAR)


def _is_as(cell: Cell, stands: Standing) -> bool:
    """Whether time leaves the cell where it stands, and it stands there as well as any: of what nobody has tried, where
    the amounts alone fit."""
    tried = cell.verdict is not Verdict.UNKNOWN or cell.judgement.level.weighed.verdict is Verdict.FITS
    return tried and cell.verdict.rank == stands[0]


def _is_settled(found: Sequence[Cell], stands: Standing) -> bool:
    """Whether no cell that stands like that, or behind it, can lead those that were found."""
    if min(cell.verdict.rank for cell in found) < stands[0]:
        return True
    return stands[0] == Verdict.NO.rank and found[0].verdict is Verdict.NO


def that_may_run(asks: Sequence[AskOf], hoped: Sequence[Level | None], *, by_hope: bool = False) -> list[AskedTier]:
    """The tiers of which a placement between those of ``asks``, none of which runs, may: the cards are enough in one of
    them, the host and the disk in one; ``by_hope`` as far as that is known without weighing them. ``hoped`` as
    above."""
    there = _by_tier(asks, hoped).items()
    if by_hope:
        return [tier for tier, hopes in there if _all_enough(level for _, level in hopes)]
    return [tier for tier, hopes in there if _is_enough(tier[0], hopes)]


def none_runs(hoped: Sequence[Level | None]) -> bool:
    """Whether it is known of all the cells that are hoped for like that, that they do not run."""
    return all(level is not None and level.verdict is Verdict.NO for level in hoped)


def _all_enough(levels: Iterable[Level | None]) -> bool:
    return set[Constraint]().union(*map(_enough, levels)) >= set(AMOUNTS)


def _by_tier(asks: Sequence[AskOf], hoped: Sequence[Level | None]) -> dict[AskedTier, list[tuple[Ask, Level | None]]]:
    tiers: dict[AskedTier, list[tuple[Ask, Level | None]]] = {}
    for (runtime, ask), level in zip(asks, hoped, strict=True):
        tiers.setdefault((runtime, ask.tier), []).append((ask, level))
    return tiers


AskedTier = tuple[Runtime, Tier]


def _is_enough(runtime: Runtime, there: Sequence[tuple[Ask, Level | None]]) -> bool:
    """Whether there is enough of each amount in one of the cells, or nearly enough. Those are weighed first of which
    most is hoped, and none of which no more is hoped than was found."""
    hopes = sorted(((_enough(level), ask) for ask, level in there), key=lambda one: -len(one[0]))
    enough = set[Constraint]()
    for at, (hope, ask) in enumerate(hopes):
        if not enough.union(*[one for one, _ in hopes[at:]]).issuperset(AMOUNTS):
            return False
        if hope <= enough:
            continue
        enough |= _enough(held.shown_and_level(runtime, ask)[1])
        if enough.issuperset(AMOUNTS):
            return True
    return False


def _enough(level: Level | None) -> set[Constraint]:
    """The amounts of which there is nearly enough; all where nothing is known."""
    margins = () if level is None else level.weighed.margins
    lacks = {one.constraint for one in margins if one.verdict is Verdict.NO and one.left < -_BETWEEN * one.need}
    return set(AMOUNTS) - lacks


def standing(level: Level | None, ask: Ask) -> Standing:
    """Where a cell with that level stands, the best least: the rank of the verdict that the memory allows, and of what
    does not run the order of ``order._distance`` up to its time."""
    if level is None:
        return _ANYWHERE
    if level.verdict is not Verdict.NO:
        return level.verdict.rank, ()
    return level.verdict.rank, (not ask.tier.published, *level.way, level.mended.rank)

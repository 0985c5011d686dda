"""The cells of which one leads an answer, for lists that show no other: of what is waited for, most need no seconds.

What a cell holds says how well it can stand at best, because how long it takes only worsens that; and of what does not
run, how far it is from running. So cells are timed group after group, as ``order`` would put them before it looks at
time, until none that is left can lead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.model import Tier
from fitcheck.runtimes import held
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.runtimes.level import AMOUNTS
from fitcheck.verdict.cell import Cell

AskOf = tuple[Runtime, Ask]


# of what a cell holds, the least by which one between others may hold less (``Runtime.closer``)
_BETWEEN = 0.25


def that_may_lead(asks: Iterable[AskOf], timed: Callable[[Runtime, Ask], Cell]) -> list[Cell]:
    """The cells of ``asks`` among which the one is that leads all of them; ``timed`` works out a whole cell."""
    ranked = sorted(((_standing(*one), one) for one in asks), key=lambda row: row[0])
    found: list[Cell] = []
    for standing, group in groupby(ranked, key=lambda row: row[0]):
        if found and min(cell.verdict.rank for cell in found) < standing[0]:
            break
        if found and standing[0] == Verdict.NO.rank and found[0].verdict is Verdict.NO:
            break
        found += [timed(runtime, ask) for _, (runtime, ask) in group]
    return found


def that_may_run(asks: Iterable[AskOf]) -> list[tuple[Runtime, Tier]]:
    """The tiers of which a placement between those of ``asks``, none of which runs, may: the cards are enough in one of
    them, the host and the disk in one."""
    enough: dict[tuple[Runtime, Tier], set[Constraint]] = {}
    for runtime, ask in asks:
        margins = held.shown_level(runtime, ask, held.shown(runtime, ask)).weighed.margins
        lacks = {one.constraint for one in margins if one.verdict is Verdict.NO and one.left < -_BETWEEN * one.need}
        enough.setdefault((runtime, ask.tier), set()).update(set(AMOUNTS) - lacks)
    return [tier for tier, found in enough.items() if found == set(AMOUNTS)]


def _standing(runtime: Runtime, ask: Ask) -> tuple[int, tuple[float, ...]]:
    """The rank of the verdict that the memory allows, and of what does not run the order of ``order._distance`` up to
    its time."""
    level = held.shown_level(runtime, ask, held.shown(runtime, ask))
    if level.verdict is not Verdict.NO:
        return level.verdict.rank, ()
    return level.verdict.rank, (not ask.tier.published, *level.way, level.mended.rank)

"""One tier that speaks for a model on a machine, for answers over many models or cards where a check of every tier
would take minutes. It is the one that the check of all tiers leads with, of those that are not coarse: the order is the
check's own, and here is only chosen which tiers it is asked about."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from fitcheck.hardware.budget import budgets_of
from fitcheck.hardware.machine import Machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models.model import Model, Tier
from fitcheck.records.run_index import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check, in_play
from fitcheck.verdict.coarseness import is_coarse, loss_of
from fitcheck.verdict.order import IDEAL, READING_SPEED, pace_of, reading_grade
from fitcheck.verdict.report import Report

# bits a weight of a usual file: Q4_0, Q4_K_S and MXFP4 have about as many
USUAL_BITS = 4.5
# of the room, what weights may take so that caches and buffers have a chance beside them; a check then says
SHARE = 0.86
# of what a finer file is larger, the least that lies on the cards too: token embeddings stay on the host. Between
# Q4_K_M and Q8_0 it is 0.78 or more of every model of the catalog but gpt-oss (0.55, its experts being the same in
# both), of which a finer file may be missed that goes in by a tenth of a GB
_ON_CARD = 0.75
# bytes that caches, buffers and the process take beside weights that lie whole on a card: chosen, on the large side,
# because a finer tier that lies whole is checked quickly, and one that does not is not; it sets where the search starts
# and not what it finds
_BESIDE = 5 << 29
_FEW = 3


def lead(
    model: Model, tiers: Sequence[Tier] | None, machine: Machine, wanted: Wanted, index: Index | None = None
) -> Report:
    """The report of ``check`` for the tier that it leads with, of those among ``tiers`` that are not coarse: a few are
    tried, because a smaller file never does worse but in quality. Without ``tiers``, for a few of them, for what reads
    alone, and for what is waited for, where a mode decides as much as a tier, it is the report of all, down to the
    cells that may lead. Raises InputError.
    """
    if tiers is None or len(tiers) <= _FEW or not _written(model, wanted):
        return check(model, machine, wanted, tiers=tiers, index=index, advise=False, head=True)
    found: dict[str, Report] = {}

    def asked(tier: Tier) -> Report:
        if tier.name not in found:
            found[tier.name] = check(model, machine, wanted, tiers=(tier,), index=index, advise=False, head=True)
        return found[tier.name]

    ladder = worth_a_look(model, tiers)
    return asked(_whole(ladder, machine, asked) or _finest_as_good(ladder, asked))


def worth_a_look(model: Model, tiers: Sequence[Tier]) -> list[Tier]:
    """The tiers that are not coarse and that none betters, finest and largest first; where all are coarse, these."""
    kept = [tier for tier in tiers if not is_coarse(model, tier)] or tiers
    return sorted(undominated(model, kept), key=lambda tier: -tier.disk_bytes)


def _whole(ladder: Sequence[Tier], machine: Machine, asked: Callable[[Tier], Report]) -> Tier | None:
    """The finest tier that could not stand better, because it fits, lies whole on the cards and is quick; ``None``
    where neither the one does that is guessed by its size nor the smallest."""
    if not machine.gpus:
        return None
    room = sum(one.vram.best for one in budgets_of(machine)) - _BESIDE
    guess = next((position for position, tier in enumerate(ladder) if tier.disk_bytes <= room), len(ladder) - 1)
    if _grade(asked(ladder[guess])) != IDEAL:
        guess = len(ladder) - 1
        if _grade(asked(ladder[guess])) != IDEAL:
            return None
    for finer in reversed(range(guess)):
        if not _may_go_in(asked(ladder[guess]), ladder[finer]) or _grade(asked(ladder[finer])) != IDEAL:
            break
        guess = finer
    return ladder[guess]


def _may_go_in(report: Report, finer: Tier) -> bool:
    """Whether a finer tier than the report's may lie whole on the same cards, with as small a cache as may be."""
    cell = _full(report)
    caches = sum(max((phase.kv_cache for phase in card.phases), default=0) for card in cell.footprint.cards)
    taken = sum(card.card.high for card in cell.footprint.cards) - caches
    more = _ON_CARD * (finer.disk_bytes - cell.tier.disk_bytes)
    return taken + more <= sum(one.vram.low for one in report.budgets)


def _finest_as_good(ladder: Sequence[Tier], asked: Callable[[Tier], Report]) -> Tier:
    """The finest tier that stands as well as the smallest, but for quality. Where that one does not run, or is not
    comfortable to read along, it leads itself: nearest to running, or quickest."""
    smallest, last = asked(ladder[-1]), len(ladder) - 1
    cell, pace = _full(smallest), pace_of(_full(smallest))
    if cell.verdict is Verdict.NO or 0 < pace < READING_SPEED:
        return ladder[last]

    def as_good(position: int) -> bool:
        # a finer file reads as much more at least, but perhaps in a placement that costs no quality
        most = pace * cell.loss * ladder[last].disk_bytes / ladder[position].disk_bytes
        enough = most >= READING_SPEED or not pace
        return enough and _grade(asked(ladder[position])) == _grade(smallest)

    return ladder[0] if as_good(0) else ladder[bisect_left(range(last), True, lo=1, key=as_good)]


def _grade(report: Report) -> tuple[object, ...]:
    return reading_grade(_full(report))


def _full(report: Report) -> Cell:
    """The best cell of the context that was asked for: a check of one tier offers shorter ones beside it."""
    wanted = max(cell.workload.context for cell in report.cells)
    return next(cell for cell in report.cells if cell.workload.context == wanted)


def undominated(model: Model, tiers: Sequence[Tier]) -> list[Tier]:
    """The tiers without those beside which another one is no larger and loses less, or no more and is smaller."""
    known = [(tier, loss_of(model, tier)) for tier in tiers]
    return [
        tier
        for tier, lost in known
        if not any(
            other.disk_bytes <= tier.disk_bytes and less <= lost and (other.disk_bytes, less) != (tier.disk_bytes, lost)
            for other, less in known
        )
    ]


def _written(model: Model, wanted: Wanted) -> bool:
    """Whether text is written. A smaller file is not always the quicker one where text is read alone."""
    in_play(model, wanted)
    return next(task for task in model.tasks if wanted.task in (None, str(task))).writes

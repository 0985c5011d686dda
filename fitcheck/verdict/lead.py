"""One tier that speaks for a model on a machine, for answers over many models or cards where a check of every tier
would take minutes. What is chosen here is only which tier ``check`` is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from fitcheck.hardware.budget import budgets_of
from fitcheck.hardware.machine import Machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models.families import registry as families
from fitcheck.models.model import Model, Tier
from fitcheck.records.run_index import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.verdict.check import check, in_play
from fitcheck.verdict.order import ENOUGH_BITS
from fitcheck.verdict.report import Report

# bits a weight of the coarsest tier that is looked at: Q4_0, Q4_K_S and MXFP4 have about as many
USUAL_BITS = 4.5
# of the room, what weights may take so that caches and buffers have a chance beside them; a check then says
SHARE = 0.86
# tiers tried on a model until one lies whole on the card
_STEPS = 2
_FEW = 3


def lead(
    model: Model, tiers: Sequence[Tier] | None, machine: Machine, wanted: Wanted, index: Index | None = None
) -> Report:
    """The report of ``check`` for the finest of ``tiers`` that lies whole on the cards and fits: a few are tried, then
    the usual one, and where none fits the best of these speaks. Without ``tiers``, for a few of them, and for what is
    waited for, where a mode decides as much as a tier, it is the report of all; where another tier is no larger and
    nearer to 16 bits, a tier is not looked at. Raises InputError.
    """
    if tiers is None or len(tiers) <= _FEW or not _read_along(model, wanted):
        return check(model, machine, wanted, tiers=tiers, index=index, advise=False, best_alone=True)
    tiers, room = undominated(model, tiers), sum(one.vram.best for one in budgets_of(machine))
    best: Report | None = None
    for tier in dict.fromkeys([*islice(_going_in(tiers, room), _STEPS), usual_tier(tiers)]):
        report = check(model, machine, wanted, tiers=(tier,), index=index, advise=False, best_alone=True)
        if report.best.verdict is Verdict.FITS and _whole(report):
            return report
        if best is None or report.best.verdict.rank < best.best.verdict.rank:
            best = report
    assert best is not None
    return best


def _whole(report: Report) -> bool:
    """Whether about all of the weights lies on the cards: what fits because the processor does the work is slow."""
    best = report.best
    return sum(one.card.best for one in best.footprint.cards) >= SHARE * best.tier.disk_bytes


def undominated(model: Model, tiers: Sequence[Tier]) -> list[Tier]:
    """The tiers without those beside which another one is no larger and was measured to be nearer to 16 bits."""
    measured = families.get(model.architecture.family).quality
    found = [(tier, quality.divergence) for tier in tiers if (quality := measured(model, tier)) is not None]
    known = [(tier, one.high) for tier, one in found if one is not None]
    worse = {
        tier.name
        for tier, far in known
        if any(other.disk_bytes <= tier.disk_bytes and less < far for other, less in known)
    }
    return [tier for tier in tiers if tier.name not in worse]


def _read_along(model: Model, wanted: Wanted) -> bool:
    in_play(model, wanted)
    return next(task for task in model.tasks if wanted.task in (None, str(task))).read_along


def _going_in(tiers: Sequence[Tier], room: int) -> Iterator[Tier]:
    """Tiers that leave something of ``room`` for caches and buffers, finest first: none finer than matters, none
    coarser than the usual."""
    largest, least = max(tier.disk_bytes for tier in tiers), usual_tier(tiers).disk_bytes
    for tier in sorted(tiers, key=lambda tier: -tier.disk_bytes):
        finer = tier.disk_bytes > largest * ENOUGH_BITS / 16 * 1.02 and len(tiers) > 2
        if not finer and least <= tier.disk_bytes <= SHARE * room:
            yield tier


def usual_tier(tiers: Sequence[Tier]) -> Tier:
    """The smallest tier of at least ``USUAL_BITS``, by its size beside the largest one, which has 16."""
    ordered = sorted(tiers, key=lambda tier: tier.disk_bytes)
    least = USUAL_BITS / 16 * ordered[-1].disk_bytes
    return next((tier for tier in ordered if tier.disk_bytes >= least), ordered[0])

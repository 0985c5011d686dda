"""One tier that speaks for a model on a machine, for answers over many models or cards where a check of every tier
would take minutes. It is the one that the check of all tiers leads with, of those that are not coarse: the order is the
check's own, and here is only chosen which tiers it is asked about."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.budget import budgets_of
from fitcheck.hardware.machine import Machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models.model import Model, Tier
from fitcheck.records.run_index import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import NothingRunsError, check, in_play
from fitcheck.verdict.coarseness import is_coarse, loss_of
from fitcheck.verdict.known_records import known_of
from fitcheck.verdict.order import IDEAL, READING_SPEED, pace_of, reading_grade
from fitcheck.verdict.report import Report
from fitcheck.verdict.usual_memory import completed

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
_ROUNDED = 1 + 1e-9  # the same rate is worked out in more than one order


def lead(
    model: Model, tiers: Sequence[Tier] | None, machine: Machine, wanted: Wanted, index: Index | None = None
) -> Report:
    """The report of ``check`` for the tier that it leads with, of those among ``tiers`` that are not coarse: a few are
    tried, because a smaller file never does worse but in quality. Without ``tiers``, for a few of them, for what reads
    alone, and for what is waited for, where a mode decides as much as a tier, it is the report of all, down to the
    cells that may lead. Raises InputError.
    """
    return LeadingTier(model, tiers, machine, wanted, index).report


@dataclass(frozen=True)
class LeadingTier:
    """The search for the tier that leads, which goes no further than it is asked. Fields are those of ``lead``."""

    model: Model
    tiers: Sequence[Tier] | None
    machine: Machine
    wanted: Wanted
    index: Index | None = None

    @cached_property
    def report(self) -> Report:
        """That of the tier that leads. Raises InputError."""
        if not self._ladder:
            return self._running or self._check(self.tiers)
        return self._asked(_whole(self._ladder, self.machine, self._asked) or self._finest_as_good())

    @cached_property
    def fits(self) -> bool:
        """Whether the tier that leads fits, which one tier that does says of it: it stands no worse. Raises
        InputError."""
        if self.surely_not:
            return False
        if self._ladder:
            guess = _guess(self._ladder, self.machine)
            if guess is not None and _grade(self._asked(self._ladder[guess])) == IDEAL:
                return True
            if _grade(self._asked(self._ladder[-1]))[0] == IDEAL[0]:
                return True
        return self.report.best.verdict is Verdict.FITS

    @property
    def surely_not(self) -> bool:
        """Whether it was quick to see that nothing runs. Raises InputError."""
        return not self._ladder and self._running is None

    @cached_property
    def _running(self) -> Report | None:
        """The report of all tiers where nothing is searched; ``None`` where it is quickly known that none runs."""
        try:
            return self._check(self.tiers, only_running=True)
        except NothingRunsError:
            return None

    @cached_property
    def _ladder(self) -> list[Tier]:
        """The tiers of which one is searched, finest and largest first; none where nothing is searched."""
        if self.tiers is None or len(self.tiers) <= _FEW or not _written(self.model, self.wanted):
            return []
        return worth_a_look(self.model, self.tiers)

    def _asked(self, tier: Tier) -> Report:
        if tier.name not in self._reports:
            self._reports[tier.name] = self._check((tier,))
        return self._reports[tier.name]

    @cached_property
    def _reports(self) -> dict[str, Report]:
        return {}

    def _check(self, tiers: Sequence[Tier] | None, *, only_running: bool = False) -> Report:
        question = self.model, self.machine, self.wanted
        return check(*question, tiers=tiers, index=self.index, advise=False, head=True, only_running=only_running)

    def _finest_as_good(self) -> Tier:
        """The finest tier that stands as well as the smallest, but for quality. Where that one does not run, or is not
        comfortable to read along, it leads itself: nearest to running, or quickest."""
        ladder, smallest = self._ladder, self._asked(self._ladder[-1])
        last, cell, pace = len(ladder) - 1, _full(smallest), pace_of(_full(smallest))
        if cell.verdict is Verdict.NO or 0 < pace < READING_SPEED:
            return ladder[last]
        grade = _grade(smallest)

        def as_good(position: int) -> bool:
            # a finer file reads as much more at least, but perhaps in a placement that costs no quality
            most = pace * cell.loss * ladder[last].disk_bytes / ladder[position].disk_bytes
            enough = most >= READING_SPEED or not pace
            if not enough or self._stays_behind(ladder[position], grade[0], READING_SPEED if pace else 0.0):
                return False
            return _grade(self._asked(ladder[position])) == grade

        return ladder[0] if as_good(0) else ladder[bisect_left(range(last), True, lo=1, key=as_good)]

    def _stays_behind(self, tier: Tier, rank: float, pace: float) -> bool:
        """Whether it is quickly known of a tier that it has no verdict of such a rank, or not such a pace."""
        runtimes = in_play(self.model, self.wanted)
        machine = completed(self.machine)
        if len(runtimes) > 1 or known_of(self.index, machine, self.model) is not None:
            return False
        hoped = list(runtimes[0].outlook(self.model, tier, self.wanted, machine))
        return bool(hoped) and all(one.verdict.rank > rank or one.pace * _ROUNDED < pace for one in hoped)


def worth_a_look(model: Model, tiers: Sequence[Tier]) -> list[Tier]:
    """The tiers that are not coarse and that none betters, finest and largest first; where all are coarse, these."""
    kept = [tier for tier in tiers if not is_coarse(model, tier)] or tiers
    return sorted(undominated(model, kept), key=lambda tier: -tier.disk_bytes)


def _whole(ladder: Sequence[Tier], machine: Machine, asked: Callable[[Tier], Report]) -> Tier | None:
    """The finest tier that could not stand better, because it fits, lies whole on the cards and is quick; ``None``
    where neither the one does that is guessed by its size nor the smallest."""
    guess = _guess(ladder, machine)
    if guess is None:
        return None
    if _grade(asked(ladder[guess])) != IDEAL:
        guess = len(ladder) - 1
        if _grade(asked(ladder[guess])) != IDEAL:
            return None
    for finer in reversed(range(guess)):
        if not _may_go_in(asked(ladder[guess]), ladder[finer]) or _grade(asked(ladder[finer])) != IDEAL:
            break
        guess = finer
    return ladder[guess]


def _guess(ladder: Sequence[Tier], machine: Machine) -> int | None:
    """The position of the finest tier that lies whole on the cards by its size, of the smallest where none does;
    ``None`` without a card."""
    if not machine.gpus:
        return None
    room = sum(one.vram.best for one in budgets_of(machine)) - _BESIDE
    return next((position for position, tier in enumerate(ladder) if tier.disk_bytes <= room), len(ladder) - 1)


def _may_go_in(report: Report, finer: Tier) -> bool:
    """Whether a finer tier than the report's may lie whole on the same cards, with as small a cache as may be."""
    cell = _full(report)
    caches = sum(max((phase.kv_cache for phase in card.phases), default=0) for card in cell.footprint.cards)
    taken = sum(card.card.high for card in cell.footprint.cards) - caches
    more = _ON_CARD * (finer.disk_bytes - cell.tier.disk_bytes)
    return taken + more <= sum(one.vram.low for one in report.budgets)


def _grade(report: Report) -> tuple[float, int, bool, bool, float]:
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

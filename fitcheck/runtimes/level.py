"""Amounts and platform together: the verdict without its words. A runtime that looks for a placement asks this too."""

from __future__ import annotations

from dataclasses import dataclass

from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Constraint, Verdict, Weighed, weigh
from fitcheck.runtimes.base import Ask, Runtime, Support


@dataclass(frozen=True, slots=True)
class Level:
    """The verdict, what binds, and where both come from; ``support`` is set when the platform and not an amount
    decides, ``also`` when it allows no more than the amounts do."""

    verdict: Verdict
    binding: Constraint
    weighed: Weighed
    support: Support | None = None
    also: Support | None = None

    def holds(self, constraint: Constraint) -> bool:
        """Whether that resource alone is enough even in the pessimistic case, or not judged."""
        margins = [margin for margin in self.weighed.margins if margin.constraint is constraint]
        return all(margin.verdict is Verdict.FITS for margin in margins)


def level_of(runtime: Runtime, ask: Ask, footprint: Footprint) -> Level:
    """The verdict is the worst of its parts; what binds is that part, or the resource with least to spare.

    Of a run that is not modelled the amounts say no where even the least it needs is more than can be there, and
    nothing else.
    """
    weighed = weigh(footprint, ask.budgets)
    support = runtime.platform(ask)
    if support is None:
        return Level(weighed.verdict, weighed.binding.constraint, weighed)
    if support.least is not None:
        least = weigh(support.least, ask.budgets)
        if least.binding.sure:
            return Level(Verdict.NO, least.binding.constraint, least)
        return Level(support.verdict, support.constraint, weighed, support)
    if support.verdict.rank > weighed.verdict.rank:
        return Level(support.verdict, support.constraint, weighed, support)
    also = support if support.verdict is weighed.verdict else None
    return Level(weighed.verdict, weighed.binding.constraint, weighed, also=also)

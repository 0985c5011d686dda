"""Amounts and platform together: the verdict without its words. A runtime that looks for a placement asks this too."""

from __future__ import annotations

import math
from functools import cached_property

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Constraint, Margin, Verdict, Weighed, weigh
from fitcheck.runtimes.base import Ask, Runtime, Support

AMOUNTS = (Constraint.VRAM, Constraint.RAM, Constraint.DISK)  # what can be bought


@dataclass(frozen=True)  # without slots: what orders cells is kept, and machines that look alike share levels
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

    @cached_property
    def lack(self) -> float:
        """The share by which the scarcest resource of those that are short is exceeded; 0 where none is."""
        return max([-one.left / max(one.available, 1) for one in self._short], default=0.0)

    @cached_property
    def way(self) -> tuple[bool, bool, bool, int]:
        """How far what does not run is from running, nearest first: what one resource alone would mend, system memory
        or disk before a larger card, then what lacks several, then what nothing mends, as what its platform does not
        run either; then the share that is missing in quarters, because memory is sold in steps."""
        card = any(one.constraint is Constraint.VRAM for one in self._short)
        hopeless = self.binding not in AMOUNTS or self.also is not None
        return hopeless, len(self._short) > 1, card, math.ceil(4 * self.lack)

    @cached_property
    def mended(self) -> Verdict:
        """What the amounts allow once there is enough of those that are short."""
        left = [one.verdict for one in self.weighed.margins if one.verdict is not Verdict.NO]
        return max(left, key=lambda verdict: verdict.rank, default=Verdict.FITS)

    @property
    def _short(self) -> list[Margin]:
        return [one for one in self.weighed.margins if one.verdict is Verdict.NO]


def level_of(runtime: Runtime, ask: Ask, footprint: Footprint) -> Level:
    """The verdict is the worst of its parts; what binds is that part, or the resource with least to spare.

    Of a run that is not modelled the amounts say no where even the least it needs is more than can be there, and
    nothing else.
    """
    return level_with(runtime.platform(ask), ask, footprint)


def level_with(support: Support | None, ask: Ask, footprint: Footprint) -> Level:
    """``level_of`` where it is known what the platform allows."""
    weighed = weigh(footprint, ask.budgets)
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

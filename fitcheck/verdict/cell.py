"""One cell of an answer: a tier in a placement on the asked machine, with what it needs, how long it takes and why."""

from __future__ import annotations

from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.footprint import CardMemory, Footprint
from fitcheck.memory.weighing import Verdict
from fitcheck.models.families import registry as families
from fitcheck.models.model import Tier
from fitcheck.models.tier_quality import TierQuality
from fitcheck.models.workload import Workload
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Placement
from fitcheck.speed.duration import Duration
from fitcheck.units import Interval
from fitcheck.verdict.judge import Judgement
from fitcheck.verdict.quantities import Evidence


@dataclass(frozen=True, slots=True)
class Flip:
    """The smallest single change that turns the verdict into a better one; ``bought`` where it costs money."""

    change: str
    verdict: Verdict
    bought: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One tier in one placement on the asked machine. ``loss`` is how much faster the placement must be to be worth
    what it costs in quality. What only a reader of this one cell wants, its commands and details, is worked out when it
    is asked for: a sweep over cards asks for none."""

    ask: Ask
    footprint: Footprint
    duration: Duration | None
    judgement: Judgement
    evidence: Evidence
    flip: Flip | None
    loss: float = 1.0

    @property
    def commands(self) -> tuple[str, ...]:
        """What to type, in order: what gets the files, what runs them."""
        return registry.get(self.placement.runtime).commands(self.ask)

    @property
    def details(self) -> dict[str, Any]:
        """What only the runtime can say, as JSON values."""
        return registry.get(self.placement.runtime).details(self.ask, self.footprint)

    @property
    def quality(self) -> TierQuality | None:
        """What the tier costs in quality, as published; ``None`` where nobody has measured it."""
        return families.get(self.ask.model.architecture.family).quality(self.ask.model, self.tier)

    @property
    def tier(self) -> Tier:
        """The quant tier."""
        return self.ask.tier

    @property
    def placement(self) -> Placement:
        """Runtime, mode and settings."""
        return self.ask.placement

    @property
    def workload(self) -> Workload:
        """The task and its sizes, defaults filled in."""
        return self.ask.workload

    @property
    def verdict(self) -> Verdict:
        """Fits, tight, unknown or no."""
        return self.judgement.verdict

    @property
    def reason(self) -> str:
        """The sentence that says why the verdict is what it is."""
        return self.judgement.reason_for(self.ask)

    @property
    def memory(self) -> CardMemory:
        """Memory on the card that is shortest; nothing on a machine without a card."""
        return self.footprint.cards[self.judgement.gpu] if self.footprint.cards else NO_CARD

    @property
    def need(self) -> int:
        """Bytes that the shortest card is expected to hold."""
        return self.memory.card.best

    @property
    def seconds(self) -> Interval[float] | None:
        """Seconds of one image or answer; ``None`` where unknown."""
        return None if self.duration is None else self.duration.seconds

    @property
    def pace(self) -> Interval[float] | None:
        """Tokens a second by the rate of the task; ``None`` where unknown."""
        return self.rate(self.workload.task.rate)

    def rate(self, name: str) -> Interval[float] | None:
        """A rate of the duration by name; ``None`` where unknown."""
        return None if self.duration is None else self.duration.rate(name)


_NOTHING = Interval.exactly(0)
NO_CARD = CardMemory((), _NOTHING, _NOTHING, _NOTHING, _NOTHING)

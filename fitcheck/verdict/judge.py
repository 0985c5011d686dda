"""The verdict of a cell in words: what binds, by how much, and why. Monotone: more of anything never worsens it.

Every sentence is made from what binds, here and nowhere else: the command line, JSON and pages show these.
"""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.footprint import CardMemory, Footprint
from fitcheck.memory.weighing import Constraint, Margin, Verdict
from fitcheck.models.model import Model
from fitcheck.runtimes.base import Ask, Runtime, named
from fitcheck.runtimes.level import Level, level_of
from fitcheck.speed.duration import Duration
from fitcheck.speed.floor import NO_FLOOR, Floor, too_slow
from fitcheck.units import format_gb, format_gib

# how far the least and the usual amount lie apart before the sentence names both; chosen: below a tenth, which is what
# either is known to, a second number tells nothing
_APART = 1.1
_RUNS = (Verdict.FITS, Verdict.TIGHT)
RESOURCES = {Constraint.VRAM: "card memory", Constraint.RAM: "system memory", Constraint.DISK: "free disk"}


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, what binds and the level that it follows from; ``slow`` says why it is too slow to use, where that
    is what binds. The sentences are made when somebody reads them: a sweep over cards reads none."""

    verdict: Verdict
    binding: Constraint
    level: Level
    model: Model
    footprint: Footprint
    slow: str = ""

    @property
    def margins(self) -> tuple[Margin, ...]:
        """What is left of each resource."""
        return self.level.weighed.margins

    @property
    def gpu(self) -> int:
        """The position of the card that is shortest."""
        return self.level.weighed.gpu

    def margin(self, constraint: Constraint) -> Margin | None:
        """The margin of one resource; ``None`` where it is not judged."""
        return next((margin for margin in self.margins if margin.constraint is constraint), None)

    def reason_for(self, ask: Ask) -> str:
        """The sentence that says why, to who made ``ask``: machines that are alike share a judgement."""
        return named(self._reason, ask)

    @property
    def _reason(self) -> str:
        level = self.level
        if self.slow:
            return f"Runs, but too slow to use: {self.slow}."
        if level.support is not None:
            return level.support.reason
        cards = self.footprint.cards
        peak = cards[self.gpu].peak.name if cards else "on the host"
        said = self._ran_out
        failed = f"{said} on such a card, which the sizes alone do not explain." if said else ""
        reason = because(self.model) + (failed or _explain(level.weighed.binding, peak, self._usual))
        return reason if level.also is None else f"{reason} {level.also.reason}"

    @property
    def _usual(self) -> int:
        """Bytes of what binds as tables show them: where there is room, and all of a run that is not modelled."""
        binding = self.level.weighed.binding.constraint
        if binding is Constraint.RAM:
            return self.footprint.host.total.best
        return self.footprint.cards[self.gpu].card.best if binding is Constraint.VRAM else self.footprint.disk

    @property
    def gist(self) -> str:
        """The verdict with what binds in a few words, made to stand after "it"."""
        level = self.level
        if self.slow:
            return "runs, but too slow to use"
        if self._ran_out and level.support is None:
            word = "does not run" if level.verdict is Verdict.NO else "may run"
            return f"{word}, {'' if level.verdict is Verdict.NO else 'but '}{self._ran_out}"
        gist = _gist(level.verdict, level.binding, None if level.support is not None else level.weighed.binding)
        if level.support is None and level.also is not None and level.verdict is Verdict.TIGHT:
            return f"{gist}, {_platform(level.also.constraint)}"
        return gist

    @property
    def _ran_out(self) -> str:
        """How many runs ran out of card memory, in words, where that is why card memory binds; else empty."""
        binding, cards = self.level.weighed.binding, self.footprint.cards
        decides = binding.constraint is Constraint.VRAM and binding.verdict in (Verdict.TIGHT, Verdict.NO)
        return _ran_out(cards[self.gpu]) if decides and cards else ""


def judge(
    runtime: Runtime, ask: Ask, footprint: Footprint, duration: Duration | None = None, floor: Floor = NO_FLOOR
) -> Judgement:
    """The verdict is the worst of its parts; what binds is that part, or the resource with least to spare. What runs,
    but below ``floor``, is tight because of its speed."""
    return judged(level_of(runtime, ask, footprint), ask, footprint, duration, floor)


def judged(
    level: Level, ask: Ask, footprint: Footprint, duration: Duration | None = None, floor: Floor = NO_FLOOR
) -> Judgement:
    """``judge`` where the level is known."""
    if level.verdict in _RUNS and (slow := too_slow(ask.workload, duration, floor)):
        return Judgement(Verdict.TIGHT, Constraint.SPEED, level, ask.model, footprint, slow)
    return Judgement(level.verdict, level.binding, level, ask.model, footprint)


def because(model: Model) -> str:
    """Why only the weights of ``model`` are judged, as a sentence with a space after it; empty where its run is
    modelled."""
    why = model.unmodelled
    return "" if why is None else f"{why[:1].upper()}{why[1:]}. "


def _ran_out(memory: CardMemory) -> str:
    """``2 records of it ran out of card memory``, of cells that need no more or of either; empty for none."""
    failures, implied = memory.failures, memory.implied
    of = (
        "it"
        if not implied
        else "cells that need no more"
        if implied == failures
        else "it or of cells that need no more"
    )
    return f"{failures} record{'s' if failures > 1 else ''} of {of} ran out of card memory" if failures else ""


def _explain(margin: Margin, peak: str, usual: int) -> str:
    """``usual`` is what tables show of the resource: of what does not run the least is judged, without the cache that
    an allocator gives back, and of a run that is not modelled without all that is not known."""
    amount = format_gb if margin.constraint is Constraint.DISK else format_gib
    need, have = amount(margin.need), amount(margin.available)
    short = margin.verdict is Verdict.NO
    card, cached = margin.constraint is Constraint.VRAM, short and usual > _APART * margin.need
    least = "at least " if (cached if card else short and usual > margin.need) else ""
    what = {
        Constraint.VRAM: f"the card must hold {least}{need} at the peak ({peak})",
        Constraint.RAM: f"the host must hold {least}{need}",
        Constraint.DISK: f"the files take {need}",
    }[margin.constraint]
    if card and cached:
        what += f", {amount(usual)} where there is room for a cache"
    if short:
        return f"{what[0].upper()}{what[1:]}; {have} can be used: short by {amount(-margin.left)}."
    left = (
        f"{amount(margin.left)} to spare"
        if margin.left >= 0
        else f"{amount(-margin.left)} over, absorbed by giving cache back"
    )
    if margin.verdict is Verdict.TIGHT and margin.left >= 0:
        left += f", {amount(-margin.worst)} short in the worst case"
    return f"{what[0].upper()}{what[1:]} of {have}: {left}."


_PLATFORM = {
    Constraint.DTYPE: "slowly, with number formats that the card can only emulate",
    Constraint.COMPUTE_CAPABILITY: "on a generation of cards that is too old for full support",
    Constraint.RUNTIME: "with software support that is not complete",
}


def _platform(binding: Constraint) -> str:
    return _PLATFORM.get(binding, f"limited by {binding}")


def _gist(verdict: Verdict, binding: Constraint, margin: Margin | None) -> str:
    """The verdict in a few words. ``margin`` is the one that binds, ``None`` where no amount does."""
    if verdict is Verdict.FITS:
        return "runs"
    if verdict is Verdict.UNKNOWN:
        return "may run; nobody has shown it"
    if verdict is Verdict.NO:
        return f"does not run: too little {RESOURCES[binding]}" if binding in RESOURCES else "does not run"
    if margin is None:
        return f"should run, {_platform(binding)}"
    if margin.left < 0:
        return f"should run, by giving cached {RESOURCES[binding]} back"
    return f"should run, with little {RESOURCES[binding]} to spare"

"""The verdict of a cell in words: what binds, by how much, and why. Monotone: more of anything never worsens it."""

from __future__ import annotations

from dataclasses import dataclass

from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Constraint, Margin, Verdict
from fitcheck.models.model import Model
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.runtimes.level import level_of
from fitcheck.units import format_gb, format_gib


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, what binds, the sentence that says why, the margins, and the position of the card that is
    shortest."""

    verdict: Verdict
    binding: Constraint
    reason: str
    margins: tuple[Margin, ...]
    gpu: int = 0

    def margin(self, constraint: Constraint) -> Margin | None:
        """The margin of one resource; ``None`` where it is not judged."""
        return next((margin for margin in self.margins if margin.constraint is constraint), None)


def judge(runtime: Runtime, ask: Ask, footprint: Footprint) -> Judgement:
    """The verdict is the worst of its parts; what binds is that part, or the resource with least to spare."""
    level = level_of(runtime, ask, footprint)
    weighed = level.weighed
    if level.support is not None:
        return Judgement(level.verdict, level.binding, level.support.reason, weighed.margins, weighed.gpu)
    peak = footprint.cards[weighed.gpu].peak.name if footprint.cards else "on the host"
    reason = because(ask.model) + _explain(weighed.binding, peak)
    return Judgement(level.verdict, level.binding, reason, weighed.margins, weighed.gpu)


def because(model: Model) -> str:
    """Why only the weights of ``model`` are judged, as a sentence with a space after it; empty where its run is
    modelled."""
    why = model.unmodelled
    return "" if why is None else f"{why[:1].upper()}{why[1:]}. "


def _explain(margin: Margin, peak: str) -> str:
    amount = format_gb if margin.constraint is Constraint.DISK else format_gib
    need, have = amount(margin.need), amount(margin.available)
    what = {
        Constraint.VRAM: f"the card must hold {need} at the peak ({peak})",
        Constraint.RAM: f"the host must hold {need}",
        Constraint.DISK: f"the files take {need}",
    }[margin.constraint]
    if margin.verdict is Verdict.NO:
        return f"{what[0].upper()}{what[1:]}; {have} can be used: short by {amount(-margin.left)}."
    left = (
        f"{amount(margin.left)} to spare"
        if margin.left >= 0
        else f"{amount(-margin.left)} over, absorbed by giving cache back"
    )
    return f"{what[0].upper()}{what[1:]} of {have}: {left}."

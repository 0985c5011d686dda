"""Changes of the machine that every runtime for a card with a display can offer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fitcheck.memory.weighing import Constraint
from fitcheck.runtimes.base import Ask, Change


def eased_by_less(ask: Ask) -> frozenset[Constraint]:
    """What a run eases that holds less on its card: the card and the time, and the host where both share one memory."""
    eased = {Constraint.VRAM, Constraint.SPEED}
    return frozenset(eased | {Constraint.RAM} if ask.card.card.unified_memory else eased)


def without_display(ask: Ask) -> Iterator[Change]:
    """The same run with no screen on the card, where that is not known to be so and nothing measured says what is
    free."""
    if not ask.machine.gpus:
        return
    gpu = ask.card
    if gpu.display is False or gpu.vram_free is not None or gpu.vram_override is not None or gpu.card.unified_memory:
        return
    gpus = tuple(replace(one, display=False) if index == ask.gpu else one for index, one in enumerate(ask.machine.gpus))
    headless = replace(ask, machine=replace(ask.machine, gpus=gpus))
    yield Change("run without a display on this card", headless, frozenset({Constraint.VRAM}))

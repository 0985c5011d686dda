"""A footprint against what a machine has to give: margins of each resource. Monotone: more of anything never worsens.

Below the verdict, because a runtime that chooses how many layers to move asks the same question.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.machine import Budget
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory
from fitcheck.units import Interval


class Verdict(StrEnum):
    """From best to worst; ``unknown`` ranks below ``tight`` because nobody should buy on it."""

    FITS = "fits"
    TIGHT = "tight"
    UNKNOWN = "unknown"
    NO = "no"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return _RANK[self]


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


class Constraint(StrEnum):
    """What a verdict can hang on."""

    VRAM = "VRAM"
    RAM = "host RAM"
    DISK = "disk"
    COMPUTE_CAPABILITY = "compute capability"
    DTYPE = "dtype"
    RUNTIME = "runtime support"
    MODEL = "unknown model"
    SPEED = "speed"


@dataclass(frozen=True, slots=True)
class Margin:
    """What is left of one resource in bytes after the expected need; negative when it is short.

    ``worst`` is what is left in the pessimistic case, of the largest need and the smallest amount; ``sure`` says that
    not even the smallest need goes into the largest amount. ``gpu`` is the card's position, 0 for what belongs to the
    host.
    """

    constraint: Constraint
    need: int
    available: int
    verdict: Verdict
    gpu: int = 0
    worst: int = 0
    sure: bool = False

    @property
    def left(self) -> int:
        """Bytes that stay free; negative by as many as are missing."""
        return self.available - self.need

    @property
    def shortness(self) -> tuple[int, bool, float]:
        """Larger is worse: the verdict's rank, whether it is certain, then the share of the need that is missing."""
        return self.verdict.rank, self.sure, -self.left / max(self.need, 1)


@dataclass(frozen=True, slots=True)
class Weighed:
    """The margins of a cell, card memory of the shortest card alone, and the one that binds."""

    margins: tuple[Margin, ...]
    binding: Margin
    gpu: int

    @property
    def verdict(self) -> Verdict:
        """The verdict of the binding margin, which is the cell's as far as amounts go."""
        return self.binding.verdict

    @property
    def host(self) -> Margin | None:
        """The margin of system memory; ``None`` where it is not judged."""
        return next((one for one in self.margins if one.constraint is Constraint.RAM), None)


def weigh(footprint: Footprint, budgets: Sequence[Budget]) -> Weighed:
    """The margins of ``footprint`` on cards with ``budgets``, in the same order. At least one budget is needed: on a
    machine without a card it holds the host's amounts."""
    first = budgets[0]
    vram = tuple([one.vram for one in budgets]) if footprint.cards else ()
    return _weigh(footprint, vram, first.ram, first.disk)


@lru_cache(maxsize=8192)
def _weigh(
    footprint: Footprint, vram: tuple[Interval[int], ...], ram: Interval[int] | None, disk: int | None
) -> Weighed:
    """The judgement by amounts alone; cards with the same budget share it."""
    cards = [
        weigh_card(memory, have, index) for index, (memory, have) in enumerate(zip(footprint.cards, vram, strict=True))
    ]
    margins = [max(cards, key=lambda margin: margin.shortness)] if cards else []
    gpu = margins[0].gpu if margins else 0
    if ram is not None:
        margins.append(weigh_host(footprint.host, ram))
    if disk is not None:
        margins.append(weigh_disk(footprint.disk, disk))
    if not margins:  # no card, and nothing known of the host: nothing speaks against it
        margins.append(Margin(Constraint.RAM, footprint.host.total.best, footprint.host.total.best, Verdict.UNKNOWN))
    return Weighed(tuple(margins), max(margins, key=lambda margin: margin.shortness), gpu)


def weigh_card(memory: CardMemory, vram: Interval[int], gpu: int = 0) -> Margin:
    """Fits when the largest footprint, caches included, goes into the smallest budget; tight when it should still run
    because the allocator gives its cache back, because the footprint may be smaller or the budget larger."""
    verdict = _verdict(memory.card, memory.required, vram)
    if verdict is Verdict.FITS and memory.crowded:  # the card has no more, whatever the amount says
        verdict = Verdict.TIGHT
    need = memory.card.best if verdict is not Verdict.NO else memory.required.best
    worst, sure = vram.low - memory.card.high, memory.required.low > vram.high
    return Margin(Constraint.VRAM, need, vram.best, verdict, gpu, worst, sure)


def weigh_host(host: HostMemory, ram: Interval[int]) -> Margin:
    """Fits when the largest need goes into the smallest amount, tight when the expected ones go together."""
    need = host.total
    worst, sure = ram.low - need.high, need.low > ram.high
    return Margin(Constraint.RAM, need.best, ram.best, _verdict(need, need, ram), worst=worst, sure=sure)


def weigh_disk(files: int, free: int) -> Margin:
    """Fits to the byte: both are known."""
    verdict = Verdict.FITS if files <= free else Verdict.NO
    return Margin(Constraint.DISK, files, free, verdict, worst=free - files, sure=files > free)


def _verdict(usual: Interval[int], least: Interval[int], have: Interval[int]) -> Verdict:
    """The one rule for amounts: ``usual`` is what is taken when there is plenty, ``least`` what is enough to run."""
    if usual.high <= have.low:
        return Verdict.FITS
    return Verdict.TIGHT if least.best <= have.best else Verdict.NO

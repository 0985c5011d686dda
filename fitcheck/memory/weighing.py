"""A footprint against what a machine has to give: margins of each resource. Monotone: more of anything never worsens.

Below the verdict, because a runtime that chooses how many layers to move asks the same question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

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


@dataclass(frozen=True, slots=True)
class Margin:
    """What is left of one resource in bytes after the expected need; negative when it is short. ``gpu`` is the card's
    position, 0 for what belongs to the host."""

    constraint: Constraint
    need: int
    available: int
    verdict: Verdict
    gpu: int = 0

    @property
    def left(self) -> int:
        """Bytes that stay free; negative by as many as are missing."""
        return self.available - self.need

    @property
    def shortness(self) -> tuple[int, float]:
        """Larger is worse: the verdict's rank, then the share of the need that is missing."""
        return self.verdict.rank, -self.left / max(self.need, 1)


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


def weigh(footprint: Footprint, budgets: Sequence[Budget]) -> Weighed:
    """The margins of ``footprint`` on cards with ``budgets``, in the same order. At least one budget is needed: on a
    machine without a card it holds the host's amounts."""
    first = budgets[0]
    return _weigh(footprint, tuple(one.vram for one in budgets), first.ram, first.disk)


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
        enough = Verdict.FITS if footprint.disk <= disk else Verdict.NO
        margins.append(Margin(Constraint.DISK, footprint.disk, disk, enough))
    if not margins:  # no card, and nothing known of the host: nothing speaks against it
        margins.append(Margin(Constraint.RAM, footprint.host.total.best, footprint.host.total.best, Verdict.UNKNOWN))
    return Weighed(tuple(margins), max(margins, key=lambda margin: margin.shortness), gpu)


def weigh_card(memory: CardMemory, vram: Interval[int], gpu: int = 0) -> Margin:
    """Fits when the usual footprint, caches included, goes into the pessimistic budget; tight when it should still run
    because the allocator gives its cache back, or because the budget may be larger than that."""
    if memory.card.best <= vram.low:
        verdict = Verdict.FITS
    elif memory.required.best <= vram.best:
        verdict = Verdict.TIGHT
    else:
        verdict = Verdict.NO
    need = memory.card.best if verdict is not Verdict.NO else memory.required.best
    return Margin(Constraint.VRAM, need, vram.best, verdict, gpu)


def weigh_host(host: HostMemory, ram: Interval[int]) -> Margin:
    """Fits when the expected need goes into the pessimistic amount and the pessimistic need into the largest."""
    need = host.total
    if need.best <= ram.low and need.high <= ram.high:
        verdict = Verdict.FITS
    elif need.best <= ram.best:
        verdict = Verdict.TIGHT
    else:
        verdict = Verdict.NO
    return Margin(Constraint.RAM, need.best, ram.best, verdict)

"""A footprint against a budget: verdict, binding constraint, margins. Monotone: more of anything never worsens it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Protocol

from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Budget
from fitcheck.memory.footprint import Footprint
from fitcheck.models.catalog import minimum_compute_capability
from fitcheck.runtimes.sensenova.streaming import Placement, Stream
from fitcheck.speed.rates import emulates_bfloat16
from fitcheck.units import Interval, format_gb, format_gib


class Verdict(StrEnum):
    """From best to worst; ``unknown`` ranks below ``tight`` because nobody should buy on it."""

    FITS = "fits"
    TIGHT = "tight"
    UNKNOWN = "unknown"
    NO = "no"

    @property
    def rank(self) -> int:
        return _RANK[self]


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


class Mode(Protocol):
    """How a runtime places a model: what every family's placement says of itself."""

    @property
    def runtime(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def mode(self) -> str: ...

    @property
    def policy(self) -> str: ...


class Constraint(StrEnum):
    VRAM = "VRAM"
    RAM = "host RAM"
    DISK = "disk"
    COMPUTE_CAPABILITY = "compute capability"
    DTYPE = "dtype"
    RUNTIME = "runtime support"
    MODEL = "unknown model"


@dataclass(frozen=True, slots=True)
class Margin:
    """What is left of one resource in bytes after the expected need; negative when it is short."""

    constraint: Constraint
    need: int
    available: int
    verdict: Verdict

    @property
    def left(self) -> int:
        return self.available - self.need


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    binding: Constraint
    reason: str
    margins: tuple[Margin, ...]

    def margin(self, constraint: Constraint) -> Margin | None:
        return next((margin for margin in self.margins if margin.constraint is constraint), None)


@cache
def _support() -> dict[str, Any]:
    text = resources.files("fitcheck.verdict").joinpath("data/support.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def _vram(footprint: Footprint, vram: Interval[int]) -> Margin:
    """Fits when the usual footprint, caches included, goes into the pessimistic budget; tight when it should still run
    because the allocator gives its cache back, or because the budget may be larger than that."""
    if footprint.card.best <= vram.low:
        verdict = Verdict.FITS
    elif footprint.required.best <= vram.best:
        verdict = Verdict.TIGHT
    else:
        verdict = Verdict.NO
    return Margin(
        Constraint.VRAM,
        footprint.card.best if verdict is not Verdict.NO else footprint.required.best,
        vram.best,
        verdict,
    )


def _ram(footprint: Footprint, ram: Interval[int]) -> Margin:
    need = footprint.host.total
    if need.best <= ram.low and need.high <= ram.high:
        verdict = Verdict.FITS
    elif need.best <= ram.best:
        verdict = Verdict.TIGHT
    else:
        verdict = Verdict.NO
    return Margin(Constraint.RAM, need.best, ram.best, verdict)


def _platform(card: Card, placement: Mode) -> tuple[Verdict, Constraint, str] | None:
    """What no amount of memory changes; ``None`` when nothing is known against it."""
    if isinstance(placement, Placement):
        return _torch_platform(card, placement)
    rows = _support().get(placement.runtime)
    return None if rows is None else _native_platform(card, rows)


def _native_platform(card: Card, rows: dict[str, Any]) -> tuple[Verdict, Constraint, str] | None:
    """A runtime that brings its own kernels for each vendor."""
    row = rows.get(card.vendor, rows["other"])
    minimum = tuple(row.get("compute_capability", ()))
    if card.compute_capability is not None and card.compute_capability < minimum:
        have, want = (".".join(map(str, pair)) for pair in (card.compute_capability, minimum))
        reason = f"Compute capability {have}; the CUDA backend needs {want}, and Vulkan on this card is untested."
        return Verdict.UNKNOWN, Constraint.COMPUTE_CAPABILITY, reason
    if row["support"] != "yes":
        return Verdict.UNKNOWN, Constraint.RUNTIME, f"{card.name}: {row['reason']}."
    return None


def _torch_platform(card: Card, placement: Placement) -> tuple[Verdict, Constraint, str] | None:
    row = _support()["sensenova"].get(card.vendor, _support()["sensenova"]["other"])
    if row["support"] == "no":
        return Verdict.NO, Constraint.RUNTIME, f"{card.name}: {row['reason']}."
    if row["support"] == "full only" and placement.stream is not Stream.NOTHING:
        return Verdict.NO, Constraint.RUNTIME, f"{card.name}: {row['reason']}."
    if card.vendor == "NVIDIA":
        if card.compute_capability is None:
            return (
                Verdict.UNKNOWN,
                Constraint.COMPUTE_CAPABILITY,
                f"The compute capability of {card.name} is not known.",
            )
        minimum = minimum_compute_capability()
        if card.compute_capability < minimum:
            have, want = (".".join(map(str, pair)) for pair in (card.compute_capability, minimum))
            return (
                Verdict.NO,
                Constraint.COMPUTE_CAPABILITY,
                f"Compute capability {have}; the PyTorch wheels need {want}.",
            )
        if emulates_bfloat16(card):
            return (
                Verdict.TIGHT,
                Constraint.DTYPE,
                "No bfloat16 units before compute capability 8.0: PyTorch emulates them slowly; "
                "--dtype float16 is untested.",
            )
    if row["support"] != "yes":
        return Verdict.UNKNOWN, Constraint.RUNTIME, f"{card.name}: {row['reason']}."
    return None


def judge(footprint: Footprint, budget: Budget, card: Card, placement: Mode) -> Judgement:
    """The verdict is the worst of its parts; what binds is that part, or the resource with least to spare."""
    weighed = _weigh(footprint, budget.vram, budget.ram, budget.disk)
    platform = _platform(card, placement)
    if platform is not None and platform[0].rank > weighed.verdict.rank:
        return Judgement(*platform, weighed.margins)
    return weighed


@lru_cache(maxsize=8192)
def _weigh(footprint: Footprint, vram: Interval[int], ram: Interval[int] | None, disk: int | None) -> Judgement:
    """The judgement by amounts alone; cards with the same budget share it."""
    margins = [_vram(footprint, vram)]
    if ram is not None:
        margins.append(_ram(footprint, ram))
    if disk is not None:
        enough = Verdict.FITS if footprint.disk <= disk else Verdict.NO
        margins.append(Margin(Constraint.DISK, footprint.disk, disk, enough))
    worst = max(margins, key=lambda margin: (margin.verdict.rank, -margin.left / max(margin.need, 1)))
    return Judgement(worst.verdict, worst.constraint, _explain(worst, footprint.peak.name), tuple(margins))


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

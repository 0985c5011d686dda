"""The answer as a value: one machine, one model, and a cell for every tier and placement. JSON schema 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fitcheck.hardware.machine import Budget, Gpu, Machine
from fitcheck.hardware.software import SoftwareRow
from fitcheck.memory.footprint import CATEGORIES, CardMemory, Footprint
from fitcheck.memory.weighing import Verdict
from fitcheck.models.families import registry as families
from fitcheck.models.model import Model, Tier
from fitcheck.models.tier_quality import TierQuality
from fitcheck.models.workload import Workload
from fitcheck.records.sizes import USED
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Placement
from fitcheck.speed.duration import Duration
from fitcheck.speed.floor import NO_FLOOR, Floor
from fitcheck.units import Interval
from fitcheck.verdict.headline import headline
from fitcheck.verdict.judge import Judgement
from fitcheck.verdict.quantities import Evidence, Quantity
from fitcheck.verdict.software_rows import component_json, components_of, line_of

SCHEMA = "fitcheck.check/2"


@dataclass(frozen=True, slots=True)
class Flip:
    """The smallest single change that turns the verdict into a better one."""

    change: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Assumption:
    """A value that nobody gave: the option that says it, what was taken, in words, and what another value would
    change."""

    option: str
    words: str
    change: str


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

    def rate(self, name: str) -> Interval[float] | None:
        """A rate of the duration by name; ``None`` where unknown."""
        return None if self.duration is None else self.duration.rate(name)


_NOTHING = Interval.exactly(0)
NO_CARD = CardMemory((), _NOTHING, _NOTHING, _NOTHING, _NOTHING)


@dataclass(frozen=True, slots=True)
class Report:
    """``cells`` are ordered best first; ``budgets`` are the cards' in the machine's order. ``floor`` is what was fast
    enough to be of use, ``assumed`` what nobody said."""

    model: Model
    machine: Machine
    budgets: tuple[Budget, ...]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    floor: Floor = NO_FLOOR
    assumed: tuple[Assumption, ...] = ()

    @property
    def best(self) -> Cell:
        """The cell that headline, memory bars and the way out speak of: the first one."""
        return self.cells[0]

    @property
    def answer(self) -> str:
        """The answer in one sentence."""
        return headline(self)

    @property
    def assumed_line(self) -> str:
        """What nobody said and what another value would change, as one sentence; empty where all was said."""
        return f"Assumed: {'; '.join(f'{one.words} ({one.change})' for one in self.assumed)}." if self.assumed else ""

    @property
    def software(self) -> tuple[SoftwareRow, ...]:
        """What the best cell depends on besides memory: worked out when it is asked for."""
        return components_of(self.best)

    @property
    def software_line(self) -> str:
        """What of it binds, as one sentence; empty where nothing does."""
        return line_of(self.software)

    @property
    def modes(self) -> dict[str, str]:
        """What the modes of the cells mean, in the order from most card memory to least, of the runtimes that gloss
        theirs."""
        names = dict.fromkeys(cell.placement.runtime for cell in self.cells)
        glossed = {mode: words for name in names for mode, words in registry.get(name).modes.items()}
        shown = {cell.placement.mode for cell in self.cells}
        return {mode: words for mode, words in glossed.items() if mode in shown}

    @property
    def workload(self) -> Workload:
        """The best cell's."""
        return self.best.workload

    @property
    def gpu(self) -> Gpu | None:
        """The card that binds the best cell; ``None`` on a machine without one."""
        return self.machine.gpus[self.best.judgement.gpu] if self.machine.gpus else None

    @property
    def budget(self) -> Budget:
        """What that card and the host have to give."""
        return self.budgets[self.best.judgement.gpu]

    @property
    def place(self) -> str:
        """The machine in words: its card, "2 × GeForce RTX 3090", or "the processor"."""
        names = [gpu.card.name + (f", slice {gpu.mig}" if gpu.mig else "") for gpu in self.machine.gpus]
        if not names:
            return "the processor"
        counts = {name: names.count(name) for name in names}
        return " and ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())

    def to_json(self) -> dict[str, Any]:
        """Bytes are integers, seconds floats, unknown is null. Documented in docs/json.md."""
        head = self.to_json_head()
        last = {name: head.pop(name) for name in ("software", "notes")}
        return {**head, "cells": [cell_json(cell) for cell in self.cells], **last}

    def to_json_head(self) -> dict[str, Any]:
        """``to_json`` without the cells, which take most of the time."""
        return {
            "schema": SCHEMA,
            "machine": _machine_json(self),
            "model": {
                "slug": self.model.slug,
                "name": self.model.name,
                "family": self.model.architecture.family,
                "licence": self.model.licence,
                "repository": self.model.repository,
            },
            "workload": workload_json(self.workload),
            "answer": self.answer,
            "assumed": [{"option": one.option, "words": one.words, "change": one.change} for one in self.assumed],
            "floor": {
                "min_speed": self.floor.min_speed,
                "max_seconds": self.floor.max_seconds,
                "usual": self.floor.usual,
            },
            "headline": 0,
            "modes": self.modes,
            "software": [component_json(row) for row in self.software],
            "notes": list(self.notes),
        }


def _machine_json(report: Report) -> dict[str, Any]:
    machine, gpu, budget = report.machine, report.gpu, report.budget
    return {
        **(_card_json(gpu) if gpu is not None else _NO_CARD_JSON),
        "detected": machine.detected,
        "operating_system": machine.operating_system,
        "assumed": list(machine.assumed),
        "ram": machine.ram_total,
        "disk_free": machine.disk_free,
        "usable_vram": interval_json(budget.vram),
        "usable_ram": interval_json(budget.ram),
        "basis": budget.basis,
        "gpus": len(machine.gpus),
        "cards": [
            {**_card_json(one), "usable_vram": interval_json(have.vram)}
            for one, have in zip(machine.gpus, report.budgets, strict=False)
        ],
        "notes": list(machine.notes),
    }


def _card_json(gpu: Gpu) -> dict[str, Any]:
    card = gpu.card
    return {
        "card": card.slug,
        "name": card.name,
        "vendor": card.vendor,
        "memory": card.memory,
        "compute_capability": list(card.compute_capability) if card.compute_capability else None,
        "pcie_generation": gpu.link.pcie_generation,
        "pcie_lanes": gpu.link.pcie_lanes,
        "display": gpu.display,
    }


_NO_CARD_JSON = dict.fromkeys(
    ("card", "name", "vendor", "memory", "compute_capability", "pcie_generation", "pcie_lanes", "display")
)


def workload_json(workload: Workload) -> dict[str, Any]:
    """The task and the sizes it uses."""
    found: dict[str, Any] = {"task": str(workload.task), "prompt_tokens": workload.prompt_tokens}
    for name in USED[workload.task]:
        value = getattr(workload, name)
        found[name] = [list(size) for size in value] if name == "references" else value
    return found


def interval_json(interval: Interval[int] | Interval[float] | None) -> dict[str, Any] | None:
    """Low, best and high; null where unknown."""
    return None if interval is None else {"low": interval.low, "best": interval.best, "high": interval.high}


def _time_json(duration: Duration | None) -> dict[str, Any] | None:
    """The parts of the best estimate by name, and what sets the pace."""
    if duration is None:
        return None
    return {
        "parts": dict(duration.parts),
        "rates": {name: interval_json(rate) for name, rate in duration.rates},
        "amounts": dict(duration.amounts),
        "binding": duration.binding,
        "first": interval_json(duration.first),
    }


def _memory_json(memory: CardMemory) -> dict[str, Any]:
    return {
        "allocated": interval_json(memory.allocated),
        "reserved": interval_json(memory.reserved),
        "card": interval_json(memory.card),
        "required": interval_json(memory.required),
        "peak": memory.peak.name if memory.phases else None,
        "phases": [
            {"name": phase.name, **{name: getattr(phase, name) for name in CATEGORIES}, "allocated": phase.allocated}
            for phase in memory.phases
        ],
    }


def evidence_json(evidence: Evidence) -> dict[str, Any]:
    """The weaker of memory and seconds at the top, then each quantity."""
    return {
        "level": evidence.level,
        "records": evidence.records,
        "note": evidence.note,
        "memory": _quantity_json(evidence.memory),
        "host": _quantity_json(evidence.host),
        "seconds": _quantity_json(evidence.seconds),
        "rates": {name: _quantity_json(one) for name, one in evidence.rates},
    }


def _quantity_json(one: Quantity) -> dict[str, Any]:
    return {"level": one.level, "records": one.records, "note": one.note, "ids": list(one.ids)}


def quality_json(cell: Cell) -> dict[str, Any] | None:
    """The tier's quality; null where nobody has measured it."""
    quality = cell.quality
    return None if quality is None else quality.to_json()


def cell_json(cell: Cell) -> dict[str, Any]:
    """One cell; memory on the shortest card stands at the top, on each card under ``cards``."""
    footprint, workload = cell.footprint, cell.workload
    return {
        "tier": cell.tier.name,
        "file": cell.tier.file,
        "published": cell.tier.published,
        "quality": quality_json(cell),
        "runtime": cell.placement.runtime,
        "revision": cell.placement.revision,
        "mode": cell.placement.mode,
        "settings": dict(cell.placement.settings),
        "workload": workload_json(workload),
        "verdict": str(cell.verdict),
        "binding": str(cell.judgement.binding),
        "gist": cell.judgement.gist,
        "reason": cell.reason,
        "margins": {
            str(margin.constraint): {
                "need": margin.need,
                "available": margin.available,
                "left": margin.left,
                "worst": margin.worst,
            }
            for margin in cell.judgement.margins
        },
        "flip": None if cell.flip is None else {"change": cell.flip.change, "verdict": str(cell.flip.verdict)},
        "evidence": evidence_json(cell.evidence),
        **_memory_json(cell.memory),
        "cards": [_memory_json(memory) for memory in footprint.cards],
        "host": {
            **(interval_json(footprint.host.total) or {}),
            "pinned": footprint.host.pinned,
            "pageable": footprint.host.pageable,
            "process": footprint.host.process,
        },
        "disk": footprint.disk,
        "seconds": interval_json(cell.seconds),
        "time": _time_json(cell.duration),
        "details": cell.details,
        "commands": list(cell.commands),
        "assumptions": list(footprint.assumptions),
    }

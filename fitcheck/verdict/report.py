"""The answer as a value: one machine, one model, and a cell for every tier and placement. JSON schema 2."""

from __future__ import annotations

from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.machine import Budget, Gpu, Machine
from fitcheck.hardware.software import SoftwareRow
from fitcheck.models.model import Model
from fitcheck.models.workload import Workload
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.speed.floor import NO_FLOOR, Floor
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.cell_json import cell_json, interval_json, workload_json
from fitcheck.verdict.headline import headline
from fitcheck.verdict.software_rows import component_json, components_of, line_of

SCHEMA = "fitcheck.check/2"


@dataclass(frozen=True, slots=True)
class Assumption:
    """A value that nobody gave: the option that says it, what was taken, in words, and what another value would
    change."""

    option: str
    words: str
    change: str


@dataclass(frozen=True, slots=True)
class Report:
    """``cells`` are ordered best first; ``budgets`` are the cards' in the machine's order. ``wanted`` is the question,
    ``floor`` what was fast enough to be of use, ``assumed`` what nobody said, ``remarks`` what was to be said of the
    model's files."""

    model: Model
    machine: Machine
    budgets: tuple[Budget, ...]
    cells: tuple[Cell, ...]
    wanted: Wanted
    floor: Floor = NO_FLOOR
    assumed: tuple[Assumption, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def best(self) -> Cell:
        """The cell that headline, memory bars and the way out speak of: the first one."""
        return self.cells[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know besides: of the model, of its best cell and of its files. Worked out when it is
        asked for, because some of it compares the cell with another one."""
        best = self.best
        runtime = registry.get(best.placement.runtime)
        notes = [*self.model.notes, *runtime.notes(best.ask, self.wanted, best.duration)]
        if best.seconds is None and runtime.times:
            notes.append(f"Seconds are unknown because {runtime.untimed(best.ask, best.footprint)}.")
        return (*notes, *self.remarks)

    @property
    def answer(self) -> str:
        """The answer in one sentence."""
        return headline(self.best, self.place, self.budget.vram.best)

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

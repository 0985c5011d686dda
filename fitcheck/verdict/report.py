"""The answer as a value: one machine, one model, one workload, and a cell for every tier and mode. JSON schema 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fitcheck.hardware.machine import Budget, Machine
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.placement import Placement
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Workload
from fitcheck.speed.sensenova import Duration
from fitcheck.units import Interval
from fitcheck.verdict.judge import Judgement, Verdict

SCHEMA = "fitcheck.check/1"


@dataclass(frozen=True, slots=True)
class Flip:
    """The smallest single change that turns the verdict into a better one."""

    change: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Evidence:
    """How we know. ``level`` is estimated, calibrated or measured; ``records`` counts what it rests on."""

    level: str = "estimated"
    records: int = 0
    note: str = "model only, no record of this card"


@dataclass(frozen=True, slots=True)
class Cell:
    """One tier in one mode on the asked machine."""

    tier: Tier
    placement: Placement
    workload: Workload
    footprint: Footprint
    duration: Duration | None
    judgement: Judgement
    evidence: Evidence
    flip: Flip | None
    commands: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict


@dataclass(frozen=True, slots=True)
class Report:
    """``cells`` are ordered best first."""

    model: Model
    machine: Machine
    budget: Budget
    workload: Workload
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Cell:
        return self.cells[0]

    def to_json(self) -> dict[str, Any]:
        """Bytes are integers, seconds floats, unknown is null. Documented in docs/json.md."""
        gpu = self.machine.gpus[0]
        card = gpu.card
        return {
            "schema": SCHEMA,
            "machine": {
                "card": card.slug,
                "name": card.name,
                "vendor": card.vendor,
                "memory": card.memory,
                "compute_capability": list(card.compute_capability) if card.compute_capability else None,
                "pcie_generation": gpu.link.pcie_generation,
                "pcie_lanes": gpu.link.pcie_lanes,
                "display": gpu.display,
                "detected": self.machine.detected,
                "ram": self.machine.ram_total,
                "disk_free": self.machine.disk_free,
                "usable_vram": _interval(self.budget.vram),
                "usable_ram": _interval(self.budget.ram),
                "basis": self.budget.basis,
                "gpus": len(self.machine.gpus),
                "notes": list(self.machine.notes),
            },
            "model": {
                "slug": self.model.slug,
                "name": self.model.name,
                "licence": self.model.licence,
                "repository": self.model.repository,
            },
            "workload": workload_json(self.workload),
            "cells": [cell_json(cell) for cell in self.cells],
            "notes": list(self.notes),
        }


def workload_json(workload: Workload) -> dict[str, Any]:
    return {
        "task": str(workload.task),
        "width": workload.width,
        "height": workload.height,
        "steps": workload.steps,
        "cfg": workload.cfg,
        "image_cfg": workload.image_cfg,
        "references": [list(size) for size in workload.references],
        "images": workload.images,
        "prompt_tokens": workload.prompt_tokens,
        "new_tokens": workload.new_tokens,
    }


def _interval(interval: Interval[int] | Interval[float] | None) -> dict[str, Any] | None:
    return None if interval is None else {"low": interval.low, "best": interval.best, "high": interval.high}


def cell_json(cell: Cell) -> dict[str, Any]:
    footprint, duration = cell.footprint, cell.duration
    return {
        "tier": cell.tier.name,
        "file": cell.tier.file,
        "published": cell.tier.published,
        "mode": cell.placement.mode,
        "runtime": cell.placement.runtime,
        "revision": cell.placement.revision,
        "policy": cell.placement.policy,
        "steps": cell.workload.steps,
        "cfg": cell.workload.cfg,
        "verdict": str(cell.verdict),
        "binding": str(cell.judgement.binding),
        "reason": cell.judgement.reason,
        "margins": {
            str(margin.constraint): {"need": margin.need, "available": margin.available, "left": margin.left}
            for margin in cell.judgement.margins
        },
        "flip": None if cell.flip is None else {"change": cell.flip.change, "verdict": str(cell.flip.verdict)},
        "evidence": {"level": cell.evidence.level, "records": cell.evidence.records, "note": cell.evidence.note},
        "allocated": _interval(footprint.allocated),
        "reserved": _interval(footprint.reserved),
        "card": _interval(footprint.card),
        "required": _interval(footprint.required),
        "host": {
            **(_interval(footprint.host.total) or {}),
            "pinned": footprint.host.pinned,
            "pageable": footprint.host.pageable,
            "process": footprint.host.process,
        },
        "disk": footprint.disk,
        "seconds": None if duration is None else _interval(duration.seconds),
        "time": None
        if duration is None
        else {
            "compute": duration.compute,
            "dequantization": duration.dequantization,
            "stream": duration.stream,
            "streamed_bytes": duration.streamed_bytes,
            "binding": duration.binding,
        },
        "peak": footprint.peak.name,
        "phases": [
            {
                "name": phase.name,
                "resident": phase.resident,
                "window": phase.window,
                "kv_cache": phase.kv_cache,
                "activations": phase.activations,
                "scratch": phase.scratch,
                "allocated": phase.allocated,
            }
            for phase in footprint.phases
        ],
        "commands": list(cell.commands),
        "assumptions": list(cell.assumptions),
    }

"""The answer as a value: one machine, one model, one workload, and a cell for every tier and mode. JSON schema 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fitcheck.hardware.machine import Budget, Machine
from fitcheck.memory.footprint import Footprint
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.seconds import Duration
from fitcheck.units import Interval
from fitcheck.verdict.judge import Judgement, Mode, Verdict

if TYPE_CHECKING:
    from fitcheck.runtimes.llamacpp import LlamaEstimate
    from fitcheck.runtimes.llamacpp.seconds import TokenSpeed

SCHEMA = "fitcheck.check/1"


class Timed(Protocol):
    """How long a cell takes; each family has its own frozen dataclass with the parts that it knows."""

    @property
    def seconds(self) -> Interval[float]: ...

    @property
    def binding(self) -> str: ...


@dataclass(frozen=True, slots=True)
class AnswerDuration:
    """Seconds of one answer in text: reading the prompt, then writing the new tokens (best estimates of both)."""

    seconds: Interval[float]
    prompt: float
    generation: float
    waits_for: str

    @property
    def binding(self) -> str:
        return "reading the prompt" if self.prompt > self.generation else self.waits_for


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
    """One tier in one mode on the asked machine. ``speed`` and ``buffers`` are set where llama.cpp runs it."""

    tier: Tier
    placement: Mode
    workload: Workload
    footprint: Footprint
    duration: Timed | None
    judgement: Judgement
    evidence: Evidence
    flip: Flip | None
    commands: tuple[str, ...]
    assumptions: tuple[str, ...]
    speed: TokenSpeed | None = None
    buffers: LlamaEstimate | None = None

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


def unjudged(machine: Machine) -> list[str]:
    """What the verdicts leave out because it is not known, a sentence each."""
    notes = []
    if machine.ram_total is None and machine.ram_available is None:
        notes.append("System memory is not judged because it is unknown; give --ram to include it.")
    if machine.disk_free is None:
        notes.append("Disk space is not judged because it is unknown; give --disk to include it.")
    return notes


def workload_json(workload: Workload) -> dict[str, Any]:
    if workload.task is Task.CHAT:
        return {
            "task": str(workload.task),
            "context": workload.context,
            "prompt_tokens": workload.prompt_tokens,
            "new_tokens": workload.new_tokens,
        }
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


def _time_json(duration: Timed | None) -> dict[str, Any] | None:
    """The parts of the best estimate, which differ by family, and what sets the pace."""
    if isinstance(duration, Duration):
        return {
            "compute": duration.compute,
            "dequantization": duration.dequantization,
            "stream": duration.stream,
            "streamed_bytes": duration.streamed_bytes,
            "binding": duration.binding,
        }
    if isinstance(duration, AnswerDuration):
        return {"prompt": duration.prompt, "generation": duration.generation, "binding": duration.binding}
    return None


def _text_json(cell: Cell) -> dict[str, Any]:
    """What only cells of language models have."""
    if cell.workload.task is not Task.CHAT:
        return {}
    speed, buffers = cell.speed, cell.buffers
    return {
        "context": cell.workload.context,
        "prompt_tokens_per_second": None if speed is None else _interval(speed.prompt),
        "generation_tokens_per_second": None if speed is None else _interval(speed.generation),
        "options": None if buffers is None else _options_json(buffers),
        "buffers": None if buffers is None else _buffers_json(buffers),
    }


def _options_json(buffers: LlamaEstimate) -> dict[str, Any]:
    options = buffers.options
    return {
        "gpu_layers": options.gpu_layers,
        "n_cpu_moe": options.cpu_moe_layers,
        "cache_type_k": options.cache_type_k,
        "cache_type_v": options.cache_type_v,
        "ubatch": options.micro_batch,
        "sequences": options.slots,
        "flash_attention": options.flash,
        "build": str(options.build),
        "build_date": options.build.day.isoformat(),
    }


def _buffers_json(buffers: LlamaEstimate) -> dict[str, Any]:
    def device(memory: Any) -> dict[str, int]:
        names = ("weights", "kv_cache", "recurrent", "compute", "output", "layers")
        return {name: getattr(memory, name) for name in names}

    return {"cards": [device(card) for card in buffers.cards], "host": device(buffers.host)}


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
        "time": _time_json(duration),
        **_text_json(cell),
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

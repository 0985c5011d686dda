"""A cell as JSON values: bytes are integers, seconds floats, unknown is null. Documented in docs/json.md."""

from __future__ import annotations

from typing import Any

from fitcheck.memory.footprint import CATEGORIES, CardMemory
from fitcheck.models.workload import Workload
from fitcheck.records.sizes import USED
from fitcheck.speed.duration import Duration
from fitcheck.units import Interval
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.quantities import Evidence, Quantity


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

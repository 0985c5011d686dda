"""What a cell depends on besides memory, row by row: component, minimum, tested, yours."""

from __future__ import annotations

from typing import Any

from fitcheck.hardware.software import Compatibility, Setup, SoftwareRow, compatibility, setup_of
from fitcheck.runtimes import registry
from fitcheck.units import format_gb
from fitcheck.verdict.cell import Cell

DISK = "disk"


def components_of(cell: Cell, setup: Setup | None = None) -> tuple[SoftwareRow, ...]:
    """The rows of a cell on its machine; ``setup`` is what is known of the software, by default what the machine
    tells. Without a card only the disk is looked at."""
    machine = cell.ask.machine
    rows: tuple[SoftwareRow, ...] = ()
    if machine.gpus:
        stacks = registry.get(cell.placement.runtime).stacks(cell.ask)
        card = machine.gpus[cell.judgement.gpu].card
        rows = compatibility(card, setup or setup_of(machine), stacks) if stacks else ()
    return (*rows, *_disk(cell))


def line_of(rows: tuple[SoftwareRow, ...]) -> str:
    """What binds, as one sentence; empty where nothing does. The disk has a verdict of its own."""
    told = [row.sentence for row in rows if row.binds and row.name != DISK]
    return f"Software: {'; '.join(told)}." if told else ""


def component_json(row: SoftwareRow) -> dict[str, Any]:
    """A row as JSON values; an empty text stands where nothing is known."""
    return {
        "component": row.name,
        "minimum": row.minimum,
        "tested": row.tested,
        "yours": row.yours,
        "status": str(row.status),
        "words": row.words,
        "sources": [{"url": one["url"], "read": one["read"]} for one in row.sources],
    }


def _disk(cell: Cell) -> tuple[SoftwareRow, ...]:
    """The files against the free space; nothing for files that lie here already."""
    if cell.ask.tier.local_path is not None:
        return ()
    need, free = cell.footprint.disk, cell.ask.machine.disk_free
    status = Compatibility.UNKNOWN if free is None else Compatibility.OK if free >= need else Compatibility.FAILS
    have = "unknown" if free is None else format_gb(free, 1)
    return (SoftwareRow(DISK, format_gb(need, 1), "", have, status, "room for the model's files"),)

"""From what drivers said to a ``Machine``: database cards with live values, and sentences for the states of things."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fitcheck import __version__
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import match_detected
from fitcheck.hardware.database import slug
from fitcheck.hardware.detect.nvidia import NO_DRIVER
from fitcheck.hardware.detect.readings import FoundGpu, Readings
from fitcheck.hardware.detect.system_memory import FoundHost
from fitcheck.hardware.machine import Gpu, Link, Machine
from fitcheck.hardware.slices import COMPUTE_SLICES, compute_slices, sliced
from fitcheck.units import format_gib

if TYPE_CHECKING:
    from fitcheck.hardware.detect import Survey

CAPTURE_SCHEMA = 1


def machine_from(found: Survey, system: str) -> Machine:
    """The machine of a survey; ``system`` is platform.system() of it."""
    gpus = [_gpu(gpu, index, found) for index, gpu in enumerate(found.gpus)]
    drivers = [report.driver for report in found.vendors if report.gpus and report.driver]
    cudas = [report.cuda for report in found.vendors if report.cuda]
    return Machine(
        gpus=tuple(gpus),
        ram_total=found.host.ram_total,
        ram_available=found.host.ram_available,
        disk_free=found.host.disk_free,
        driver=drivers[0] if drivers else None,
        cuda=cudas[0] if cudas else None,
        operating_system=found.host.operating_system,
        detected=True,
        notes=tuple(_notes(found, gpus, system)),
    )


def _gpu(found: FoundGpu, index: int, whole: Survey) -> Gpu:
    card = card_of(found)
    total, free = found.memory_total, found.memory_free
    if card.unified_memory:
        total, free = _with_host_memory(found, whole.host)
    return Gpu(
        card=card,
        # a card at rest lowers its generation, not its width: under load it runs at the greatest
        link=Link(
            found.pcie_generation_max or found.pcie_generation or card.pcie_generation,
            found.pcie_width or found.pcie_width_max or card.pcie_lanes,
        ),
        vram_total=total if total is not None else card.memory,
        vram_free=free,
        display=found.display,
        index=index,
        mig=found.mig,
        carved=found.memory_total or 0 if card.unified_memory and found.host_total is not None else 0,
    )


def _with_host_memory(found: FoundGpu, host: FoundHost) -> tuple[int | None, int | None]:
    """Total and free of a GPU that works in host memory: its own part, and no more of the host's than is free there."""
    total = host.ram_total if found.memory_total is None else found.memory_total + (found.host_total or 0)
    if found.host_free is None:
        return total, found.memory_free
    usable = found.host_free if host.ram_available is None else min(found.host_free, host.ram_available)
    return total, (found.memory_free or 0) + usable


def card_of(found: FoundGpu) -> Card:
    """The database's card with live values in it, or a card made of live values alone."""
    known = _known(found)
    if known is None:
        name = found.name or f"unnamed {found.vendor} GPU"
        known = Card(
            slug=slug(name) or "unknown",
            name=name,
            vendor=found.vendor,
            memory=0 if found.shared else found.memory_total or 0,
            form="integrated" if found.shared else "desktop",
            unified_memory=bool(found.shared),
        )
    if found.compute_capability is not None:
        known = replace(known, compute_capability=found.compute_capability)
    if found.power_limit is not None:
        known = replace(known, power_watts=found.power_limit)
    return known if found.mig is None else _slice(known, found)


def _known(found: FoundGpu) -> Card | None:
    """The database's card of the driver's name, of this size where several have that name."""
    return None if found.name is None else match_detected(found.name, found.parent_total or found.memory_total)


def _slice(card: Card, found: FoundGpu) -> Card:
    """A MIG slice's part of the card: its share of the compute, memory and its bandwidth by size."""
    memory = found.memory_total or 0
    share = memory / found.parent_total if found.parent_total else None
    return sliced(card, found.mig or "", memory, share, compute_slices(card) or COMPUTE_SLICES)


def _notes(found: Survey, gpus: list[Gpu], system: str) -> list[str]:
    notes = [note for report in found.vendors for note in report.notes]
    if not gpus and system == "Windows":
        notes.append("On Windows only NVIDIA cards are detected; name another card with --gpu.")
    elif not gpus and system == "Linux" and notes == [NO_DRIVER]:
        notes = ["There is no NVIDIA driver, and no AMD or Intel card."]
    elif gpus:
        # a missing NVIDIA driver is no news on a machine with another card
        notes = [note for note in notes if note != NO_DRIVER]
    if len(gpus) > 1:
        listed = ", ".join(f"{gpu.index}: {_label(gpu)}" for gpu in gpus)
        notes.append(f"{len(gpus)} cards found ({listed}).")
    for gpu, raw in zip(gpus, found.gpus, strict=True):
        name = f"card {gpu.index} ({_label(gpu)})" if len(gpus) > 1 else _label(gpu)
        if _known(raw) is None:
            name = repr(raw.name) if raw.name else f"The {raw.vendor} card, whose driver tells no name,"
            notes.append(f"{name} is not one card of the database: only live values are used, rates are unknown.")
        if raw.processes and raw.process_bytes and not gpu.card.unified_memory:
            count = "1 process holds" if raw.processes == 1 else f"{raw.processes} processes hold"
            notes.append(f"{count} {format_gib(raw.process_bytes)} on {name}.")
        width, most = raw.pcie_width, raw.pcie_width_max
        if width and most and width < most:
            notes.append(f"{name} runs with {width} of {most} PCIe lanes.")
    return notes + list(found.host.notes)


def _label(gpu: Gpu) -> str:
    short = gpu.card.name.removeprefix("GeForce ")
    return f"{short} slice {gpu.mig}" if gpu.mig else short


def capture_of(found: Survey, system: str) -> dict[str, Any]:
    """The survey's readings and what they were made into."""
    machine = machine_from(found, system)
    return {
        "schema": CAPTURE_SCHEMA,
        "fitcheck": __version__,
        "system": system,
        "host": _readings(found.host.readings),
        "drivers": [
            {"vendor": report.gpus[0].vendor if report.gpus else None, **_readings(report.readings)}
            for report in found.vendors
            if report.readings
        ],
        "gpus": [
            {
                "vendor": raw.vendor,
                "matched": gpu.card.slug if _known(raw) else None,
                "vram_total": gpu.vram_total,
                "vram_free": gpu.vram_free,
                "mig": raw.mig,
                "readings": _readings(raw.readings),
            }
            for gpu, raw in zip(machine.gpus, found.gpus, strict=True)
        ],
        "notes": list(machine.notes),
    }


def _readings(readings: Readings) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, reading in readings.items():
        row: dict[str, Any] = {"value": reading.value, "source": reading.source}
        if reading.failure is not None:
            row["failure"] = reading.failure
        rows[name] = row
    return rows

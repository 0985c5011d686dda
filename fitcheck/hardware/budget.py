"""What a machine really has to give: never the number on the box.

Live free memory where this machine was detected; otherwise the nominal size less what the driver keeps and what a
display takes, as an interval. All constants, with their sources, stand in data/budget.json.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from fitcheck.errors import InputError
from fitcheck.hardware.machine import Budget, Gpu, Machine
from fitcheck.units import MIB, Interval, format_gib

_DATA = Path(__file__).parent / "data" / "budget.json"


def budget(machine: Machine, gpu: int = 0) -> Budget:
    """The budget of one card of ``machine`` (by position) and of its host.

    Monotone: a card with more memory, or a host with more RAM, never has less to give. Raises InputError when the
    machine has no such card, or the card's memory is unknown and no override says it.
    """
    if not 0 <= gpu < len(machine.gpus):
        raise InputError(f"--gpu: this machine has {len(machine.gpus)} cards, there is no card {gpu}.")
    vram, basis = _vram(machine.gpus[gpu])
    return Budget(vram=vram, ram=_ram(machine), disk=machine.disk_free, basis=basis)


def _vram(gpu: Gpu) -> tuple[Interval[int], str]:
    if gpu.vram_override is not None:
        return Interval.exactly(gpu.vram_override), f"{format_gib(gpu.vram_override)} as given with --vram"
    if gpu.vram_free is not None:
        low = max(0, gpu.vram_free - (_constant("display", "swing")[2] if gpu.display else 0))
        return Interval(low, gpu.vram_free, gpu.vram_free), f"{format_gib(gpu.vram_free)} free now, by the driver"
    if gpu.vram_total == 0:
        raise InputError(
            f"--gpu: {gpu.card.name} shares the host's memory; say how much the machine has with --ram or --vram."
        )
    if gpu.card.unified_memory:
        shares = _data()["unified"]["fraction"]
        low, best, high = (int(gpu.vram_total * share) for share in shares)
        return Interval(low, best, high), f"the part of {format_gib(gpu.vram_total)} shared memory that a GPU may use"
    return _discrete(gpu)


def _discrete(gpu: Gpu) -> tuple[Interval[int], str]:
    driver = [int(gpu.vram_total * share) for share in _data()["driver"]["discrete"]["fraction"]]
    attached, headless = _constant("display", "attached"), _constant("display", "headless")
    if gpu.display is None:
        usual = headless if gpu.card.form in ("datacenter", "mining") else attached
        display, words = (headless[0], usual[1], usual[2]), "whether a display is attached is not known"
    else:
        display, words = (attached, "a display is attached") if gpu.display else (headless, "no display is attached")
    taken = [reserve + screen for reserve, screen in zip(driver, display, strict=True)]
    low, best, high = (max(0, gpu.vram_total - part) for part in reversed(taken))
    basis = f"{format_gib(gpu.vram_total)} less the driver's reserve and the display's share; {words}"
    return Interval(low, best, high), basis


def _ram(machine: Machine) -> Interval[int] | None:
    if machine.ram_available is not None:
        return Interval.exactly(machine.ram_available)
    if machine.ram_total is None:
        return None
    least, usual, most = _constant("ram", "operating_system")
    return Interval(
        max(0, machine.ram_total - most), max(0, machine.ram_total - usual), max(0, machine.ram_total - least)
    )


def _constant(group: str, name: str) -> tuple[int, int, int]:
    """Low, best and high of a reserve, in bytes."""
    low, best, high = _data()[group][name]
    return low * MIB, best * MIB, high * MIB


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_DATA.read_bytes())
    return data

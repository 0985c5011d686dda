"""What other programs hold of a machine that was looked at, and the machine without them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fitcheck.hardware.budget import budget, ram_budget
from fitcheck.hardware.machine import Gpu, Machine
from fitcheck.units import format_gib


def without_others(machine: Machine) -> Iterator[tuple[str, Machine, bool, bool]]:
    """How to call it, the machine, and whether more of its cards and of its system memory is free then: with cards
    alone given back, with system memory alone, with both. None of what the driver, a display or a system at rest may
    hold at most is theirs, and nothing is known of a machine that was only described.
    """
    gpus = tuple(_alone(machine, index) for index in range(len(machine.gpus)))
    quiet = _quiet(machine)
    cards = replace(machine, gpus=gpus)
    held = sum(budget(cards, at).vram.best - budget(machine, at).vram.best for at in range(len(gpus)))
    of_cards = f"{format_gib(held)} of the card{'s' * (len(gpus) > 1)}"
    if held:
        yield f"close what holds {of_cards}", cards, True, False
    if quiet is None:
        return
    yield f"close what holds {quiet[0]} of system memory", quiet[1], False, True
    if held:
        both = replace(quiet[1], gpus=gpus)
        yield f"close what holds {of_cards} and {quiet[0]} of system memory", both, True, True


def _alone(machine: Machine, index: int) -> Gpu:
    """The card with nothing on it but its driver and display, where more is held; else as it is."""
    gpu = machine.gpus[index]
    told = gpu.vram_override is not None or gpu.usable is not None or gpu.mig is not None
    if gpu.vram_free is None or told or gpu.card.unified_memory:
        return gpu
    alone = replace(gpu, vram_free=None)
    rest = replace(machine, gpus=tuple(alone if at == index else one for at, one in enumerate(machine.gpus)))
    return alone if budget(rest, index).vram.low > gpu.vram_free else gpu


def _quiet(machine: Machine) -> tuple[str, Machine] | None:
    """What is held of system memory, and the machine at rest; ``None`` where that is not more than a system takes."""
    if machine.ram_available is None:
        return None
    quiet = replace(machine, ram_available=None)
    rest = ram_budget(quiet)
    if rest is None or rest.low <= machine.ram_available:
        return None
    return format_gib(rest.best - machine.ram_available), quiet

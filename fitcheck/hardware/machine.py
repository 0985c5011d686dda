"""A machine: cards, host memory, disk, link and display, and the budget it really has to give."""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import CardError
from fitcheck.hardware.card import Card
from fitcheck.units import Interval

MOST_GPUS = 64


@dataclass(frozen=True, slots=True)
class Link:
    """The connection between host and card: PCIe generation and lanes, or a measured pinned rate in B/s. ``assumed``
    says that nobody named the slot and the card's own end stands in for it."""

    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    measured_pinned: float | None = None
    measured_pageable: float | None = None
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card in a machine, as asked about or as detected; live values are ``None`` when nothing was detected.

    ``vram_total`` is what the driver reports when detected, else the card's nominal size; 0 is unknown (a card that
    shares host RAM of unknown size). ``usable`` stands for the whole budget where somebody imagines a larger card.
    """

    card: Card
    link: Link
    vram_total: int
    vram_free: int | None = None
    vram_override: int | None = None
    usable: Interval[int] | None = None
    display: bool | None = None
    index: int | None = None
    mig: str | None = None
    carved: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """Memory and disk in bytes; ``None`` is unknown. ``detected`` says whether this is the machine fitcheck runs on,
    ``assumed`` which values nobody gave and something usual stands in for, by name."""

    gpus: tuple[Gpu, ...]
    ram_total: int | None = None
    ram_available: int | None = None
    disk_free: int | None = None
    driver: str | None = None
    cuda: str | None = None
    operating_system: str | None = None
    detected: bool = False
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """What a machine has to give, in bytes. ``None`` is unknown. ``basis`` says in words where ``vram`` comes from."""

    vram: Interval[int]
    ram: Interval[int] | None
    disk: int | None
    basis: str


def machine_for(
    card: Card,
    *,
    ram: int | None = None,
    disk: int | None = None,
    display: bool | None = None,
    vram_override: int | None = None,
    pcie_generation: int | None = None,
    pcie_lanes: int | None = None,
    count: int = 1,
) -> Machine:
    """The machine someone asks about: ``count`` of ``card``, host RAM and free disk in bytes where they were given.

    ``display`` says whether a screen hangs on the (first) card; None is unknown. ``pcie_generation`` and ``pcie_lanes``
    describe the slot where it is smaller than what the card could do. Raises InputError for values that cannot be.
    """
    _check_amounts(("--ram", ram, 1, 1 << 50), ("--disk", disk, 0, 1 << 60))
    _check_amounts(("--vram", vram_override, 1, 1 << 50), ("--gpu-count", count, 1, MOST_GPUS))
    asked = slot(pcie_generation, pcie_lanes)
    link = Link(
        _smaller(asked.pcie_generation, card.pcie_generation),
        _smaller(asked.pcie_lanes, card.pcie_lanes),
        assumed=pcie_generation is None and pcie_lanes is None,
    )
    pooled = (ram or 0) if card.unified_memory else 0
    total = pooled or card.memory if card.form == "console" else card.memory or pooled  # handhelds come in sizes
    gpus = tuple(
        Gpu(
            card=card,
            link=link,
            vram_total=total,
            vram_override=vram_override,
            display=display if position == 0 else False,
            index=position,
            carved=_carved(card, vram_override, ram),
        )
        for position in range(count)
    )
    host = ram if ram is not None or not card.unified_memory else card.memory or None
    return Machine(gpus=gpus, ram_total=host, disk_free=disk)


def cardless(*, ram: int | None = None, disk: int | None = None) -> Machine:
    """A machine without a card, of ``ram`` and free ``disk`` bytes where they were given. Raises CardError."""
    _check_amounts(("--ram", ram, 1, 1 << 50), ("--disk", disk, 0, 1 << 60))
    return Machine(gpus=(), ram_total=ram, disk_free=disk)


def _check_amounts(*amounts: tuple[str, int | None, int, int]) -> None:
    for flag, value, least, most in amounts:
        if value is not None and not least <= value <= most:
            raise CardError(f"{flag}: {value} is out of range; give {least} to {most}.")


def _carved(card: Card, vram: int | None, ram: int | None) -> int:
    """What of ``vram`` lies outside the operating system's memory. Firmware of x86 machines can set a part aside for
    the graphics chip; an amount as large as all that the system has can be nothing else. Less may be a limit of the
    driver's on memory that both share, and counts as such."""
    carves = card.unified_memory and card.vendor in ("AMD", "Intel")
    return vram if carves and vram is not None and ram is not None and vram >= ram else 0


def slot(generation: int | None, lanes: int | None) -> Link:
    """A slot as it was typed. Raises InputError for one that is not made."""
    if generation is not None and not 1 <= generation <= 7:
        raise CardError(f"--pcie: there is no PCIe generation {generation}; give 1 to 7.")
    if lanes is not None and lanes not in (1, 2, 4, 8, 16):
        raise CardError(f"--pcie: {lanes} lanes are no PCIe width; choose from 1, 2, 4, 8, 16.")
    return Link(generation, lanes)


def _smaller(slot: int | None, card: int | None) -> int | None:
    """A link runs at what both ends can do; an unknown end does not limit."""
    return slot if card is None else card if slot is None else min(slot, card)

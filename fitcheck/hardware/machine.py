"""A machine: cards, host memory, disk, link and display, and the budget it really has to give."""

from __future__ import annotations

from dataclasses import dataclass

from fitcheck.hardware.card import Card
from fitcheck.units import Interval


@dataclass(frozen=True, slots=True)
class Link:
    """The connection between host and card: PCIe generation and lanes, or a measured pinned rate in B/s."""

    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    measured_pinned: float | None = None
    measured_pageable: float | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card in a machine, as asked about or as detected; live values are ``None`` when nothing was detected."""

    card: Card
    link: Link
    vram_total: int
    vram_free: int | None = None
    vram_override: int | None = None
    display: bool | None = None
    index: int | None = None
    mig: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """Memory and disk in bytes; ``None`` is unknown. ``detected`` says whether this is the machine fitcheck runs on."""

    gpus: tuple[Gpu, ...]
    ram_total: int | None = None
    ram_available: int | None = None
    disk_free: int | None = None
    driver: str | None = None
    cuda: str | None = None
    operating_system: str | None = None
    detected: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """What a machine has to give, in bytes. ``None`` is unknown. ``basis`` says in words where ``vram`` comes from."""

    vram: Interval[int]
    ram: Interval[int] | None
    disk: int | None
    basis: str

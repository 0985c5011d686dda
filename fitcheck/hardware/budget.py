"""What a machine really has to give: never the number on the box.

Live free memory where this machine was detected; otherwise the size on the box, brought to what the driver reports as
the total, less what the driver keeps and what a display takes, as an interval. All constants stand in data/budget.json,
each with its source.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from fitcheck.errors import CardError
from fitcheck.hardware.card import Card
from fitcheck.hardware.latest import once_a_machine
from fitcheck.hardware.machine import Budget, Gpu, Machine
from fitcheck.hardware.slices import slice_share
from fitcheck.units import GIB, MIB, Interval, format_gib

_DATA = Path(__file__).parent / "data" / "budget.json"
_MACOS = re.compile(r"macOS (\d+)")
_WITHOUT_OUTPUTS = ("datacenter", "mining")


def budget(machine: Machine, gpu: int = 0) -> Budget:
    """The budget of one card of ``machine`` (by position) and of its host.

    Monotone: a card with more memory, or a host with more RAM, never has less to give. Raises InputError when the
    machine has no such card, or the card's memory is unknown and no override says it.
    """
    if not 0 <= gpu < len(machine.gpus):
        count = len(machine.gpus)
        cards = "no card" if count == 0 else "1 card" if count == 1 else f"{count} cards"
        raise CardError(f"--gpu: this machine has {cards}, there is no card at position {gpu}.")
    chosen = machine.gpus[gpu]
    vram, basis = (chosen.usable, "a card of another size") if chosen.usable else _vram(chosen, machine)
    return Budget(vram=vram, ram=ram_budget(machine), disk=machine.disk_free, basis=basis)


@once_a_machine
def budgets_of(machine: Machine) -> tuple[Budget, ...]:
    """The budget of each card in order; on a machine without a card one that holds the host's amounts alone."""
    if not machine.gpus:
        nothing = Interval.exactly(0)
        return (Budget(vram=nothing, ram=ram_budget(machine), disk=machine.disk_free, basis="no graphics card"),)
    return tuple(budget(machine, index) for index in range(len(machine.gpus)))


def has_many_channels(machine: Machine) -> bool:
    """Whether it is a server's or a workstation's board, with more than a desktop's two channels of memory: a
    data-center card sits in it, or more memory than desktop boards take, and it is no laptop."""
    forms, most = {gpu.card.form for gpu in machine.gpus}, int(_data()["desktop_ram_gib"]["most"]) * GIB
    return "datacenter" in forms or ((machine.ram_total or 0) > most and "laptop" not in forms)


def reported_total(card: Card, total: int) -> int:
    """What the driver reports as the total of a ``card`` of ``total`` bytes: a little under the nominal size.

    A part of the memory is never visible: ECC check bits, or pages the firmware keeps. Published for some cards, by
    architecture for others, else the size itself. A ``total`` that is already lower, as detected, stays.
    """
    if card.memory == 0:
        return total
    visible = _visible(card)
    return min(total, max(visible, total - (card.memory - visible)))


@lru_cache(maxsize=4096)
def _visible(card: Card) -> int:
    published = _data()["reported_total_mib"].get(card.slug)
    if published is not None:
        return int(published[0]) * MIB
    for rule in _data()["reported_share"]:
        if card.architecture == rule["architecture"] and rule.get("form", card.form) == card.form:
            return int(card.memory * rule["share"])
    return card.memory


def visible_total(gpu: Gpu) -> int | None:
    """What a program is told is the whole memory of ``gpu``: the driver's total less what the driver keeps for itself.

    ``None`` where neither the card nor an override says it. (cudaGetDeviceProperties: 23.6 GiB on an RTX 4090.)
    """
    if gpu.vram_override is not None or not gpu.vram_total:
        return gpu.vram_override
    if gpu.card.unified_memory:
        return gpu.vram_total
    return max(0, reported_total(gpu.card, gpu.vram_total) - _driver_reserve(gpu.card)[1] * MIB)


def with_larger_card(machine: Machine, index: int, size: int) -> Machine | None:
    """The machine with a card of ``size`` bytes, as it would be sold, in place of the one at ``index``; ``None`` where
    that is none with more memory.

    What driver, display and other programs take of a card does not grow with it. Of a slice (MIG) the share stays.
    """
    gpu = machine.gpus[index]
    if size <= max(gpu.card.memory, gpu.vram_total):  # a driver reports less than was sold
        return None
    more = reported_total(gpu.card, size) - reported_total(gpu.card, gpu.vram_total)
    larger = replace(gpu, vram_total=size)
    if gpu.vram_free is not None or gpu.vram_override is not None or gpu.usable is not None:
        have = budget(machine, index).vram
        usable = Interval(have.low + more, have.best + more, have.high + more)
    else:
        usable, _ = _vram(larger, machine)
    gpus = tuple(replace(larger, usable=usable) if at == index else one for at, one in enumerate(machine.gpus))
    return replace(machine, gpus=gpus)


def _vram(gpu: Gpu, machine: Machine) -> tuple[Interval[int], str]:
    if gpu.vram_override is not None:
        return Interval.exactly(gpu.vram_override), f"{format_gib(gpu.vram_override)} as given with --vram"
    if gpu.vram_free is not None:
        swing = int(_data()["display_swing_mib"]["mib"]) * MIB if gpu.display else 0
        words = ", and a display on the card may take a little more" if swing else ""
        free = Interval(max(0, gpu.vram_free - swing), gpu.vram_free, gpu.vram_free)
        return free, f"{format_gib(gpu.vram_free)} free now, as the driver reports it{words}"
    if gpu.mig is not None:
        parts = tuple(int(gpu.vram_total * share) for share in slice_share())
        words = f"what a MIG slice {gpu.mig} of {gpu.card.name} shows of its {format_gib(gpu.vram_total)}"
        return Interval(*parts), words
    if gpu.vram_total == 0:
        if gpu.card.unified_memory:
            raise CardError(
                f"--gpu: {gpu.card.name} shares the host's memory; say how much the machine has with --ram or --vram."
            )
        raise CardError(f"--gpu: how much memory {gpu.card.name} has is not known; say it with --vram.")
    if gpu.card.unified_memory:
        return _shared(gpu, machine)
    windows = (machine.operating_system or "").startswith("Windows") and gpu.card.form not in _WITHOUT_OUTPUTS
    return _under_windows(gpu) if windows else _discrete(gpu.card, gpu.vram_total, gpu.display)


def _shared(gpu: Gpu, machine: Machine) -> tuple[Interval[int], str]:
    """Memory that host and GPU share: the operating system's limit for the GPU, and never more than is free now."""
    pool = gpu.vram_total
    rule = _share_limit(gpu.card, pool)
    if rule is None:
        found = _without_system(pool, _known_total(gpu.card, pool))
        words = f"{format_gib(pool)} shared memory less what the operating system takes"
    else:
        shares, open_ = _by_system(rule, machine.operating_system)
        low, best, high = (int(pool * share) for share in shares)
        found = Interval(low, best, high)
        words = f"the part of {format_gib(pool)} shared memory that the operating system lets a GPU take"
        words += ", less before macOS 26" if open_ else ""
    if machine.ram_available is not None:
        free = machine.ram_available
        found = Interval(min(found.low, free), min(found.best, free), min(found.high, free))
        words += f", and no more than the {format_gib(free)} that are free now"
    return found, words


def _by_system(rule: dict[str, Any], system: str | None) -> tuple[list[float], bool]:
    """The parts of a rule, and whether they hang on the system's version, which nobody told: up to ``less_until`` the
    least holds, after it the others do."""
    version = _MACOS.match(system or "")
    low, best, high = rule["share"]
    if "less_until" not in rule or version is None:
        return [low, best, high], "less_until" in rule
    return ([low] * 3 if int(version[1]) <= rule["less_until"] else [best, best, high]), False


def _known_total(card: Card, pool: int) -> int | None:
    """What the operating system has of a shared memory of ``pool`` bytes, where that was read on such a machine."""
    published = _data()["reported_total_mib"].get(card.slug) if card.unified_memory else None
    return int(published[0]) * MIB if published is not None and pool == card.memory else None


def _share_limit(card: Card, pool: int) -> dict[str, Any] | None:
    """The rule with the low, best and high part of the pool that a GPU may take; None where only the system's own use
    limits it."""
    if card.form == "datacenter":
        return None
    for rule in _data()["shared_memory"]:
        if rule["vendor"] == card.vendor and pool <= rule.get("up_to_gib", float("inf")) * GIB:
            found: dict[str, Any] = rule
            return found
    return None


@lru_cache(maxsize=4096)
def _discrete(card: Card, nominal: int, attached: bool | None) -> tuple[Interval[int], str]:
    total = reported_total(card, nominal)
    reserve, (display, words) = _driver_reserve(card), _display(card, attached)
    low, best, high = (
        max(0, total - (kept + screen) * MIB) for kept, screen in zip(reversed(reserve), reversed(display), strict=True)
    )
    basis = (
        f"{format_gib(total)} that the driver reports, less about {reserve[1]} MiB for the driver and "
        f"{display[1]} MiB for the display ({words})"
    )
    return Interval(low, best, high), basis


def _under_windows(gpu: Gpu) -> tuple[Interval[int], str]:
    """Windows lets a process have a part of the card at most, whatever else is free on it."""
    found, basis = _discrete(gpu.card, gpu.vram_total, gpu.display)
    total, kept = reported_total(gpu.card, gpu.vram_total), _data()["windows_keeps"]["share"]
    low, best, high = (
        min(end, int(total * (1 - share)))
        for end, share in zip((found.low, found.best, found.high), reversed(kept), strict=True)
    )
    return Interval(low, best, high), f"{basis}; Windows keeps {kept[0]:.0%} to {kept[2]:.0%} of it".replace("%", " %")


@lru_cache(maxsize=4096)
def _driver_reserve(card: Card) -> list[int]:
    """Least, usual and most MiB that the driver keeps of a card without running anything."""
    for rule in _data()["driver_reserve_mib"]:
        if rule.get("vendor", card.vendor) == card.vendor and rule.get("form", card.form) == card.form:
            found: list[int] = rule["mib"]
            return found
    raise ValueError("budget.json lacks the rule for any card")


def _display(card: Card, screen: bool | None) -> tuple[tuple[int, int, int], str]:
    """Least, usual and most MiB that a display takes, and why; not knowing widens the interval."""
    attached, headless = _data()["display_mib"]["attached"], _data()["display_mib"]["headless"]
    if screen is None and card.form in _WITHOUT_OUTPUTS:
        return tuple(headless), "a card of this kind drives no display"
    if screen is None:
        return (headless[0], attached[1], attached[2]), "whether one is attached is not known, assumed yes"
    return (tuple(attached), "attached") if screen else (tuple(headless), "none attached")


def ram_budget(machine: Machine) -> Interval[int] | None:
    """Host memory that a process may take, in bytes; None where nothing is known of it."""
    if machine.ram_available is not None:
        return Interval.exactly(machine.ram_available)
    total = machine.ram_total
    if total is None:
        return None
    known = (_known_total(gpu.card, total) for gpu in machine.gpus)
    return _without_system(total, next((one for one in known if one is not None), None))


@lru_cache(maxsize=256)
def _without_system(total: int, known: int | None = None) -> Interval[int]:
    """Host memory of a machine at rest: less the firmware's and kernel's part (``known`` is what is left of it where
    that was read), less what a running system uses."""
    ram = _data()["ram"]
    low, best, high = (
        max(0, (int(total * (1 - share)) if known is None else known) - used * MIB)
        for share, used in zip(reversed(ram["firmware_share"]), reversed(ram["system_mib"]), strict=True)
    )
    return Interval(low, best, high)


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_DATA.read_bytes())
    return data

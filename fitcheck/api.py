"""The library call behind the command line: typed values in, a typed report out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fitcheck.hardware.card import Card
    from fitcheck.hardware.machine import Machine
    from fitcheck.verdict.report import Report


def check(
    target: str,
    card: str | Card | Machine | Sequence[str | Card] | None = None,
    *,
    task: str | None = None,
    tier: str | Sequence[str] | None = None,
    runtime: str | None = None,
    gguf: str | Path | None = None,
    ram: int | str | None = None,
    disk: int | str | None = None,
    vram: int | str | None = None,
    display: bool | None = None,
    pcie: tuple[int | None, int | None] = (None, None),
    system: str | None = None,
    min_speed: float | None = None,
    max_seconds: float | None = None,
    offline: bool = False,
    **options: Any,
) -> Report:
    """Judge every tier and placement of a model, best first; what ``fitcheck check`` prints.

    ``target`` is a catalog name, a GGUF or safetensors file, a folder, ``org/repo``, ``org/repo:file.gguf`` or a
    URL. ``card`` is a name like "RTX 4070", a ``Card``, a whole ``Machine``, or ``None`` for the machine this runs
    on; what is said of memory (bytes, or words like "32GB"), display, slot (PCIe generation and lanes) and operating
    ``system`` ("linux", "windows", "wsl" or "macos") counts on top of any of them; what nobody said is assumed, and
    the report's ``assumed`` says so. ``tier`` names tiers,
    ``gguf`` is a local file that stands for the tier of a catalog model. ``min_speed`` (tokens a second) and
    ``max_seconds`` (an image or answer) are what is fast enough to be of use; without them the usual floors hold.
    ``options`` are those of the runtimes by name, like ``mode="low"``, ``size=(1024, 1024)`` or ``ctx=16384``
    (``fitcheck check --help`` lists them). Records that this installation or this user holds for the card are taken
    in.

    Raises ``fitcheck.errors.InputError``, or a kind of it, for names and values that cannot be.
    """
    from fitcheck.hardware.asked import asked_machine
    from fitcheck.runtimes.base import Wanted
    from fitcheck.units import parse_disk, parse_memory

    machine = asked_machine(
        card,
        ram=_amount(ram, "--ram", parse_memory),
        disk=_amount(disk, "--disk", parse_disk),
        vram=_amount(vram, "--vram", parse_memory),
        display=display,
        pcie=pcie,
        system=system,
    )
    names = () if tier is None else (tier,) if isinstance(tier, str) else tuple(tier)
    given = tuple(sorted((name, value) for name, value in options.items() if value is not None))
    wanted = Wanted(task, names, runtime, given, min_speed, max_seconds)
    return answer(target, machine, wanted, gguf=gguf, offline=offline)[0]


def _amount(value: int | str | None, name: str, parse: Callable[[str, str], int]) -> int | None:
    """Bytes of what was handed in as a number or in words."""
    return parse(value, name) if isinstance(value, str) else value


def answer(
    target: str, machine: Machine, wanted: Any, *, gguf: str | Path | None = None, offline: bool = False
) -> tuple[Report, tuple[int, int] | None]:
    """The report, and what was fetched for it (bytes, requests; ``None`` where nothing was). Raises InputError."""
    from dataclasses import replace

    from fitcheck.hardware.budget import budgets_of
    from fitcheck.models.companions import with_companion
    from fitcheck.models.find import find_model, read_companion
    from fitcheck.records.run_index import accepted, local
    from fitcheck.verdict.check import check as judge_all

    budgets = budgets_of(machine)
    ram = budgets[0].ram
    size = max(one.vram.best for one in budgets) or (0 if ram is None else ram.best)
    found = find_model(target, tiers=wanted.tiers, gguf=gguf, size=size, offline=offline)
    tiers, model = found.tiers, found.model
    for place, role in files_of(wanted):
        companion = read_companion(place, role, offline=offline)
        tiers = tuple(replace(one, companions=with_companion(one.companions, companion)) for one in tiers)
        model = replace(
            model,
            tiers=tuple(replace(one, companions=with_companion(one.companions, companion)) for one in model.tiers),
        )
    index = accepted()
    for slug in dict.fromkeys(gpu.card.slug for gpu in machine.gpus):
        index += local(slug)
    report = judge_all(model, machine, wanted, tiers=tiers, index=index)
    return replace(report, notes=(*report.notes, *found.notes)), found.fetched


def files_of(wanted: Any) -> list[tuple[str, str]]:
    """The files that were named to go beside the model, each with its role, by the runtimes' declarations."""
    from fitcheck.runtimes import registry
    from fitcheck.runtimes.options import declared

    if not wanted.options:
        return []
    roles = {
        name: one.role
        for runtime in registry.names()
        for name, one in declared(registry.get(runtime).options).items()
        if one.role is not None
    }
    return [(str(value), role) for name, value in wanted.options if (role := roles.get(name)) is not None]

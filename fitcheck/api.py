"""The library calls behind the command line: typed values in, typed answers out, whose ``to_json`` is what ``--json``
prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fitcheck.hardware.card import Card, Sourced
    from fitcheck.hardware.machine import Machine
    from fitcheck.records.run_index import Index
    from fitcheck.runtimes.base import Wanted
    from fitcheck.verdict.compare import Comparison
    from fitcheck.verdict.plan import Plan
    from fitcheck.verdict.ranking import Rankings
    from fitcheck.verdict.report import Report

    # what names a machine: a card as people write it, a card, several of them in one machine, or a whole machine;
    # None is the machine this runs on
    Asked = str | Card | Machine | Sequence[str | Card] | None

# purposes that are answered when nobody names one, and how many models of each, and of one that was named
USUAL_PURPOSES = ("chat", "image", "video")
FEW, SOME, MOST_ROWS = 6, 10, 200
# models times machines of a comparison: each is a whole check
MOST_CHECKS = 64


def check(
    target: str,
    card: Asked = None,
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
    given = tuple(sorted((name, value) for name, value in options.items() if value is not None))
    wanted = Wanted(task, _names(tier), runtime, given, min_speed, max_seconds)
    return answer(target, machine, wanted, gguf=gguf, offline=offline)[0]


def runs(
    card: Asked = None,
    *,
    purpose: str | Sequence[str] = USUAL_PURPOSES,
    ram: int | str | None = None,
    system: str | None = None,
    min_speed: float | None = None,
    max_seconds: float | None = None,
    most: int | None = None,
    every_tier: bool = False,
) -> Rankings:
    """What of the catalog runs on a machine, best rated first; what ``fitcheck runs`` prints.

    ``card``, ``ram`` and ``system`` name the machine as for ``check``, and the floors are its. ``purpose`` is one or
    several of "chat", "code", "image", "video", "edit" and "vision", as a list or with commas; ``most`` the models of
    each. ``every_tier`` looks for the best of every tier, which takes minutes.

    Raises ``fitcheck.errors.InputError``, or a kind of it, for names and values that cannot be.
    """
    from fitcheck.errors import OptionError
    from fitcheck.hardware.asked import asked_machine
    from fitcheck.runtimes.base import Wanted
    from fitcheck.units import parse_memory
    from fitcheck.verdict.purposes import purpose_named
    from fitcheck.verdict.ranking import Rankings, rank

    if most is not None and not 1 <= most <= MOST_ROWS:
        raise OptionError(f"--most: {most} is out of range; give 1 to {MOST_ROWS}.")
    names = [name.strip() for name in purpose.split(",")] if isinstance(purpose, str) else purpose
    purposes = [purpose_named(name) for name in dict.fromkeys(names)]
    machine = asked_machine(card, ram=_amount(ram, "--ram", parse_memory), system=system)
    wanted, index = Wanted(min_speed=min_speed, max_seconds=max_seconds), records_for(machine)
    most = most or (SOME if len(purposes) == 1 else FEW)
    found = [rank(one, machine, wanted, index, most=most, every_tier=every_tier) for one in purposes]
    return Rankings(tuple(found), machine_words(card, ram, system))


def plan(
    target: str,
    *,
    have: Asked = None,
    task: str | None = None,
    tier: str | Sequence[str] | None = None,
    ram: int | str | None = None,
    system: str | None = None,
    budget: float | str | None = None,
    min_speed: float | None = None,
    max_seconds: float | None = None,
    prices: str | Path | Mapping[str, Sourced] | None = None,
    offline: bool = False,
) -> Plan:
    """What to buy for a model, and what to change of the machine one ``have``; what ``fitcheck plan`` prints.

    ``target``, ``task``, ``tier`` and the floors are those of ``check``. ``have`` names a machine that is there
    (``None``: none is); ``ram`` is the system memory in it and beside each card that is looked at. ``budget`` is in US
    dollars (a number, or words like "700USD"), ``prices`` a CSV file of card, usd and date, or what
    ``fitcheck.hardware.prices.read_prices`` made of one.

    Raises ``fitcheck.errors.InputError``, or a kind of it, for names and values that cannot be.
    """
    from fitcheck.hardware.catalog import common_cards
    from fitcheck.hardware.prices import parse_dollars, priced
    from fitcheck.models.find import find_model
    from fitcheck.units import parse_memory
    from fitcheck.verdict.plan import plan as planned

    wanted, own = _wanted(task, tier, min_speed, max_seconds), _prices(prices)
    most = None if budget is None else parse_dollars(str(budget), "--budget")
    memory = _amount(ram, "--ram", parse_memory)
    machine = None if have is None else _there(have, memory, system)
    return planned(
        find_model(target, tiers=wanted.tiers, offline=offline),
        [priced(card, own) for card in common_cards()],
        wanted,
        records_for(*([machine] if machine else [])),
        have=machine,
        ram=memory,
        budget=most,
        system=system,
    )


def compare(
    targets: str | Sequence[str],
    cards: Sequence[Asked],
    *,
    task: str | None = None,
    tier: str | Sequence[str] | None = None,
    ram: int | str | None = None,
    system: str | None = None,
    min_speed: float | None = None,
    max_seconds: float | None = None,
    prices: str | Path | Mapping[str, Sourced] | None = None,
    offline: bool = False,
) -> Comparison:
    """Machines side by side on the same models; what ``fitcheck compare`` prints.

    Each of ``cards`` names one machine as for ``check``, with ``ram`` and ``system`` for all of them; ``targets``,
    ``task``, ``tier`` and the floors are those of ``check``, ``prices`` as for ``plan``.

    Raises ``fitcheck.errors.InputError``, or a kind of it, for names and values that cannot be.
    """
    from fitcheck.errors import OptionError
    from fitcheck.hardware.asked import asked_machine
    from fitcheck.hardware.budget import budgets_of
    from fitcheck.models.find import find_model
    from fitcheck.units import parse_memory
    from fitcheck.verdict.compare import Comparison
    from fitcheck.verdict.compare import compare as side_by_side

    models = [targets] if isinstance(targets, str) else list(targets)
    if not models or not cards:
        raise OptionError("compare: name at least one model and one machine.")
    if len(models) * len(cards) > MOST_CHECKS:
        raise OptionError(
            f"--gpu: {len(models)} models on {len(cards)} machines are more than {MOST_CHECKS} checks; name fewer."
        )
    wanted, own, memory = (
        _wanted(task, tier, min_speed, max_seconds),
        _prices(prices),
        _amount(ram, "--ram", parse_memory),
    )
    machines = [asked_machine(one, ram=memory, system=system) for one in cards]
    size = max((one.vram.best for machine in machines for one in budgets_of(machine)), default=None)
    found = [find_model(name, tiers=wanted.tiers, size=size, offline=offline) for name in models]
    return Comparison(tuple(side_by_side(found, machines, wanted, records_for(*machines), prices=own)))


def machine_words(card: Asked, ram: int | str | None = None, system: str | None = None) -> tuple[str, ...]:
    """The words that name the machine on a command line; none for what nobody said."""
    from fitcheck.hardware.machine import Machine
    from fitcheck.units import GIB

    gpus = [gpu.card for gpu in card.gpus] if isinstance(card, Machine) else card
    named = [] if gpus is None else list(gpus) if isinstance(gpus, Sequence) and not isinstance(gpus, str) else [gpus]
    words = [word for one in named for word in ("--gpu", one if isinstance(one, str) else one.slug)]
    if ram is not None:
        words += ["--ram", ram if isinstance(ram, str) else f"{ram / GIB:.12g}GB"]
    return (*words, *(() if system is None else ("--os", system)))


def records_for(*machines: Machine) -> Index:
    """The records that ship with fitcheck, and this user's own of the machines' cards."""
    from fitcheck.records.run_index import accepted, local

    index = accepted()
    for slug in dict.fromkeys(gpu.card.slug for machine in machines for gpu in machine.gpus):
        index += local(slug)
    return index


def _there(have: Asked, ram: int | None, system: str | None) -> Machine:
    """The machine that is there; what is wrong with it is said of the option that names it."""
    from fitcheck.errors import CardError
    from fitcheck.hardware.asked import asked_machine

    try:
        return asked_machine(have, ram=ram, system=system)
    except CardError as problem:
        raise CardError(str(problem).replace("--gpu:", "--have:", 1)) from None


def _wanted(
    task: str | None, tier: str | Sequence[str] | None, min_speed: float | None, max_seconds: float | None
) -> Wanted:
    from fitcheck.runtimes.base import Wanted

    return Wanted(task, _names(tier), None, (), min_speed, max_seconds)


def _names(tier: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if tier is None else (tier,) if isinstance(tier, str) else tuple(tier)


def _prices(prices: str | Path | Mapping[str, Sourced] | None) -> Mapping[str, Sourced]:
    from fitcheck.hardware.prices import read_prices

    return {} if prices is None else read_prices(Path(prices)) if isinstance(prices, str | Path) else prices


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
    report = judge_all(model, machine, wanted, tiers=tiers, index=records_for(machine))
    return replace(report, remarks=found.notes), found.fetched


def files_of(wanted: Any) -> list[tuple[str, str]]:
    """The files that were named to go beside the model, each with its role, by the runtimes' declarations."""
    from fitcheck.runtimes import registry
    from fitcheck.runtimes.options import declared

    if not wanted.options:
        return []
    named = {
        name: one
        for runtime in registry.names()
        for name, one in declared(registry.options_of(runtime)).items()
        if one.role is not None
    }
    found = ((named[name], named[name].file(value)) for name, value in wanted.options if name in named)
    return [(file, str(one.role)) for one, file in found if file is not None]

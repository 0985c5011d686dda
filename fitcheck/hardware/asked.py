"""The machine that a question is about: named cards, a given machine, or the one this runs on, with what was said of
it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fitcheck.errors import CardError
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Gpu, Link, Machine, cardless, machine_for, slot
from fitcheck.hardware.typed import TypedCard, names_a_card, typed_card

# more than any server board takes; every card is judged, so it also bounds the work of an answer
MOST_CARDS = 16
# how many of a card: a number and a sign, or a word, before the name or behind it
_WORDS = {"dual": 2, "two": 2, "triple": 3, "three": 3, "quad": 4, "four": 4}
_COUNTED = (
    re.compile(r"(?P<count>\d{1,4})\s*[x×*]\s*(?P<name>\S.*)", re.IGNORECASE),
    re.compile(rf"(?P<count>{'|'.join(_WORDS)})\s+(?P<name>\S.*)", re.IGNORECASE),
    re.compile(r"(?P<name>.*\S)(?:(?<=\d)x|\s+\(?\s*x|\s*\(?\s*[×*])\s*(?P<count>\d{1,4})\s*\)?", re.IGNORECASE),
)
_BETWEEN = re.compile(r"\s*(?:,|\s&\s)\s*|\s*\+\s*(?=\S)")
# how people say that a machine has no card
NO_CARD = ("none", "no", "cpu")
# what people type for --os → how a machine of that system describes itself
SYSTEMS = {"linux": "Linux", "windows": "Windows", "wsl": "Linux in WSL", "macos": "macOS"}
_ALSO = {
    **dict.fromkeys(("win", "win10", "win11", "windows10", "windows11"), "windows"),
    "wsl2": "wsl",
    "mac": "macos",
    "osx": "macos",
}

Slot = tuple[int | None, int | None]


def asked_machine(
    card: str | Card | Machine | Sequence[str | Card] | None = None,
    *,
    ram: int | None = None,
    disk: int | None = None,
    vram: int | None = None,
    display: bool | None = None,
    pcie: Slot = (None, None),
    system: str | None = None,
) -> Machine:
    """The machine, with ``ram``, ``disk`` and ``vram`` in bytes, a ``display``, the slot's PCIe generation and lanes,
    and the operating ``system`` ("linux", "windows", "wsl", "macos") where they were given; "none" is a machine without
    a card. Raises InputError for values that cannot be."""
    return running(_asked(card, ram, disk, vram, display, pcie), system)


def running(machine: Machine, system: str | None) -> Machine:
    """The machine under that operating system, by the name that --os takes; as it is for ``None``. Raises CardError,
    also for one under which a card has no driver."""
    if system is None:
        return machine
    typed = "".join(system.lower().split())
    name = SYSTEMS.get(_ALSO.get(typed, typed))
    if name is None:
        raise CardError(f"--os: {system!r} is not a system; choose from {', '.join(SYSTEMS)}.")
    found = replace(machine, operating_system=name)
    _refuse_without_driver(found)
    return found


def _refuse_without_driver(machine: Machine) -> None:
    """Raises CardError where no program can reach a card under the machine's operating system."""
    from fitcheck.hardware.software import Compatibility, compatibility, setup_of

    for gpu in machine.gpus:
        for row in compatibility(gpu.card, setup_of(machine), ()):
            if row.status is Compatibility.FAILS:
                raise CardError(f"--os: {gpu.card.name} needs {row.minimum}, not {row.yours}: {row.words}.")


def _asked(
    card: str | Card | Machine | Sequence[str | Card] | None,
    ram: int | None,
    disk: int | None,
    vram: int | None,
    display: bool | None,
    pcie: Slot,
) -> Machine:
    if card is None or isinstance(card, Machine):
        return _with(_detected() if card is None else card, ram, disk, vram, display, pcie)
    named = [card] if isinstance(card, str | Card) else list(card)
    if any(isinstance(one, str) and one.strip().lower() in NO_CARD for one in named):
        return _without_cards(named, ram, disk, vram)
    cards = [card for one in named for card in (_listed(one) if isinstance(one, str) else [TypedCard(one)])]
    if len(cards) > MOST_CARDS:
        raise CardError(f"--gpu: {len(cards)} cards are more than one machine holds; name at most {MOST_CARDS}.")
    pools = [one.card for one in cards if one.card.unified_memory and one.card.form != "datacenter"]
    if len(pools) > 1:
        raise CardError(
            f"--gpu: {pools[0].name} shares its machine's memory, so that {len(pools)} of them are {len(pools)} "
            "machines; name it once."
        )
    if ram is None:  # the size beside the name of a chip that shares memory is the machine's
        ram = next((one.memory for one in cards if one.card.unified_memory and one.memory), None)
    machines = [
        machine_for(
            one.card,
            ram=ram,
            disk=disk,
            display=display if position == 0 else False,
            vram_override=vram,
            pcie_generation=pcie[0],
            pcie_lanes=pcie[1],
        )
        for position, one in enumerate(cards)
    ]
    gpus = tuple(
        replace(
            machine.gpus[0],
            index=position,
            vram_total=one.memory or machine.gpus[0].vram_total,
            mig=one.mig,
        )
        for position, (one, machine) in enumerate(zip(cards, machines, strict=True))
    )
    notes = dict.fromkeys(one.note for one in cards if one.note is not None)
    return replace(machines[0], gpus=gpus, notes=tuple(notes))


def _without_cards(named: Sequence[str | Card], ram: int | None, disk: int | None, vram: int | None) -> Machine:
    """A machine that somebody says has no card."""
    if len(named) > 1:
        raise CardError(f"--gpu: {named[0]} and {named[1]} exclude each other; name cards, or none alone.")
    if vram is not None:
        raise CardError("--vram: a machine without a card has no card memory; leave it out, or name the card.")
    return cardless(ram=ram, disk=disk)


def _listed(text: str) -> list[TypedCard]:
    """The cards of one ``--gpu``, which may be several: "RTX 3090, RTX 4090", "2x RTX 3090 + RTX 4090"."""
    parts = [part for part in _BETWEEN.split(text) if part]
    if len(parts) < 2 or any(names_a_card(name) for _, name in _readings(text)):
        return _counted(text)
    if any(part.lower() in NO_CARD for part in parts):
        raise CardError(f"--gpu: {text[:120]!r} names cards and none; name cards, or none alone.")
    return [card for part in parts[: MOST_CARDS + 1] for card in _counted(part)]


def _counted(text: str) -> list[TypedCard]:
    """The cards of a name that may have a count before it or behind it. Of the ways to read it the first one that
    names a card counts: "7900 XTX" and "HD 4870 X2" are one card, "3090 * 2" are no 3090 of a card called 2."""
    readings = _readings(text)
    named = next((one for one in readings if names_a_card(one[1])), None)
    count, name = named or next((one for one in reversed(readings) if one[0] <= MOST_CARDS), readings[0])
    if not 1 <= count <= MOST_CARDS:
        raise CardError(f"--gpu: {count} cards are not what one machine holds; give 1 to {MOST_CARDS}.")
    return [typed_card(name)] * count


def _readings(text: str) -> list[tuple[int, str]]:
    """Count and name in each way that ``text`` can be read, as one card first."""
    plain = text.strip()
    found = [one for pattern in _COUNTED if (one := pattern.fullmatch(plain)) is not None]
    return [(1, plain), *((_WORDS.get(one["count"].lower()) or int(one["count"]), one["name"]) for one in found)]


def _detected() -> Machine:
    """This machine. Without a card it may still run what runs on a processor; what it found says why there is none."""
    from fitcheck.hardware.detect import detect

    return detect()


def _with(
    machine: Machine, ram: int | None, disk: int | None, vram: int | None, display: bool | None, pcie: Slot
) -> Machine:
    """What was said counts more than what was detected, on the first card and the host."""
    asked = slot(*pcie)
    if machine.gpus:
        first = _card_with(machine.gpus[0], vram, display, asked)
        machine = replace(machine, gpus=(first, *machine.gpus[1:]))
    if ram is not None:
        machine = replace(machine, ram_total=ram, ram_available=None)
    return machine if disk is None else replace(machine, disk_free=disk)


def _card_with(gpu: Gpu, vram: int | None, display: bool | None, asked: Link) -> Gpu:
    if vram is not None:
        gpu = replace(gpu, vram_override=vram)
    if display is not None:  # a question about another screen: today's free memory does not answer it
        gpu = replace(gpu, display=display, vram_free=None)
    link = replace(
        gpu.link,
        pcie_generation=asked.pcie_generation or gpu.link.pcie_generation,
        pcie_lanes=asked.pcie_lanes or gpu.link.pcie_lanes,
        assumed=gpu.link.assumed and asked.pcie_generation is None and asked.pcie_lanes is None,
    )
    return replace(gpu, link=link)

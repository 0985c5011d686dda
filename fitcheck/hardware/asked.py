"""The machine that a question is about: named cards, a given machine, or the one this runs on, with what was said of
it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fitcheck.errors import CardError
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, Link, Machine, machine_for, slot

# more than any server board takes; every card is judged, so it also bounds the work of an answer
MOST_CARDS = 16
_COUNT = re.compile(r"\s*(?P<count>\d{1,4})\s*[x×*]\s+(?P<name>\S.*)", re.IGNORECASE)

Slot = tuple[int | None, int | None]


def asked_machine(
    card: str | Card | Machine | Sequence[str | Card] | None = None,
    *,
    ram: int | None = None,
    disk: int | None = None,
    vram: int | None = None,
    display: bool | None = None,
    pcie: Slot = (None, None),
) -> Machine:
    """The machine, with ``ram``, ``disk`` and ``vram`` in bytes, a ``display`` and the slot's PCIe generation and lanes
    where they were given. Raises CardError when no card was named and none is found, and InputError for values that
    cannot be."""
    if card is None or isinstance(card, Machine):
        return _with(_detected() if card is None else card, ram, disk, vram, display, pcie)
    named = [card] if isinstance(card, str | Card) else list(card)
    cards = [card for one in named for card in (_counted(one) if isinstance(one, str) else [one])]
    if len(cards) > MOST_CARDS:
        raise CardError(f"--gpu: {len(cards)} cards are more than one machine holds; name at most {MOST_CARDS}.")
    machines = [
        machine_for(
            one,
            ram=ram,
            disk=disk,
            display=display if position == 0 else False,
            vram_override=vram,
            pcie_generation=pcie[0],
            pcie_lanes=pcie[1],
        )
        for position, one in enumerate(cards)
    ]
    gpus = tuple(replace(one.gpus[0], index=position) for position, one in enumerate(machines))
    return replace(machines[0], gpus=gpus)


def _counted(text: str) -> list[Card]:
    """The cards of a name that may have a count before it, like ``2x RTX 3090``."""
    found = _COUNT.fullmatch(text)
    if found is None:
        return [find_card(text)]
    count = int(found["count"])
    if not 1 <= count <= MOST_CARDS:
        raise CardError(f"--gpu: {count} cards are not what one machine holds; give 1 to {MOST_CARDS}.")
    return [find_card(found["name"])] * count


def _detected() -> Machine:
    from fitcheck.hardware.detect import detect

    machine = detect()
    if not machine.gpus:
        why = f" ({machine.notes[0].rstrip('.')})" if machine.notes else ""
        raise CardError(f"no graphics card was found here{why}; name one with --gpu, like --gpu 'RTX 4070'.")
    return machine


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

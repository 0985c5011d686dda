"""What nobody said of a machine, filled in: the system memory that such a card usually sits beside. Data, with sources.

Free disk is not filled in, because no amount is usual: an answer names what the files take instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fitcheck.data_files import load
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Machine
from fitcheck.units import GIB

# sizes that system memory is sold in, in bytes
RAM_SIZES = tuple(size * GIB for size in (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512))
RAM = "ram"


def usual_ram(card: Card, count: int = 1) -> int | None:
    """Bytes of system memory beside ``count`` such cards; ``None`` where the card shares it."""
    if card.unified_memory:
        return None
    consumer, form = _row(_forms()["consumer"]["rows"], card.memory), _forms().get(card.form)
    if form is None:
        return consumer
    if "times_card" in form:
        return max(consumer, _sold(form["times_card"] * card.memory * count))
    return _row(form["rows"], card.memory) * count


def completed(machine: Machine) -> Machine:
    """The machine with the usual system memory where it is not known; ``assumed`` then names it."""
    if machine.ram_total is not None or machine.ram_available is not None:
        return machine
    cards = [gpu.card for gpu in machine.gpus]
    amounts = [usual_ram(card, cards.count(card)) for card in dict.fromkeys(cards)]
    if any(amount is None for amount in amounts):  # how large the one memory is makes the machine; it was asked for
        return machine
    found = max((amount for amount in amounts if amount is not None), default=_row(_forms()["consumer"]["rows"], 0))
    return replace(machine, ram_total=found, assumed=(*machine.assumed, RAM))


def described() -> str:
    """What is filled in, in words."""
    return ", ".join(str(form["words"]) for form in _forms().values())


def _row(rows: Sequence[dict[str, Any]], memory: int) -> int:
    return next(int(row["ram"]) * GIB for row in rows if row["up_to"] is None or memory <= row["up_to"] * GIB)


def _sold(amount: int) -> int:
    return next((size for size in RAM_SIZES if size >= amount), amount)


def _forms() -> dict[str, dict[str, Any]]:
    forms: dict[str, dict[str, Any]] = load("verdict", "usual_memory")["forms"]
    return forms

"""The options that name a machine, for commands that ask about one without asking about one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fitcheck.dataclass import dataclass
from fitcheck.units import parse_memory

if TYPE_CHECKING:
    from fitcheck.hardware.machine import Machine
    from fitcheck.records.run_index import Index

GpuOption = Annotated[
    list[str] | None,
    typer.Option("--gpu", "-g", help="Card, like 'RTX 4070' or '2x RTX 3090'; repeatable; default: the one here."),
]
RamOption = Annotated[
    str | None, typer.Option("--ram", help="System memory, like 32GB; default: what is usual beside such a card.")
]
MinSpeedOption = Annotated[
    float | None, typer.Option("--min-speed", help="Tokens a second below which text is too slow to use; default 5.")
]
MaxSecondsOption = Annotated[
    float | None,
    typer.Option("--max-seconds", help="Seconds an image or answer above which it is too slow; images: 600."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON (docs/json.md).")]


@dataclass(frozen=True, slots=True)
class TypedMachine:
    """What was typed of a machine: cards that sit in it together, and its system memory."""

    gpu: tuple[str, ...] = ()
    ram: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The same words for another command line."""
        cards = tuple(word for card in self.gpu for word in ("--gpu", card))
        return cards if self.ram is None else (*cards, "--ram", self.ram)

    def machine(self) -> Machine:
        """The machine. Raises InputError when no card was named and none is found, and for values that cannot be."""
        from fitcheck.hardware.asked import asked_machine

        return asked_machine(self.gpu or None, ram=None if self.ram is None else parse_memory(self.ram, "--ram"))


def records_for(*machines: Machine) -> Index:
    """The records that ship with fitcheck, and this user's own of the machines' cards."""
    from fitcheck.records.run_index import accepted, local

    index = accepted()
    for slug in dict.fromkeys(gpu.card.slug for machine in machines for gpu in machine.gpus):
        index += local(slug)
    return index

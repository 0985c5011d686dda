"""RPC workers: cards of other machines, which llama.cpp puts before its own (``--rpc``, src/llama.cpp).

What lies on a worker is known as it is for a card of this machine; how fast the network between them is, is not.
"""

from __future__ import annotations

import re
from dataclasses import replace

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import CardError, OptionError
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Gpu, Link, Machine
from fitcheck.hardware.typed import typed_card
from fitcheck.units import Interval, format_gib, parse_memory

MOST_WORKERS = 16
PORT = 50052  # tools/rpc/rpc-server.cpp
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}(?::\d{1,5})?")
_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?|[A-Za-z0-9.-]+:\d{1,5}|localhost")
_SIZE = re.compile(r"\s*\d+(?:\.\d+)?\s*[kmgt]i?b?\s*", re.IGNORECASE)
_NEEDS = "write its name or address and its memory, like box:24GB, 10.0.0.2:50052:24GB or 'RTX 3090'"


@dataclass(frozen=True, slots=True)
class Worker:
    """One card of another machine: ``name`` as it was typed, ``memory`` in bytes where it was said, ``card`` where the
    name is a card's."""

    name: str
    memory: int | None
    card: Card | None

    @property
    def address(self) -> str:
        """Where it listens, for a command line; an unnamed host where the name is a card's."""
        if self.card is not None or _HOST.fullmatch(self.name) is None:
            return f"HOST:{PORT}"
        return self.name if ":" in self.name else f"{self.name}:{PORT}"

    @property
    def gpu(self) -> Gpu:
        """As a card of the machine. What was said of its memory is what it has to give."""
        said = None if self.memory is None else Interval.exactly(self.memory)
        if self.card is not None:
            card = replace(self.card, unified_memory=False)  # what it shares is its own machine's
            return Gpu(card, Link(), self.memory or self.card.memory, usable=said, display=False)
        name = f"worker {self.name} ({format_gib(self.memory or 0)})"
        card = Card("rpc-worker", name, "unknown", self.memory or 0, form="datacenter")
        return Gpu(card, Link(), card.memory, usable=said, display=False)


def parse_workers(text: str) -> tuple[Worker, ...]:
    """``"box:24GB,RTX 3090"`` → workers in order. Raises OptionError."""
    found = tuple(_worker(part.strip()) for part in text.split(",") if part.strip())
    if not found:
        raise OptionError(f"--rpc: no worker is named; {_NEEDS}.")
    if len(found) > MOST_WORKERS:
        raise OptionError(f"--rpc: {len(found)} workers are more than are looked at; name at most {MOST_WORKERS}.")
    return found


def _worker(text: str) -> Worker:
    name, _, size = text.rpartition(":")
    memory = parse_memory(size.strip(), "--rpc") if name and _SIZE.fullmatch(size) else None
    name = (text if memory is None else name).strip()
    if len(name) > 80 or not name.isprintable():
        raise OptionError("--rpc: a name is too long or holds what cannot be printed; use a host's name or address.")
    card = None if _ADDRESS.fullmatch(name) else _card(name)
    if card is None and memory is None:
        raise OptionError(f"--rpc: how much memory {name!r} has is not known; {_NEEDS}.")
    if card is not None and not card.memory and memory is None:
        raise OptionError(f"--rpc: {card.name} shares its machine's memory; say how much, like {name}:24GB.")
    return Worker(name, memory, card)


def _card(name: str) -> Card | None:
    try:
        return typed_card(name).card
    except CardError:
        return None


def with_workers(machine: Machine, workers: tuple[Worker, ...]) -> Machine:
    """The machine with the workers' cards before its own."""
    return replace(machine, gpus=(*(one.gpu for one in workers), *machine.gpus)) if workers else machine


def addresses(workers: tuple[Worker, ...]) -> tuple[str, ...]:
    """Where each listens."""
    return tuple(one.address for one in workers)

"""What a driver or the operating system said: every value with its source, and what it would not say.

A reading never stops the next one. Failures are kept by their kind only: an error text may hold a path or an identifier
of the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, TypeVar

from fitcheck.dataclass_later import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """A value, or ``None`` with the kind of failure; ``source`` is the function, file or command that was asked."""

    value: Any
    source: str
    failure: str | None = None


class Readings(dict[str, Reading]):
    """Readings by name, in the order they were taken."""

    def take(self, name: str, source: str, read: Callable[[], T]) -> T | None:
        """``read()``, remembered under ``name``; ``None`` when it raises, which is remembered too.

        A later source replaces an earlier one only where that failed.
        """
        try:
            value = read()
        except Exception as error:  # a driver's library raises its own classes; whatever it is, the others go on
            self.setdefault(name, Reading(None, source, type(error).__name__))
            return None
        if value is not None or name not in self:
            self[name] = Reading(value, source)
        return value

    def value(self, name: str) -> Any:
        """The value that was read; ``None`` where the reading failed or was never taken."""
        found = self.get(name)
        return None if found is None else found.value


@dataclass(frozen=True, slots=True)
class FoundGpu:
    """One card, or one MIG slice of it, as its driver describes it; ``None`` is what the driver did not say.

    ``name`` is the driver's. Memory in bytes: ``memory_total`` holds the driver's own reserve, ``memory_free`` is what
    a new process can take; ``host_total`` and ``host_free`` are what the driver lets the GPU use of the host's memory,
    which counts where the GPU has little of its own. PCIe generation and width: as negotiated now (a card at rest
    lowers its generation) and the greatest that card and slot can do together. ``power_limit`` in W. ``processes``
    counts those that hold memory on the card, ``process_bytes`` what they hold. ``shared`` says that the card seems to
    have no memory of its own. ``parent_total`` is the whole card's memory where this is a slice.
    """

    vendor: str
    name: str | None
    memory_total: int | None = None
    memory_free: int | None = None
    memory_reserved: int | None = None
    host_total: int | None = None
    host_free: int | None = None
    compute_capability: tuple[int, int] | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    display: bool | None = None
    power_limit: float | None = None
    processes: int | None = None
    process_bytes: int | None = None
    mig: str | None = None
    parent_total: int | None = None
    shared: bool | None = None
    readings: Readings = field(default_factory=Readings)


@dataclass(frozen=True, slots=True)
class VendorReport:
    """The cards of one vendor, in the driver's order, and a sentence for each state that a user should know about."""

    gpus: tuple[FoundGpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    notes: tuple[str, ...] = ()
    readings: Readings = field(default_factory=Readings)

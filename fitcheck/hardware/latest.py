"""What follows from a machine alone, worked out once while cell after cell asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from fitcheck.hardware.machine import Machine

T = TypeVar("T")


def once_a_machine(work: Callable[[Machine], T]) -> Callable[[Machine], T]:
    """``work``, whose result for the latest machine is kept. A machine is told by identity, which is safe because it
    cannot change: to hash and compare one takes longer than most of what is asked of it."""
    latest: list[tuple[Machine, T]] = []

    @wraps(work)
    def found(machine: Machine) -> T:
        kept = latest[0] if latest else None
        if kept is None or kept[0] is not machine:
            kept = machine, work(machine)
            latest[:] = [kept]
        return kept[1]

    return found

"""What follows from a machine alone, worked out once while cell after cell asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from fitcheck.hardware.machine import Machine

T = TypeVar("T")
# machines whose results are kept: a page asks about one card beside four amounts of system memory in turn
_KEPT = 4


def once_a_machine(work: Callable[[Machine], T]) -> Callable[[Machine], T]:
    """``work``, whose results for the latest machines are kept. A machine is told by identity, which is safe because it
    cannot change: to hash and compare one takes longer than most of what is asked of it."""
    latest: list[tuple[Machine, T]] = []

    @wraps(work)
    def found(machine: Machine) -> T:
        for kept, result in latest:
            if kept is machine:
                return result
        made = work(machine)
        latest.insert(0, (machine, made))
        del latest[_KEPT:]
        return made

    return found

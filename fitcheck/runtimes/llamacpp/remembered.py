"""What follows from a thing, kept for as long as the thing itself is."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

Thing = TypeVar("Thing")
Found = TypeVar("Found")


def remembered(work: Callable[[Thing], Found]) -> Callable[[Thing], Found]:
    """``work``, done once for each thing. Things are compared by identity where they say nothing else."""
    kept: WeakKeyDictionary[Thing, Found] = WeakKeyDictionary()

    @wraps(work)
    def once(thing: Thing) -> Found:
        found = kept.get(thing)
        if found is None:
            found = kept[thing] = work(thing)
        return found

    return once

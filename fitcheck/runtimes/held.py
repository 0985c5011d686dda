"""What a cell holds and the level that follows, worked out once for all machines in which both are the same.

A card's rates say how fast a cell is, not what it holds: thousands of cards hold it in a few ways, and beside another
amount of memory the level alone is another one. What decides is declared by the runtime (``Runtime.weighs``); budgets
are told apart here. Records know nothing of this: what they say is added afterwards.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import field
from itertools import count
from typing import Any, Generic, TypeVar

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.budget import budgets_of
from fitcheck.hardware.latest import once_a_machine
from fitcheck.hardware.machine import Machine
from fitcheck.memory.footprint import Footprint
from fitcheck.runtimes.base import Ask, Runtime, Support
from fitcheck.runtimes.level import Level, level_of, level_with

_MOST = 1 << 14  # cells; a site asks about one model after the other, so that the oldest are never asked for again


@dataclass(frozen=True, slots=True)
class HeldCell:
    """The memory of a cell and what the platform allows, and its levels by what there is."""

    footprint: Footprint
    support: Support | None
    levels: dict[int, Level] = field(default_factory=dict)


def shown(runtime: Runtime, ask: Ask) -> Footprint:
    """The memory of a cell that is shown: its intervals as wide as ``Runtime.spread`` leaves them."""
    return _held(runtime, ask, spread=True).footprint


def shown_and_level(runtime: Runtime, ask: Ask) -> tuple[Footprint, Level]:
    """Both of them, looked up once."""
    there = _held(runtime, ask, spread=True)
    return there.footprint, _level(ask, there)


def shown_level(runtime: Runtime, ask: Ask, footprint: Footprint) -> Level:
    """The level of a cell that holds ``footprint``: looked up where that is what is shown, worked out where records
    made another one of it."""
    if _look(runtime, ask.machine) is None:
        return level_of(runtime, ask, footprint)
    there = _held(runtime, ask, spread=True)
    return _level(ask, there) if there.footprint is footprint else level_of(runtime, ask, footprint)


def estimated(runtime: Runtime, ask: Ask) -> tuple[Footprint, Level]:
    """The memory and the level of a cell that a runtime looks at while it searches."""
    there = _held(runtime, ask, spread=False)
    return there.footprint, _level(ask, there)


def at_best(runtime: Runtime, ask: Ask) -> Level | None:
    """A level that the cell's own, as it is estimated, is not better than, from what is quick to work out; ``None``
    where nothing is."""
    look = _look(runtime, ask.machine)
    if look is None:
        least = _at_least(runtime, ask)
        return None if least is None else level_with(least.support, ask, least.footprint)
    place = _key(look, ask, spread=False)
    there = _known.get(place)
    if there is None:  # nothing is quicker than what is known
        found = _leasts.get(place) or _leasts.keep(place, (_at_least(runtime, ask),))
        there = found[0]
    return None if there is None else _level(ask, there)


def _at_least(runtime: Runtime, ask: Ask) -> HeldCell | None:
    least = runtime.at_least(ask)
    return None if least is None else HeldCell(least, runtime.platform(ask))


def look_of(runtime: Runtime, machine: Machine) -> tuple[int, int] | None:
    """What is the same for machines on which cells hold the same and have the same level; ``None`` where the runtime
    does not say."""
    look = _look(runtime, machine)
    return None if look is None else (look, _amounts(machine))


V = TypeVar("V")


class Store(Generic[V]):
    """What a runtime worked out itself of the latest questions, forgotten with all that is held here."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: dict[Hashable, V] = {}
        _stores.append(self)

    def get(self, place: Hashable) -> V | None:
        """What was kept; ``None`` where nothing was."""
        return self._found.get(place)

    def keep(self, place: Hashable, found: V) -> V:
        """Keep ``found``, in the place of all else where there is too much."""
        if len(self._found) >= self._most:
            self.clear()
        self._found[place] = found
        return found

    def clear(self) -> None:
        """Nothing is kept any more."""
        self._found.clear()


_stores: list[Store[Any]] = []
_leasts: Store[tuple[HeldCell | None]] = Store(_MOST)


def forget() -> None:
    """Nothing that was worked out is known any more."""
    _known.clear()
    for store in _stores:
        store.clear()


_known: dict[Hashable, HeldCell] = {}


def _held(runtime: Runtime, ask: Ask, *, spread: bool) -> HeldCell:
    look = _look(runtime, ask.machine)
    if look is None:
        return _worked_out(runtime, ask, spread=spread)
    key = _key(look, ask, spread=spread)
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MOST:
            _known.clear()
        found = _known[key] = _worked_out(runtime, ask, spread=spread)
    return found


def _key(look: int, ask: Ask, *, spread: bool) -> Hashable:
    return look, spread, ask.tier, ask.placement, ask.workload, ask.gpu, ask.process, ask.model


def _worked_out(runtime: Runtime, ask: Ask, *, spread: bool) -> HeldCell:
    found = runtime.footprint(ask)
    return HeldCell(runtime.spread(ask, found) if spread else found, runtime.platform(ask))


def _level(ask: Ask, there: HeldCell) -> Level:
    amounts = _amounts(ask.machine)
    found = there.levels.get(amounts)
    if found is None:
        found = there.levels[amounts] = level_with(there.support, ask, there.footprint)
    return found


def _look(runtime: Runtime, machine: Machine) -> int | None:
    """A number for all that memory hangs on of a machine; ``None`` where the runtime does not say."""
    looks = _looks_of(machine)
    if runtime.name not in looks:
        seen = runtime.weighs(machine)
        looks[runtime.name] = None if seen is None else number((runtime.name, seen))
    return looks[runtime.name]


@once_a_machine
def _looks_of(machine: Machine) -> dict[str, int | None]:
    return {}


@once_a_machine
def _amounts(machine: Machine) -> int:
    """A number for what a machine has to give."""
    return number(tuple((one.vram, one.ram, one.disk) for one in budgets_of(machine)))


_numbers: dict[Hashable, int] = {}
_next = count()


def number(seen: Hashable) -> int:
    """A number for a thing, quick to look up: never that of another one, and a new one now and then."""
    if seen not in _numbers:
        if len(_numbers) >= _MOST:
            _numbers.clear()
        _numbers[seen] = next(_next)
    return _numbers[seen]

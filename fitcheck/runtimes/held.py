"""What a cell holds and the level that follows, worked out once for all machines in which both are the same.

A card's rates say how fast a cell is, not what it holds: of three hundred cards a third tell memory apart, and beside
another amount of system memory the level alone is another one. What decides is declared by the runtime
(``Runtime.weighs``); budgets are told apart here. Records know nothing of this: what they say is added afterwards.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count

from fitcheck.hardware.budget import budgets_of
from fitcheck.hardware.latest import once_a_machine
from fitcheck.hardware.machine import Machine
from fitcheck.memory.footprint import Footprint
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.runtimes.level import Level, level_of

_MOST = 1 << 14  # cells; a site asks about one model after the other, so that the oldest are never asked for again


@dataclass(frozen=True, slots=True)
class Held:
    """The memory of a cell and its verdict as far as amounts and platform go."""

    footprint: Footprint
    level: Level


def shown(runtime: Runtime, ask: Ask) -> Held:
    """Of a cell that is shown: its intervals as wide as ``Runtime.spread`` leaves them."""
    return _held(runtime, ask, spread=True)


def estimated(runtime: Runtime, ask: Ask) -> Held:
    """Of a cell that a runtime looks at while it searches."""
    return _held(runtime, ask, spread=False)


def beside(runtime: Runtime, ask: Ask, other: Ask, footprint: Footprint) -> Level:
    """The level of ``ask``, which holds the ``footprint`` that was worked out for ``other`` in a machine with the same
    cards. It is looked up where records left that as it was."""
    if shown(runtime, other).footprint is not footprint:
        return level_of(runtime, ask, footprint)
    return _held(runtime, ask, spread=True, footprint=footprint).level


def forget() -> None:
    """Nothing that was worked out is known any more."""
    _known.clear()


_known: dict[Hashable, Held] = {}


def _held(runtime: Runtime, ask: Ask, *, spread: bool, footprint: Footprint | None = None) -> Held:
    look = _look(runtime, ask.machine)
    if look is None:
        return _worked_out(runtime, ask, footprint, spread=spread)
    key = (look, spread, ask.tier, ask.placement, ask.workload, ask.gpu, ask.process, ask.model)
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MOST:
            _known.clear()
        found = _known[key] = _worked_out(runtime, ask, footprint, spread=spread)
    return found


def _worked_out(runtime: Runtime, ask: Ask, footprint: Footprint | None, *, spread: bool) -> Held:
    if footprint is None:
        footprint = runtime.footprint(ask)
        footprint = runtime.spread(ask, footprint) if spread else footprint
    return Held(footprint, level_of(runtime, ask, footprint))


def _look(runtime: Runtime, machine: Machine) -> int | None:
    """A number for all that is seen of a machine, quick to compare; ``None`` where the runtime does not say."""
    looks = _looks_of(machine)
    if runtime.name not in looks:
        seen = runtime.weighs(machine)
        budgets = tuple((one.vram, one.ram, one.disk) for one in budgets_of(machine))
        looks[runtime.name] = None if seen is None else _number((runtime.name, seen, budgets))
    return looks[runtime.name]


@once_a_machine
def _looks_of(machine: Machine) -> dict[str, int | None]:
    return {}


_numbers: dict[Hashable, int] = {}
_next = count()


def _number(seen: Hashable) -> int:
    if seen not in _numbers:
        if len(_numbers) >= _MOST:
            _numbers.clear()
        _numbers[seen] = next(_next)
    return _numbers[seen]

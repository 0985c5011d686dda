"""What searches for placements found, kept for machines that look alike and for other amounts of system memory.

A site asks about one model on card after card, beside one amount of system memory after the other: which placements
there are hangs on what a card holds, not on how fast it is, and where system memory was enough for all of them, more of
it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from fitcheck.memory.footprint import Footprint
from fitcheck.runtimes.level import Level
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions

_MOST = 1 << 13  # questions; the oldest are of models that nobody asks about any more


@dataclass(frozen=True, slots=True)
class Judged:
    """One way to run a tier on machines that look alike: options, what they hold and whether that fits."""

    options: LlamaOptions
    footprint: Footprint
    level: Level


@dataclass(frozen=True, slots=True)
class SettledPlacement:
    """The options that lead from so many bytes of system memory on."""

    reach: int
    options: LlamaOptions


def looked_at(place: Hashable, look: Callable[[], Sequence[Judged]]) -> tuple[Judged, ...]:
    """The ways to run what ``place`` names: those found before, else what ``look`` finds."""
    found = _judged.get(place)
    if found is None:
        if len(_judged) >= _MOST:
            _judged.clear()
        found = _judged[place] = tuple(look())
    return found


def settled_placement(place: Hashable) -> SettledPlacement | None:
    """What leads with enough system memory; ``None`` where that is not known."""
    return _settled.get(place)


def settle(place: Hashable, found: SettledPlacement) -> None:
    """Keep what leads."""
    if len(_settled) >= _MOST:
        _settled.clear()
    _settled[place] = found


def forget() -> None:
    """Nothing that a search found is known any more."""
    _settled.clear()
    _judged.clear()


_settled: dict[Hashable, SettledPlacement] = {}
_judged: dict[Hashable, tuple[Judged, ...]] = {}

"""What searches for placements found, kept for machines that look alike and for other amounts of system memory.

A site asks about one model on card after card, beside one amount of system memory after the other: which placements
there are hangs on what a card holds, not on how fast it is, and where system memory was enough for all of them, more of
it changes nothing.
"""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.footprint import Footprint
from fitcheck.runtimes.held import Store
from fitcheck.runtimes.level import Level
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions


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


# by all that each hangs on; a site asks about one model after the other, so that the oldest are never asked for again
LOOKED_AT: Store[tuple[Judged, ...]] = Store(1 << 13)
SETTLED: Store[SettledPlacement] = Store(1 << 13)

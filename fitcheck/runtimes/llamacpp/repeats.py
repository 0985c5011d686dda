"""Which layers a graph has to have so that all the others repeat one of them.

Layers come in runs on one device, and within a run their kinds come back in a period: one layer after the other alike,
or five with a window before one without. The graph of the first three periods of a run and of its end says all that a
longer one does, because what is done in the second period is done again in each that follows. That it is, is compared
and not assumed (``alike``).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby

from fitcheck.dataclass_later import dataclass

# the first period finds nothing yet, the second one what the first left, the third says whether it goes on like that
_KEPT_PERIODS = 3
_MOST_LEADING = 4  # layers of another kind at the beginning, like the dense ones of a mixture of experts


@dataclass(frozen=True, slots=True)
class Repeats:
    """Positions of layers. ``kept`` are those of a graph, ``stand_ins`` has for each of all layers the index in
    ``kept`` of the one that is there in its place, ``alike`` are pairs of such indices that have to do the same."""

    kept: tuple[int, ...]
    stand_ins: tuple[int, ...]
    alike: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Run:
    """Layers from ``start`` up to ``stop``, of which ``leading`` come before the first ``period``."""

    start: int
    stop: int
    leading: int
    period: int

    @property
    def repeated(self) -> range:
        """The positions that others stand for."""
        first = self.start + self.leading + _KEPT_PERIODS * self.period
        rest = (self.stop - self.start - self.leading) % self.period
        return range(first, max(self.stop - self.period - rest, first))


def whole(count: int) -> Repeats:
    """Every layer for itself."""
    return Repeats(tuple(range(count)), tuple(range(count)), ())


def repeats(places: Sequence[Hashable], kinds: Sequence[Hashable]) -> Repeats:
    """For layers at ``places`` (a run has one) of ``kinds``."""
    runs = list(_runs(places, kinds))
    left_out = {position for run in runs for position in run.repeated}
    kept = tuple(position for position in range(len(kinds)) if position not in left_out)
    index = {position: at for at, position in enumerate(kept)}
    stand_ins, alike = [], []
    for run in runs:
        second = run.start + run.leading + run.period
        for position in range(run.start, run.stop):
            if position in left_out:
                position = second + run.period + (position - second) % run.period
            stand_ins.append(index[position])
        if run.repeated:
            alike += [(index[at], index[at + run.period]) for at in range(second, second + run.period)]
    return Repeats(kept, tuple(stand_ins), tuple(alike))


def _runs(places: Sequence[Hashable], kinds: Sequence[Hashable]) -> Iterator[_Run]:
    start = 0
    for _, same in groupby(places):
        stop = start + sum(1 for _ in same)
        yield _Run(start, stop, *_period(kinds[start:stop]))
        start = stop


def _period(kinds: Sequence[Hashable]) -> tuple[int, int]:
    """(layers before the first period, layers of one); all of them where nothing comes back often enough."""
    for leading in range(min(_MOST_LEADING, len(kinds)) + 1):
        rest = kinds[leading:]
        for period in range(1, len(rest) // (_KEPT_PERIODS + 2) + 1):
            if rest[period:] == rest[:-period]:
                return leading + 1, period  # a part of a layer is done with the next one
    return 0, max(len(kinds), 1)

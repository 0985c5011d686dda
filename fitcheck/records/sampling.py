"""Some of very many runs: as many as change anything, of as many kinds as there are."""

from __future__ import annotations

from collections.abc import Sequence

from fitcheck.records.run import Run

LOOKED_AT = 1000  # runs of a card that are looked at; the rest says the same again
_MOST_ALIKE = 12


def spread(runs: Sequence[Run], most: int = LOOKED_AT) -> Sequence[Run]:
    """At most so many of very many, evenly."""
    return runs[:: max(-(-len(runs) // most), 1)]


def varied(runs: Sequence[Run], most: int) -> list[Run]:
    """At most so many runs, of as many tiers and modes as there are: the first of each, then the second of each."""
    ranks: dict[tuple[object, ...], int] = {}
    ranked = []
    for run in runs:
        if run.outcome != "ok":
            continue
        cell = run.cell
        kind = (run.card, cell.runtime, cell.model, cell.tier, cell.mode, cell.task)
        rank = ranks[kind] = ranks.get(kind, 0) + 1
        if rank <= _MOST_ALIKE:
            ranked.append((rank, run))
    ranked.sort(key=lambda pair: pair[0])
    return [run for _, run in ranked[:most]]

"""From allocated bytes to what the process reserves and what the card must hold.

torch's caching allocator keeps freed blocks, so a process reserves more than it allocates; the CUDA context and the
libraries come on top. The coefficients live in ``data/allocator.json`` with the rows they were fitted on
(``scripts/fit_allocator.py``). Under pressure the allocator gives cached blocks back before it fails, so the smallest
card that works lies between ``allocated + context`` and ``reserved + context``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from fitcheck.memory.constants import load
from fitcheck.memory.footprint import Phase, peak
from fitcheck.memory.placement import Placement, Stream
from fitcheck.units import Interval

# Coefficients, in the order of ``features``.
FEATURES = ("resident", "streamed", "asynchronous", "scores", "regrowth")


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a cell drives the cache's slack. Sizes in bytes.

    ``unit`` is one streamed unit, ``scores`` the largest eager attention pass, ``regrowth`` the eager passes of earlier
    rounds whose blocks are too small to be used again.
    """

    unit: int
    scores: int
    regrowth: int = 0


def features(placement: Placement, shape: Shape) -> tuple[float, ...]:
    """Regressors of ``reserved - allocated`` in bytes, one for each name in ``FEATURES``.

    A fixed part for resident and for streamed weights (in GiB units of one), units that return late because another
    stream has used them (only through the caching allocator), and two kinds of holes that eager attention leaves.
    """
    streams = placement.stream is not Stream.NOTHING
    late = streams and placement.prefetch > 0 and placement.policy == "upstream"
    gib = float(1 << 30)
    return (
        0.0 if streams else gib,
        gib if streams else 0.0,
        float(shape.unit) if late else 0.0,
        float(shape.scores),
        float(shape.regrowth),
    )


def reserved(allocated: Interval[int], placement: Placement, shape: Shape) -> Interval[int]:
    """Bytes that the caching allocator takes from the driver at the peak."""
    table = load("allocator")
    row = features(placement, shape)
    slack = sum(table["coefficients"][name] * value for name, value in zip(FEATURES, row, strict=True))
    spread = table["residual_bytes"]
    granularity = 2 << 20  # segments come in multiples of 2 MiB
    best = ceil((allocated.best + slack) / granularity) * granularity
    low = max(allocated.low, best + round(spread["low"]))
    high = max(best, round(best + spread["high"] + table["relative_high"] * slack))
    return Interval(min(low, best), best, high)


def context(compute_capability: tuple[int, int] | None) -> Interval[int]:
    """CUDA context, modules and libraries after the first matrix product."""
    table = load("allocator")["context"]
    row = table["measured"].get("default" if compute_capability is None else "{}.{}".format(*compute_capability))
    low, best, high = row["bytes"] if row else table["elsewhere"]["bytes"]
    return Interval(low, best, high)


def required(allocated: Interval[int], reserved_: Interval[int], phases: tuple[Phase, ...]) -> Interval[int]:
    """Bytes that the allocator needs when it must give back every block it can: the least that works.

    A share of the gap between allocated and reserved is not recoverable, because live tensors pin their segments.
    """
    share = load("allocator")["unrecoverable_share"]
    gap = reserved_.best - allocated.best
    best = allocated.best + round(share["best"] * gap)
    low = min(allocated.low + round(share["low"] * gap), best)
    high = max(best, min(allocated.high + round(share["high"] * gap), reserved_.high))
    assert peak(phases).allocated <= high
    return Interval(low, best, high)

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
from fitcheck.memory.placement import Placement, Stream
from fitcheck.units import Interval

# Names of the coefficients, in the order of ``features``.
FEATURES = ("resident", "streamed", "ring", "late_units", "scores", "regrowth", "returning")
_SEGMENT = 2 << 20  # segments come in multiples of 2 MiB


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a cell drives the cache's slack. Sizes in bytes.

    ``dynamic`` is what the denoising phase allocates and frees beside weights (caches, activations, scratch), ``late``
    the streamed units whose work is queued but not done, which return to the cache late, ``scores`` the largest eager
    attention pass, ``regrowth`` the eager passes of earlier rounds, whose blocks are too small to be used again, and
    ``returning`` what of the room of embedding and head is in use when they come back for a next image.
    """

    dynamic: int
    late: int
    scores: int
    regrowth: int = 0
    returning: int = 0


def features(placement: Placement, shape: Shape) -> tuple[float, ...]:
    """Regressors of ``reserved - allocated`` in bytes, one for each name in ``FEATURES``.

    ``ring`` runs on expandable segments, where holes of any size are used again: only a share of the dynamic bytes.
    """
    if placement.policy == "ring" and placement.stream is not Stream.NOTHING:
        return (0.0, 0.0, float(shape.dynamic), 0.0, 0.0, 0.0, 0.0)
    streams = placement.stream is not Stream.NOTHING
    return (
        0.0 if streams else float(shape.dynamic),
        float(shape.dynamic) if streams else 0.0,
        0.0,
        float(shape.late),
        float(shape.scores),
        float(shape.regrowth),
        float(shape.returning),
    )


def layers_ahead(dequantizing_kernels: int) -> float:
    """Layers that the host issues before the card has done the first: the launch queue's length in kernels, over the
    kernels of a layer, ``dequantizing_kernels`` among them. A host slower than its card stays below that."""
    queue = load("allocator")["launch_queue"]
    return float(queue["launches"] / (queue["kernels_a_layer"] + dequantizing_kernels))


def slack(placement: Placement, shape: Shape) -> float:
    """Expected ``reserved - allocated`` in bytes."""
    coefficients = load("allocator")["coefficients"]
    row = features(placement, shape)
    return float(sum(coefficients[name] * value for name, value in zip(FEATURES, row, strict=True)))


def reserved(allocated: Interval[int], placement: Placement, shape: Shape, later: Shape) -> Interval[int]:
    """Bytes that the caching allocator takes from the driver at the peak.

    ``shape`` is the cell in a fresh process, ``later`` the same process at its next images: it sets the high end.
    """
    spread = load("allocator")["spread"]
    expected = slack(placement, shape)
    best = ceil((allocated.best + expected) / _SEGMENT) * _SEGMENT
    low = min(best, max(allocated.low, round(allocated.best + spread["low"] * expected)))
    high = allocated.high + spread["high"] * slack(placement, later) + spread["constant"]
    return Interval(low, best, max(best, round(high)))


def context(compute_capability: tuple[int, int] | None, placement: Placement) -> Interval[int]:
    """CUDA context, modules and libraries after the first matrix product; a second stream adds its own."""
    table = load("allocator")["context"]
    row = table["measured"].get("default" if compute_capability is None else "{}.{}".format(*compute_capability))
    low, best, high = (row or table["elsewhere"])["bytes"]
    if placement.prefetch:
        best += table["second_stream"]["bytes"]
    return Interval(low, min(best, high), high)


def required(allocated: Interval[int], reserved_: Interval[int]) -> Interval[int]:
    """Bytes that the allocator needs when it must give back every block it can: the least that works.

    A share of the gap between allocated and reserved is not recoverable, because live tensors hold on to segments.
    """
    share = load("allocator")["unrecoverable_share"]
    gap = reserved_.best - allocated.best
    best = allocated.best + round(share["best"] * gap)
    high = max(best, allocated.high + round(share["high"] * gap))
    return Interval(allocated.low, best, high)

"""Seconds that copies from host to card take, from the rates by block size that link records hold."""

from __future__ import annotations

from functools import lru_cache
from statistics import median, quantiles

from fitcheck.dataclass_later import dataclass
from fitcheck.speed.rates import Blocks, data
from fitcheck.units import Interval


@dataclass(frozen=True, slots=True)
class CopyLine:
    """A copy takes ``latency`` seconds to set up and ``each`` second for every byte."""

    latency: float
    each: float

    def seconds(self, copies: float, nbytes: float) -> float:
        """Seconds of ``copies`` copies that move ``nbytes`` bytes in all."""
        return self.latency * copies + self.each * nbytes


@lru_cache(maxsize=256)
def line_of(blocks: Blocks) -> CopyLine:
    """The line through a record's copy times by block size, by least squares of relative errors.

    A block size only matters through the latency. What scatters around the line is the link's speed at the moment when
    that size was measured, which a run of many copies averages.
    """
    pairs = [(rate / size, rate) for size, rate in blocks]  # 1 / seconds, bytes / seconds
    uu, uv, vv = (sum(a * b for a, b in products) for products in _products(pairs))
    u, v = (sum(column) for column in zip(*pairs, strict=True))
    determinant = uu * vv - uv * uv
    if determinant > 1e-12 * uu * vv:
        latency, each = (u * vv - v * uv) / determinant, (v * uu - u * uv) / determinant
        if latency >= 0 and each > 0:
            return CopyLine(latency, each)
    return CopyLine(0.0, v / vv)


def _products(pairs: list[tuple[float, float]]) -> tuple[list[tuple[float, float]], ...]:
    return [(u, u) for u, _ in pairs], pairs, [(v, v) for _, v in pairs]


@lru_cache(maxsize=64)
def _scatter(records: tuple[Blocks, ...]) -> tuple[float, float]:
    """5th and 95th percentile of measured over expected copy times, over all block sizes of all records."""
    ratios = [size / rate / _expected(records, 1, size) for blocks in records for size, rate in blocks]
    cuts = quantiles(ratios, n=20, method="inclusive") if len(ratios) > 1 else ratios
    return cuts[0], cuts[-1]


def _expected(records: tuple[Blocks, ...], copies: float, nbytes: float) -> float:
    return median(line_of(blocks).seconds(copies, nbytes) for blocks in records)


def measured_seconds(copies: float, nbytes: float, records: tuple[Blocks, ...]) -> Interval[float]:
    """Seconds of that many copies, ``nbytes`` in all, one after the other: the median over the link records' machines,
    as far apart as copies differed in and between them, and at least as far as one measured rate is known."""
    best, (fast, slow) = _expected(records, copies, nbytes), _scatter(records)
    spread = data()["measured_link"]["spread"]
    return Interval(best * min(fast, 1 / (1 + spread)), best, best * max(slow, 1 / (1 - spread)))


def from_memory(blocks: Blocks) -> Blocks:
    """The blocks that no host cache holds, else all of them. A record copies one block again and again, so a pageable
    block that fits into a cache copies faster than weights that come from memory once a pass."""
    cache = data()["measured_link"]["host_cache_bytes"]
    return tuple(block for block in blocks if block[0] >= cache) or blocks

"""From passes to seconds, of any runtime: prices of a card's work, copies over the link, and how they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Link
from fitcheck.speed.duration import Duration
from fitcheck.speed.link import measured_seconds
from fitcheck.speed.passes import Pass, Streamed
from fitcheck.speed.rates import Blocks, Calibration, data, link_rate, rates_of
from fitcheck.units import Interval

# (low, best, high) ends of an interval
Ends = tuple[float, float, float]
_NONE: Ends = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds of a unit of work at one end of the interval: a FLOP, a byte, a kernel, a re-pointed tensor."""

    matrix: float
    attention: float
    elementwise: float
    dequantization: float
    kernel: float
    gguf_kernel: float
    streamed_tensor: float

    def device(self, one: Pass) -> tuple[float, float]:
        """(compute, dequantization) seconds of a pass on the card."""
        amount = one.work
        compute = amount.matrix_flops * self.matrix + amount.attention_flops * self.attention
        return compute + amount.traffic * self.elementwise, amount.dequantization * self.dequantization

    def host(self, one: Pass) -> float:
        """Seconds that the host needs to issue a pass."""
        issue = one.work.kernels * self.kernel + one.work.gguf_kernels * self.gguf_kernel
        return issue + (one.ahead.tensors + one.waited.tensors) * self.streamed_tensor


@lru_cache(maxsize=4096)
def prices_of(card: Card, *, calibrated: bool) -> tuple[Price, Price, Price] | None:
    """Prices from the low end of seconds to the high one; ``None`` when the card's rates are unknown.

    Records calibrate a card. In which host it is asked about they do not say, and cards of one kind sit in many, so the
    host's part keeps its whole range.
    """
    rates = rates_of(card)
    if rates is None:
        return None
    found = []
    for card_end, host_end in (("high", "low"), ("best", "best"), ("low", "high")):
        end = "best" if calibrated else card_end
        device = (rates.matrix, rates.attention, rates.elementwise, rates.dequantization)
        host = (rates.kernel, rates.gguf_kernel, rates.streamed_tensor)
        found.append(Price(*(1 / getattr(rate, end) for rate in device), *(getattr(rate, host_end) for rate in host)))
    return found[0], found[1], found[2]


def duration_of(
    plan: Sequence[Pass], card: Card, link: Link, *, pinned: bool, calibration: Calibration | None = None
) -> Duration | None:
    """Seconds of all passes, one after the other; ``None`` when a rate that they need is unknown.

    Synchronous streaming adds copy time to compute; prefetching hides the shorter of the two behind the longer.
    """
    calibrated = calibration is not None and calibration.spread is not None
    prices = prices_of(card, calibrated=calibrated)
    if prices is None:
        return None
    streams = any(one.ahead.nbytes or one.waited.nbytes for one in plan)
    records: tuple[Blocks, ...] = ()
    if calibration is not None:
        records = calibration.pinned if pinned else calibration.pageable
    rate = None if records else link_rate(link, pinned=pinned)
    if streams and rate is None and not records:
        return None
    return _sum(plan, prices, _factors(calibration), _Transfer(rate, records))


def _factors(calibration: Calibration | None) -> Ends:
    if calibration is None:
        return 1.0, 1.0, 1.0
    factor, spread = calibration.compute, calibration.spread or 0.0
    return factor * (1 - spread), factor, factor * (1 + spread)


@dataclass(frozen=True, slots=True)
class _Transfer:
    """The way to the card: what link records of it measured, or its rate in B/s."""

    rate: Interval[float] | None
    records: tuple[Blocks, ...]

    def seconds(self, streamed: Streamed) -> Ends:
        """Seconds of all copies, from the low end to the high one."""
        if not streamed.nbytes:
            return _NONE
        if self.records:
            took = measured_seconds(streamed.copies, streamed.nbytes, self.records)
            return took.low, took.best, took.high
        if self.rate is None:
            return _NONE
        setup = data()["copy_latency"]["value"] * streamed.copies
        low, best, high = (streamed.nbytes / rate for rate in (self.rate.high, self.rate.best, self.rate.low))
        return low + setup, best + setup, high + setup


def _sum(plan: Sequence[Pass], prices: Sequence[Price], factors: Ends, transfer: _Transfer) -> Duration:
    """All passes at the three ends of the interval: the low end of seconds takes the high ends of rates."""
    exponent = data()["overlap_exponent"]["value"]
    total = [0.0, 0.0, 0.0]
    compute = dequantization = stream = 0.0
    nbytes = 0
    for one in plan:
        ahead, waited = transfer.seconds(one.ahead), transfer.seconds(one.waited)
        for end, price in enumerate(prices):
            parts = price.device(one)
            # the host issues kernels while the card works: together nearly the longer of the two
            busy = factors[end] * (sum(parts) ** exponent + price.host(one) ** exponent) ** (1 / exponent)
            total[end] += one.count * (max(busy, ahead[end]) + waited[end])
            if end == 1:
                compute += one.count * factors[end] * parts[0]
                dequantization += one.count * factors[end] * parts[1]
        stream += one.count * (ahead[1] + waited[1])
        nbytes += one.count * (one.ahead.nbytes + one.waited.nbytes)
    made_of = (("compute", compute), ("dequantization", dequantization), ("streaming", stream))
    binding = _binding(compute, dequantization, stream)
    return Duration(Interval(*total), binding, made_of, amounts=(("streamed", nbytes),))


def _binding(compute: float, dequantization: float, stream: float) -> str:
    if stream > compute + dequantization:
        return "streaming weights over the link"
    return "dequantization" if dequantization > compute else "compute"

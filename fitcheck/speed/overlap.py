"""From passes to seconds, of any runtime: prices of a card's work, copies over the link, and how they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from fitcheck.dataclass import dataclass
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Link
from fitcheck.speed.duration import Duration
from fitcheck.speed.link import measured_seconds
from fitcheck.speed.passes import Pass, Streamed
from fitcheck.speed.rates import Blocks, Calibration, data, link_rate, rates_of
from fitcheck.speed.timing import WHOLE, Strand, Timing, merged
from fitcheck.units import Interval

# (low, best, high) ends of an interval
Ends = tuple[float, float, float]
_NONE: Ends = (0.0, 0.0, 0.0)
# work on the card, as ``Price.device`` tells it apart
PARTS = ("compute", "dequantization")


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
def prices_of(card: Card) -> tuple[Price, Price, Price] | None:
    """Prices from the low end of seconds to the high one; ``None`` when the card's rates are unknown."""
    rates = rates_of(card)
    if rates is None:
        return None
    found = []
    for card_end, host_end in (("high", "low"), ("best", "best"), ("low", "high")):
        device = (rates.matrix, rates.attention, rates.elementwise, rates.dequantization)
        host = (rates.kernel, rates.gguf_kernel, rates.streamed_tensor)
        of_card = (1 / getattr(rate, card_end) for rate in device)
        found.append(Price(*of_card, *(getattr(rate, host_end) for rate in host)))
    return found[0], found[1], found[2]


def duration_of(
    plan: Sequence[Pass], card: Card, link: Link, *, pinned: bool, calibration: Calibration | None = None
) -> Duration | None:
    """Seconds of all passes, one after the other; ``None`` when a rate that they need is unknown.

    Synchronous streaming adds copy time to compute; prefetching hides the shorter of the two behind the longer.
    """
    known = calibration or Calibration()
    prices, transfer = prices_of(card), _transfer(plan, link, known, pinned=pinned)
    if prices is None or transfer is None:
        return None
    copies = [(transfer.seconds(one.ahead), transfer.seconds(one.waited)) for one in plan]
    compute, dequantization, stream = (
        amount * known.factor(name) for name, amount in _parts(plan, prices[1], copies, copies_from(pinned=pinned))
    )
    made_of = (("compute", compute), ("dequantization", dequantization), ("streaming", stream))
    nbytes = sum(one.count * (one.ahead.nbytes + one.waited.nbytes) for one in plan)
    binding = _binding(compute, dequantization, stream)
    return Duration(_seconds(plan, prices, copies, known), binding, made_of, amounts=(("streamed", nbytes),))


@lru_cache(maxsize=1024)
def timing_of(
    plan: tuple[Pass, ...], card: Card, link: Link, *, pinned: bool, calibration: Calibration | None = None
) -> Timing | None:
    """The best estimate of ``duration_of`` by part; what link records say is in it, what other records say is not."""
    prices, transfer = prices_of(card), _transfer(plan, link, calibration or Calibration(), pinned=pinned)
    if prices is None or transfer is None:
        return None
    price = prices[1]
    strands = (
        Strand(
            one.count,
            price.device(one),
            price.host(one),
            transfer.seconds(one.ahead)[1],
            transfer.seconds(one.waited)[1],
        )
        for one in plan
    )
    return Timing(PARTS, merged(strands), copies_from(pinned=pinned), data()["overlap_exponent"]["value"])


def copies_from(*, pinned: bool) -> str:
    """The part of the seconds that copies are."""
    return "pinned copies" if pinned else "pageable copies"


def _transfer(plan: Sequence[Pass], link: Link, known: Calibration, *, pinned: bool) -> _Transfer | None:
    """``None`` where weights travel at a rate that nobody knows."""
    records = known.copies(pinned=pinned)
    rate = None if records else link_rate(link, pinned=pinned)
    streams = any(one.ahead.nbytes or one.waited.nbytes for one in plan)
    return None if streams and rate is None and not records else _Transfer(rate, records)


# the ends of a pass's copies: those that hide behind it, and those that it waits for
_Copies = tuple[Ends, Ends]


def _seconds(
    plan: Sequence[Pass], prices: Sequence[Price], copies: Sequence[_Copies], known: Calibration
) -> Interval[float]:
    """The low end of seconds takes the high ends of rates, unless records of the card say how long it takes."""
    low, best, high = (_total(plan, price, copies, end) for end, price in enumerate(prices))
    ratio = known.ratio(WHOLE)
    return Interval(low, best, high) if ratio is None else ratio.scaled(best)


def _total(plan: Sequence[Pass], price: Price, copies: Sequence[_Copies], end: int) -> float:
    exponent = data()["overlap_exponent"]["value"]
    total = 0.0
    for one, (ahead, waited) in zip(plan, copies, strict=True):
        # the host issues kernels while the card works: together nearly the longer of the two
        busy = (sum(price.device(one)) ** exponent + price.host(one) ** exponent) ** (1 / exponent)
        total += one.count * (max(busy, ahead[end]) + waited[end])
    return total


def _parts(
    plan: Sequence[Pass], price: Price, copies: Sequence[_Copies], name: str
) -> tuple[tuple[str, float], tuple[str, float], tuple[str, float]]:
    """Best estimates of (compute, dequantization, copies) seconds before overlap, with the names of their factors."""
    compute = dequantization = stream = 0.0
    for one, (ahead, waited) in zip(plan, copies, strict=True):
        parts = price.device(one)
        compute += one.count * parts[0]
        dequantization += one.count * parts[1]
        stream += one.count * (ahead[1] + waited[1])
    return (PARTS[0], compute), (PARTS[1], dequantization), (name, stream)


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


def _binding(compute: float, dequantization: float, stream: float) -> str:
    if stream > compute + dequantization:
        return "streaming weights over the link"
    return "dequantization" if dequantization > compute else "compute"

"""From passes to seconds, of any runtime: prices of a card's work, copies over the link, and how they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Link
from fitcheck.speed.duration import STREAMING, Duration
from fitcheck.speed.link import measured_seconds
from fitcheck.speed.passes import Pass, Streamed
from fitcheck.speed.rates import Blocks, Calibration, data, link_rate, rates_of
from fitcheck.speed.timing import WHOLE, Strand, Timing, merged
from fitcheck.units import Interval

# (low, best, high) ends of an interval, and the places of each
Ends = tuple[float, float, float]
LOW, BEST, HIGH = range(3)
# the ends of a pass's copies: those that hide behind it, and those that it waits for
_Copies = tuple[Ends, Ends]
_NONE: Ends = (0.0, 0.0, 0.0)
_NO_RECORDS = Calibration()
# work on the card, as ``Price.device`` tells it apart
PARTS = ("compute", "dequantization")


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds of a unit of work at one end of the interval: a FLOP, a byte, a kernel, a re-pointed tensor."""

    matrix: float
    attention: float
    elementwise: float
    dequantization: float
    memory: float
    kernel: float
    gguf_kernel: float
    streamed_tensor: float

    def device(self, one: Pass) -> tuple[float, float]:
        """(compute, dequantization) seconds of a pass on the card."""
        amount = one.work
        compute = amount.matrix_flops * self.matrix + amount.attention_flops * self.attention
        compute += amount.traffic * self.elementwise + amount.wide_traffic * self.memory + amount.latency
        return compute, amount.dequantization * self.dequantization

    def host(self, one: Pass) -> float:
        """Seconds that the host needs to issue a pass."""
        issue = one.work.kernels * self.kernel + one.work.gguf_kernels * self.gguf_kernel
        return issue + (one.ahead.tensors + one.waited.tensors + one.paged.tensors) * self.streamed_tensor

    def busy(self, one: Pass, exponent: float) -> float:
        """Seconds of a pass without its copies: the host issues kernels while the card works, together nearly the
        longer of the two."""
        compute, dequantization = self.device(one)
        return float(((compute + dequantization) ** exponent + self.host(one) ** exponent) ** (1 / exponent))


@lru_cache(maxsize=4096)
def prices_of(card: Card) -> tuple[Price, Price, Price] | None:
    """Prices from the low end of seconds to the high one; ``None`` when the card's rates are unknown."""
    rates = rates_of(card)
    if rates is None:
        return None
    found = []
    for card_end, host_end in (("high", "low"), ("best", "best"), ("low", "high")):
        device = (rates.matrix, rates.attention, rates.elementwise, rates.dequantization, rates.memory)
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
    known = calibration or _NO_RECORDS
    prices, copies = prices_of(card), _copies(plan, link, known, pinned=pinned)
    if prices is None or copies is None:
        return None
    found = _parts(plan, prices[BEST], copies, copies_from(pinned=pinned))
    compute, dequantization, stream = [amount * known.factor(name) for name, amount in found]
    made_of = (("compute", compute), ("dequantization", dequantization), (STREAMING, stream))
    nbytes = sum([one.count * one.nbytes for one in plan])
    binding = _binding(compute, dequantization, stream)
    low, best, high = [_end(plan, prices, copies, known, end) for end in (LOW, BEST, HIGH)]
    return Duration(Interval(low, best, high), binding, made_of, amounts=(("streamed", nbytes),))


def seconds_at(
    end: int, plan: Sequence[Pass], card: Card, link: Link, *, pinned: bool, calibration: Calibration | None = None
) -> float | None:
    """One end of ``duration_of``'s seconds alone: ``LOW``, ``BEST`` or ``HIGH``; ``None`` as there."""
    known = calibration or _NO_RECORDS
    prices, copies = prices_of(card), _copies(plan, link, known, pinned=pinned)
    return None if prices is None or copies is None else _end(plan, prices, copies, known, end)


def waited_of(plan: Sequence[Pass], link: Link, *, pinned: bool, calibration: Calibration | None = None) -> Ends:
    """Seconds in which nothing is computed because weights travel, from the low end to the high one; 0 where the link's
    rate is unknown, as ``duration_of`` is."""
    copies = _copies(plan, link, calibration or _NO_RECORDS, pinned=pinned)
    ends = [
        [one.count * waited[end] for end in (LOW, BEST, HIGH)]
        for one, (_, waited) in zip(plan, copies or (), strict=False)
    ]
    return sum(row[LOW] for row in ends), sum(row[BEST] for row in ends), sum(row[HIGH] for row in ends)


@lru_cache(maxsize=1024)
def timing_of(
    plan: tuple[Pass, ...], card: Card, link: Link, *, pinned: bool, calibration: Calibration | None = None
) -> Timing | None:
    """The best estimate of ``duration_of`` by part; what link records say is in it, what other records say is not."""
    prices, copies = prices_of(card), _copies(plan, link, calibration or _NO_RECORDS, pinned=pinned)
    if prices is None or copies is None:
        return None
    price = prices[BEST]
    strands = (
        Strand(one.count, price.device(one), price.host(one), ahead[BEST], waited[BEST])
        for one, (ahead, waited) in zip(plan, copies, strict=True)
    )
    return Timing(PARTS, merged(strands), copies_from(pinned=pinned), data()["overlap_exponent"]["value"])


def copies_from(*, pinned: bool) -> str:
    """The part of the seconds that copies are."""
    return "pinned copies" if pinned else "pageable copies"


@lru_cache(maxsize=256)
def _way(link: Link, records: tuple[Blocks, ...], *, pinned: bool) -> _Transfer:
    return _Transfer(None if records else link_rate(link, pinned=pinned), records, data()["copy_latency"]["value"])


# copies by plan, told by identity, and what they come over: thousands of cards sit on a few kinds of links
_copied: dict[tuple[object, ...], tuple[Sequence[Pass], list[_Copies] | None]] = {}
_MOST = 4096


def _copies(plan: Sequence[Pass], link: Link, known: Calibration, *, pinned: bool) -> list[_Copies] | None:
    """The copies of each pass; ``None`` where weights travel at a rate that nobody knows."""
    place = id(plan), link, known.pinned, known.pageable, pinned
    if place not in _copied:
        if len(_copied) >= _MOST:
            _copied.clear()
        # the plan is kept with them, so that no other one can be told by the same number
        _copied[place] = plan, _worked_out(plan, link, known, pinned=pinned)
    return _copied[place][1]


def _worked_out(plan: Sequence[Pass], link: Link, known: Calibration, *, pinned: bool) -> list[_Copies] | None:
    own, paged = (_way(link, known.copies(pinned=kind), pinned=kind) for kind in (pinned, False))
    if not own.known and any(one.ahead.nbytes or one.waited.nbytes for one in plan):
        return None
    if not paged.known and any(one.paged.nbytes for one in plan):
        return None
    return [(own.seconds(one.ahead), _both(own.seconds(one.waited), paged.seconds(one.paged))) for one in plan]


def _both(one: Ends, other: Ends) -> Ends:
    return one[LOW] + other[LOW], one[BEST] + other[BEST], one[HIGH] + other[HIGH]


def _end(
    plan: Sequence[Pass], prices: Sequence[Price], copies: Sequence[_Copies], known: Calibration, end: int
) -> float:
    """The low end of seconds takes the high ends of rates, unless records of the card say how long it takes."""
    ratio = known.ratio(WHOLE)
    if ratio is None:
        return _total(plan, prices[end], copies, end)
    return (ratio.low, ratio.best, ratio.high)[end] * _total(plan, prices[BEST], copies, BEST)


def _total(plan: Sequence[Pass], price: Price, copies: Sequence[_Copies], end: int) -> float:
    exponent, total = data()["overlap_exponent"]["value"], 0.0
    for one, (ahead, waited) in zip(plan, copies, strict=True):
        busy, hidden = price.busy(one, exponent), ahead[end]
        total += one.count * ((busy if busy >= hidden else hidden) + waited[end])
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
    latency: float

    @property
    def known(self) -> bool:
        """Whether anybody knows how fast it is."""
        return self.rate is not None or bool(self.records)

    def seconds(self, streamed: Streamed) -> Ends:
        """Seconds of all copies, from the low end to the high one."""
        if not streamed.nbytes:
            return _NONE
        if self.records:
            took = measured_seconds(streamed.copies, streamed.nbytes, self.records)
            return took.low, took.best, took.high
        if self.rate is None:
            return _NONE
        setup, nbytes, rate = self.latency * streamed.copies, streamed.nbytes, self.rate
        return nbytes / rate.high + setup, nbytes / rate.best + setup, nbytes / rate.low + setup


def _binding(compute: float, dequantization: float, stream: float) -> str:
    if stream > compute + dequantization:
        return "streaming weights over the link"
    return "dequantization" if dequantization > compute else "compute"

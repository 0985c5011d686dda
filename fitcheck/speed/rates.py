"""Rates of a card and its link as intervals, from published figures times achieved efficiencies, or calibrated."""

from __future__ import annotations

from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Link
from fitcheck.speed.generations import slowness
from fitcheck.units import Interval

# (bytes of a block, B/s of its copies) of one link record, blocks ascending
Blocks = tuple[tuple[int, float], ...]


def data() -> dict[str, Any]:
    """This room's constants: achieved shares of published rates, link and host figures, each with its source."""
    return load("speed", "rates")


def _scaled(rate: float, efficiency: dict[str, Any]) -> Interval[float]:
    return Interval(rate * efficiency["low"], rate * efficiency["best"], rate * efficiency["high"])


@dataclass(frozen=True, slots=True)
class Rates:
    """What a card and its host do: FLOP/s in linear layers and in attention, B/s in elementwise kernels, in
    dequantization and in kernels that bandwidth alone limits, host seconds a kernel, a GGUF kernel and a streamed
    tensor."""

    matrix: Interval[float]
    attention: Interval[float]
    elementwise: Interval[float]
    dequantization: Interval[float]
    memory: Interval[float]
    kernel: Interval[float]
    gguf_kernel: Interval[float]
    streamed_tensor: Interval[float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What records change in the predicted seconds of one cell.

    ``factors`` are seconds measured over predicted by part ("compute", "dequantization", …), ``ratios`` the same for
    what a duration is made of as a whole ("seconds", or "prompt" and "generation"), as intervals. ``pinned`` and
    ``pageable`` hold, for each link record, (bytes, B/s) of host-to-device copies by block size.
    """

    factors: tuple[tuple[str, float], ...] = ()
    ratios: tuple[tuple[str, Interval[float]], ...] = ()
    pinned: tuple[Blocks, ...] = ()
    pageable: tuple[Blocks, ...] = ()

    def factor(self, part: str) -> float:
        """How much longer a part takes than predicted; 1 where nothing is known."""
        return dict(self.factors).get(part, 1.0) if self.factors else 1.0

    def ratio(self, name: str) -> Interval[float] | None:
        """How much longer the whole takes than predicted; ``None`` where records say nothing of it."""
        return dict(self.ratios).get(name) if self.ratios else None

    def copies(self, *, pinned: bool) -> tuple[Blocks, ...]:
        """The link records' copies from that kind of memory."""
        return self.pinned if pinned else self.pageable


def _processor_clocks(card: Card) -> float | None:
    """Multiprocessors × clock in Hz, from the published f32 rate; ``None`` where it or the lane count is unknown."""
    if card.shader_flops is None or card.compute_capability is None:
        return None
    lanes = data()["issue"]["lanes"]
    major, minor = card.compute_capability
    count = lanes.get(f"{major}.{minor}") or lanes.get(str(major)) or lanes["default"]
    return card.shader_flops / (2.0 * float(count))


def _traffic_rate(bandwidth: Interval[float], clocks: float | None, kind: str) -> Interval[float]:
    """B/s of kernels of a kind: what bandwidth allows, or what the multiprocessors can issue where that is less."""
    if clocks is None:
        return bandwidth
    issue = _scaled(clocks, data()["issue"][kind])
    return Interval(*(min(pair) for pair in zip(_ends(bandwidth), _ends(issue), strict=True)))


def _ends(interval: Interval[float]) -> tuple[float, float, float]:
    return interval.low, interval.best, interval.high


def bfloat16_compute_capability() -> tuple[int, int]:
    """The first NVIDIA generation with bfloat16 matrix units."""
    major, minor = load("speed", "torch")["compute_capability"]["bfloat16"]
    return major, minor


def emulates_bfloat16(card: Card) -> bool:
    """Whether an NVIDIA card is too old for bfloat16 matrix units."""
    capability = card.compute_capability
    return capability is not None and capability < bfloat16_compute_capability()


@cache
def rates_of(card: Card) -> Rates | None:
    """``None`` when the card's tensor rate or bandwidth is unknown: then seconds are unknown, not guessed."""
    if card.tensor_flops is None or card.memory_bandwidth is None or emulates_bfloat16(card):
        return None
    efficiency, host = data()["efficiency"], data()["host"]
    bandwidth, clocks = _scaled(card.memory_bandwidth, efficiency["memory"]), _processor_clocks(card)
    peak, factor = card.tensor_flops.value, slowness(card)
    return Rates(
        matrix=_slowed(_scaled(peak, efficiency["matrix"]), factor, peak),
        attention=_slowed(_scaled(peak, efficiency["attention"]), factor, peak),
        elementwise=_slowed(_traffic_rate(bandwidth, clocks, "elementwise"), factor, card.memory_bandwidth),
        dequantization=_slowed(_traffic_rate(bandwidth, clocks, "dequantization"), factor, card.memory_bandwidth),
        memory=_slowed(bandwidth, factor, card.memory_bandwidth),
        kernel=_scaled(1.0, host["kernel"]),
        gguf_kernel=_scaled(1.0, host["gguf_kernel"]),
        streamed_tensor=_scaled(1.0, host["streamed_tensor"]),
    )


def _slowed(rate: Interval[float], factor: Interval[float], peak: float) -> Interval[float]:
    """A rate of the reference's kind for a card that takes ``factor`` as long: as wide as either of the two is, and
    never more than the card's published ``peak``."""
    best = min(rate.best / factor.best, peak)
    low = best * min(rate.low / rate.best, factor.best / factor.high)
    high = best * max(rate.high / rate.best, factor.best / factor.low)
    return Interval(low, best, max(best, min(high, peak)))


def link_rate(link: Link, *, pinned: bool) -> Interval[float] | None:
    """Host-to-device B/s; ``None`` when neither a measurement nor generation and lanes are known."""
    if not pinned and link.measured_pageable is not None:
        return _measured_rate(link.measured_pageable)
    rate = _pinned_rate(link)
    if pinned or rate is None:
        return rate
    staging = data()["pcie"]["staging"]
    ends = ((rate.low, staging["low"]), (rate.best, staging["best"]), (rate.high, staging["high"]))
    return Interval(*(1 / (1 / by_link + 1 / by_host) for by_link, by_host in ends))


def _pinned_rate(link: Link) -> Interval[float] | None:
    if link.measured_pinned is not None:
        return _measured_rate(link.measured_pinned)
    pcie = data()["pcie"]
    lane = pcie["bytes_per_second_per_lane"].get(str(link.pcie_generation))
    if lane is None or link.pcie_lanes is None:
        return None
    return _scaled(lane * link.pcie_lanes, pcie["pinned_efficiency"])


def _measured_rate(rate: float) -> Interval[float]:
    spread = data()["measured_link"]["spread"]
    return Interval(rate * (1 - spread), rate, rate * (1 + spread))

"""Seconds of SenseNova-U1 workloads from the passes they are made of."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Gpu, Link
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Workload
from fitcheck.runtimes.sensenova.guidance import text_ends
from fitcheck.runtimes.sensenova.pass_work import denoising_pass, passes_of
from fitcheck.runtimes.sensenova.streaming import Streaming
from fitcheck.speed.duration import Duration
from fitcheck.speed.generations import times_later_images
from fitcheck.speed.overlap import HIGH, LOW, duration_of, prices_of, seconds_at
from fitcheck.speed.passes import Pass
from fitcheck.speed.rates import Calibration, data, link_rate
from fitcheck.units import Interval


def pace_of(gpu: Gpu) -> Hashable:
    """All that the seconds of any cell on a card hang on."""
    card = gpu.card
    return prices_of(card), gpu.link, card.pcie_generation, card.pcie_lanes, times_later_images(card)


def waits_for_host(
    arch: SenseNovaArchitecture, table: TensorTable, workload: Workload, placement: Streaming, card: Card
) -> bool | None:
    """Whether a slow host needs longer to issue a denoising pass than the card to run it and the link to bring its
    weights; ``None`` without rates."""
    prices = prices_of(card)
    if prices is None:
        return None
    _, best, slow = prices
    one = denoising_pass(arch, table, workload, placement)
    rate = link_rate(Link(card.pcie_generation, card.pcie_lanes), pinned=placement.pinned)
    copying = one.ahead.nbytes / rate.best if rate is not None else 0.0
    return slow.host(one) > max(sum(best.device(one)), copying)


def seconds(
    arch: SenseNovaArchitecture,
    table: TensorTable,
    workload: Workload,
    placement: Streaming,
    card: Card,
    link: Link,
    *,
    kept_share: float = 1.0,
    thinking_share: float = 0.0,
    calibration: Calibration | None = None,
) -> Duration | None:
    """Seconds of a workload without loading, in a process that makes one picture or answer after the other; ``None``
    when a rate that it needs is unknown. ``kept_share`` is the share of generation layers that mode ``fast`` keeps on
    the card, ``thinking_share`` that of understanding layers while the model thinks.

    Where nobody gave the length of text that the model writes, the ends are those of much less and much more of it.
    """
    if prices_of(card) is None:
        return None

    def plan(asked: Workload) -> tuple[Pass, ...]:
        return passes_of(arch, table, asked, placement, kept_share, thinking_share)

    found = duration_of(plan(workload), card, link, pinned=placement.pinned, calibration=calibration)
    if found is None or found.seconds is None or not workload.text_assumed:
        return found
    low, high = (
        seconds_at(end, plan(one), card, link, pinned=placement.pinned, calibration=calibration)
        for end, one in zip((LOW, HIGH), text_ends(workload), strict=True)
    )
    if low is None or high is None:
        return found
    return replace(found, seconds=Interval(low, found.seconds.best, high))


def with_pinning(found: Duration, nbytes: int, card: Card, *, first: bool) -> Duration:
    """The same duration of a process that pins ``nbytes`` bytes of weights within its first image.

    ``first`` asks about that image. Where later images of a vendor's cards were never timed, nothing tells what happens
    once from what happens always: then the seconds of any image reach up to those of the first.
    """
    if found.seconds is None or not nbytes:
        return found
    seconds, (low, best, high) = found.seconds, data()["pinning"]["seconds_per_byte"]
    once = Interval(seconds.low + nbytes * low, seconds.best + nbytes * best, seconds.high + nbytes * high)
    if first:
        seconds = once
    elif not times_later_images(card):
        seconds = Interval(seconds.low, seconds.best, once.high)
    return Duration(seconds, found.binding, found.parts, found.rates, found.amounts, once)

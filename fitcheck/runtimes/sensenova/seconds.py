"""Seconds of SenseNova-U1 workloads from the passes they are made of."""

from __future__ import annotations

from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Link
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Workload
from fitcheck.runtimes.sensenova.passes import denoising_pass, passes_of
from fitcheck.runtimes.sensenova.streaming import Streaming
from fitcheck.speed.duration import Duration
from fitcheck.speed.overlap import duration_of, prices_of
from fitcheck.speed.rates import Calibration, link_rate


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
    calibration: Calibration | None = None,
) -> Duration | None:
    """Seconds of a workload without loading, in a process that makes one picture or answer after the other; ``None``
    when a rate that it needs is unknown. ``kept_share`` is the share of generation layers that mode ``fast`` keeps on
    the card."""
    if prices_of(card) is None:
        return None
    plan = passes_of(arch, table, workload, placement, kept_share)
    return duration_of(plan, card, link, pinned=placement.pinned, calibration=calibration)

"""Seconds of SenseNova-U1 workloads: compute, dequantization and streaming of every pass, and how they overlap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Link
from fitcheck.memory.constants import tokens
from fitcheck.memory.placement import Placement, Stream
from fitcheck.memory.sensenova import Branch, branches, velocity_branches
from fitcheck.models.sensenova import GENERATION, UNDERSTANDING, SenseNovaArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.speed import work
from fitcheck.speed.branch import branch_weights
from fitcheck.speed.rates import Calibration, Rates, link_rate, rates_of
from fitcheck.speed.work import Work
from fitcheck.units import Interval


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds of one image or answer. ``compute``, ``dequantization`` and ``stream`` are best estimates of the parts
    before overlap; ``binding`` names the larger side."""

    seconds: Interval[float]
    compute: float
    dequantization: float
    stream: float
    streamed_bytes: int

    @property
    def binding(self) -> str:
        if self.stream > self.compute + self.dequantization:
            return "streaming weights over the link"
        return "dequantization" if self.dequantization > self.compute else "compute"


@dataclass(frozen=True, slots=True)
class _Pass:
    """``count`` passes of the same kind; ``stream`` bytes travel for each, overlapped with compute or not."""

    work: Work
    count: int
    stream: int
    overlap: bool


@lru_cache(maxsize=4096)
def _plan(
    arch: SenseNovaArchitecture, table: TensorTable, workload: Workload, placement: Placement, kept_share: float
) -> tuple[_Pass, ...]:
    """The passes of a workload; the same on every card, so it is counted once."""
    overlap = placement.prefetch > 0
    found = branches(arch, workload)
    plan = [_understand(arch, table, placement, branch.prefix, 0, 1, overlap) for branch in found]
    if workload.task is Task.VQA:
        new = workload.new_tokens or tokens("vqa_new_tokens")
        return (*plan, _decode(arch, table, placement, found[0].prefix + new // 2, new, overlap))
    image = arch.image_tokens(workload.width, workload.height) * workload.batch
    if workload.task is not Task.INTERLEAVE:
        return (*plan, *_denoise(arch, table, workload, placement, found, image, 1, kept_share))
    text = (workload.new_tokens or tokens("interleave_text_per_image") * workload.images) // workload.images
    for number in range(workload.images):
        past = number * (image + 2) + text * (number + 1)
        grown = tuple(
            Branch(branch.name, branch.prefix + (past if branch.name != "unconditional" else 0)) for branch in found
        )
        plan.append(_decode(arch, table, placement, grown[0].prefix, text, overlap))
        plan += _denoise(arch, table, workload, placement, grown, image, 1, kept_share)
        plan += [_understand(arch, table, placement, image + 1, branch.prefix, 1, overlap) for branch in grown[:2]]
    return tuple(plan)


def _streamed(table: TensorTable, placement: Placement, branch: str) -> int:
    """Bytes that one pass of a branch brings to the card."""
    if placement.stream is Stream.NOTHING:
        return 0
    if placement.stream is Stream.LAYER:
        return round(
            branch_weights(table, UNDERSTANDING).streamed_bytes + branch_weights(table, GENERATION).streamed_bytes
        )
    return round(branch_weights(table, branch).streamed_bytes)


def _understand(
    arch: SenseNovaArchitecture,
    table: TensorTable,
    placement: Placement,
    count: int,
    past: int,
    times: int,
    overlap: bool,
) -> _Pass:
    passes = work.forward(arch, table, UNDERSTANDING, count, past, eager=True)
    return _Pass(passes, times, _streamed(table, placement, UNDERSTANDING), overlap)


def _decode(
    arch: SenseNovaArchitecture, table: TensorTable, placement: Placement, past: int, count: int, overlap: bool
) -> _Pass:
    one = work.forward(arch, table, UNDERSTANDING, 1, past, eager=True) + work.vocabulary(arch, 1)
    return _Pass(one, count, _streamed(table, placement, UNDERSTANDING), overlap)


def _denoise(
    arch: SenseNovaArchitecture,
    table: TensorTable,
    workload: Workload,
    placement: Placement,
    found: tuple[Branch, ...],
    image: int,
    images: int,
    kept_share: float,
) -> list[_Pass]:
    velocities = velocity_branches(workload)
    overlap = placement.prefetch > 0
    stream = _streamed(table, placement, GENERATION)
    passes = []
    for branch in found[:velocities]:
        one = work.forward(arch, table, GENERATION, image, branch.prefix, eager=False) + work.head(arch, image)
        if placement.keep_generation:
            first = 1 if branch is found[0] else 0
            passes.append(_Pass(one, first * images, stream, overlap))
            passes.append(_Pass(one, (workload.steps - first) * images, round(stream * (1 - kept_share)), overlap))
        else:
            passes.append(_Pass(one, workload.steps * images, stream, overlap))
    return passes


def _compute_seconds(amount: Work, rates: Rates, which: str) -> tuple[float, float]:
    """(compute, dequantization) seconds of one pass; ``which`` picks the end of the rate intervals."""
    faster = {"low": "high", "best": "best", "high": "low"}[which]  # the low end of seconds takes the high rates
    matrix, attention, memory = (getattr(rate, faster) for rate in (rates.matrix, rates.attention, rates.memory))
    compute = amount.matrix_flops / matrix + amount.attention_flops / attention + amount.traffic / memory
    launch = amount.kernels * getattr(rates.launch, which)
    dequantization = amount.dequantization / memory
    if launch > compute + dequantization:
        compute = launch - dequantization
    return compute, dequantization


def seconds(
    arch: SenseNovaArchitecture,
    table: TensorTable,
    workload: Workload,
    placement: Placement,
    card: Card,
    link: Link,
    *,
    kept_share: float = 1.0,
    calibration: Calibration | None = None,
) -> Duration | None:
    """Seconds of a workload without loading; ``None`` when a rate that it needs is unknown.

    Synchronous streaming adds copy time to compute; prefetching hides the shorter of the two behind the longer.
    ``kept_share`` is the share of generation layers that mode ``fast`` keeps on the card.
    """
    rates = rates_of(card)
    if rates is None:
        return None
    plan = _plan(arch, table, workload, placement, kept_share)
    link_speed = link_rate(link, pinned=placement.pinned, calibration=calibration)
    if link_speed is None and any(one.stream for one in plan):
        return None
    totals: dict[str, float] = {}
    parts = (0.0, 0.0, 0.0)
    for which in ("low", "best", "high"):
        total = 0.0
        sums = [0.0, 0.0, 0.0]
        for one in plan:
            end = "best" if calibration is not None and calibration.spread is not None else which
            compute, dequantization = _compute_seconds(one.work, rates, end)
            if calibration is not None:
                compute, dequantization = compute * calibration.compute, dequantization * calibration.compute
                if calibration.spread is not None and which != "best":
                    factor = 1 + calibration.spread if which == "high" else 1 - calibration.spread
                    compute, dequantization = compute * factor, dequantization * factor
            busy = compute + dequantization
            stream = 0.0
            if one.stream and link_speed is not None:
                stream = one.stream / getattr(link_speed, {"low": "high", "best": "best", "high": "low"}[which])
            total += one.count * (max(busy, stream) if one.overlap else busy + stream)
            for index, value in enumerate((compute, dequantization, stream)):
                sums[index] += one.count * value
        totals[which] = total
        if which == "best":
            parts = (sums[0], sums[1], sums[2])
    return Duration(
        seconds=Interval(totals["low"], totals["best"], totals["high"]),
        compute=parts[0],
        dequantization=parts[1],
        stream=parts[2],
        streamed_bytes=sum(one.count * one.stream for one in plan),
    )

"""Seconds of SenseNova-U1 workloads: compute, dequantization and streaming of every pass, and how they overlap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Link
from fitcheck.memory.constants import tokens
from fitcheck.memory.placement import Placement, Stream
from fitcheck.memory.sensenova import Branch, branches, grown, velocity_branches
from fitcheck.models.sensenova import GENERATION, UNDERSTANDING, SenseNovaArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.speed import work
from fitcheck.speed.branch import branch_weights
from fitcheck.speed.rates import Calibration, Rates, data, link_rate, rates_of
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
class _Stream:
    """Weights that travel for one pass: bytes, tensors that are re-pointed, copies that are issued."""

    nbytes: int
    tensors: int
    copies: int

    def scaled(self, share: float) -> _Stream:
        return _Stream(round(self.nbytes * share), round(self.tensors * share), round(self.copies * share))


_NOTHING = _Stream(0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Pass:
    """``count`` passes of the same kind; ``stream`` bytes travel for each, overlapped with compute or not."""

    work: Work
    count: int
    stream: _Stream
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
        now = grown(found, text * (number + 1), number * (image + 2))
        plan.append(_decode(arch, table, placement, now[0].prefix, text, overlap))
        plan += _denoise(arch, table, workload, placement, now, image, 1, kept_share)
        plan += [_understand(arch, table, placement, image + 1, branch.prefix, 1, overlap) for branch in now[:2]]
    return tuple(plan)


def _streamed(arch: SenseNovaArchitecture, table: TensorTable, placement: Placement, branch: str) -> _Stream:
    """What one pass of a branch brings to the card."""
    if placement.stream is Stream.NOTHING:
        return _NOTHING
    names = (UNDERSTANDING, GENERATION) if placement.stream is Stream.LAYER else (branch,)
    weights = [branch_weights(table, name) for name in names]
    tensors = sum(one.tensors for one in weights)
    copies = arch.layers if placement.policy == "ring" else tensors
    return _Stream(round(sum(one.streamed_bytes for one in weights)), tensors, copies)


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
    return _Pass(passes, times, _streamed(arch, table, placement, UNDERSTANDING), overlap)


def _decode(
    arch: SenseNovaArchitecture, table: TensorTable, placement: Placement, past: int, count: int, overlap: bool
) -> _Pass:
    one = work.forward(arch, table, UNDERSTANDING, 1, past, eager=True) + work.vocabulary(arch, 1)
    return _Pass(one, count, _streamed(arch, table, placement, UNDERSTANDING), overlap)


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
    stream = _streamed(arch, table, placement, GENERATION)
    passes = []
    for branch in found[:velocities]:
        one = work.forward(arch, table, GENERATION, image, branch.prefix, eager=False, batch=workload.batch)
        one += work.head(arch, image)
        if placement.keep_generation:
            first = 1 if branch is found[0] else 0
            passes.append(_Pass(one, first * images, stream, overlap))
            passes.append(_Pass(one, (workload.steps - first) * images, stream.scaled(1 - kept_share), overlap))
        else:
            passes.append(_Pass(one, workload.steps * images, stream, overlap))
    return passes


def _device_seconds(amount: Work, rates: Rates, faster: str) -> tuple[float, float]:
    """(compute, dequantization) seconds of one pass on the card; ``faster`` picks the end of the rate intervals."""
    compute = amount.matrix_flops / getattr(rates.matrix, faster)
    compute += amount.attention_flops / getattr(rates.attention, faster)
    compute += amount.traffic / getattr(rates.elementwise, faster)
    return compute, amount.dequantization / getattr(rates.dequantization, faster)


def _host_seconds(one: _Pass, rates: Rates, which: str) -> float:
    """Seconds that the host needs to issue one pass."""
    issue = one.work.kernels * getattr(rates.kernel, which)
    issue += one.work.gguf_kernels * getattr(rates.gguf_kernel, which)
    return float(issue + one.stream.tensors * getattr(rates.streamed_tensor, which))


def waits_for_host(
    arch: SenseNovaArchitecture, table: TensorTable, workload: Workload, placement: Placement, card: Card
) -> bool | None:
    """Whether a slow host needs longer to issue a denoising pass than the card to run it; ``None`` without rates."""
    rates = rates_of(card)
    if rates is None:
        return None
    image = arch.image_tokens(workload.width, workload.height)
    found = branches(arch, workload)
    one = _denoise(arch, table, workload, placement, found, image, 1, 0.0)[-1]
    return _host_seconds(one, rates, "high") > sum(_device_seconds(one.work, rates, "best"))


def _together(device: float, host: float) -> float:
    """Seconds of a pass whose kernels the host issues while the card works: nearly the longer of the two."""
    exponent = data()["overlap_exponent"]["value"]
    return float((device**exponent + host**exponent) ** (1 / exponent))


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
    if link_speed is None and any(one.stream.nbytes for one in plan):
        return None
    ends = [_total(plan, rates, link_speed, calibration, which) for which in ("low", "best", "high")]
    best = ends[1]
    return Duration(
        seconds=Interval(ends[0].total, best.total, ends[2].total),
        compute=best.compute,
        dequantization=best.dequantization,
        stream=best.stream,
        streamed_bytes=sum(one.count * one.stream.nbytes for one in plan),
    )


@dataclass(slots=True)
class _Sum:
    total: float = 0.0
    compute: float = 0.0
    dequantization: float = 0.0
    stream: float = 0.0


_OPPOSITE = {"low": "high", "best": "best", "high": "low"}


def _total(
    plan: tuple[_Pass, ...],
    rates: Rates,
    link_speed: Interval[float] | None,
    calibration: Calibration | None,
    which: str,
) -> _Sum:
    """Seconds of a plan at one end of the interval: the low end of seconds takes the high ends of rates."""
    found = _Sum()
    factor, end = 1.0, which
    if calibration is not None:
        factor = calibration.compute
        if calibration.spread is not None:
            factor *= {"low": 1 - calibration.spread, "best": 1.0, "high": 1 + calibration.spread}[which]
            end = "best"
    gap = data()["copy_gap"]["value"]
    for one in plan:
        compute, dequantization = _device_seconds(one.work, rates, _OPPOSITE[end])
        host = _host_seconds(one, rates, end)
        busy = factor * _together(compute + dequantization, host)
        stream = 0.0
        if one.stream.nbytes and link_speed is not None:
            stream = one.stream.nbytes / getattr(link_speed, _OPPOSITE[which])
            stream += gap * one.stream.copies if one.overlap else 0.0
        found.total += one.count * (max(busy, stream) if one.overlap else busy + stream)
        found.compute += one.count * factor * compute
        found.dequantization += one.count * factor * dequantization
        found.stream += one.count * stream
    return found

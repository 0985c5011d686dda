"""Seconds of a pipeline from traced operations and bytes, and from the weights that travel in each mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from math import exp, hypot, log

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Link
from fitcheck.models.families.pipeline.architecture import CONTROLNET, VAE, Component
from fitcheck.models.model import Tier
from fitcheck.runtimes.base import OWN_PROGRAM, Process
from fitcheck.runtimes.diffusers.activations import Made
from fitcheck.runtimes.diffusers.attention_flops import levels_of
from fitcheck.runtimes.diffusers.attention_kernels import attention_factor
from fitcheck.runtimes.diffusers.convolution_work import convolving, moved_bytes
from fitcheck.runtimes.diffusers.format_rows import row_of
from fitcheck.runtimes.diffusers.laid_out import Laid, Layout
from fitcheck.runtimes.diffusers.offloading import BLOCK, Offload
from fitcheck.runtimes.diffusers.residency import ahead, groups_of
from fitcheck.runtimes.diffusers.stages import Stage
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.weights import ModuleWeights, weights_of
from fitcheck.speed.duration import Duration
from fitcheck.speed.overlap import duration_of, prices_of, timing_of, waited_of
from fitcheck.speed.passes import NOTHING, Pass, Streamed, Work
from fitcheck.speed.rates import Calibration
from fitcheck.speed.timing import WHOLE, Timing
from fitcheck.units import Interval

# bytes moved for each weight that is turned into 16 bit: read in a byte or less, written and read again in two
_CAST_TRAFFIC = 5


def seconds(
    layout: Layout,
    tier: Tier,
    offload: Offload,
    card: Card,
    link: Link,
    calibration: Calibration | None = None,
    process: Process = OWN_PROGRAM,
) -> Duration | None:
    """Seconds of one run without loading; ``None`` where a rate is unknown or a call was not traced. A bench that did
    not warm up also times what happens once in a process; a program's seconds are those of its later pictures."""
    if layout.untraced or prices_of(card) is None:
        return None
    once = _times_once(process)
    return _seconds(_plan(layout, tier, offload, once), tier, offload, card, link, calibration, once)


@lru_cache(maxsize=4096)
def _seconds(
    plan: _Plan, tier: Tier, offload: Offload, card: Card, link: Link, calibration: Calibration | None, once: bool
) -> Duration | None:
    """What is foreseen of a cell is asked again when it is timed."""
    found = duration_of(plan.passes, card, link, pinned=_is_pinned(offload), calibration=calibration)
    if found is None or found.seconds is None:
        return found
    span = found.seconds
    if not _is_calibrated(calibration):
        waited = waited_of(plan.passes, link, pinned=_is_pinned(offload), calibration=calibration)
        span = _widened(span, tier, offload, waited)
    span = _of_the_host(span, plan.passes, card, once=once)
    return replace(found, seconds=span, amounts=(("streamed", plan.moved),))


def timing(
    layout: Layout,
    tier: Tier,
    offload: Offload,
    card: Card,
    link: Link,
    links: Calibration | None = None,
    process: Process = OWN_PROGRAM,
) -> Timing | None:
    """What the seconds are made of at the best estimate; ``None`` where they are not known."""
    if layout.untraced:
        return None
    plan = _plan(layout, tier, offload, _times_once(process))
    return timing_of(plan.passes, card, link, pinned=_is_pinned(offload), calibration=links)


def _times_once(process: Process) -> bool:
    """Whether the seconds hold what happens once in a process."""
    return process.bench and not process.warm


def _is_pinned(offload: Offload) -> bool:
    return offload.stream and not offload.low_cpu_mem


@dataclass(frozen=True, eq=False)
class _Plan:
    """The passes, in which a byte that comes back counts as several, and what moves in bytes. Told by identity: each
    is made once."""

    passes: tuple[Pass, ...]
    moved: int


@lru_cache(maxsize=4096)
def _plan(layout: Layout, tier: Tier, offload: Offload, once: bool) -> _Plan:
    works = [stage_work(one, tier, offload) for one in layout.stages]
    plain = passes(layout, works, tier, offload, PLAIN)
    moved = sum(one.count * one.nbytes for one in plain)
    table = load(ROOM, "seconds")
    back = table["back"]
    slow = WayBack(back["mapped"], back["mapped"] if once else back["heap"])
    first = (Pass(Work(0, 0, 0, 0, table["once"]["kernels"]), 1, ""),) if once else ()
    return _Plan((*passes(layout, works, tier, offload, slow), *first), moved)


def _of_the_host(span: Interval[float], plan: Sequence[Pass], card: Card, *, once: bool) -> Interval[float]:
    """The interval with what differs between runs on one machine: how fast the host launches kernels, where the card
    waits for it, and what happens once in a process."""
    prices, table = prices_of(card), load(ROOM, "seconds")
    if prices is None:
        return span
    price = prices[1]
    waits = sum(one.count * price.host(one) for one in plan if one.branch and price.host(one) > sum(price.device(one)))
    low, high = span.low, span.high + table["launches"]["more"] * waits
    if once:
        least, best, most = (price.kernel * one for one in table["once"]["ends"])
        # the low end holds its share of what happens once, and of that share alone it goes lower
        low, high = low - low / span.best * (best - least), high + most - best
    return Interval(min(low, span.best), span.best, high)


def _is_calibrated(calibration: Calibration | None) -> bool:
    return calibration is not None and calibration.ratio(WHOLE) is not None


def _widened(
    span: Interval[float], tier: Tier, offload: Offload, waited: tuple[float, float, float]
) -> Interval[float]:
    """The interval of the card's rates with what else is not known; records say what it is all in all. What a host
    takes for pages differs between runs, and moves the seconds ``waited`` for weights from pageable memory. How slow a
    card's generation is, how fast a host's memory, and what schedulers and releases add have nothing to do with each
    other: their shares are added as squares. What a format's kernels take is no such spread: it comes on top."""
    table = load(ROOM, "seconds")
    low, high = span.low, span.high
    if not (offload.resident or (_is_pinned(offload) and offload.level != BLOCK)):
        low += (table["travelling"]["low"] - 1) * waited[0]
        high += (table["travelling"]["high"] - 1) * waited[2]
    wide, known = table["unfitted"], row_of(table["formats"], tier)
    low = span.best / exp(hypot(log(span.best / low), log(wide["low"])))
    high = span.best * exp(hypot(log(high / span.best), log(wide["high"])))
    if known is not None:
        low, high = known["low"] * low, known["high"] * high
    return Interval(low, span.best, high)


@dataclass(frozen=True, slots=True)
class WayBack:
    """As how many bytes that go a byte counts that comes back into pageable memory: into a block that the C library
    maps anew, page by page, or into its heap, whose pages are there from the second time on."""

    mapped: float
    heap: float

    def of(self, weights: ModuleWeights) -> float:
        """The mean over a component's weights."""
        heap = weights.on_heap / weights.stored if weights.stored else 0.0
        return self.mapped * (1 - heap) + self.heap * heap


PLAIN = WayBack(1.0, 1.0)


def stage_work(one: Laid, tier: Tier, offload: Offload) -> Work:
    """The work of a stage's call, whatever travels for it."""
    assert one.made is not None
    moving = not (offload.resident or offload.by_component or one.held.stays)
    hooked = groups_of(tier, offload, one.stage).count * _arrivals(one, tier, offload) if moving else 0
    return work_of(one.made, weights_of(tier, one.stage.component), one.stage, hooked)


def passes(layout: Layout, works: Sequence[Work], tier: Tier, offload: Offload, back: WayBack) -> Iterator[Pass]:
    """Every call with what travels for it; ``works`` are the stages' own."""
    arrived: set[str] = set()
    guides = {one.stage.component.name for one in layout.stages if one.stage.component.role == CONTROLNET}
    a_line = load(ROOM, "seconds")["blends"]["kernels"]
    for one, work in zip(layout.stages, works, strict=True):
        stage = one.stage
        weights = weights_of(tier, stage.component)
        if stage.blended:
            yield Pass(Work(0, 0, 0, 0, a_line * stage.blended), 1, stage.component.name)
        if offload.by_component:
            moved = NOTHING if stage.component.name in arrived else _whole(weights, 1 + back.of(weights))
            # a ControlNet is in no sequence: it sends nothing back, and stays
            sent = set() if stage.component.role == CONTROLNET else arrived - guides
            arrived = arrived - sent | {stage.component.name}
            yield Pass(work, 1, stage.component.name, waited=moved)
            if stage.count > 1:
                yield Pass(work, stage.count - 1, stage.component.name)
        elif offload.resident or one.held.stays:
            yield Pass(work, stage.count, stage.component.name)
        else:
            yield from _streamed(one, work, tier, weights, offload, back)


def _streamed(
    one: Laid, work: Work, tier: Tier, weights: ModuleWeights, offload: Offload, back: WayBack
) -> Iterator[Pass]:
    stage = one.stage
    found, name = groups_of(tier, offload, stage), stage.component.name
    # without a stream diffusers copies back what it brought; accelerate and streams drop it. What no list of blocks
    # holds never comes on a stream.
    both = 1 + back.of(weights)
    ways = (both if offload.level and not offload.stream else 1.0) * _arrivals(one, tier, offload)
    moving = Streamed(round(ways * found.total), weights.tensors, weights.tensors)
    whole = Streamed(round((both if offload.level else 1.0) * found.whole), 0, 1) if found.whole else NOTHING
    if not ahead(offload, stage):
        yield Pass(work, stage.count, name, waited=moving, paged=whole)
        return
    learning = 0 if stage.order_known else 1
    if learning:
        yield Pass(work, 1, name, waited=moving, paged=whole)
    if offload.low_cpu_mem:  # pinned on the way, which no stream hides
        yield Pass(work, stage.count - learning, name, waited=moving, paged=whole)
    else:
        yield Pass(work, stage.count - learning, name, ahead=moving, paged=whole)


def _arrivals(one: Laid, tier: Tier, offload: Offload) -> int:
    """How often weights come in one call: an autoencoder that goes through its frames one by one brings its layers for
    each of them."""
    looping = one.made is not None and one.stage.child and not groups_of(tier, offload, one.stage).whole
    return one.made.repeats if one.made is not None and looping else 1


def _whole(weights: ModuleWeights, ways: float) -> Streamed:
    return Streamed(round(ways * weights.stored), weights.tensors, weights.tensors)


def work_of(made: Made, weights: ModuleWeights, stage: Stage, groups: int) -> Work:
    """The call's work; each quantized weight is dequantized once in it, and ``groups`` have hooks of their own."""
    component = stage.component
    traffic, packed = weights.dequantized
    traffic += _CAST_TRAFFIC * weights.cast
    table = load(ROOM, "seconds")
    matrix = convolving(component) * (made.flops - made.attention)
    attention = attention_factor(component, stage.sizes) * made.attention
    launched = table["unet"]["launches"] if _is_unet(component) else 1.0
    kernels = round(launched * made.kernels) + table["group"]["kernels"] * groups
    alone = table["group_norms"]["seconds"] * made.grouped
    strided, rows = moved_bytes(made, stage)
    return Work(matrix, attention, strided, traffic, kernels, packed, alone, rows)


def _is_unet(component: Component) -> bool:
    return component.role != VAE and levels_of(component) > 0

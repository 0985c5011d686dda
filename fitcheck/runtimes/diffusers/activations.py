"""What a call makes beside its weights: from the packed traces, with what no trace sees as a widening interval.

What cuDNN takes for a convolution is an upper bound in the trace: copies of its tensors. ``data/workspaces.json`` says
which share of them a card took, with the rows it was read from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.memory import dequantization
from fitcheck.models.families.pipeline.architecture import DENOISER, TEXT_ENCODER, VAE, Component
from fitcheck.models.families.pipeline.schemes import scheme
from fitcheck.models.families.pipeline.tiers import PipelineTable
from fitcheck.models.model import Tier
from fitcheck.runtimes.diffusers import packed
from fitcheck.runtimes.diffusers.attention_flops import attention_flops
from fitcheck.runtimes.diffusers.call_pools import LoopPools, large, least_limit, least_without, results
from fitcheck.runtimes.diffusers.card_work import copied_bytes, grouped_bytes, groups_of
from fitcheck.runtimes.diffusers.lora import component_trace
from fitcheck.runtimes.diffusers.stages import CHILDREN, CONTROLLED, FORWARD, Stage, Stages
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, NOTHING, PLAIN, WORKSPACE, Event, Trace, rounded
from fitcheck.runtimes.diffusers.weights import ModuleWeights, scheme_in, stored_as, weights_of
from fitcheck.units import Interval

# a block that was left out of a shortened call, and the one that does what it does
_BLOCK, _STANDS_IN = re.compile(r"\.\d+\."), ".2."
# tokens of an encoder of images or sound, whose number is not in the question
_TOKENS = 1024
# bytes of a number that a component computes in
WIDTH = {"bf16": 2, "fp16": 2, "fp32": 4}
Sizes = tuple[tuple[str, int], ...]
Linears = Mapping[str, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Made:
    """One call's activations: ``peak`` bytes alive at once without workspaces, ``scratch`` bytes of workspaces beside
    them, ``outputs`` bytes that stay for what follows, ``flops`` (``attention`` of them in attention) and
    ``traffic`` (bytes) of the whole call, ``kernels`` that it launches. ``reserved`` are bytes that the caching
    allocator takes for the call alone, ``least`` those that it cannot do without, giving back whatever it can: where
    convolutions copy nothing (an algorithm without a workspace serves then), and where they copy as long as there is
    room. ``copied`` are bytes that convolutions copy into another order, ``grouped`` elements that one group of each
    GroupNorm has, summed. ``repeats`` is how often a loop over frames runs the layers. ``bounded`` says that another
    call or a bound stands in for one that was not traced. ``plain`` are bytes by which a release whose attention is not
    fused raises the peak."""

    peak: int
    scratch: Interval[int]
    outputs: int
    inputs: int
    flops: int
    attention: int
    traffic: int
    kernels: int
    reserved: int = 0
    least: tuple[int, int] = (0, 0)
    bounded: bool = False
    copied: int = 0
    grouped: int = 0
    repeats: int = 1
    kept: int = 0
    plain: int = 0


def made_by(stage: Stage, weights: ModuleWeights) -> Made | None:
    """Activations of one call of the stage; ``None`` where its component has no trace and none can stand in: what a
    text encoder makes is small beside its weights, so that a bound by its tokens says enough."""
    sizes = tuple(sorted(stage.sizes.items()))
    found = _made(stage.component, stage.call, sizes, weights)
    if found is None and stage.component.role not in (DENOISER, VAE):
        return _by_tokens(stage.sizes.get("text", _TOKENS), weights)
    return found


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What a call comes to whatever its weights are: ``least_without`` and ``least_with`` workspaces of convolutions,
    ``copies`` that they make beside the peak; the rest as in ``Made``."""

    peak: int
    copies: int
    outputs: int
    inputs: int
    flops: int
    attention: int
    traffic: int
    kernels: int
    reserved: int
    least_without: int
    least_with: int
    bounded: bool
    copied: int
    grouped: int
    repeats: int
    kept: int
    plain: int


def call_facts(component: Component, call: str, sizes: Sizes) -> CallFacts | None:
    """Worked out from the trace; ``None`` for what was not traced."""
    traced = _traced(component, call, sizes)
    if traced is None:
        return None
    found, name = traced
    given = dict(sizes)
    one = found.call(name, given)
    outputs, inputs, flops, moved = (one.total(kind, given) for kind in ("outputs", "inputs", "flops", "moved"))
    watched = _watched(found, name, sizes)
    events, _ = _shortened(found, name, sizes)
    without = least_without(_large(found, name, sizes))
    attention = attention_flops(component, given, CHILDREN.get(call, ""))
    return CallFacts(
        peak=watched.peak,
        copies=watched.workspace,
        outputs=max(outputs, watched.left) if component.role == TEXT_ENCODER else outputs,
        inputs=inputs,
        flops=flops + attention,
        attention=attention,
        traffic=moved,
        kernels=watched.allocations,
        reserved=watched.reserved,
        least_without=without,
        least_with=least_limit(_large(found, name, sizes), copied_shares()[1], without),
        bounded=name != call,
        copied=copied_bytes(events),
        grouped=_grouped(component, events, given.get("batch", 1)),
        repeats=one.repeats(given),
        kept=one.total("kept", given),
        plain=_plain(found, name, sizes, watched.peak),
    )


def _grouped(component: Component, events: tuple[Event, ...], batch: int) -> int:
    """Elements of one group of each GroupNorm, summed."""
    groups = groups_of(component)
    return grouped_bytes(events) // (groups * batch * WIDTH[component.dtype]) if groups else 0


def dequantizing(component: Component, call: str, sizes: Sizes, weights: ModuleWeights) -> int:
    """Bytes by which dequantizing the weights raises a call's peak, from the trace."""
    traced = _traced(component, call, sizes)
    assert traced is not None
    watched = _watched(*traced, sizes)
    return watched.peak_with(weights.linears) - watched.peak


def _traced(component: Component, call: str, sizes: Sizes) -> tuple[Trace, str] | None:
    found = component_trace(component)
    name = None if found is None else _call(found, call)
    return None if found is None or name is None else (found, name)


@lru_cache(maxsize=1024)
def _call_facts(component: Component, call: str, sizes: Sizes) -> tuple[CallFacts | None, Mapping[str, int] | None]:
    """The facts, packed where they are, and then too what dequantizing adds to the peak by scheme."""
    known = packed.call(component, call, sizes)
    if known is None:
        return call_facts(component, call, sizes), None
    return CallFacts(*known["facts"]), known["more"]


@lru_cache(maxsize=64)
def _plain(found: Trace, call: str, sizes: Sizes, peak: int) -> int:
    """Bytes by which the call with every score kept is above ``peak``; 0 where attention is the same either way."""
    if call + PLAIN not in found.calls:
        return 0
    return max(_watched(found, call + PLAIN, sizes).peak - peak, 0)


def _shortened(found: Trace, call: str, sizes: Sizes) -> tuple[tuple[Event, ...], int]:
    """The events of a call, long runs of equal blocks cut, and the number of allocations that were left out."""
    given = dict(sizes)
    events, left_out = found.call(call, given).shortened(given)
    return tuple(events), left_out


@lru_cache(maxsize=64)
def _large(found: Trace, call: str, sizes: Sizes) -> tuple[Event, ...]:
    """What of these events matters to the caching allocator."""
    return tuple(large(_shortened(found, call, sizes)[0]))


@lru_cache(maxsize=2048)
def _made(component: Component, call: str, sizes: Sizes, weights: ModuleWeights) -> Made | None:
    facts, by_scheme = _call_facts(component, call, sizes)
    if facts is None:
        return None
    if by_scheme is not None and weights.scheme is not None:
        more = by_scheme.get(weights.scheme, 0)
    else:
        more = dequantizing(component, call, sizes, weights)
    return Made(
        peak=facts.peak + more,
        scratch=workspace(facts.copies, dict(sizes).get("batch", 1)) + largest_cast(weights),
        outputs=facts.outputs,
        inputs=facts.inputs,
        flops=facts.flops,
        attention=facts.attention,
        traffic=facts.traffic,
        kernels=facts.kernels,
        reserved=facts.reserved + more,
        least=(facts.least_without + more, facts.least_with + more),
        bounded=facts.bounded,
        copied=facts.copied,
        grouped=facts.grouped,
        repeats=facts.repeats,
        kept=facts.kept,
        plain=facts.plain,
    )


def _call(found: Trace, call: str) -> str | None:
    """The call, else one that takes at least as much: an autoencoder's decoder is larger than its encoder, a denoiser's
    first call than later ones. What a ControlNet adds to a denoiser's call nothing stands in for."""
    if has_call(found, call):
        return call
    if call == CONTROLLED:
        return None
    other = "decode" if call == "encode" else FORWARD
    return other if has_call(found, other) else None


def _by_tokens(tokens: int, weights: ModuleWeights) -> Made:
    """A bound for an encoder that was not traced: bytes a token, and two operations for each weight and token."""
    low, best, high = (tokens * one for one in load(ROOM, "bounds")["encoder_bytes_a_token"]["bytes"])
    parameters = weights.stored // 2
    return Made(
        peak=low,
        scratch=Interval(0, best - low, high - low),
        outputs=best // 4,
        inputs=0,
        flops=2 * parameters * tokens,
        attention=0,
        traffic=weights.stored + 20 * best,
        least=(low, high),
        kernels=2 * weights.tensors,
        bounded=True,
    )


def has_call(found: Trace, call: str) -> bool:
    """Whether the call was traced, for one picture or several."""
    return call in found.calls or f"{call}@batched" in found.calls


@dataclass(frozen=True, slots=True)
class Watched:
    """One call watched once: most bytes alive, and for every module the bytes alive when it is entered and most of them
    while it runs; allocations stand for kernels, because nearly each kernel makes one tensor. ``workspace`` is how far
    convolutions rise above the peak where each copies all that it may, ``left`` what is still there at the end:
    results, and what hangs on them, such as a language model's keys and values."""

    peak: int
    workspace: int
    entered: Mapping[str, int]
    inside: Mapping[str, int]
    allocations: int
    reserved: int
    left: int

    def peak_with(self, quantized: Linears) -> int:
        """Most bytes alive when the weights of ``quantized`` are dequantized for their products. These modules are
        leaves, so no two of them are dequantized at a time."""
        top = self.peak
        for name, (kind, elements) in quantized.items():
            path = name if name in self.entered else _BLOCK.sub(_STANDS_IN, name, count=1)
            if path not in self.entered:
                continue
            cost = dequantization.cost(kind)
            top = max(
                top,
                self.entered[path] + round(cost.peak_bytes * elements),
                self.inside[path] + rounded(round(cost.linear_bytes * elements)),
            )
        return top


@lru_cache(maxsize=256)
def _watched(found: Trace, call: str, sizes: Sizes) -> Watched:
    alive: list[int] = []
    pool = LoopPools(copied_shares()[1])
    entered: dict[str, int] = {}
    inside: dict[str, int] = {}
    live = top = since = highest = 0
    events, left_out = _shortened(found, call, sizes)
    for event in events:
        pool.take(event)
        if event.kind == ALLOCATE:
            alive.append(rounded(event.value))
            live += alive[-1]
            since = max(since, live)
        elif event.kind == FREE:
            live -= alive[event.value]
        elif event.kind == WORKSPACE:
            highest = max(highest, live + rounded(event.value))
        elif event.kind == ENTER:
            top, since = max(top, since), live
            entered[event.path] = max(entered.get(event.path, 0), live)
        else:
            # of a leaf this is all that happened since it was entered
            inside[event.path] = max(inside.get(event.path, 0), since)
            top = max(top, since)
    top = max(top, since)
    made = len(alive) + left_out
    return Watched(top, max(highest - top, 0), entered, inside, made, pool.reserved, live)


def turn_of(stages: Iterable[Stage], tier: Tier | None = None) -> packed.Turn:
    """The calls of stages one after the other, in a ``tier`` with the scheme of weights that are dequantized."""
    return tuple(
        (one.component, one.call, tuple(sorted(one.sizes.items())), one.beside, _dequantized_as(tier, one.component))
        for one in stages
    )


def _dequantized_as(tier: Tier | None, component: Component) -> str:
    if tier is None or not isinstance(tier.tensors, PipelineTable):
        return ""
    how = scheme_in(tier.tensors, component)
    return how.name if how.format == "gguf" else ""


@lru_cache(maxsize=512)
def held_in_turn(stages: Stages, tier: Tier) -> tuple[int, ...]:
    """Bytes that the caching allocator holds after the call of each stage, one after the other without giving anything
    back, packed where it is; 0 for one whose call was not traced. Weights that are dequantized make temporaries among
    the call's tensors."""
    if not isinstance(tier.tensors, PipelineTable):
        return _in_turn((*one[:4], weights_of(tier, one[0]).linears) for one in turn_of(stages))
    asked = turn_of(stages, tier)
    known = packed.in_turn(asked)
    return live_in_turn(asked) if known is None else known


def live_in_turn(turn: packed.Turn) -> tuple[int, ...]:
    """The same worked out from the traces."""
    return _in_turn((*one[:4], stored_as(one[0], scheme(one[4])).linears if one[4] else NOTHING) for one in turn)


def _in_turn(calls: Iterable[tuple[Component, str, Sizes, float, Linears]]) -> tuple[int, ...]:
    pool, found = LoopPools(copied_shares()[1]), []
    for component, name, sizes, beside, linears in calls:
        traced = _traced(component, name, sizes)
        if traced is None:
            found.append(0)
            continue
        given = dict(sizes)
        pool.hold(results(beside, traced[0].call(traced[1], given).total("outputs", given)))
        events = large(_shortened(*traced, sizes)[0], linears) if linears else _large(*traced, sizes)
        for event in events:
            pool.take(event)
        pool.finish()
        found.append(pool.reserved)
    return tuple(found)


def is_traced(component: Component) -> bool:
    """Whether the component's calls were traced."""
    return packed.has_calls(component) or component_trace(component) is not None


def largest_cast(weights: ModuleWeights) -> Interval[int]:
    """Bytes of the largest weight in 16 bit, which may or may not lie there while most activations do."""
    most = rounded(2 * weights.largest_cast)
    return Interval(0, most, most)


def workspace(copies: int, batch: int = 1) -> Interval[int]:
    """Bytes that convolutions take beside the peak, of ``copies`` traced ones for ``batch`` pictures."""
    low, best, high = copied_shares()
    beyond = load(ROOM, "workspaces")["unmeasured"]
    least = beyond["low"] if batch > beyond["batch"] else low
    return Interval(round(least * copies), round(best * copies), round(high * copies))


@cache
def copied_shares() -> tuple[float, float, float]:
    """Of the copies that a trace says of convolutions the share that a card makes: at least, at best, at most."""
    low, best, high = load(ROOM, "workspaces")["share"]
    return low, best, high

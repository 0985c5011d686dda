"""A pipeline's memory by phases: the weights that each stage holds and what its call makes. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from operator import add
from typing import NamedTuple

from fitcheck.data_files import load
from fitcheck.memory.constants import cublas_workspace
from fitcheck.memory.context import context
from fitcheck.memory.footprint import CardMemory, Footprint, Phase
from fitcheck.models.families.pipeline.architecture import TEXT_ENCODER, PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Workload
from fitcheck.runtimes.base import OWN_PROGRAM, Process
from fitcheck.runtimes.diffusers.activations import held_in_turn
from fitcheck.runtimes.diffusers.host import host_memory
from fitcheck.runtimes.diffusers.laid_out import Laid, Layout, beside_calls, layout_of
from fitcheck.runtimes.diffusers.offloading import LEAF, Offload
from fitcheck.runtimes.diffusers.replay import pictures_of, replayed, shares_a_pool
from fitcheck.runtimes.diffusers.residency import held
from fitcheck.runtimes.diffusers.stages import Stages, stages_of
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.units import Interval


def estimate(
    arch: PipelineArchitecture,
    tier: Tier,
    workload: Workload,
    offload: Offload,
    capability: tuple[int, int] | None,
    *,
    process: Process = OWN_PROGRAM,
) -> Footprint:
    """Memory of one cell on a card of that compute capability, in bytes."""
    stages = stages_of(arch, workload, offload)
    layout = layout_of(arch, tier, offload, stages, later=process.warm)
    laid = layout.stages
    scratch = cublas_workspace(capability)
    phases = tuple(_phase(one, scratch) for one in _widest(laid))
    table = load(ROOM, "allocator")
    error = table["allocated_error"]["value"]
    ends = [max(end) + scratch for end in zip(*[one.ends for one in laid], strict=True)]
    allocated = Interval(round(ends[0] * (1 - error)), ends[1], round(ends[2] * (1 + error)))
    reserved = _reserved(allocated, laid, stages, offload, scratch, arch, later=process.warm)
    beside = context(capability, second_stream=offload.stream)
    required = _required(laid, scratch, reserved)
    memory = CardMemory(phases, allocated, reserved, reserved + beside, required + beside)
    return Footprint(
        cards=(memory,),
        host=host_memory(arch, tier, offload, workload, process),
        disk=tier.disk_bytes,
        assumptions=_assumptions(arch, workload, laid),
        layout=layout,
    )


def at_least(
    arch: PipelineArchitecture,
    tier: Tier,
    workload: Workload,
    offload: Offload,
    capability: tuple[int, int] | None,
    *,
    process: Process = OWN_PROGRAM,
) -> Footprint:
    """The host as ``estimate`` has it, and of the card what its best estimates are never below: weights as they are
    stored there, and tensors of the calls, whatever the allocator makes of them."""
    stages = stages_of(arch, workload, offload)
    calls = _least_of_calls(arch, tier, stages)
    # where layers come one by one the widest may be gone when the call makes most
    at_once = max if offload.level == LEAF or offload.empties else add
    there = [
        min(one.resident, one.segments) + at_once(one.window, call)
        for one, call in zip(held(arch, tier, offload, stages), calls, strict=True)
    ]
    beside = cublas_workspace(capability) + context(capability, second_stream=offload.stream).best
    least = Interval.exactly(max(there) + beside)
    memory = CardMemory((), least, least, least, least)
    return Footprint((memory,), host_memory(arch, tier, offload, workload, process), tier.disk_bytes)


@lru_cache(maxsize=1024)
def _least_of_calls(arch: PipelineArchitecture, tier: Tier, stages: Stages) -> tuple[int, ...]:
    """Bytes that each stage's call takes at least beside its weights. Nothing of one whose widest layer may be gone
    when most is there, as a text encoder's may."""
    return tuple(
        kept if made is None or made.bounded or stage.component.role == TEXT_ENCODER
        else kept + made.inputs + min(made.peak, made.least[1])
        for stage, (made, kept, _, _, _) in zip(stages, beside_calls(arch, tier, stages), strict=True)
    )  # fmt: skip


def least_of(footprint: Footprint) -> Footprint:
    """What is certain where calls were not traced: the weights that a stage holds, and the least of the host."""
    cards = []
    for one in footprint.cards:
        phases = tuple(Phase(phase.name, phase.resident, phase.window, 0, 0, 0) for phase in one.phases)
        most = Interval.exactly(max(phase.allocated for phase in phases))
        cards.append(CardMemory(phases, most, most, most, most))
    host = footprint.host
    return replace(footprint, cards=tuple(cards), host=replace(host, total=Interval.exactly(host.total.low)))


def _widest(laid: tuple[Laid, ...]) -> Iterable[Laid]:
    """Of each phase the stage that allocates most, in order."""
    widest: dict[str, Laid] = {}
    for one in laid:
        phase = one.held.stage.phase
        if phase not in widest or one.ends[1] > widest[phase].ends[1]:
            widest[phase] = one
    return widest.values()


def _phase(one: Laid, scratch: int) -> Phase:
    workspace = one.scratch.best
    activations = one.ends[1] - one.held.resident - one.held.window - workspace
    return Phase(one.stage.phase, one.held.resident, one.held.window, 0, activations, scratch + workspace)


def _reserved(
    allocated: Interval[int], laid: tuple[Laid, ...], stages: Stages, offload: Offload, workspace: int,
    arch: PipelineArchitecture, *, later: bool,
) -> Interval[int]:  # fmt: skip
    """What the allocator holds at its widest, for ``later`` pictures of a process with one before. A cache that is
    emptied behind every tensor that moves is not emptied within a layer: at most nothing is given back."""
    table = load(ROOM, "allocator")
    if offload.empties:
        ends = (allocated.low, allocated.best, allocated.high)
        low, best, high = (round(one * (1 + more)) for one, more in zip(ends, table["emptied"]["share"], strict=True))
        kept = workspace + max(_held_back(one, 0) + one.held.window for one in laid)
        return Interval(low, best, max(high, round(kept * (1 + table["reserved_error"]["value"]))))
    widest = _replayed_whole(arch, laid, stages, offload) or _in_turn(laid, stages, offload)
    held, sure = (workspace + one for one in ((widest.later, widest.later) if later else (widest.first, widest.sure)))
    off = table["reserved_error"]["loops" if any(_loops(one) for one in laid) else "value"]
    more = max(one.scratch.high - one.scratch.best for one in laid)
    best = max(held, allocated.best)
    # what weights leave free in their segments serves the calls, at most all of it
    pieces = max(one.held.segments - one.held.resident for one in laid)
    # a release that does not fuse a text encoder's attention fills other pieces of the cache
    plain = max((one.made.plain for one in laid if one.made is not None), default=0)
    low = min(best, max(allocated.low, round(sure * (1 - off)) - pieces - plain))
    most = workspace + max(widest.first, widest.later)
    told = max(one.told for one in laid)
    most = round(most * (1 + off) + table["reserved_workspaces"]["factor"] * more) + plain + told
    return Interval(low, best, max(best, allocated.high, most))


class _Widest(NamedTuple):
    """Bytes that the allocator holds at its widest for the ``first`` picture of a process and once there are ``later``
    ones, and what of the first is ``sure`` where a bound stands in for a call."""

    first: int
    later: int
    sure: int


def _replayed_whole(
    arch: PipelineArchitecture, laid: tuple[Laid, ...], stages: Stages, offload: Offload
) -> _Widest | None:
    """Weights that come without a stream share the calls' pool: the run is replayed. ``None`` where none do, and where
    a component has no trace."""
    if not shares_a_pool(offload):
        return None
    found = [replayed(arch, laid[0].tier, offload, stages, pictures) for pictures in pictures_of(offload)]
    known = [one for one in found if one is not None]
    return _Widest(known[0], known[-1], known[0]) if len(known) == len(found) else None


def _in_turn(laid: tuple[Laid, ...], stages: Stages, offload: Offload) -> _Widest:
    """The segments of weights, and what the calls' tensors take when one call comes after the other (after an emptied
    cache each for itself), with the pools of copying streams beside."""
    cached = held_in_turn(stages, laid[0].tier)
    first, later = (
        [
            _held_back(one, before) + pool
            for one, before, pool in zip(laid, cached, _pools(laid, offload, again=again), strict=True)
        ]
        for again in (False, True)
    )
    sure = max((one for one, stage in zip(first, laid, strict=True) if not stage.bounded), default=0)
    return _Widest(max(first), max(later), sure)


def _loops(one: Laid) -> bool:
    return one.made is not None and one.made.repeats > 1


def _pools(laid: tuple[Laid, ...], offload: Offload, *, again: bool) -> Iterator[int]:
    """Bytes of weights that move at each stage, as the allocator has them: with a stream in segments of each
    component's own stream, which stay; without one what is there now."""
    widest: dict[str, int] = {}
    for one in laid:
        moved = one.again if again else one.moved
        pool = one.held.window + (one.held.more if again else 0) if moved is None else moved.pool
        name = one.stage.component.name
        widest[name] = max(widest.get(name, 0), pool)
        yield sum(widest.values()) if offload.stream else one.held.window


def _required(laid: tuple[Laid, ...], scratch: int, reserved: Interval[int]) -> Interval[int]:
    """The least that works: convolutions take no workspace where there is no room for one, and what the allocator
    cannot hand out again because it lies in pieces counts. At the low end nothing lies in pieces; at the high end all
    workspaces are taken."""
    table = load(ROOM, "allocator")
    low, best, high = [max(end) + scratch for end in zip(*[one.least for one in laid], strict=True)]
    low = round(low * (1 - table["allocated_error"]["value"]))
    high = max(best, round(high * (1 + table["required_over"]["value"])))
    # a run takes no less than it needs
    return Interval(min(low, best, reserved.low), min(best, reserved.best), min(high, reserved.high))


def _held_back(one: Laid, cached: int) -> int:
    """Bytes of the allocator's segments at the end of a stage, ``cached`` where it never gave any back, with the tiles
    that lay there; what a denoiser's first step left in that pool lies beside."""
    made = one.made
    inputs = 0 if made is None else made.inputs
    own = one.prefix + one.tiles
    beside = own + (0 if made is None else made.reserved) if one.held.fresh or not cached else cached + one.prefix
    return one.held.segments + max(beside + inputs, one.after) + one.kept - own


def _assumptions(arch: PipelineArchitecture, workload: Workload, laid: tuple[Laid, ...]) -> tuple[str, ...]:
    denoise = next((one.stage for one in laid if "tokens" in one.stage.sizes), None)
    notes = []
    if denoise is not None:
        notes.append(f"the denoiser sees {denoise.sizes['tokens']} image tokens and {denoise.sizes['text']} of text")
    bounded = Layout(laid).bounded
    if bounded:
        notes.append(f"what {', '.join(bounded)} makes was not traced for every call: a bound stands in")
    if arch.experts is not None:
        notes.append("two denoisers share the steps; half of them each is assumed")
    return tuple(notes)

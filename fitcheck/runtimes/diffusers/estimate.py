"""A pipeline's memory by phases: the weights that each stage holds and what its call makes. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace
from functools import lru_cache
from operator import add
from typing import NamedTuple

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.memory.constants import cublas_workspace
from fitcheck.memory.context import context
from fitcheck.memory.footprint import CardMemory, Footprint, Phase
from fitcheck.models.families.pipeline.architecture import CONNECTOR, TEXT_ENCODER, PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Workload
from fitcheck.runtimes.base import OWN_PROGRAM, Process
from fitcheck.runtimes.diffusers.activations import Made, held_in_turn, largest_cast, made_by, workspace
from fitcheck.runtimes.diffusers.host import host_memory
from fitcheck.runtimes.diffusers.moving_layers import LayersMoved, layers_moved
from fitcheck.runtimes.diffusers.offloading import Offload
from fitcheck.runtimes.diffusers.replay import replayed, shares_a_pool
from fitcheck.runtimes.diffusers.residency import Held, held
from fitcheck.runtimes.diffusers.stages import BATCHED, DECODE, DENOISE, ENCODE, Stage, Stages, is_upcast, stages_of
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.weights import ModuleWeights, weights_of
from fitcheck.units import Interval

_NO_SCRATCH = Interval.exactly(0)


@dataclass(slots=True)  # not frozen: ten thousand are made for one list
class Laid:
    """One stage on the card: weights held, what its call makes (``None``: not traced), bytes that lie there from
    earlier stages (``kept``, of which ``tiles`` are results of the same kind and ``prefix`` what a denoiser's first
    step left in the pool of calls), and ``after`` the call, while the pipeline makes of its results what it keeps of
    them. Where layers come and go one by one, ``moved`` is the call with them, and ``again`` the same in later pictures
    of a process. ``ends`` are the bytes allocated at the low end of the interval, at best, and at the high end."""

    held: Held
    made: Made | None
    kept: int
    tier: Tier
    after: int = 0
    prefix: int = 0
    tiles: int = 0
    moved: LayersMoved | None = None
    again: LayersMoved | None = None
    scratch: Interval[int] = field(init=False, compare=False)
    ends: tuple[int, int, int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self.scratch = self._scratch()
        self.ends = self._ends()

    @property
    def stage(self) -> Stage:
        """The calls."""
        return self.held.stage

    @property
    def alone(self) -> int:
        """Bytes with this component's weights alone on the card: what a program takes that runs nothing else."""
        made, weights = self.made, weights_of(self.tier, self.stage.component)
        there = weights.on_card if self.held.resident else self.held.window
        return there + (0 if made is None else made.peak + made.inputs)

    def _scratch(self) -> Interval[int]:
        if self.made is None or self.moved is None:
            return _NO_SCRATCH if self.made is None else self.made.scratch
        weights = weights_of(self.tier, self.stage.component)
        return workspace(self.moved.copies, self.stage.sizes) + largest_cast(weights)

    @property
    def brought(self) -> int:
        """Bytes by which weights that come and go raise what the call takes at most."""
        return self.held.window if self.made is None or self.moved is None else self.moved.peak - self.made.peak

    @property
    def more(self) -> int:
        """Bytes by which they raise it further in later pictures of a process."""
        if self.moved is None or self.again is None:
            return self.held.more
        return max(self.again.peak - self.moved.peak, 0)

    def _ends(self) -> tuple[int, int, int]:
        """Of a call that a bound stands in for nothing is sure but its weights. Of groups of blocks the widest need not
        be there in the widest moment of the call."""
        held, made, moved = self.held, self.made, self.moved
        there = held.resident + self.kept
        if made is None:
            return (there + held.window,) * 3
        scratch, inputs, after = self.scratch, made.inputs, self.after
        whole = made.peak + self.brought + inputs
        moving = whole if moved is not None else max(held.window, made.peak) + inputs
        low = held.window if made.bounded else max(moving + scratch.low, after)
        return (
            there + low,
            there + max(whole + scratch.best, after),
            there + max(whole + scratch.high + self.more, after),
        )

    @property
    def bounded(self) -> bool:
        """Whether a bound stands in for a call that was not traced."""
        return self.made is not None and self.made.bounded

    @property
    def least(self) -> tuple[int, int, int]:
        """Bytes that the allocator cannot do without, giving back whatever it can, as ``ends``: of tensors alone, in
        whole segments of the weights that stay and as the call fragments them, convolutions copying where there is
        room, and where they copy as much as they may, and layers lie in segments that nothing else is handed."""
        made, held = self.made, self.held
        if made is None:
            beside = held.window + self.kept
            return held.resident + beside, held.segments + beside, held.segments + beside
        without, limit = made.least
        there = self.kept + made.inputs + self.brought
        most = limit + self.scratch.high - self.scratch.best
        best = held.segments + max(there + limit, self.kept + self.after)
        low = min(held.segments + there + without, held.resident + there + made.peak)
        low = self.ends[0] if self.bounded else low
        apart = max(self.brought, held.window) + self.more
        return low, best, max(best, held.segments + there - self.brought + most + apart)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What the estimate laid out, for the duration and the details; told apart by identity, so that it is quick to
    look up."""

    stages: tuple[Laid, ...]

    @property
    def untraced(self) -> tuple[str, ...]:
        """Components of which no call was traced."""
        return tuple(dict.fromkeys(one.stage.component.name for one in self.stages if one.made is None))

    @property
    def bounded(self) -> tuple[str, ...]:
        """Components whose call another one stands in for."""
        return tuple(dict.fromkeys(one.stage.component.name for one in self.stages if one.bounded))


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
    laid = _laid(arch, tier, offload, stages)
    scratch = cublas_workspace(capability)
    phases = tuple(_phase(one, scratch) for one in _widest(laid))
    table = load(ROOM, "allocator")
    error = table["allocated_error"]["value"]
    ends = [max(end) + scratch for end in zip(*[one.ends for one in laid], strict=True)]
    allocated = Interval(round(ends[0] * (1 - error)), ends[1], round(ends[2] * (1 + error)))
    reserved = _reserved(allocated, laid, stages, offload, scratch, arch)
    beside = context(capability, second_stream=offload.stream)
    required = _required(laid, scratch, reserved)
    memory = CardMemory(phases, allocated, reserved, reserved + beside, required + beside)
    return Footprint(
        cards=(memory,),
        host=host_memory(arch, tier, offload, workload, process),
        disk=tier.disk_bytes,
        assumptions=_assumptions(arch, workload, laid),
        layout=Layout(laid),
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
    there = [min(one.resident, one.segments) + one.window for one in held(arch, tier, offload, stages)]
    beside = cublas_workspace(capability) + context(capability, second_stream=offload.stream).best
    least = Interval.exactly(max(map(add, there, calls)) + beside)
    memory = CardMemory((), least, least, least, least)
    return Footprint((memory,), host_memory(arch, tier, offload, workload, process), tier.disk_bytes)


@lru_cache(maxsize=1024)
def _least_of_calls(arch: PipelineArchitecture, tier: Tier, stages: Stages) -> tuple[int, ...]:
    """Bytes that each stage's call takes at least beside its weights. Nothing of one whose widest layer may be gone
    when most is there, as a text encoder's may."""
    return tuple(
        kept if made is None or made.bounded or stage.component.role == TEXT_ENCODER
        else kept + made.inputs + min(made.peak, made.least[1])
        for stage, (made, kept, _, _, _) in zip(stages, _beside(arch, tier, stages), strict=True)
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


def _laid(arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: Stages) -> tuple[Laid, ...]:
    """The stages with what lies beside them."""
    there = list(held(arch, tier, offload, stages))
    weights = [weights_of(tier, one.component) for one in stages]
    moving = layers_moved(offload, list(zip(there, weights, strict=True)))
    both = zip(there, weights, _beside(arch, tier, stages), moving, strict=True)
    return tuple(
        [
            Laid(one, made, kept + _upcast(one, its), tier, after, prefix, tiles, *moved)
            for one, its, (made, kept, after, prefix, tiles), moved in both
        ]
    )


class BesideCall(NamedTuple):
    """What a stage's call makes, bytes that lie there from earlier ones and behind it, and of the earlier ones those of
    a denoiser's first step and of tiles (``Laid``)."""

    made: Made | None
    kept: int
    after: int
    prefix: int
    tiles: int


@lru_cache(maxsize=1024)
def _beside(arch: PipelineArchitecture, tier: Tier, stages: Stages) -> tuple[BesideCall, ...]:
    """What lies beside each stage's call in any mode.

    Of what encoders hand out the pipeline keeps what it hands to connectors, or without them to the denoiser: that is
    an input of the denoiser's calls, and still there while the result is decoded. What it handed to connectors stays
    there as well, and where the denoiser is called twice a step the other prompt."""
    made = [made_by(one, weights_of(tier, one.component)) for one in stages]
    handed = max(
        (one.inputs for one, stage in zip(made, stages, strict=True) if one and stage.phase == DENOISE), default=0
    )
    connectors = _connectors(made, stages)
    connected, other = connectors.kept, _other_prompt(arch, stages, made)
    encoded = prefix = 0
    found = []
    for stage, makes in zip(stages, made, strict=True):
        keeps = makes.kept if makes is not None and stage.phase == DENOISE else 0
        # of both prompts where two calls are made; what the last one keeps is among what it makes
        prefix += keeps * (stage.count - 1)
        before = connectors.other if stage.component.role == CONNECTOR else min(encoded, connectors.prompt or handed)
        kept = {ENCODE: before, DENOISE: connected + other, DECODE: handed + connected + other}.get(stage.phase, 0)
        tiles = tiled_bytes(stage, makes)
        found.append(BesideCall(makes, kept + prefix + tiles, _stacked(stage, makes, connectors.prompt), prefix, tiles))
        prefix += keeps
        encoded += makes.outputs if makes is not None else 0
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Connected:
    """Bytes that connectors are handed: of one ``prompt``, and of both of a guided pipeline in one tensor beside the
    negative one (``other``) that it was joined from (pipelines/ltx2/pipeline_ltx2.py), ``kept`` in all."""

    prompt: int = 0
    other: int = 0
    kept: int = 0


def _connectors(made: Sequence[Made | None], stages: Stages) -> Connected:
    for one, stage in zip(made, stages, strict=True):
        if one is not None and stage.component.role == CONNECTOR:
            guided = stage.sizes.get("batch", 1) > 1
            prompt = one.inputs // 2 if guided else one.inputs
            return Connected(prompt, prompt if guided else 0, one.inputs + (prompt if guided else 0))
    return Connected()


def _stacked(stage: Stage, made: Made | None, prompt: int) -> int:
    """Bytes behind a text encoder's call where connectors follow: its results are still there while the states of all
    layers are stacked into one tensor and that is repeated (pipelines/ltx2/pipeline_ltx2.py,
    _get_gemma_prompt_embeds)."""
    if made is None or stage.component.role != TEXT_ENCODER or not prompt:
        return 0
    return made.outputs + 2 * prompt


def _other_prompt(arch: PipelineArchitecture, stages: Stages, made: Sequence[Made | None]) -> int:
    """Bytes of the prompt that is not an input where the denoiser is called for one after the other; at most what it is
    handed."""
    encoders = [one.component.name for one in stages if one.component.role == TEXT_ENCODER]
    if arch.guidance == BATCHED or len(encoders) == len(set(encoders)):
        return 0
    both = zip(made, stages, strict=True)
    inputs = [(one.inputs, stage) for one, stage in both if one is not None and stage.phase == DENOISE]
    return max((taken for taken, _ in inputs), default=0)


def tiled_bytes(stage: Stage, made: Made | None) -> int:
    """Bytes of tiles and slices that lie beside a call's own; more than the call itself takes, where joining does."""
    if made is None:
        return 0
    return max(round(stage.beside * made.outputs), round(stage.joined * made.outputs) - made.peak)


def _upcast(held: Held, weights: ModuleWeights) -> int:
    """Bytes by which an autoencoder that is on the card grows when it is upcast for the decode."""
    return weights.on_card if held.resident and is_upcast(held.stage.component, held.stage.call) else 0


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
    arch: PipelineArchitecture,
) -> Interval[int]:  # fmt: skip
    """What the allocator holds at its widest: the segments of weights, and what the calls' tensors take when one call
    comes after the other (after an emptied cache each for itself), with workspaces and the pools of copying streams
    beside. A cache that is emptied behind every tensor that moves is not emptied within a layer: at most nothing is
    given back. Layers without a stream share the calls' pool: that is replayed whole."""
    table = load(ROOM, "allocator")
    if offload.empties:
        ends = (allocated.low, allocated.best, allocated.high)
        low, best, high = (round(one * (1 + more)) for one, more in zip(ends, table["emptied"]["share"], strict=True))
        kept = workspace + max(_held_back(one, 0) + one.held.window for one in laid)
        return Interval(low, best, max(high, round(kept * (1 + table["reserved_error"]["value"]))))
    in_turn = held_in_turn(stages)
    once, again = (
        [
            workspace + _held_back(one, cached) + pool
            for one, cached, pool in zip(laid, in_turn, _pools(laid, offload, again=later), strict=True)
        ]
        for later in (False, True)
    )
    held = max(once)
    sure = max((one for one, stage in zip(once, laid, strict=True) if not stage.bounded), default=0)
    if shares_a_pool(offload):
        whole = replayed(arch, laid[0].tier, offload, stages)
        if whole is not None:
            held = sure = workspace + whole
            again = [held]
    off = table["reserved_error"]["loops" if any(_loops(one) for one in laid) else "value"]
    more = max(one.scratch.high - one.scratch.best for one in laid)
    best = max(held, allocated.best)
    # what weights leave free in their segments serves the calls, at most all of it
    pieces = max(one.held.segments - one.held.resident for one in laid)
    low = min(best, max(allocated.low, round(sure * (1 - off)) - pieces))
    most = round(max(held, *again) * (1 + off) + table["reserved_workspaces"]["factor"] * more)
    return Interval(low, best, max(best, allocated.high, most))


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
    that lay there."""
    made = one.made
    alone = 0 if made is None else made.reserved
    inputs = 0 if made is None else made.inputs
    own = one.prefix + one.tiles
    alone += own
    beside = alone if one.held.fresh else max(alone, cached)
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

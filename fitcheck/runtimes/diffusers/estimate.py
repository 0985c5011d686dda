"""A pipeline's memory by phases: the weights that each stage holds and what its call makes. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.memory.constants import cublas_workspace
from fitcheck.memory.context import context
from fitcheck.memory.footprint import CardMemory, Footprint, Phase
from fitcheck.models.families.pipeline.architecture import CONNECTOR, TEXT_ENCODER, PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Workload
from fitcheck.runtimes.base import OWN_PROGRAM, Process
from fitcheck.runtimes.diffusers.activations import Made, held_in_turn, made_by
from fitcheck.runtimes.diffusers.host import host_memory
from fitcheck.runtimes.diffusers.offloading import LEAF, Offload
from fitcheck.runtimes.diffusers.residency import Held, held
from fitcheck.runtimes.diffusers.stages import BATCHED, DECODE, DENOISE, ENCODE, Stage, Stages, stages_of
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.weights import ModuleWeights, weights_of
from fitcheck.units import Interval


@dataclass(frozen=True, slots=True)
class Laid:
    """One stage on the card: weights held, what its call makes (``None``: not traced), bytes that lie there from
    earlier stages, and ``after`` the call, while the pipeline makes of its results what it keeps of them."""

    held: Held
    made: Made | None
    kept: int
    tier: Tier
    after: int = 0

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

    def beside(self, call: int) -> int:
        """Bytes of what comes and goes and of a call that takes so many. A text encoder's table of words is the widest
        layer and the first: of the call only what it hands on is there then, which is no more than the result."""
        held, made = self.held, self.made
        if not held.later or made is None or made.bounded:
            return held.window + call
        return max(held.window + min(made.outputs, call), held.later + call)

    def allocated(self, end: str) -> int:
        """Bytes at one end of the interval; of a call that a bound stands in for nothing is sure but its weights. At
        the low end the widest layer is not there in the widest moment of the call; at the high end two are."""
        made = self.made if end != "low" or not self.bounded else None
        if made is None:
            return self.held.resident + self.held.window + self.kept
        moving = max(self.held.window, made.peak) if end == "low" else self.beside(made.peak)
        call = moving + made.inputs + int(getattr(made.scratch, end))
        more = self.held.more if end == "high" else 0
        return self.held.resident + self.kept + max(call + more, self.after)

    @property
    def bounded(self) -> bool:
        """Whether a bound stands in for a call that was not traced."""
        return self.made is not None and self.made.bounded

    @property
    def least(self) -> Interval[int]:
        """Bytes that the allocator cannot do without, giving back whatever it can: of tensors alone, in whole segments
        of the weights that stay and as the call fragments them, convolutions copying where there is room, and where
        they copy as much as they may."""
        made, held = self.made, self.held
        if made is None:
            beside = held.window + self.kept
            return Interval(held.resident + beside, held.segments + beside, held.segments + beside)
        without, limit = made.least
        there = self.kept + made.inputs
        most = limit + made.scratch.high - made.scratch.best
        best = held.segments + max(there + self.beside(limit), self.kept + self.after)
        low = min(held.segments + there + self.beside(without), held.resident + there + self.beside(made.peak))
        low = self.allocated("low") if self.bounded else low
        return Interval(low, best, max(best, held.segments + there + self.beside(most) + held.more))


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
    laid = tuple(_laid(arch, tier, offload, stages))
    scratch = cublas_workspace(capability)
    phases = tuple(_phase(one, scratch) for one in _widest(laid))
    table = load(ROOM, "allocator")
    error = table["allocated_error"]["value"]
    ends = [max(one.allocated(end) for one in laid) + scratch for end in ("low", "best", "high")]
    allocated = Interval(round(ends[0] * (1 - error)), ends[1], round(ends[2] * (1 + error)))
    reserved = _reserved(allocated, laid, stages, offload, scratch)
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


def least_of(footprint: Footprint) -> Footprint:
    """What is certain where calls were not traced: the weights that a stage holds, and the least of the host."""
    cards = []
    for one in footprint.cards:
        phases = tuple(Phase(phase.name, phase.resident, phase.window, 0, 0, 0) for phase in one.phases)
        most = Interval.exactly(max(phase.allocated for phase in phases))
        cards.append(CardMemory(phases, most, most, most, most))
    host = footprint.host
    return replace(footprint, cards=tuple(cards), host=replace(host, total=Interval.exactly(host.total.low)))


def _laid(arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: tuple[Stage, ...]) -> Iterator[Laid]:
    """The stages with what lies beside them. Of what encoders hand out the pipeline keeps what it hands to connectors,
    or without them to the denoiser: that is an input of the denoiser's calls, and still there while the result is
    decoded. What it handed to connectors stays there as well, and where the denoiser is called twice a step the other
    prompt."""
    found = [(one, weights_of(tier, one.stage.component)) for one in held(arch, tier, offload, stages)]
    made = [made_by(one.stage, weights) for one, weights in found]
    handed = max(
        (one.inputs for one, stage in zip(made, stages, strict=True) if one and stage.phase == DENOISE), default=0
    )
    connectors = _connectors(made, stages)
    connected, other = connectors.kept, _other_prompt(arch, stages, made)
    encoded = 0
    for (one, weights), makes in zip(found, made, strict=True):
        connecting = one.stage.component.role == CONNECTOR
        before = connectors.other if connecting else min(encoded, connectors.prompt or handed)
        beside = {ENCODE: before, DENOISE: connected + other, DECODE: handed + connected + other}
        kept = beside.get(one.stage.phase, 0)
        after = _stacked(one, makes, connectors.prompt)
        yield Laid(one, makes, kept + tiled_bytes(one.stage, makes) + _upcast(one.stage, weights), tier, after)
        encoded += makes.outputs if makes is not None else 0


@dataclass(frozen=True, slots=True)
class Connected:
    """Bytes that connectors are handed: of one ``prompt``, and of both of a guided pipeline in one tensor beside the
    negative one (``other``) that it was joined from (pipelines/ltx2/pipeline_ltx2.py), ``kept`` in all."""

    prompt: int = 0
    other: int = 0
    kept: int = 0


def _connectors(made: Sequence[Made | None], stages: tuple[Stage, ...]) -> Connected:
    for one, stage in zip(made, stages, strict=True):
        if one is not None and stage.component.role == CONNECTOR:
            guided = stage.sizes.get("batch", 1) > 1
            prompt = one.inputs // 2 if guided else one.inputs
            return Connected(prompt, prompt if guided else 0, one.inputs + (prompt if guided else 0))
    return Connected()


def _stacked(one: Held, made: Made | None, prompt: int) -> int:
    """Bytes behind a text encoder's call where connectors follow: its results are still there while the states of all
    layers are stacked into one tensor and that is repeated (pipelines/ltx2/pipeline_ltx2.py,
    _get_gemma_prompt_embeds)."""
    if made is None or one.stage.component.role != TEXT_ENCODER or not prompt:
        return 0
    return made.outputs + 2 * prompt


def _other_prompt(arch: PipelineArchitecture, stages: tuple[Stage, ...], made: Sequence[Made | None]) -> int:
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


def _upcast(stage: Stage, weights: ModuleWeights) -> int:
    """Bytes by which an autoencoder stored in 16 bit grows when it is upcast for the decode."""
    component = stage.component
    return weights.on_card if stage.child and component.dtype == "fp32" != component.stored else 0


def _widest(laid: tuple[Laid, ...]) -> Iterator[Laid]:
    """Of each phase the stage that allocates most, in order."""
    for name in dict.fromkeys(one.stage.phase for one in laid):
        yield max((one for one in laid if one.stage.phase == name), key=lambda one: one.allocated("best"))


def _phase(one: Laid, scratch: int) -> Phase:
    workspace = 0 if one.made is None else one.made.scratch.best
    activations = one.allocated("best") - one.held.resident - one.held.window - workspace
    return Phase(one.stage.phase, one.held.resident, one.held.window, 0, activations, scratch + workspace)


def _reserved(
    allocated: Interval[int], laid: tuple[Laid, ...], stages: Stages, offload: Offload, workspace: int
) -> Interval[int]:
    """What the allocator holds at its widest: the segments of weights, and what the calls' tensors take when one call
    comes after the other (after an emptied cache each for itself), with workspaces and streamed weights beside. A cache
    that is emptied behind every tensor that moves is not emptied within a layer: at most nothing is given back."""
    table = load(ROOM, "allocator")
    off = table["reserved_error"]["value"]
    if offload.empties:
        ends = (allocated.low, allocated.best, allocated.high)
        low, best, high = (round(one * (1 + more)) for one, more in zip(ends, table["emptied"]["share"], strict=True))
        kept = workspace + max(_held_back(one, 0) + one.held.window for one in laid)
        return Interval(low, best, max(high, round(kept * (1 + off))))
    in_turn, widest = held_in_turn(stages), _widest_windows(laid)
    held = []
    for streamed in table["streamed_windows"]["share"]:
        moving = streamed if offload.stream else 1.0
        beside = zip(laid, in_turn, widest, strict=True)
        held.append(workspace + max(_held_back(one, cached) + round(moving * window) for one, cached, window in beside))
    factor = table["reserved_workspaces"]["factor"]
    scratch = [Interval.exactly(0) if one.made is None else one.made.scratch for one in laid]
    more = max(one.high - one.best for one in scratch)
    if offload.level == LEAF and not offload.stream:
        shares, moment = table["unstreamed_leaves"]["share"], widest_moment(laid, stages)
        held[:2] = [workspace + round(share * moment) for share in shares[:2]]
    best = max(held[1], allocated.best)
    sure = allocated.low if any(one.bounded for one in laid) else round(held[0] * (1 - off))
    low = min(best, max(allocated.low, sure))
    return Interval(low, best, max(best, allocated.high, round(held[2] * (1 + off) + factor * more)))


def widest_moment(laid: tuple[Laid, ...], stages: Stages) -> int:
    """Bytes of the allocator's segments at the widest moment of the calls, with what moves in each of them beside."""
    both = zip(laid, held_in_turn(stages), strict=True)
    return max(_held_back(one, cached) + one.held.window for one, cached in both)


def _required(laid: tuple[Laid, ...], scratch: int, reserved: Interval[int]) -> Interval[int]:
    """The least that works: convolutions take no workspace where there is no room for one, and what the allocator
    cannot hand out again because it lies in pieces counts. At the low end nothing lies in pieces; at the high end all
    workspaces are taken."""
    table = load(ROOM, "allocator")
    least = [one.least for one in laid]
    low, best, high = (max(getattr(one, end) for one in least) + scratch for end in ("low", "best", "high"))
    low = round(low * (1 - table["allocated_error"]["value"]))
    high = max(best, round(high * (1 + table["required_over"]["value"])))
    # a run takes no less than it needs
    return Interval(min(low, best, reserved.low), min(best, reserved.best), min(high, reserved.high))


def _widest_windows(laid: tuple[Laid, ...]) -> tuple[int, ...]:
    """Bytes of the widest window up to each stage: its segments stay cached."""
    return tuple(accumulate((one.held.window for one in laid), max))


def _held_back(one: Laid, cached: int) -> int:
    """Bytes of the allocator's segments at the end of a stage, ``cached`` where it never gave any back."""
    made = one.made
    alone = 0 if made is None else made.reserved
    inputs = 0 if made is None else made.inputs
    beside = alone if one.held.fresh else max(alone, cached)
    return one.held.segments + max(beside + inputs, one.after) + one.kept


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

"""A pipeline's memory by phases: the weights that each stage holds and what its call makes. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from fitcheck.data_files import load
from fitcheck.memory.constants import cublas_workspace
from fitcheck.memory.context import context
from fitcheck.memory.footprint import CardMemory, Footprint, Phase
from fitcheck.models.families.pipeline.architecture import CONNECTOR, PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Workload
from fitcheck.runtimes.base import OWN_PROGRAM, Process
from fitcheck.runtimes.diffusers.activations import Made, held_in_turn, made_by
from fitcheck.runtimes.diffusers.host import host_memory
from fitcheck.runtimes.diffusers.offloading import Offload
from fitcheck.runtimes.diffusers.residency import Held, held
from fitcheck.runtimes.diffusers.stages import DECODE, DENOISE, ENCODE, Stage, Stages, stages_of
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.weights import ModuleWeights, weights_of
from fitcheck.units import Interval


@dataclass(frozen=True, slots=True)
class Laid:
    """One stage on the card: weights held, what its call makes (``None``: not traced), bytes that lie there from
    earlier stages."""

    held: Held
    made: Made | None
    kept: int
    tier: Tier

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

    def allocated(self, end: str) -> int:
        """Bytes at one end of the interval; of a call that a bound stands in for nothing is sure but its weights."""
        made = self.made if end != "low" or not self.bounded else None
        beside = 0 if made is None else made.peak + made.inputs + int(getattr(made.scratch, end))
        return self.held.resident + self.held.window + self.kept + beside

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
        beside = held.window + self.kept + (0 if made is None else made.inputs)
        if made is None:
            return Interval(held.resident + beside, held.segments + beside, held.segments + beside)
        without, limit = made.least
        most = limit + made.scratch.high - made.scratch.best
        best = held.segments + beside + limit
        low = min(held.segments + beside + without, held.resident + beside + made.peak)
        low = self.allocated("low") if self.bounded else low
        return Interval(low, best, held.segments + beside + most)


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
    """The stages with what lies beside them. Of what encoders hand out the pipeline keeps what it hands to the
    denoiser: that is an input of the denoiser's calls, and still there while the result is decoded. What it handed to
    connectors stays there as well."""
    found = [(one, weights_of(tier, one.stage.component)) for one in held(arch, tier, offload, stages)]
    made = [made_by(one.stage, weights) for one, weights in found]
    handed = max(
        (one.inputs for one, stage in zip(made, stages, strict=True) if one and stage.phase == DENOISE), default=0
    )
    encoded, connected = 0, _connected(made, stages)
    for (one, weights), makes in zip(found, made, strict=True):
        beside = {ENCODE: min(encoded, handed), DENOISE: connected, DECODE: handed + connected}
        kept = beside.get(one.stage.phase, 0)
        yield Laid(one, makes, kept + tiled_bytes(one.stage, makes) + _upcast(one.stage, weights), tier)
        encoded += makes.outputs if makes is not None else 0


def _connected(made: Sequence[Made | None], stages: tuple[Stage, ...]) -> int:
    """Bytes of the prompts that went into connectors: both of a guided pipeline in one tensor, and the negative one
    that it was joined from (pipelines/ltx2/pipeline_ltx2.py)."""
    found = [
        one.inputs + (one.inputs // 2 if stage.sizes.get("batch", 1) > 1 else 0)
        for one, stage in zip(made, stages, strict=True)
        if one is not None and stage.component.role == CONNECTOR
    ]
    return max(found, default=0)


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
    made = one.made
    activations = one.kept + (0 if made is None else made.peak + made.inputs)
    workspace = 0 if made is None else made.scratch.best
    return Phase(one.stage.phase, one.held.resident, one.held.window, 0, activations, scratch + workspace)


def _reserved(
    allocated: Interval[int], laid: tuple[Laid, ...], stages: Stages, offload: Offload, workspace: int
) -> Interval[int]:
    """What the allocator holds at its widest: the segments of weights, and what the calls' tensors take when one call
    comes after the other (after an emptied cache each for itself), with workspaces and streamed weights beside."""
    table = load(ROOM, "allocator")
    if offload.empties:
        ends = (allocated.low, allocated.best, allocated.high)
        return Interval(*(round(one * (1 + more)) for one, more in zip(ends, table["emptied"]["share"], strict=True)))
    in_turn, widest = held_in_turn(stages), _widest_windows(laid)
    held = []
    for streamed in table["streamed_windows"]["share"]:
        moving = streamed if offload.stream else 1.0
        beside = zip(laid, in_turn, widest, strict=True)
        held.append(workspace + max(_held_back(one, cached) + round(moving * window) for one, cached, window in beside))
    off, factor = table["reserved_error"]["value"], table["reserved_workspaces"]["factor"]
    scratch = [Interval.exactly(0) if one.made is None else one.made.scratch for one in laid]
    more = max(one.high - one.best for one in scratch)
    best = max(held[1], allocated.best)
    sure = allocated.low if any(one.bounded for one in laid) else round(held[0] * (1 - off))
    low = min(best, max(allocated.low, sure))
    return Interval(low, best, max(best, allocated.high, round(held[2] * (1 + off) + factor * more)))


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
    return one.held.segments + beside + inputs + one.kept


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

"""What a pipeline's stages hold on the card and what their calls make beside it. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from functools import lru_cache
from typing import NamedTuple

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.pipeline.architecture import CONNECTOR, CONTROLNET, TEXT_ENCODER, PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.runtimes.diffusers.activations import WIDTH, Made, largest_cast, made_by, workspace
from fitcheck.runtimes.diffusers.computed_weights import left_by_calls
from fitcheck.runtimes.diffusers.moving_layers import LayersMoved, layers_moved
from fitcheck.runtimes.diffusers.offloading import Offload
from fitcheck.runtimes.diffusers.residency import Held, held
from fitcheck.runtimes.diffusers.stages import BATCHED, CONTROLLED, DECODE, DENOISE, ENCODE, Stage, Stages, is_upcast
from fitcheck.runtimes.diffusers.weights import ModuleWeights, weights_of
from fitcheck.units import Interval

_NO_SCRATCH = Interval.exactly(0)


@dataclass(slots=True)  # not frozen: ten thousand are made for one list
class Laid:
    """One stage on the card: weights held, what its call makes (``None``: not traced), bytes that lie there from
    earlier stages (``kept``, of which ``tiles`` are results of the same kind and ``prefix`` what a denoiser's first
    step left in the pool of calls), ``told`` bytes that are still there of the step before where a program is told of
    each step, and ``after`` the call and without the tiles, while the pipeline makes of its
    results what it keeps of them. Where layers come and go one by one, ``moved`` is the call with them, and ``again``
    the same in later pictures of a process. ``ends`` are the bytes allocated at the low end of the interval, at best,
    and at the high end."""

    held: Held
    made: Made | None
    kept: int
    tier: Tier
    after: int = 0
    prefix: int = 0
    tiles: int = 0
    told: int = 0
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
        """Bytes of workspaces beside the widest moment."""
        if self.made is None or self.moved is None:
            return _NO_SCRATCH if self.made is None else self.made.scratch
        weights = weights_of(self.tier, self.stage.component)
        return workspace(self.moved.copies) + largest_cast(weights)

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
        scratch, inputs, after = self.scratch, made.inputs, self.after - self.tiles
        whole = made.peak + self.brought + inputs
        moving = whole if moved is not None else max(held.window, made.peak) + inputs
        low = held.window if made.bounded else max(moving + scratch.low, after)
        return (
            there + low,
            there + max(whole + scratch.best, after),
            there + max(whole + scratch.high + self.more + made.plain + self.told, after),
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
        best = held.segments + max(there + limit, self.kept + self.after - self.tiles)
        low = min(held.segments + there + without, held.resident + there + made.peak)
        low = self.ends[0] if self.bounded else low
        apart = max(self.brought, held.window) + self.more
        return low, best, max(best, held.segments + there - self.brought + most + apart + made.plain + self.told)


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


@lru_cache(maxsize=2048)
def layout_of(
    arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: Stages, *, later: bool = False
) -> Layout:
    """The stages with what lies beside them, one and the same for a question: what follows from it is kept by it;
    ``later`` for a picture of a process that made one before."""
    return Layout(laid_out(arch, tier, offload, stages, later=later))


def laid_out(
    arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: Stages, *, later: bool = False
) -> tuple[Laid, ...]:
    """The stages with what lies beside them."""
    there = list(held(arch, tier, offload, stages))
    weights = [weights_of(tier, one.component) for one in stages]
    moving = layers_moved(offload, list(zip(there, weights, strict=True)))
    computed = left_by_calls(stages, later=later)
    beside = beside_calls(arch, tier, stages)
    both = zip(there, weights, beside, _told(stages, beside), moving, computed, strict=True)
    return tuple(
        [
            Laid(one, made, kept + _upcast(one, its) + left, tier, after, prefix, tiles, told, *moved)
            for one, its, (made, kept, after, prefix, tiles), told, moved, left in both
        ]
    )


def _told(stages: Stages, beside: Sequence[BesideCall]) -> Iterator[int]:
    """Of each stage what a ControlNet made in the step before and a callback at its end keeps: pipelines find what they
    hand it by ``locals()``, which up to Python 3.12 holds every local variable until it is called again."""
    before = 0
    for stage, one in zip(stages, beside, strict=True):
        yield before if stage.call == CONTROLLED and stage.order_known else 0
        before = 0 if one.made is None else one.made.outputs


class BesideCall(NamedTuple):
    """What a stage's call makes, bytes that lie there from earlier ones and behind it, and of the earlier ones those of
    a denoiser's first step and of tiles (``Laid``)."""

    made: Made | None
    kept: int
    after: int
    prefix: int
    tiles: int


@lru_cache(maxsize=1024)
def beside_calls(arch: PipelineArchitecture, tier: Tier, stages: Stages) -> tuple[BesideCall, ...]:
    """What lies beside each stage's call in any mode.

    Of what encoders hand out the pipeline keeps what it hands to connectors, or without them to the denoiser: that is
    an input of the denoiser's calls, and still there while the result is decoded. What it handed to connectors stays
    there as well, and where the denoiser is called twice a step the other prompt."""
    made = [made_by(one, weights_of(tier, one.component)) for one in stages]
    handed = max(
        (one.inputs for one, stage in zip(made, stages, strict=True) if one and stage.phase == DENOISE), default=0
    )
    connectors, guide = _connectors(made, stages), _guide(made, stages)
    connected, other = connectors.kept, _other_prompt(arch, stages, made)
    encoded = prefix = 0
    found = []
    for stage, makes in zip(stages, made, strict=True):
        keeps = makes.kept if makes is not None and stage.phase == DENOISE else 0
        # of both prompts where two calls are made; what the last one keeps is among what it makes
        prefix += keeps * (stage.count - 1)
        before = connectors.other if stage.component.role == CONNECTOR else min(encoded, connectors.prompt or handed)
        kept = {
            ENCODE: before,
            DENOISE: connected + other + _around(stage, guide),
            DECODE: handed + connected + other + guide.handed,
        }.get(stage.phase, 0)
        tiles = tiled_bytes(stage, makes)
        after = _stacked(stage, makes, connectors.prompt) + _finished(arch, stage, makes)
        found.append(BesideCall(makes, kept + prefix + tiles, after, prefix, tiles))
        prefix += keeps
        encoded += makes.outputs if makes is not None else 0
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Guide:
    """Bytes around a ControlNet: what it ``made`` in a step is there until it has made the next, and what it is
    ``handed`` alone, the picture that guides, lies beside the denoiser's calls and to the end."""

    made: int = 0
    handed: int = 0


def _around(stage: Stage, guide: Guide) -> int:
    """Bytes beside one of the two calls of a step."""
    if stage.component.role != CONTROLNET:
        return guide.handed
    return guide.made if stage.order_known else 0


def _guide(made: Sequence[Made | None], stages: Stages) -> Guide:
    for position, (one, stage) in enumerate(zip(made, stages, strict=True)):
        if one is not None and stage.component.role == CONTROLNET and (follows := made[position + 1]) is not None:
            # the denoiser is handed the same and what the ControlNet made of it
            return Guide(one.outputs, max(0, one.inputs + one.outputs - follows.inputs))
    return Guide()


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


def _finished(arch: PipelineArchitecture, stage: Stage, made: Made | None) -> int:
    """Bytes of a decoded result while the pipeline brings it to its range in single precision, in copies beside it."""
    if made is None or not stage.finished:
        return 0
    wide = arch.finished_in * 4 / WIDTH[stage.component.dtype]
    return round(stage.finished * (1 + wide) * made.outputs)


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

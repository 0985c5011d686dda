"""What lies on the card while a stage runs: weights that stay, and weights that come and go."""

from __future__ import annotations

from collections.abc import Iterator

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.pipeline.architecture import TEXT_ENCODER, PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.runtimes.diffusers.offloading import BLOCK, Offload
from fitcheck.runtimes.diffusers.stages import ENCODE, Stage
from fitcheck.runtimes.diffusers.weights import Groups, ModuleWeights, block_groups, leaf_groups, weights_of


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of weights on the card during a stage: ``resident`` for all of it in ``segments`` of the allocator,
    ``window`` at the widest moment of what moves, ``later`` at the widest after a text encoder's first layer where
    that is the widest (0 where it is not), ``more`` what is beside the window in later pictures of a process, whose
    first forward knows the order of the layers already. ``fresh`` says that the cache was emptied before."""

    stage: Stage
    resident: int
    window: int = 0
    segments: int = 0
    fresh: bool = False
    later: int = 0
    more: int = 0


def held(arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: tuple[Stage, ...]) -> Iterator[Held]:
    """The weights on the card, stage by stage."""
    if offload.resident:
        return _all(arch, tier, offload, stages)
    if offload.by_component:
        return _one_after_the_other(arch, tier, offload, stages)
    return (_moving(tier, offload, stage) for stage in stages)


def _all(arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: tuple[Stage, ...]) -> Iterator[Held]:
    parts = {one.name: weights_of(tier, one) for one in arch.components}
    encoders = {one.name for one in arch.components if one.role == TEXT_ENCODER}
    for stage in stages:
        gone = offload.free_text_encoder and stage.phase != ENCODE
        there = [one for name, one in parts.items() if not (gone and name in encoders)]
        yield _held(stage, there, fresh=False)


def _one_after_the_other(
    arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: tuple[Stage, ...]
) -> Iterator[Held]:
    """Model offload: at every call a component's hook sends the one before it in the sequence back, and brings its own
    where it is not there yet (accelerate's ``CpuOffload.pre_forward``). One that is in no sequence comes when it is
    called and stays; an excluded one is there from the start."""
    there = {one.name: one for one in arch.components}
    sequence = [name for name in arch.offload_sequence if name in there]
    present = {name for name in arch.excluded_from_offload if name in there}
    for stage in stages:
        name = stage.component.name
        if name in sequence[1:]:
            present.discard(sequence[sequence.index(name) - 1])
        present.add(name)
        yield _held(stage, [weights_of(tier, there[one]) for one in sorted(present)], fresh=True)


def _held(stage: Stage, there: list[ModuleWeights], *, fresh: bool) -> Held:
    return Held(stage, sum(one.on_card for one in there), 0, sum(one.segments for one in there), fresh)


def _moving(tier: Tier, offload: Offload, stage: Stage) -> Held:
    groups = groups_of(tier, offload, stage)
    window = groups.neighbours if ahead(offload, stage) else groups.largest
    first = stage.component.role == TEXT_ENCODER and window == groups.largest == groups.first
    learns = offload.stream and not stage.child
    return Held(
        stage,
        groups.whole,
        window,
        groups.whole,
        later=groups.later if first else 0,
        more=groups.neighbours - window if learns else 0,
    )


def groups_of(tier: Tier, offload: Offload, stage: Stage) -> Groups:
    """What moves together in the stage."""
    component = stage.component
    weights = weights_of(tier, component)
    if offload.level != BLOCK:
        return leaf_groups(weights, stage.child)
    blocks = 1 if offload.stream else offload.blocks
    return block_groups(weights, component, blocks, stage.child if stage.child in component.recursed else "")


def ahead(offload: Offload, stage: Stage) -> bool:
    """Whether the next group is copied while one computes: from a component's second forward on, and never in an
    autoencoder, whose decoder is not called through ``forward``, so that the order is never learned."""
    return offload.stream and stage.count > 1 and not stage.child

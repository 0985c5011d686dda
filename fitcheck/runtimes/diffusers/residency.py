"""What lies on the card while a stage runs: weights that stay, and weights that come and go."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.pipeline.architecture import TEXT_ENCODER, PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.runtimes.diffusers.offloading import BLOCK, Offload
from fitcheck.runtimes.diffusers.stages import ENCODE, Stage
from fitcheck.runtimes.diffusers.weight_groups import Groups, block_groups, leaf_groups
from fitcheck.runtimes.diffusers.weights import ModuleWeights, left_behind, parts_of, scales_left, weights_of


@dataclass(slots=True)  # not frozen: ten thousand are made for one list
class Held:
    """Bytes of weights on the card during a stage: ``resident`` for all of it in ``segments`` of the allocator,
    ``window`` at the widest moment of what moves, ``more`` what is beside the window in later pictures of a process,
    whose first forward knows the order of the layers already. ``fresh`` says that the cache was emptied before,
    ``stays`` that the component's weights lie there although those of others move."""

    stage: Stage
    resident: int
    window: int = 0
    segments: int = 0
    fresh: bool = False
    more: int = 0
    stays: bool = False


def held(arch: PipelineArchitecture, tier: Tier, offload: Offload, stages: tuple[Stage, ...]) -> Iterator[Held]:
    """The weights on the card, stage by stage."""
    parts = parts_of(tier, arch)
    if offload.resident:
        return _all(arch, parts, offload, stages)
    if offload.by_component:
        left = sum([left_behind(tier, one.name) for one in arch.components])
        return _one_after_the_other(arch, parts, stages, left)
    tables = sum([one.buffers for one in parts.values()]) if offload.empties else 0
    staying = _sums([parts[name] for name in arch.ungrouped]) if offload.level else (0, 0)
    scales = sum([scales_left(tier, one.name) for one in arch.components]) if offload.level else 0
    staying = staying[0] + scales, staying[1] + scales
    return (
        Held(stage, staying[0], 0, staying[1], stays=True)
        if offload.level and stage.component.name in arch.ungrouped
        else _beside(_moving(parts[stage.component.name], offload, stage, tables), *staying)
        for stage in stages
    )


def _all(
    arch: PipelineArchitecture, parts: Mapping[str, ModuleWeights], offload: Offload, stages: tuple[Stage, ...]
) -> Iterator[Held]:
    encoders = {one.name for one in arch.components if one.role == TEXT_ENCODER and offload.free_text_encoder}
    everything = _sums(parts.values())
    left = _sums([one for name, one in parts.items() if name not in encoders]) if encoders else everything
    for stage in stages:
        on_card, segments = everything if stage.phase == ENCODE else left
        yield Held(stage, on_card, 0, segments)


def _one_after_the_other(
    arch: PipelineArchitecture, parts: Mapping[str, ModuleWeights], stages: tuple[Stage, ...], left: int
) -> Iterator[Held]:
    """Model offload, beside ``left`` bytes that never go: at every call a component's hook sends the one before it in
    the sequence back, and brings its own where it is not there yet (accelerate's ``CpuOffload.pre_forward``). One that
    is in no sequence comes when it is called and stays; an excluded one is there from the start."""
    sequence = [name for name in arch.offload_sequence if name in parts]
    present = {name for name in arch.excluded_from_offload if name in parts}
    for stage in stages:
        name = stage.component.name
        if name in sequence[1:]:
            present.discard(sequence[sequence.index(name) - 1])
        present.add(name)
        on_card, segments = _sums([parts[one] for one in present])
        yield Held(stage, on_card + left, 0, segments + left, fresh=True)


def _sums(there: Collection[ModuleWeights]) -> tuple[int, int]:
    """Bytes on the card, and of its allocator's segments."""
    return sum([one.on_card for one in there]), sum([one.segments for one in there])


def _moving(weights: ModuleWeights, offload: Offload, stage: Stage, tables: int) -> Held:
    """One component's layers, beside ``tables`` of all: sequential offload leaves buffers on the card (``cpu_offload``
    with ``offload_buffers=False``: diffusers 0.42.1, pipelines/pipeline_utils.py, enable_sequential_cpu_offload)."""
    groups = _groups(weights, offload, stage)
    window = groups.neighbours if ahead(offload, stage) else groups.largest
    more = groups.neighbours - window if learns(offload, stage) else 0
    there = groups.whole + tables
    return Held(stage, there, window, there, more=more)


def _beside(moving: Held, on_card: int, segments: int) -> Held:
    """The same beside components that stay."""
    moving.resident += on_card
    moving.segments += segments
    return moving


def groups_of(tier: Tier, offload: Offload, stage: Stage) -> Groups:
    """What moves together in the stage."""
    return _groups(weights_of(tier, stage.component), offload, stage)


def _groups(weights: ModuleWeights, offload: Offload, stage: Stage) -> Groups:
    component = stage.component
    if offload.level != BLOCK:
        return leaf_groups(weights, stage.child)
    blocks = 1 if offload.stream else offload.blocks
    return block_groups(weights, component, blocks, stage.child if stage.child in component.recursed else "")


def ahead(offload: Offload, stage: Stage) -> bool:
    """Whether the next group is copied while one computes: from a component's second forward on, and never in an
    autoencoder, whose decoder is not called through ``forward``, so that the order is never learned."""
    return learns(offload, stage) and (stage.count > 1 or stage.order_known)


def learns(offload: Offload, stage: Stage) -> bool:
    """Whether a second forward of the component brings layers ahead."""
    return offload.stream and not stage.child

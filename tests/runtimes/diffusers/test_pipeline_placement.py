"""Where weights lie in each mode: diffusers 0.42.1's own rules, with numbers computed by hand or published."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.errors import OptionError
from fitcheck.memory.allocator_blocks import pinned_block
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.diffusers.offloading import (
    MODES,
    Offload,
    offload_of,
    placement_of,
    policy_of,
    recorded_placement,
)
from fitcheck.runtimes.diffusers.options import PipelineOptions
from fitcheck.runtimes.diffusers.residency import Held, groups_of, held
from fitcheck.runtimes.diffusers.stages import DENOISE, stages_of
from fitcheck.runtimes.diffusers.weight_groups import block_groups, leaf_groups
from fitcheck.runtimes.diffusers.weights import module_path, weights_of
from fitcheck.runtimes.diffusers.workloads import workload_for
from fitcheck.units import GIB

USUAL = PipelineOptions()


def pipeline(slug: str) -> PipelineArchitecture:
    found = catalog.get(slug).architecture
    assert isinstance(found, PipelineArchitecture)
    return found


def plain(slug: str) -> Tier:
    return catalog.get(slug).tiers[0]


def usual(slug: str, task: Task | None = None, options: PipelineOptions = USUAL) -> Workload:
    arch = pipeline(slug)
    return workload_for(task or arch.tasks[0], arch, plain(slug), options)


def offload(mode: str, options: PipelineOptions = USUAL) -> Offload:
    return offload_of(placement_of(mode, options))


def laid(slug: str, mode: str, task: Task | None = None, tier: Tier | None = None) -> list[Held]:
    arch, one = pipeline(slug), offload(mode)
    stages = tuple(stages_of(arch, usual(slug, task), one))
    return list(held(arch, tier or plain(slug), one, stages))


def names_at(slug: str, one: Held, tier: Tier) -> set[frozenset[str]]:
    """Every set of components whose weights add up to what is resident."""
    sizes = {component.name: weights_of(tier, component).on_card for component in pipeline(slug).components}
    names = list(sizes)
    subsets = [frozenset(n for i, n in enumerate(names) if mask >> i & 1) for mask in range(1 << len(names))]
    return {subset for subset in subsets if sum(sizes[name] for name in subset) == one.resident}


def test_model_offload_holds_one_component_of_the_sequence_at_a_time() -> None:
    stages = laid("flux.1-dev", "model")
    assert [one.stage.component.name for one in stages] == ["text_encoder", "text_encoder_2", "transformer", "vae"]
    tier = plain("flux.1-dev")
    for one in stages:
        assert names_at("flux.1-dev", one, tier) == {frozenset({one.stage.component.name})}


def test_each_call_sends_the_component_before_it_back_also_where_its_own_is_there_already() -> None:
    # guidance encodes twice through both encoders: the second call of the second sends the first one back
    stages = laid("sdxl", "model")
    order = [one.stage.component.name for one in stages]
    assert order == ["text_encoder", "text_encoder_2", "text_encoder", "text_encoder_2", "unet", "vae"]
    tier = plain("sdxl")
    there = [names_at("sdxl", one, tier) for one in stages]
    assert there[2:4] == [{frozenset({"text_encoder", "text_encoder_2"})}, {frozenset({"text_encoder_2"})}]
    assert there[4:] == [{frozenset({"unet"})}, {frozenset({"vae"})}]


def test_an_edit_pipelines_autoencoder_stays_while_it_denoises() -> None:
    stages = laid("flux.1-kontext-dev", "model", Task.EDITING)
    order = [(one.stage.component.name, one.stage.call) for one in stages]
    assert order[-3:] == [("vae", "encode"), ("transformer", "forward"), ("vae", "decode")]
    denoise = next(one for one in stages if one.stage.phase == DENOISE)
    assert names_at("flux.1-kontext-dev", denoise, plain("flux.1-kontext-dev")) == {frozenset({"transformer", "vae"})}


def test_two_experts_are_on_the_card_one_after_the_other_and_in_mode_none_together() -> None:
    stages = [one for one in laid("wan2.2-t2v-a14b", "model") if one.stage.phase == DENOISE]
    assert [one.stage.component.name for one in stages] == ["transformer", "transformer_2"]
    tier = plain("wan2.2-t2v-a14b")
    one_expert = weights_of(tier, stages[0].stage.component).on_card
    assert [one.resident for one in stages] == [one_expert, one_expert]
    assert 26.0 < one_expert / GIB < 27.5  # 14.2885 billion parameters in 16 bit
    assert laid("wan2.2-t2v-a14b", "none")[0].resident > 2 * one_expert
    assert sum(one.stage.count for one in stages) == 2 * usual("wan2.2-t2v-a14b").steps  # guidance calls twice


def test_a_t5_is_one_group_by_block_and_a_flux_transformer_one_block_at_a_time() -> None:
    arch, tier = pipeline("flux.1-dev"), plain("flux.1-dev")
    t5, transformer = arch.component("text_encoder_2"), arch.component("transformer")
    whole = block_groups(weights_of(tier, t5), t5, 1)
    assert (whole.whole, whole.moving) == (weights_of(tier, t5).on_card, ())
    blocks = block_groups(weights_of(tier, transformer), transformer, 1)
    assert len(blocks.moving) == 19 + 38
    # 0.63 GiB a double block, 0.26 GiB a single one (diffusers PR #11106)
    assert blocks.largest / GIB == pytest.approx(0.63, abs=0.01)
    assert min(blocks.moving) / GIB == pytest.approx(0.26, abs=0.01)
    assert blocks.whole + sum(blocks.moving) == weights_of(tier, transformer).on_card
    pairs = block_groups(weights_of(tier, transformer), transformer, 2)
    assert len(pairs.moving) == 10 + 19
    assert pairs.largest == 2 * blocks.largest


def test_a_stream_has_two_groups_on_the_card_from_the_second_forward_on() -> None:
    arch, tier = pipeline("flux.1-dev"), plain("flux.1-dev")
    leaves = leaf_groups(weights_of(tier, arch.component("transformer")))
    by_phase = {one.stage.component.name: one for one in laid("flux.1-dev", "group-leaf-stream")}
    assert by_phase["transformer"].window == leaves.neighbours > leaves.largest
    # one forward each, and an autoencoder that is not called through forward: nothing is copied ahead
    for name in ("text_encoder_2", "vae"):
        groups = groups_of(tier, offload("group-leaf-stream"), by_phase[name].stage)
        assert by_phase[name].window == groups.largest
    without = {one.stage.component.name: one for one in laid("flux.1-dev", "group-leaf")}
    assert without["transformer"].window == leaves.largest


def test_sequential_and_leaves_hold_the_same_and_the_decoder_alone_counts_in_a_decode() -> None:
    for leaf, sequential in zip(laid("flux.1-dev", "group-leaf"), laid("flux.1-dev", "sequential"), strict=True):
        # beside the table of CLIP's positions, which sequential leaves on the card
        assert (leaf.resident + 616, leaf.window) == (sequential.resident, sequential.window)
    tier, arch = plain("flux.1-dev"), pipeline("flux.1-dev")
    vae = weights_of(tier, arch.component("vae"))
    assert sum(leaf_groups(vae, "decoder").moving) < sum(leaf_groups(vae).moving)


def test_a_freed_text_encoder_is_gone_after_the_prompt_is_encoded() -> None:
    arch = pipeline("flux.1-dev")
    freeing = replace(offload("none"), free_text_encoder=True)
    stages = tuple(stages_of(arch, usual("flux.1-dev"), freeing))
    encode, *_, decode = held(arch, plain("flux.1-dev"), freeing, stages)
    gone = sum(
        weights_of(plain("flux.1-dev"), arch.component(name)).on_card for name in ("text_encoder", "text_encoder_2")
    )
    assert encode.resident - decode.resident == gone


def test_pinned_copies_are_rounded_to_powers_of_two() -> None:
    arch, tier = pipeline("flux.1-dev"), plain("flux.1-dev")
    weights = weights_of(tier, arch.component("transformer"))
    assert weights.pinned == sum(pinned_block(size) for leaf in weights.leaves for size in leaf.sizes) + weights.buffers
    # host memory of a streamed FLUX.1 transformer is printed as 35.11 GB beside 22.2 GiB of weights (PR #11106)
    assert 31.0 < weights.pinned / GIB < 35.11
    assert weights.stored / GIB == pytest.approx(22.17, abs=0.01)


def test_paths_of_modules() -> None:
    assert module_path("blocks.0.attn.to_q.weight") == "blocks.0.attn.to_q"
    assert module_path("blocks.0.attn.to_q.weight.absmax") == "blocks.0.attn.to_q"
    assert module_path("blocks.0.attn.to_q.bias") == "blocks.0.attn.to_q"
    assert module_path("blocks.0.scale_shift_table") == "blocks.0"


@pytest.mark.parametrize("mode", MODES)
def test_a_records_policy_reads_back(mode: str) -> None:
    options = PipelineOptions(
        vae=("tiling", "slicing"), record_stream=True, low_cpu_mem=True, blocks_per_group=3, free_text_encoder=True
    )
    for one in (PipelineOptions(), options, PipelineOptions(vae=("tiling",))):
        placement = placement_of(mode, one)
        assert recorded_placement(placement.revision, placement.mode, policy_of(placement)) == placement


@pytest.mark.parametrize(("mode", "policy"), [("fast", None), ("model", "warp"), ("group-block", "-blocks")])
def test_records_of_what_is_not_known_are_refused(mode: str, policy: str | None) -> None:
    with pytest.raises(OptionError):
        recorded_placement("0.42.1", mode, policy)


def test_the_first_of_the_sequence_sends_nothing_back() -> None:
    """It has no hook before it: what was called earlier, as an autoencoder for a picture handed in, stays there."""
    arch, one = pipeline("flux.1-dev"), offload("model")
    stages = tuple(stages_of(arch, usual("flux.1-dev"), one))
    encode, decode = stages[0], stages[-1]
    assert (encode.component.name, decode.component.name) == (arch.offload_sequence[0], arch.offload_sequence[-1])
    _, second = held(arch, plain("flux.1-dev"), one, (decode, encode))
    assert names_at("flux.1-dev", second, plain("flux.1-dev")) == {frozenset({"vae", "text_encoder"})}

"""diffusers' own hooks beside the estimate's groups: fails when its offload interface or its rules change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fitcheck.models.families.pipeline import catalog
from fitcheck.models.families.pipeline.architecture import DENOISER, Component, Config
from fitcheck.models.model import Tier
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.base import Placement
from fitcheck.runtimes.diffusers.weight_groups import Groups, block_groups, leaf_groups
from fitcheck.runtimes.diffusers.weights import weights_of

diffusers = pytest.importorskip("diffusers")
hooks = pytest.importorskip("diffusers.hooks")
offloading = pytest.importorskip("diffusers.hooks.group_offloading")
from bench.engines.diffusers.placing import place  # behind the skips


def flux() -> Any:
    torch.manual_seed(0)
    return diffusers.FluxTransformer2DModel(
        num_layers=3, num_single_layers=4, attention_head_dim=16, num_attention_heads=2, in_channels=8,
        joint_attention_dim=24, pooled_projection_dim=12, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip


def decoder() -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, layers_per_block=1,
    )  # fmt: skip


def described(module: nn.Module) -> tuple[Tier, Component]:
    """The module as the estimate sees it."""
    lists = tuple(name for name, child in module.named_children() if isinstance(child, nn.ModuleList | nn.Sequential))
    recursed = tuple(getattr(module, "_group_offload_block_modules", None) or ())
    part = Component("part", DENOISER, "diffusers", type(module).__name__, None, Config({}), lists, recursed)
    table = TensorTable(
        Tensor(f"part.{name}", tuple(one.shape), "F32", branch="part") for name, one in module.named_parameters()
    )
    return Tier("fp32", table, "safetensors"), part


def moved(module: nn.Module, kind: str, blocks: int | None = None) -> list[tuple[bool, int]]:
    """(whether the whole module leads it, bytes rounded as the card does) of every group that diffusers makes."""
    hooks.apply_group_offloading(
        module, onload_device=torch.device("cpu"), offload_type=kind, num_blocks_per_group=blocks
    )
    groups: dict[int, tuple[bool, int]] = {}
    for one in module.modules():
        registry = getattr(one, "_diffusers_hook", None)
        hook = registry and registry.get_hook(offloading._GROUP_OFFLOADING)
        if hook:
            group = hook.group
            # what lies in no list is named twice, as modules and as parameters, and lies there once
            held = {id(tensor): tensor for inner in group.modules for tensor in inner.parameters()}
            held |= {id(tensor): tensor for tensor in group.parameters}
            size = sum(-(-tensor.numel() * 4 // 512) * 512 for tensor in held.values())
            groups[id(group)] = (group.onload_leader is module, size)
    return [one for one in groups.values() if one[1]]


def expected(groups: Groups) -> list[tuple[bool, int]]:
    return sorted([(False, size) for size in groups.moving] + ([(True, groups.whole)] if groups.whole else []))


@pytest.mark.parametrize("blocks", [1, 2])
def test_blocks_are_cut_as_diffusers_cuts_them(blocks: int) -> None:
    tier, part = described(flux())
    assert sorted(moved(flux(), "block_level", blocks)) == expected(block_groups(weights_of(tier, part), part, blocks))


def test_leaves_are_the_modules_that_hold_parameters() -> None:
    tier, part = described(flux())
    found = sorted(size for _, size in moved(flux(), "leaf_level"))
    assert found == sorted(leaf_groups(weights_of(tier, part)).moving)


def test_an_autoencoder_that_is_looked_into_is_cut_below_its_children() -> None:
    tier, part = described(decoder())
    weights = weights_of(tier, part)
    assert "decoder" in part.recursed
    found = sorted(size for _, size in moved(decoder(), "block_level", 1))
    sides = [block_groups(weights, part, 1, child) for child in part.recursed]
    assert found == sorted(size for side in sides for size in (*side.moving, *([side.whole] if side.whole else [])))


def test_streams_and_recorded_streams_have_the_names_that_commands_print() -> None:
    with pytest.raises(ValueError, match="stream"):
        hooks.apply_group_offloading(
            flux(), onload_device=torch.device("cpu"), offload_type="leaf_level", use_stream=True, record_stream=True,
            low_cpu_mem_usage=True,
        )  # fmt: skip
    for name in ("enable_model_cpu_offload", "enable_sequential_cpu_offload", "enable_group_offload"):
        assert callable(getattr(diffusers.DiffusionPipeline, name))


def test_the_catalog_names_the_components_that_refuse_group_offload() -> None:
    for slug in catalog.slugs():
        arch = catalog.architecture_of(slug)
        classes = {one.name: getattr(diffusers, one.cls, None) for one in arch.components if "diffusers" in one.library}
        refusing = [name for name, cls in classes.items() if not getattr(cls, "_supports_group_offloading", True)]
        assert sorted(refusing) == sorted(arch.ungrouped), slug


def test_a_pipeline_without_the_switch_is_grouped_part_by_part() -> None:
    grouped, refusing = flux(), decoder()
    refusing._supports_group_offloading = False
    pipeline = SimpleNamespace(components={"transformer": grouped, "audio_vae": refusing, "scheduler": object()})
    place(pipeline, Placement("diffusers", "0.42.1", "group-leaf"), "cpu")
    assert offloading._is_group_offload_enabled(grouped)
    assert not offloading._is_group_offload_enabled(refusing)

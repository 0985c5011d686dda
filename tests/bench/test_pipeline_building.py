"""Modules of the bench hold what a checkpoint of that type loads."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from torch import nn

from bench.engines.diffusers.building import dtype_of, empty_module, narrow_buffers, plain_positions
from bench.engines.diffusers.recipes import recipe
from bench.engines.diffusers.surveys import shallow


def test_t5_keeps_what_leaves_its_feed_forward_in_fp32_where_the_rest_is_fp16() -> None:
    part = shallow(recipe("pixart-sigma").parts["text_encoder"])
    module = empty_module(part)
    name = "encoder.block.0.layer.1.DenseReluDense.wo.weight"
    assert name in dict(module.named_parameters())
    assert dtype_of(replace(part, dtype="float16"), module, name) is torch.float32
    assert dtype_of(replace(part, dtype="bfloat16"), module, name) is torch.bfloat16
    other = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"
    assert dtype_of(replace(part, dtype="float16"), module, other) is torch.float16


def test_buffers_of_a_checkpoint_are_loaded_in_its_type_and_others_stay() -> None:
    module = nn.Module()
    module.register_buffer("table", torch.zeros(3, dtype=torch.float32))
    module.register_buffer("own", torch.zeros(3, dtype=torch.float32), persistent=False)
    module.register_buffer("count", torch.zeros(3, dtype=torch.int64))
    narrow_buffers(replace(recipe("sd3.5-medium").parts["transformer"], dtype="bfloat16"), module)
    assert [module.get_buffer(one).dtype for one in ("table", "own", "count")] == [
        torch.bfloat16, torch.float32, torch.int64,
    ]  # fmt: skip


def test_plain_positions_are_as_large_as_diffusers_own() -> None:
    part = shallow(recipe("sd3.5-medium").parts["transformer"])
    part = replace(part, config={**part.config, "pos_embed_max_size": 12, "sample_size": 8})
    own = empty_module(part).get_buffer("pos_embed.pos_embed")
    with plain_positions():
        plain = empty_module(part).get_buffer("pos_embed.pos_embed")
    again = empty_module(part).get_buffer("pos_embed.pos_embed")
    assert (plain.shape, plain.dtype) == (own.shape, own.dtype)
    assert not plain.any()
    assert own.any()
    assert torch.equal(own, again)

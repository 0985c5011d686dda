"""What the bench loads weights and stored buffers in, as ``from_pretrained`` does it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch

from bench.engines.diffusers.building import dtype_of, empty_module, narrow_buffers
from bench.engines.diffusers.recipes import recipe

WO, WI = "encoder.block.0.layer.1.DenseReluDense.wo.weight", "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"


def test_buffers_of_the_file_come_in_the_components_dtype() -> None:
    part = recipe("ltx-2.3").parts["vocoder"]
    module = empty_module(part)
    kept = {name: one.dtype for name, one in module.named_buffers() if name not in module.state_dict()}
    narrow_buffers(part, module)
    stored = [one for name, one in module.named_buffers() if name in module.state_dict()]
    assert len(stored) > 100
    assert {one.dtype for one in stored} == {torch.bfloat16}
    assert {name: one.dtype for name, one in module.named_buffers() if name in kept} == kept


@pytest.mark.parametrize(
    ("slug", "name", "dtype"),
    [
        ("pixart-sigma", WO, torch.float32),
        ("pixart-sigma", WI, torch.float16),
        ("chroma1-hd", WO, torch.bfloat16),
    ],
)
def test_t5_keeps_one_matrix_in_single_precision_when_asked_for_half(slug: str, name: str, dtype: torch.dtype) -> None:
    part = recipe(slug).parts["text_encoder"]
    module = empty_module(part)
    assert name in dict(module.named_parameters())
    assert dtype_of(part, module, name) is dtype

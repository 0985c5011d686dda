"""A LoRA of true shape with synthetic weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from bench.engines.diffusers.put_beside import require_peft
from fitcheck.errors import MeasurementError
from fitcheck.runtimes.diffusers.lora import Pairs, changed, is_unet

Fill = Callable[[str, torch.Tensor, torch.dtype], torch.Tensor]
# by which a pipeline is told that a file is of its second denoiser (WanLoraLoaderMixin.load_lora_weights)
_SECOND = {"load_into_transformer_2": True}


def files(
    pipeline: Any, denoisers: tuple[str, ...], spec: str, dtype: torch.dtype, fill: Fill
) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    """What ``load_lora_weights`` is handed for a LoRA like ``spec`` beside every denoiser: matrices, which ``fill``
    makes of (name, meta tensor, dtype), and arguments. Raises MeasurementError without peft, and for a pipeline that
    loads none."""
    require_peft()
    if not hasattr(pipeline, "load_lora_weights"):
        raise MeasurementError(f"--load-lora-weights: {type(pipeline).__name__} loads no LoRA; leave it out.")
    for place, name in enumerate(denoisers):
        made = {
            f"{denoisers[0]}.{path}": fill(f"{name}.{path}", matrix, dtype)
            for path, matrix in shapes(getattr(pipeline, name), spec)
        }
        yield made, _SECOND if place else {}


def shapes(module: nn.Module, spec: str) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, meta tensor) of both matrices for every linear that the LoRA changes."""
    for path, pair in pairs_in(module, spec).items():
        yield f"{path}.lora_A.weight", torch.empty(pair.rank, pair.inputs, device="meta")
        yield f"{path}.lora_B.weight", torch.empty(pair.outputs, pair.rank, device="meta")


def pairs_in(module: nn.Module, spec: str) -> Pairs:
    """The linears of a module that the LoRA changes, and what lies beside them."""
    linears = (
        (path, (one.out_features, one.in_features))
        for path, one in module.named_modules()
        if isinstance(one, nn.Linear)
    )
    return changed(spec, linears, unet=is_unet(type(module).__name__))

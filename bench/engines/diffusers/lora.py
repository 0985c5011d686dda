"""A LoRA of true shape with synthetic weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from bench.engines.diffusers.put_beside import require_peft
from fitcheck.errors import MeasurementError

# ai-toolkit's rank, in every linear of the blocks: 172 MB for FLUX.1 in 16 bit, the size of most of its LoRAs
RANK = 16
Fill = Callable[[str, torch.Tensor, torch.dtype], torch.Tensor]


def matrices(pipeline: Any, denoiser: str, dtype: torch.dtype, fill: Fill) -> dict[str, torch.Tensor]:
    """What ``fill`` makes of (name, meta tensor, dtype) for every matrix, by the names of a LoRA's file. Raises
    MeasurementError without peft, and for a pipeline that loads none."""
    require_peft()
    if not hasattr(pipeline, "load_lora_weights"):
        raise MeasurementError(f"--load-lora-weights: {type(pipeline).__name__} loads no LoRA; leave it out.")
    return {
        f"{denoiser}.{name}": fill(f"{denoiser}.{name}", matrix, dtype)
        for name, matrix in shapes(getattr(pipeline, denoiser))
    }


def shapes(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, meta tensor) of both matrices for every linear that a LoRA changes."""
    for name, linear in targets(module):
        yield f"{name}.lora_A.weight", torch.empty(RANK, linear.in_features, device="meta")
        yield f"{name}.lora_B.weight", torch.empty(linear.out_features, RANK, device="meta")


def targets(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linears in the module's blocks; of a U-Net those in its transformers, as its LoRAs have them."""
    children = list(module.named_modules())
    transformers = [path for path, one in children if type(one).__name__ == "Transformer2DModel"]
    inside = transformers or [path for path, one in children if isinstance(one, nn.ModuleList)]
    for path, one in children:
        if isinstance(one, nn.Linear) and any(path.startswith(f"{block}.") for block in inside):
            yield path, one

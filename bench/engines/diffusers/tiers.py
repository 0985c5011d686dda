"""Which weights of a denoiser a tier quantizes, when no catalog says it."""

from __future__ import annotations

from torch import nn

from fitcheck.models.quant import TYPES

LAYERWISE = "fp8-layerwise"
DENSE = ("bf16", "fp16", LAYERWISE)


def quantized_types(tier: str, shapes: dict[str, tuple[int, ...]], module: nn.Module) -> dict[str, str]:
    """Weight name → ggml type, of the linears inside the module's lists of blocks whose rows divide into blocks."""
    if tier in DENSE:
        return {}
    kind = tier.removesuffix("_S").removesuffix("_M")
    block = TYPES[kind].block
    inside = {name for name, child in module.named_modules() if isinstance(child, nn.ModuleList)}
    return {
        name: kind
        for name, shape in shapes.items()
        if len(shape) == 2
        and shape[1] % block == 0
        and any(name.startswith(f"{one}.") for one in inside)
        and isinstance(module.get_submodule(name.rpartition(".")[0]), nn.Linear)
        and name.endswith(".weight")
    }

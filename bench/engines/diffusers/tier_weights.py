"""Which weights of a denoiser a tier quantizes, when no catalog says it."""

from __future__ import annotations

from torch import nn

from fitcheck.errors import InputError
from fitcheck.models import catalog
from fitcheck.models.quant import TYPES

LAYERWISE = "fp8"
DENSE = ("bf16", "fp16", LAYERWISE)


def quantized_types(
    model: str, tier: str, component: str, shapes: dict[str, tuple[int, ...]], module: nn.Module
) -> dict[str, str]:
    """Weight name → ggml type: the catalog's, else of the linears inside the module's lists of blocks whose rows divide
    into blocks."""
    if tier in DENSE:
        return {}
    known = _catalog_types(model, tier, component)
    if known:
        # a scaled-down module has fewer blocks, and smaller ones
        return {
            name: kind for name, kind in known.items() if name in shapes and not shapes[name][1] % TYPES[kind].block
        }
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


def _catalog_types(model: str, tier: str, component: str) -> dict[str, str]:
    try:
        found = catalog.get(model).tier(tier)
    except InputError:
        return {}
    table = () if found is None else found.tensors.where(branch=component)
    return {one.name.removeprefix(f"{component}."): one.type for one in table if one.quant.quantized}

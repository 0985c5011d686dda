"""How weights are stored: one scheme for each way of quantizing, with the tensors that a parameter becomes.

A scheme's ``format`` says who reads it: "safetensors" and "gguf" files, "bitsandbytes", "torchao" and "modelopt"
weights that diffusers' quantizers make, "layerwise" for its own casting of stored weights, "comfy" for ComfyUI's files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from math import ceil, prod

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.pipeline import gguf_mixture
from fitcheck.models.families.pipeline.architecture import Component
from fitcheck.models.families.pipeline.tables import CONVOLUTION, EMBEDDING, LINEAR, Entry

# the tensors (name, shape, type) that a parameter becomes
Stored = tuple[str, tuple[int, ...], str]
Pack = Callable[[Entry], Iterator[Stored]]
PLAIN = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}
# DEFAULT_SKIP_MODULES_PATTERN of diffusers 0.42.1, hooks/layerwise_casting.py
UNCAST = ("pos_embed", "patch_embed", "norm", "^proj_in$", "^proj_out$")
NF4_BLOCK, _NF4_CODE = 64, 16
_INT4_GROUP = 128
_NVFP4_BLOCK = 16


@dataclass(frozen=True)
class Scheme:
    """A way to store weights. ``pack`` is what happens to the weight of a linear layer, ``None`` where nothing does;
    for "gguf" and "layerwise" the name and the class decide."""

    name: str
    format: str
    source: str
    pack: Pack | None = None

    def stored(self, component: Component, entry: Entry) -> Iterator[Stored]:
        """The tensors that a parameter becomes."""
        if self.format == "gguf" and component.trace is not None:
            yield entry.name, entry.shape, gguf_mixture.types_of(component.trace, component.cls, self.name)[entry.name]
        elif self.format == "layerwise":
            yield entry.name, entry.shape, "F8_E4M3" if _is_cast(component, entry) else plain(component, entry)
        elif self.pack is not None and _is_packed(component, entry):
            yield from self.pack(entry)
        else:
            yield entry.name, entry.shape, plain(component, entry)


def plain(component: Component, entry: Entry) -> str:
    """The type of a parameter that is not quantized: the component's own, or F32 where its class says so."""
    return "F32" if _single_precision(component, entry) else PLAIN[component.stored]


def _single_precision(component: Component, entry: Entry) -> bool:
    return _is_in(component.single_precision, entry)


def _is_in(modules: tuple[str, ...], entry: Entry) -> bool:
    if not modules:
        return False
    parts = entry.name.split(".")
    return any(module in parts for module in modules)


def _is_packed(component: Component, entry: Entry) -> bool:
    """Linear weights, but not what the quantizers leave alone: the output head of a language model, and modules that
    the class wants in single precision, in whatever type they then are."""
    left_alone = entry.name.startswith("lm_head.") or _is_in(component.single_precision + component.unquantized, entry)
    return entry.role == LINEAR and len(entry.shape) == 2 and not left_alone


def _is_cast(component: Component, entry: Entry) -> bool:
    if entry.role not in (LINEAR, CONVOLUTION, EMBEDDING):
        return False
    module = entry.name.rpartition(".")[0]
    return not any(re.search(pattern, module) for pattern in (*UNCAST, *component.uncast, *component.single_precision))


def _int8(entry: Entry) -> Iterator[Stored]:
    yield entry.name, entry.shape, "I8"
    yield f"{entry.name}.SCB", entry.shape[:1], "F32"


def _nf4(entry: Entry) -> Iterator[Stored]:
    elements = prod(entry.shape)
    yield entry.name, (ceil(elements / 2), 1), "U8"
    yield f"{entry.name}.absmax", (ceil(elements / NF4_BLOCK),), "F32"
    yield f"{entry.name}.quant_map", (_NF4_CODE,), "F32"


def _by_row(stored_as: str, scale: str) -> Pack:
    def pack(entry: Entry) -> Iterator[Stored]:
        yield entry.name, entry.shape, stored_as
        yield f"{entry.name}.scale", entry.shape[:1], scale

    return pack


def _int4(entry: Entry) -> Iterator[Stored]:
    rows, columns = entry.shape
    if columns % _INT4_GROUP:
        yield entry.name, entry.shape, "BF16"
        return
    yield entry.name, (rows, columns // 2), "U8"
    yield f"{entry.name}.scale_and_zero", (columns // _INT4_GROUP, rows, 2), "BF16"


def _nvfp4(entry: Entry) -> Iterator[Stored]:
    rows, columns = entry.shape
    if columns % _NVFP4_BLOCK:
        yield entry.name, entry.shape, "BF16"
        return
    yield entry.name, (rows, columns // 2), "U8"
    yield f"{entry.name}.scale", (rows, columns // _NVFP4_BLOCK), "F8_E4M3"
    yield f"{entry.name}.scale_2", (), "F32"


def _one_scale(stored_as: str) -> Pack:
    def pack(entry: Entry) -> Iterator[Stored]:
        yield entry.name, entry.shape, stored_as
        yield f"{entry.name}.scale", (), "F32"

    return pack


_SCHEMES = (
    Scheme(
        "plain", "safetensors", "all weights as the component computes, with the parts that its class keeps in fp32"
    ),
    Scheme("fp8", "layerwise", "enable_layerwise_casting(float8_e4m3fn) with the patterns that diffusers 0.42.1 skips"),
    Scheme("int8", "bitsandbytes", "LLM.int8 of every linear weight: one byte a weight, a scale for each row", _int8),
    Scheme("nf4", "bitsandbytes", "NF4 in blocks of 64 without double quantization, for every linear weight", _nf4),
    Scheme("torchao-int8", "torchao", "int8 weights with a scale for each row", _by_row("I8", "BF16")),
    Scheme("torchao-fp8", "torchao", "float8 weights with a scale for each row", _by_row("F8_E4M3", "F32")),
    Scheme("torchao-int4", "torchao", "int4 weights in groups of 128 with scale and zero", _int4),
    Scheme("nvfp4", "modelopt", "4-bit floats in blocks of 16 with an 8-bit scale, for every linear weight", _nvfp4),
    Scheme("comfy-int8", "comfy", "ComfyUI file, not read: one byte for each linear weight", _one_scale("I8")),
    Scheme("comfy-fp8", "comfy", "ComfyUI file, not read: one byte for each linear weight", _one_scale("F8_E4M3")),
)
QUANTIZED = ("fp8", "int8", "nf4", "torchao-int8", "torchao-fp8", "torchao-int4", "nvfp4")


@cache
def scheme(name: str) -> Scheme:
    """The scheme of that name: "plain", one of ``QUANTIZED``, or a GGUF tier. Raises KeyError."""
    known = {one.name: one for one in _SCHEMES}
    if name in known:
        return known[name]
    return Scheme(name, "gguf", "from the denoiser's shape by the rules of ComfyUI-GGUF's converter")

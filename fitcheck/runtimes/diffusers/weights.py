"""A component's weights as diffusers holds them: by module, by block, in bytes of the card's allocator and the host's.

A module that holds parameters itself is a leaf: accelerate's sequential offload and group offload by leaf move leaves;
group offload by block moves the entries of the lists that are direct children of the component.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.memory import dequantization
from fitcheck.memory.allocator_blocks import device_block, pinned_block
from fitcheck.memory.caching_allocator import LARGE, MIDDLE_SEGMENT, SMALL
from fitcheck.models.families.pipeline import gguf_mixture
from fitcheck.models.families.pipeline.architecture import CONTROLNET, Component, PipelineArchitecture
from fitcheck.models.families.pipeline.schemes import NF4_BLOCK, Scheme, Stored, scheme
from fitcheck.models.families.pipeline.tables import entries
from fitcheck.models.families.pipeline.tiers import PipelineTable, component_types
from fitcheck.models.model import Tier
from fitcheck.models.quant import TYPES, tensor_bytes
from fitcheck.runtimes.diffusers import packed
from fitcheck.runtimes.diffusers.lora import MATRICES, Pairs, pairs_of
from fitcheck.runtimes.diffusers.traces import rounded

# (format, stored type) → weights in each element of a stored tensor that become 16 bit for their product: 4 bit of
# bitsandbytes and torchao's weights are dequantized, layerwise casting casts; int8 of bitsandbytes and int4 of torchao
# multiply as they are (diffusers 0.42.1, quantizers and hooks/layerwise_casting.py)
_CAST = {
    ("bitsandbytes", "U8"): 2,
    ("torchao", "I8"): 1,
    ("torchao", "F8_E4M3"): 1,
    ("layerwise", "F8_E4M3"): 1,
    ("modelopt", "U8"): 2,
}

# sums that are packed, by the names of ``ModuleWeights``
SUMS = ("tensors", "stored", "on_card", "segments", "pinned", "on_heap", "largest_leaf", "cast", "largest_cast")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A module with parameters of its own: its path inside the component, the bytes of each tensor, and what the card's
    allocator hands out for them. ``linear`` is (type, elements) of a weight in a GGUF type that is dequantized for each
    forward, ``cast`` the elements of a weight that another quantizer turns into 16 bit for its product."""

    path: str
    sizes: tuple[int, ...]
    nbytes: int
    linear: tuple[str, int] | None = None
    cast: int = 0


@dataclass(frozen=True, eq=False)
class ModuleWeights:
    """A component's leaves in the order of its definition, and the bytes of tables that are made at load time."""

    leaves: tuple[Leaf, ...]
    buffers: int = 0

    @property
    def packed(self) -> Mapping[str, Any] | None:
        """Its groups by name, where all was worked out beforehand."""
        return vars(self).get("groups")

    @property
    def scheme(self) -> str | None:
        """How it is stored, where what dequantizing takes was worked out beforehand."""
        return vars(self).get("scheme_name")

    @cached_property
    def tensors(self) -> int:
        """Number of tensors."""
        return sum(len(leaf.sizes) for leaf in self.leaves)

    @cached_property
    def stored(self) -> int:
        """Bytes of all tensors as they lie in pageable memory."""
        return self.buffers + sum(sum(leaf.sizes) for leaf in self.leaves)

    @cached_property
    def on_card(self) -> int:
        """Bytes that the card's allocator hands out for all of it."""
        return self.buffers + sum(leaf.nbytes for leaf in self.leaves)

    @cached_property
    def segments(self) -> int:
        """Bytes of the segments that the card's allocator takes for all of it: blocks of one size share segments of
        their own, which is what the replica finds to a few per mille."""
        counts = Counter(rounded(size) for leaf in self.leaves for size in leaf.sizes)
        small = sum(size * count for size, count in counts.items() if size <= SMALL)
        large = sum(_segments(size, count) for size, count in counts.items() if size > SMALL)
        return self.buffers + large + rounded(small)

    @cached_property
    def on_heap(self) -> int:
        """Bytes of the tensors that the C library's heap holds at most: larger ones are mapped each by itself."""
        return sum(size for leaf in self.leaves for size in leaf.sizes if size < HEAP_LIMIT)

    @cached_property
    def pinned(self) -> int:
        """Bytes of pinned memory that hold a copy of every tensor."""
        return self.buffers + sum(pinned_bytes(leaf) for leaf in self.leaves)

    @cached_property
    def linears(self) -> dict[str, tuple[str, int]]:
        """Module path → (type, elements) of every GGUF weight that is dequantized when its module runs."""
        return {leaf.path: leaf.linear for leaf in self.leaves if leaf.linear is not None}

    @cached_property
    def dequantized(self) -> tuple[int, int]:
        """Bytes that the kernels move which dequantize every GGUF weight once, and how many kernels that are."""
        costs = [(dequantization.cost(kind), elements) for kind, elements in self.linears.values()]
        return sum(round(cost.traffic_bytes * elements) for cost, elements in costs), sum(
            one.kernels for one, _ in costs
        )

    @cached_property
    def dequantized_types(self) -> frozenset[str]:
        """The GGUF types among them."""
        return frozenset(kind for kind, _ in self.linears.values())

    @cached_property
    def largest_leaf(self) -> int:
        """Bytes of the largest leaf as it is stored."""
        return max((sum(leaf.sizes) for leaf in self.leaves), default=0)

    @cached_property
    def cast(self) -> int:
        """Elements of all weights that are turned into 16 bit for their products."""
        return sum(leaf.cast for leaf in self.leaves)

    @cached_property
    def largest_cast(self) -> int:
        """Elements of the largest of them."""
        return max((leaf.cast for leaf in self.leaves), default=0)


@lru_cache(maxsize=4096)
def weights_of(tier: Tier, component: Component) -> ModuleWeights:
    """The component's weights in a tier."""
    if component.lora:
        return _with_matrices(weights_of(tier, replace(component, lora="")), pairs_of(component))
    table = tier.tensors
    if isinstance(table, PipelineTable):
        return _catalog_weights(nameless(component), scheme_in(table, component))
    if component.role == CONTROLNET:
        return _catalog_weights(nameless(component), scheme("plain"))
    return _tier_weights(tier, component)


def scheme_in(table: PipelineTable, component: Component) -> Scheme:
    """How a tier stores a component; no tier has a ControlNet, which lies there as it computes."""
    return scheme("plain") if component.role == CONTROLNET else table.scheme_of(component.name)


def _with_matrices(plain: ModuleWeights, pairs: Pairs) -> ModuleWeights:
    """The weights with a LoRA's two matrices behind each layer that it changes, modules of their own."""
    leaves: list[Leaf] = []
    for leaf in plain.leaves:
        leaves.append(leaf)
        if (pair := pairs.get(leaf.path)) is not None:
            named = zip(MATRICES, pair.sizes, strict=True)
            leaves += [Leaf(f"{leaf.path}.{name}", (size,), device_block(size)) for name, size in named]
    return ModuleWeights(tuple(leaves), plain.buffers)


@lru_cache(maxsize=1024)
def left_behind(tier: Tier, component: str) -> int:
    """Bytes of a component that stay on the card once its weights have gone back to the host: bitsandbytes' 8-bit
    matrices are loaded there, and moving a module puts new data into each parameter, but not into what it keeps beside
    (bitsandbytes 0.50.2, nn/modules.py, ``Int8Params.CB``; torch 2.11, ``Module._apply``, which sets ``.data``)."""
    return _of_bitsandbytes(tier, component, "I8")


@lru_cache(maxsize=1024)
def scales_left(tier: Tier, component: str) -> int:
    """Bytes of a component that stay on the card while its layers come and go in groups: bitsandbytes' 4-bit matrices
    are loaded there, and group offload moves parameters and buffers, of which their scales, 32 bit for each block, are
    neither (bitsandbytes 0.50.2, nn/modules.py, ``Params4bit.quant_state``; diffusers 0.42.1,
    hooks/group_offloading.py, ``ModuleGroup``)."""
    return _of_bitsandbytes(tier, component, "U8") * 2 // NF4_BLOCK * 4  # two weights a byte


def _of_bitsandbytes(tier: Tier, component: str, stored: str) -> int:
    if not isinstance(tier.tensors, PipelineTable):
        return 0
    of = (one for one in tier.tensors.parts if one[0].name == component and one[1].format == "bitsandbytes")
    return sum(component_types(*one).get(stored, 0) for one in of)


@lru_cache(maxsize=1024)
def parts_of(tier: Tier, arch: PipelineArchitecture) -> Mapping[str, ModuleWeights]:
    """The weights of every component of a pipeline by its name, in order."""
    return {one.name: weights_of(tier, one) for one in arch.components}


@lru_cache(maxsize=1024)
def nameless(component: Component) -> Component:
    """Two experts have the same weights by different names."""
    return replace(component, name="")


class PackedWeights(ModuleWeights):
    """Sums that were worked out beforehand; the leaves themselves are made where somebody asks for them."""

    def __init__(self, component: Component, how: Scheme, packed: Mapping[str, Any]) -> None:
        plain = {name: packed[name] for name in SUMS}
        types = frozenset(packed["dequantized_types"])
        moved = tuple(packed["dequantized"])
        own = {"component": component, "how": how, "groups": packed["groups"], "scheme_name": how.name}
        vars(self).update(plain, dequantized_types=types, dequantized=moved, buffers=component.buffers, **own)

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """As they are worked out from the tensor table."""
        return live_weights(vars(self)["component"], vars(self)["how"]).leaves


def stored_as(component: Component, how: Scheme) -> ModuleWeights:
    """The weights of a component of the catalog in a scheme."""
    if component.lora:
        return _with_matrices(stored_as(replace(component, lora=""), how), pairs_of(component))
    return _catalog_weights(nameless(component), how)


@lru_cache(maxsize=1024)
def _catalog_weights(component: Component, how: Scheme) -> ModuleWeights:
    found = packed.weights(component, how.name)
    return live_weights(component, how) if found is None else PackedWeights(component, how, found)


@lru_cache(maxsize=1024)
def live_weights(component: Component, how: Scheme) -> ModuleWeights:
    """A catalog component's weights worked out from its tensor table."""
    found = entries(component.trace or "")
    if how.format == "gguf":  # one tensor for each parameter: a tenth of the time of a check
        types = gguf_mixture.types_of(component.trace or "", component.cls, how.name)
        return _weights(((one.name, one.shape, types[one.name]) for one in found), component, how.format)
    return _weights((one for entry in found for one in how.stored(component, entry)), component, how.format)


@lru_cache(maxsize=512)
def _tier_weights(tier: Tier, component: Component) -> ModuleWeights:
    prefix = len(component.name) + 1
    found = ((one.name[prefix:], one.shape, one.type) for one in tier.tensors if one.branch == component.name)
    return _weights(found, component, tier.format)


def _weights(tensors: Iterable[Stored], component: Component, form: str) -> ModuleWeights:
    sizes: dict[str, list[int]] = {}
    blocks: dict[str, int] = {}
    linears: dict[str, tuple[str, int]] = {}
    casts: dict[str, int] = {}
    for name, shape, kind in tensors:
        path = module_path(name)
        if kind == "F32" and _is_narrowed(name, component, form):
            kind = "BF16"
        size, block, linear, cast = _kept_as(shape, kind, form)
        if path in sizes:
            sizes[path].append(size)
            blocks[path] += block
        else:
            sizes[path], blocks[path] = [size], block
        if linear is not None:
            linears[path] = linear
        elif cast:
            casts[path] = cast
    leaves = tuple(
        Leaf(path, tuple(one), blocks[path], linears.get(path), casts.get(path, 0)) for path, one in sizes.items()
    )
    return ModuleWeights(leaves, component.buffers)


@lru_cache(maxsize=4096)
def _kept_as(shape: tuple[int, ...], kind: str, form: str) -> tuple[int, int, tuple[str, int] | None, int]:
    """Bytes, bytes of the allocator's block, (type, elements) of a GGUF weight, elements of another packed one."""
    size = tensor_bytes(shape, TYPES[kind])
    elements = prod(shape) if len(shape) > 1 else 0
    linear = (kind, elements) if elements and TYPES[kind].quantized else None
    return size, device_block(size), linear, _CAST.get((form, kind), 0) * elements


def _segments(size: int, count: int) -> int:
    """Bytes of the segments that hold ``count`` blocks of more than 1 MiB."""
    if size >= LARGE:
        return -(-size // _MULTIPLE) * _MULTIPLE * count
    return -(-count // (MIDDLE_SEGMENT // size)) * MIDDLE_SEGMENT


_MULTIPLE = 2 << 20
# glibc, malloc.c, DEFAULT_MMAP_THRESHOLD_MAX on 64 bit (mallopt(3))
HEAP_LIMIT = 32 << 20


@lru_cache(maxsize=65536)
def module_path(name: str) -> str:
    """``"blocks.0.attn.to_q.weight"`` → ``"blocks.0.attn.to_q"``; what packing adds to a weight is its module's."""
    path, found, _ = name.partition(".weight")
    return path if found else name.rpartition(".")[0]


def _is_narrowed(name: str, component: Component, form: str) -> bool:
    """Whether diffusers casts an F32 tensor to 16 bit: it does so for what a GGUF file keeps in F32, except for the
    parts that a class keeps in single precision (models/model_loading_utils.py, load_model_dict_into_meta)."""
    parts = name.split(".")
    return form == "gguf" and component.dtype != "fp32" and not any(one in parts for one in component.single_precision)


def pinned_bytes(leaf: Leaf) -> int:
    """Bytes of pinned memory that hold a copy of a leaf."""
    return sum(pinned_block(size) for size in leaf.sizes)

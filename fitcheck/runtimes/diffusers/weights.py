"""A component's weights as diffusers holds them: by module, by block, in bytes of the card's allocator and the host's.

A module that holds parameters itself is a leaf: accelerate's sequential offload and group offload by leaf move leaves;
group offload by block moves the entries of the lists that are direct children of the component.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from fitcheck.memory.blocks import device_block, pinned_block
from fitcheck.models.families.pipeline.architecture import Component
from fitcheck.models.model import Tier
from fitcheck.models.tensors import Tensor, TensorTable

_PARAMETER = re.compile(r"(.*?)\.(?:weight|bias)(?:[._].*)?")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A module with parameters of its own: its path inside the component and the bytes of each tensor. ``linear`` is
    (type, elements) of a weight that is dequantized for each forward."""

    path: str
    sizes: tuple[int, ...]
    linear: tuple[str, int] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the card's allocator hands out for it."""
        return sum(map(device_block, self.sizes))


@dataclass(frozen=True, slots=True)
class Weights:
    """A component's leaves in the order of its definition, and the bytes of tables that are made at load time."""

    leaves: tuple[Leaf, ...]
    buffers: int = 0

    @property
    def tensors(self) -> int:
        """Number of tensors."""
        return sum(len(leaf.sizes) for leaf in self.leaves)

    @property
    def stored(self) -> int:
        """Bytes of all tensors as they lie in pageable memory."""
        return self.buffers + sum(sum(leaf.sizes) for leaf in self.leaves)

    @property
    def on_card(self) -> int:
        """Bytes that the card's allocator hands out for all of it."""
        return self.buffers + sum(leaf.nbytes for leaf in self.leaves)

    @property
    def pinned(self) -> int:
        """Bytes of pinned memory that hold a copy of every tensor."""
        return self.buffers + sum(pinned_block(size) for leaf in self.leaves for size in leaf.sizes)

    @property
    def linears(self) -> dict[str, tuple[str, int]]:
        """Module path → (type, elements) of every weight that is dequantized when its module runs."""
        return {leaf.path: leaf.linear for leaf in self.leaves if leaf.linear is not None}


@lru_cache(maxsize=512)
def weights_of(tier: Tier, component: Component) -> Weights:
    """The component's weights in a tier."""
    found: dict[str, list[int]] = {}
    linears: dict[str, tuple[str, int]] = {}
    for tensor in _table(tier.tensors, component.name):
        path = module_path(tensor.name.removeprefix(f"{component.name}."))
        found.setdefault(path, []).append(_bytes(tensor, component, tier.format))
        if tensor.quant.quantized and len(tensor.shape) > 1:
            linears[path] = (tensor.type, tensor.elements)
    leaves = tuple(Leaf(path, tuple(sizes), linears.get(path)) for path, sizes in found.items())
    return Weights(leaves, component.buffers)


def _table(table: TensorTable, branch: str) -> TensorTable:
    of = getattr(table, "of", None)
    if of is None:
        return table.where(branch=branch)
    try:
        found: TensorTable = of(branch)
    except KeyError:
        return table.where(branch=branch)
    return found


def module_path(name: str) -> str:
    """``"blocks.0.attn.to_q.weight"`` → ``"blocks.0.attn.to_q"``; what packing adds to a weight is its module's."""
    match = _PARAMETER.fullmatch(name)
    return match.group(1) if match else name.rpartition(".")[0]


def _bytes(tensor: Tensor, component: Component, form: str) -> int:
    """Bytes once loaded: diffusers casts what a GGUF file keeps in F32 to the compute dtype, except for the parts that
    a class keeps in single precision (models/model_loading_utils.py, load_model_dict_into_meta)."""
    if form != "gguf" or tensor.type != "F32" or component.dtype == "fp32":
        return tensor.nbytes
    parts = tensor.name.split(".")
    return tensor.nbytes if any(one in parts for one in component.single_precision) else 2 * tensor.elements


@dataclass(frozen=True, slots=True)
class Groups:
    """What moves together in one forward, in order: bytes on the card of each group. ``whole`` stays for the whole
    forward and is never copied ahead."""

    whole: int
    moving: tuple[int, ...]

    @property
    def largest(self) -> int:
        """The largest group."""
        return max(self.moving, default=0)

    @property
    def neighbours(self) -> int:
        """The two consecutive groups that take most."""
        return max((a + b for a, b in zip(self.moving, self.moving[1:], strict=False)), default=self.largest)


@lru_cache(maxsize=1024)
def leaf_groups(weights: Weights, below: str = "") -> Groups:
    """Every leaf by itself; only those of the child ``below`` where one is named."""
    return Groups(0, tuple(leaf.nbytes for leaf in weights.leaves if _inside(leaf.path, below)))


@lru_cache(maxsize=1024)
def block_groups(weights: Weights, component: Component, blocks: int, below: str = "") -> Groups:
    """``blocks`` entries of a list at a time; what is in no list is one group for the whole forward. Where the class
    names children to look into, ``below`` is the one that runs."""
    moving: dict[tuple[str, int], int] = {}
    whole = 0
    for leaf in weights.leaves:
        if not _inside(leaf.path, below):
            continue
        name, _, rest = leaf.path.removeprefix(f"{below}." if below else "").partition(".")
        index = rest.partition(".")[0]
        if index.isdecimal() and (below or name in component.lists):
            key = (name, int(index) // blocks)
            moving[key] = moving.get(key, 0) + leaf.nbytes
        else:
            whole += leaf.nbytes
    return Groups(whole, tuple(moving.values()))


def _inside(path: str, below: str) -> bool:
    return not below or path == below or path.startswith(f"{below}.")

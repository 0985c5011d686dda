"""The sums over a tensor table that the phases need, computed once per table. Sizes in bytes as held at run time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.allocator_blocks import device_block, runtime_bytes
from fitcheck.memory.dequantization import Linear
from fitcheck.models.families.sensenova.architecture import GENERATION, UNDERSTANDING
from fitcheck.models.tensors import Tensor, TensorTable

BRANCHES = (UNDERSTANDING, GENERATION)
Sizes = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """``layers[branch][i]`` is layer i's share in bytes as the allocator counts it, ``exact`` without its rounding;
    ``outer`` everything outside layers, embedding and head; ``pinnable`` sizes of tensors, each with how many have it.
    Compared by identity: there is one for each table."""

    outer: int
    embedding: int
    head: int
    layers: dict[str, tuple[int, ...]]
    exact: dict[str, tuple[int, ...]]
    largest: dict[tuple[str, str], Linear]
    pinnable: dict[str, Sizes]
    file_bytes: int

    @property
    def all_layers(self) -> int:
        """Bytes of the layers of both branches as the allocator counts them."""
        return sum(sum(sizes) for sizes in self.layers.values())

    def window(self, branch: str, in_flight: int) -> int:
        """Bytes of the largest run of ``in_flight`` consecutive layers (the run wraps around at the end)."""
        return _largest_run(self.layers[branch], in_flight)

    def window_both(self, in_flight: int) -> int:
        """The same with both branches of each layer."""
        both = tuple(a + b for a, b in zip(self.layers[UNDERSTANDING], self.layers[GENERATION], strict=True))
        return _largest_run(both, in_flight)

    def slot(self, *, both: bool = False) -> int:
        """Bytes of one preallocated slot: the largest branch of a layer (or the largest layer), in one buffer."""
        understanding, generation = self.exact[UNDERSTANDING], self.exact[GENERATION]
        if both:
            return max(a + b for a, b in zip(understanding, generation, strict=True))
        return max(*understanding, *generation)

    def kept(self, count: int, *, exact: bool = False) -> int:
        """Bytes of the first ``count`` generation layers, tensor by tensor or ``exact`` in flat buffers."""
        return sum((self.exact if exact else self.layers)[GENERATION][:count])


@lru_cache(maxsize=1024)
def _largest_run(sizes: tuple[int, ...], count: int) -> int:
    count = min(count, len(sizes))
    wrapped = sizes + sizes[: count - 1] if count else ()
    return max((sum(wrapped[i : i + count]) for i in range(len(sizes))), default=0) if count else 0


KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@lru_cache(maxsize=64)
def weights_of(table: TensorTable) -> LayerWeights:
    """Sums of a SenseNova tensor table; cached by table identity."""
    found = table.by_layer
    sums = {one: _SumsOfLayer(one.tensors) for one in dict.fromkeys(found.layers)}
    outer = {"embedding": 0, "head": 0, "other": 0}
    for tensor in found.outside:
        outer[tensor.role if tensor.role in outer else "other"] += device_block(runtime_bytes(tensor))
    return LayerWeights(
        outer=outer["other"],
        embedding=outer["embedding"],
        head=outer["head"],
        layers={branch: tuple(sums[one].blocks[branch] for one in found.layers) for branch in BRANCHES},
        exact={branch: tuple(sums[one].exact[branch] for one in found.layers) for branch in BRANCHES},
        largest=_largest(tensor for one in sums for tensor in one.tensors),
        pinnable={
            "layers": _sizes((tensor, count) for tensor, count in found.counted if tensor.layer is not None),
            "prefix": _sizes((tensor, 1) for tensor in found.outside if tensor.role in ("embedding", "head")),
        },
        file_bytes=table.nbytes,
    )


class _SumsOfLayer:
    """Bytes of the tensors of one layer by branch, in blocks and exact."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.blocks, self.exact = dict.fromkeys(BRANCHES, 0), dict.fromkeys(BRANCHES, 0)
        for tensor in tensors:
            size = runtime_bytes(tensor)
            self.blocks[tensor.branch] += device_block(size)
            self.exact[tensor.branch] += size


def _largest(tensors: Iterable[Tensor]) -> dict[tuple[str, str], Linear]:
    """The largest matrix of each kind in each branch."""
    found: dict[tuple[str, str], Linear] = {}
    for tensor in tensors:
        kind = next((kind for kind in KINDS if kind in tensor.name), None)
        if kind is not None:
            known = found.get((tensor.branch, kind))
            if known is None or tensor.elements > known.elements:
                found[tensor.branch, kind] = Linear(tensor.elements, tensor.type, tensor.shape[0])
    return found


def _sizes(counted: Iterable[tuple[Tensor, int]]) -> Sizes:
    counts: Counter[int] = Counter()
    for tensor, count in counted:
        counts[runtime_bytes(tensor)] += count
    return tuple(counts.items())

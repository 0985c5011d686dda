"""The sums over a tensor table that the phases need, computed once per table. Sizes in bytes as held at run time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fitcheck.memory.allocator_blocks import device_block, runtime_bytes
from fitcheck.memory.dequantization import Linear
from fitcheck.models.families.sensenova.architecture import GENERATION, UNDERSTANDING
from fitcheck.models.tensors import TensorTable


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """``layers[branch][i]`` is layer i's share in bytes as the allocator counts it, ``exact`` without its rounding;
    ``outer`` everything outside layers, embedding and head. Compared by identity: there is one for each table."""

    outer: int
    embedding: int
    head: int
    layers: dict[str, tuple[int, ...]]
    exact: dict[str, tuple[int, ...]]
    largest: dict[tuple[str, str], Linear]
    pinnable: dict[str, tuple[int, ...]]
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
    outer = embedding = head = 0
    layers: dict[str, dict[int, int]] = {UNDERSTANDING: {}, GENERATION: {}}
    exact: dict[str, dict[int, int]] = {UNDERSTANDING: {}, GENERATION: {}}
    pinnable: dict[str, list[int]] = {"layers": [], "prefix": []}
    largest: dict[tuple[str, str], Linear] = {}
    for tensor in table:
        size = runtime_bytes(tensor)
        if tensor.layer is not None:
            for sizes, count in ((layers[tensor.branch], device_block(size)), (exact[tensor.branch], size)):
                sizes[tensor.layer] = sizes.get(tensor.layer, 0) + count
            pinnable["layers"].append(size)
            kind = next((kind for kind in KINDS if kind in tensor.name), None)
            if kind is not None:
                known = largest.get((tensor.branch, kind))
                if known is None or tensor.elements > known.elements:
                    largest[tensor.branch, kind] = Linear(tensor.elements, tensor.type, tensor.shape[0])
        elif tensor.role == "embedding":
            embedding += device_block(size)
            pinnable["prefix"].append(size)
        elif tensor.role == "head":
            head += device_block(size)
            pinnable["prefix"].append(size)
        else:
            outer += device_block(size)
    return LayerWeights(
        outer=outer,
        embedding=embedding,
        head=head,
        layers={branch: tuple(sizes[i] for i in sorted(sizes)) for branch, sizes in layers.items()},
        exact={branch: tuple(sizes[i] for i in sorted(sizes)) for branch, sizes in exact.items()},
        largest=largest,
        pinnable={key: tuple(sizes) for key, sizes in pinnable.items()},
        file_bytes=table.nbytes,
    )

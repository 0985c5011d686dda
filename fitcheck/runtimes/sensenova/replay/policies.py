"""Storages of weights: what stays, what a streaming policy brings and drops, in each policy's own order."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.allocator_blocks import runtime_bytes
from fitcheck.memory.caching_allocator import ALIGNMENT, LARGE, MIDDLE_SEGMENT, SMALL
from fitcheck.memory.dequantization import Linear
from fitcheck.memory.storage import ReplayedCard, Storage
from fitcheck.models.families.sensenova.architecture import GENERATION, UNDERSTANDING
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.sensenova.layer_weights import KINDS
from fitcheck.runtimes.sensenova.streaming import PrefixWeights, Stream, Streaming


@dataclass(frozen=True, eq=False)
class Table:
    """A tensor table by how it is placed, in bytes and file order: tensors outside the layers without and with
    ``embedding`` and ``head``, ``everything``, and each layer's by branch. ``linears`` are a layer's block-quantized
    matrices by kind. Experts that share segments stand packed."""

    outer: tuple[int, ...]
    outer_and_prefix: tuple[int, ...]
    embedding: int
    head: int
    everything: tuple[int, ...]
    layers: dict[str, tuple[tuple[int, ...], ...]]
    linears: dict[str, tuple[dict[str, Linear], ...]]


@lru_cache(maxsize=64)
def table_of(table: TensorTable) -> Table:
    """Cached by table identity."""
    outer: list[int] = []
    prefix = {"embedding": 0, "head": 0}
    count = 1 + max((tensor.layer for tensor in table if tensor.layer is not None), default=-1)
    layers: dict[str, list[list[int]]] = {name: [[] for _ in range(count)] for name in (UNDERSTANDING, GENERATION)}
    experts: dict[str, list[list[int]]] = {name: [[] for _ in range(count)] for name in layers}
    linears: dict[str, list[dict[str, Linear]]] = {name: [{} for _ in range(count)] for name in layers}
    everything: list[int] = []
    for tensor in table:
        size = runtime_bytes(tensor)
        if tensor.role != "expert":
            everything.append(size)
        if tensor.layer is not None:
            if size > SMALL:  # smaller ones come and go in a pool of their own, which stays small
                (experts if tensor.role == "expert" else layers)[tensor.branch][tensor.layer].append(size)
            if tensor.quant.quantized and (kind := _kind(tensor)):
                linears[tensor.branch][tensor.layer][kind] = Linear(tensor.elements, tensor.type, tensor.shape[0])
        elif tensor.role in prefix:
            prefix[tensor.role] = size
        else:
            outer.append(size)
    for name, found in experts.items():
        for index, sizes in enumerate(found):
            layers[name][index] += _packed(sizes)
            everything += _packed(sizes)
    return Table(
        tuple(outer),
        tuple(runtime_bytes(tensor) for tensor in table if tensor.layer is None),
        prefix["embedding"],
        prefix["head"],
        tuple(everything),
        {name: tuple(tuple(sizes) for sizes in found) for name, found in layers.items()},
        {name: tuple(kinds) for name, kinds in linears.items()},
    )


def _packed(sizes: list[int]) -> list[int]:
    """Experts by the hundred share 20 MiB segments: as many as one holds stand as one tensor of its size."""
    found: list[int] = []
    for size, count in Counter(sizes).items():
        each = MIDDLE_SEGMENT // size if SMALL < size < LARGE else 1
        found += [MIDDLE_SEGMENT if each > 1 else size] * -(-count // each)
    return found


def _kind(tensor: Tensor) -> str | None:
    return next((kind for kind in KINDS if kind in tensor.name), None)


class Resident:
    """Everything is on the card: mode ``full``. Also what every policy does with the weights outside the layers.

    ``thinking`` understanding layers stay while the model thinks, where the policy knows of it.
    """

    thinking = 0

    def __init__(self, device: ReplayedCard, table: Table, placement: Streaming) -> None:
        self.device, self.table, self.placement = device, table, placement
        self.prefix: list[Storage] = []
        if placement.stream is Stream.NOTHING:
            self.outer = [device.keep(size) for size in table.everything]
            return
        stays = placement.prefix_weights is PrefixWeights.RESIDENT
        self.outer = [device.keep(size) for size in (table.outer_and_prefix if stays else table.outer)]
        if placement.prefix_weights is PrefixWeights.PREFIX_PHASE:
            self._bring_prefix()

    @property
    def _moves(self) -> bool:
        return self.placement.stream is not Stream.NOTHING

    def _bring_prefix(self) -> None:
        if not self.prefix:
            self.prefix = [self.device.keep(size) for size in (self.table.embedding, self.table.head)]

    def phase(self, name: str) -> None:
        """``prefix`` or ``denoise``, announced by tasks that do not return to text between them."""
        if self._moves and self.placement.prefix_weights is PrefixWeights.PREFIX_PHASE:
            if name == "prefix":
                self._bring_prefix()
            else:
                self.device.synchronize()
                self.prefix.clear()

    def own_forward(self, size: int) -> Storage | None:
        """Embedding or head where it is on the card for its own forward only."""
        own = self._moves and self.placement.prefix_weights is PrefixWeights.OWN_FORWARD
        return self.device.keep(size) if own else None

    def before_layer(self, index: int, branch: str) -> None:
        """Nothing to bring: the weights lie there."""

    def after_layer(self, index: int, branch: str) -> None:
        """Nothing to drop."""


class ReplayedUpstream(Resident):
    """Layers come through the caching allocator, tensor by tensor, ``prefetch`` of them ahead on a second stream.

    ``keeps`` generation layers stay once they are there (mode ``fast``).
    """

    def __init__(self, device: ReplayedCard, table: Table, placement: Streaming, keeps: int = 0) -> None:
        super().__init__(device, table, placement)
        self.keeps, self.count = keeps, len(table.layers[GENERATION])
        self.prefetch = min(placement.prefetch, self.count - 1)
        self.here: dict[tuple[int, str], list[Storage]] = {}
        self.active: str | None = None

    def _branches(self, branch: str) -> tuple[str, ...]:
        return (UNDERSTANDING, GENERATION) if self.placement.stream is Stream.LAYER else (branch,)

    def _bring(self, index: int, branch: str, stream: int) -> None:
        for name in self._branches(branch):
            if (index, name) not in self.here:
                sizes = self.table.layers[name][index]
                self.here[index, name] = [self.device.keep(size, stream) for size in sizes]

    def before_layer(self, index: int, branch: str) -> None:
        """Brings the layer and the ``prefetch`` ones after it; a change of branch drops what was brought for the
        other."""
        if not self.prefetch:
            self._bring(index, branch, 0)
            return
        if self.placement.stream is Stream.BRANCH and self.active not in (None, branch):
            self.here.clear()
            self.device.synchronize()  # upstream waits before it drops them, so that nothing holds them back
        self.active = branch
        self._bring(index, branch, 0)  # only the first of a pass that follows another branch: nothing prefetched it
        for name in self._branches(branch):
            for storage in self.here[index, name]:
                storage.use_elsewhere()
        for ahead in range(1, self.prefetch + 1):
            self._bring((index + ahead) % self.count, branch, 1)

    def after_layer(self, index: int, branch: str) -> None:
        """Drops the layer, unless it is one of the generation layers that stay."""
        for name in self._branches(branch):
            if index >= (self.keeps if name == GENERATION else self.thinking):
                del self.here[index, name]


class Ring(Resident):
    """Preallocated slots; kept layers get buffers of their own when denoising begins."""

    def __init__(self, device: ReplayedCard, table: Table, placement: Streaming, keeps: int = 0) -> None:
        super().__init__(device, table, placement)
        self.keeps, self.count = keeps, len(table.layers[GENERATION])
        self.units = {
            name: [sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes) for sizes in layers]
            for name, layers in table.layers.items()
        }
        if placement.stream is Stream.LAYER:
            both = zip(self.units[UNDERSTANDING], self.units[GENERATION], strict=True)
            self.slot = max(first + second for first, second in both)
        else:
            self.slot = max(*self.units[UNDERSTANDING], *self.units[GENERATION])
        self.slots: list[Storage] = []
        self.kept: list[Storage] = []
        self.active: str | None = None
        self._make_slots()

    def _make_slots(self) -> None:
        if not self.slots:
            count = min(self.placement.prefetch, self.count - 1) + 1
            self.slots = [self.device.keep(self.slot) for _ in range(count)]

    def _release(self) -> None:
        self.kept.clear()
        self._make_slots()

    def phase(self, name: str) -> None:
        """A new prefix frees the layers that were kept, before embedding and head come back."""
        if name == "prefix":
            self._release()
        super().phase(name)

    def before_layer(self, index: int, branch: str) -> None:
        """Storages change with the branch alone: kept layers get theirs when denoising begins."""
        if branch == self.active:
            return
        self.active = branch
        if self.placement.stream is Stream.BRANCH:
            self._release()
            if branch == GENERATION and self.placement.keep_generation:
                if self.keeps == self.count:
                    self.slots.clear()
                self.kept = [self.device.keep(size) for size in self.units[GENERATION][: self.keeps]]

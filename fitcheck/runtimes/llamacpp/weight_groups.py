"""Weights of a file in groups that always live together, and added up from the first layer on.

What layers in a row take of a device is a difference of two sums.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import field
from itertools import accumulate
from typing import NamedTuple

from fitcheck.dataclass_later import dataclass
from fitcheck.models.tensors import AlikeLayers, Tensor, TensorTable
from fitcheck.runtimes.llamacpp.remembered import remembered

_MATRIX_ROW_PADDING = 512
_ENDLESS = 1 << 62


class InFile(NamedTuple):
    """Weights that are read from the file: their bytes in buffers of the host, and between which offsets they lie."""

    bytes: int = 0
    start: int = _ENDLESS
    end: int = 0

    @property
    def spanned(self) -> int:
        """Bytes of the file from the first of them to the end of the last; 0 for none."""
        return max(self.end - self.start, 0)

    def beside(self, other: InFile) -> InFile:
        """Both together."""
        return InFile(self.bytes + other.bytes, min(self.start, other.start), max(self.end, other.end))


class Group(NamedTuple):
    """Tensors that always live together, of which ``first`` stands for all. ``host`` and ``card`` are their bytes in a
    buffer of either; in the file they lie between the offsets ``start`` and ``end``. ``layer`` is ``None`` for what
    belongs to no layer, ``expert`` says that they are a layer's experts."""

    first: Tensor
    layer: int | None
    expert: bool
    host: int
    card: int
    start: int
    end: int

    @property
    def in_file(self) -> InFile:
        """The group where it stays on the host."""
        return InFile(self.host, self.start, self.end)


@dataclass(frozen=True, slots=True)
class Sums:
    """Of a number of first layers, from none to all of them: bytes in a buffer of a card and of the host, and the
    first offset in the file and the last."""

    card: Sequence[int]
    host: Sequence[int]
    start: Sequence[int]
    end: Sequence[int]

    def on_card(self, start: int, stop: int) -> int:
        """Bytes of the layers from ``start`` up to ``stop``."""
        return self.card[stop] - self.card[start]

    def on_host(self, count: int) -> InFile:
        """The first ``count`` layers."""
        return InFile(self.host[count], self.start[count], self.end[count])


@dataclass(frozen=True, slots=True)
class WeightSums:
    """Layers without their experts, their experts, and groups that belong to none of them. ``placed`` keeps the bytes
    on each card, and what lies on the host, by where the layers lie and of how many the experts do not."""

    layers: Sums
    experts: Sums
    outside: tuple[Group, ...]
    placed: dict[Hashable, tuple[list[int], InFile]] = field(default_factory=dict, compare=False)


def sums_of(tensors: TensorTable, alignment: int, count: int, left_out: frozenset[int]) -> WeightSums:
    """Of a table's ``count`` layers, for cards' buffers of that ``alignment``; layers that are ``left_out`` are not
    loaded."""
    known, key = _sums(tensors), (alignment, count, left_out)
    if key not in known:
        groups = [one for one in grouped(tensors, alignment, split=False) if one.layer not in left_out]
        outside = tuple(one for one in groups if one.layer is None or one.layer >= count)
        layers, experts = (_added_up(groups, count, expert=expert) for expert in (False, True))
        known[key] = WeightSums(layers, experts, outside)
    return known[key]


@remembered
def _sums(tensors: TensorTable) -> dict[tuple[int, int, frozenset[int]], WeightSums]:
    """By what else they hang on."""
    return {}


def _added_up(groups: Iterable[Group], count: int, *, expert: bool) -> Sums:
    card, host, start, end = [0] * count, [0] * count, [_ENDLESS] * count, [0] * count
    for one in groups:
        if one.layer is not None and one.layer < count and one.expert is expert:
            card[one.layer], host[one.layer], start[one.layer], end[one.layer] = one.card, one.host, one.start, one.end
    return Sums(
        tuple(accumulate(card, initial=0)),
        tuple(accumulate(host, initial=0)),
        tuple(accumulate(start, min, initial=_ENDLESS)),
        tuple(accumulate(end, max, initial=0)),
    )


def grouped(tensors: TensorTable, alignment: int, *, split: bool) -> list[Group]:
    """All groups of a table in the order of the file; ``split`` keeps every tensor apart."""
    layered = tensors.layered
    if split or layered is None:
        return _groups_of(tensors, alignment, split=split)
    found = _groups_of(layered.outside, alignment, split=True)
    offset = found[-1].end if found else 0
    alike: dict[AlikeLayers, list[Group]] = {}
    for layer, one in enumerate(layered.layers):
        if one not in alike:
            alike[one] = _groups_of(one.tensors, alignment, split=False)
        for first, _, expert, host, card, start, end in alike[one]:
            found.append(Group(first, layer, expert, host, card, offset + start, offset + end))
        offset += max((group.end for group in alike[one]), default=0)
    return found


def _groups_of(tensors: Iterable[Tensor], alignment: int, *, split: bool) -> list[Group]:
    found: dict[object, Group] = {}
    offset = 0
    for index, tensor in enumerate(tensors):
        apart = split or tensor.layer is None or not tensor.name.startswith("blk.")
        layer, expert = None if apart else tensor.layer, not apart and tensor.role == "expert"
        key = index if apart else (layer, expert)
        host, card = -(-tensor.nbytes // 32) * 32, card_bytes(tensor, alignment)
        known = found.get(key) or Group(tensor, layer, expert, 0, 0, offset, offset)
        offset += host
        found[key] = Group(known.first, layer, expert, known.host + host, known.card + card, known.start, offset)
    return list(found.values())


def card_bytes(tensor: Tensor, alignment: int) -> int:
    """A tensor's room in a card's buffer: rows of quantized types are padded to 512 elements (ggml-cuda)."""
    size = tensor.nbytes
    quant = tensor.quant
    if quant.quantized and tensor.shape and tensor.shape[-1] % _MATRIX_ROW_PADDING:
        missing = _MATRIX_ROW_PADDING - tensor.shape[-1] % _MATRIX_ROW_PADDING
        size += missing // quant.block * quant.block_bytes
    return -(-size // alignment) * alignment

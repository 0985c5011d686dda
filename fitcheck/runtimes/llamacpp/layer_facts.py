"""What a graph reads of a table's layers, as numbers that are equal exactly where the layers are alike.

Most tiers and placements of a model make the same graph; these numbers tell so without building it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from itertools import count

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import AlikeLayers, Tensor, TensorTable
from fitcheck.runtimes.llamacpp.remembered import remembered

_fresh = count(1)


@lru_cache(maxsize=1 << 14)
def number(thing: Hashable) -> int:
    """The same number for equal things as long as they are remembered, never the same one for two that differ."""
    return next(_fresh)


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """Numbers for one layer: ``shapes`` for names and shapes of its tensors, ``sizes`` for their bytes, which ``held``
    has by name."""

    shapes: int = 0
    sizes: int = 0
    held: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class TableFacts:
    """``layers`` holds facts by layer, ``shapes`` is a number for the shapes of all of them. ``outside`` is one for
    names and shapes of what belongs to no layer, ``sizes`` for its bytes, which ``held`` has by name. ``each`` has by
    layer the number for its bytes."""

    layers: Mapping[int, LayerFacts]
    each: tuple[int, ...]
    shapes: int
    outside: int
    sizes: int
    held: Mapping[str, int]

    def nbytes(self, layer: int, name: str) -> int:
        """Bytes of a tensor by its name within the layer, of one in no layer where that is negative."""
        return self.held[name] if layer < 0 else self.layers[layer].held[name]

    def layer(self, index: int) -> LayerFacts:
        """Facts of a layer, which may have no tensors."""
        return self.layers.get(index, _NOTHING)


_NOTHING = LayerFacts()


@remembered
def tensor_names(tensors: TensorTable) -> dict[str, Tensor]:
    """A table's tensors by name."""
    return {tensor.name: tensor for tensor in tensors}


@remembered
def table_facts(tensors: TensorTable) -> TableFacts:
    """Worked out once a table."""
    layered = tensors.layered
    if layered is None:
        return _facts_of_any(tensors)
    return _table_facts(dict(enumerate(map(_facts_of_alike, layered.layers))), layered.outside)


@remembered
def _facts_of_alike(alike: AlikeLayers) -> LayerFacts:
    start = len(f"blk.{alike.index}.")
    return _layer_facts([(tensor.name[start:], tensor) for tensor in alike.tensors])


def _facts_of_any(tensors: TensorTable) -> TableFacts:
    layers: defaultdict[int, list[tuple[str, Tensor]]] = defaultdict(list)
    outside: list[Tensor] = []
    for tensor in tensor_names(tensors).values():
        start, _, rest = tensor.name.partition(".")
        index, _, short = rest.partition(".")
        if start == "blk" and tensor.layer is not None and index == str(tensor.layer):
            layers[tensor.layer].append((short, tensor))
        else:
            outside.append(tensor)
    return _table_facts({index: _layer_facts(members) for index, members in layers.items()}, outside)


def _table_facts(layers: Mapping[int, LayerFacts], outside: Sequence[Tensor]) -> TableFacts:
    return TableFacts(
        layers,
        tuple(layers.get(index, _NOTHING).sizes for index in range(max(layers, default=-1) + 1)),
        number(tuple((index, one.shapes) for index, one in layers.items())),
        number(tuple((one.name, one.shape, one.layer) for one in outside)),
        number(tuple((one.name, one.nbytes) for one in outside)),
        {one.name: one.nbytes for one in outside},
    )


def _layer_facts(members: Sequence[tuple[str, Tensor]]) -> LayerFacts:
    held = {short: tensor.nbytes for short, tensor in members}
    shapes = number(tuple((short, tensor.shape, tensor.role) for short, tensor in members))
    return LayerFacts(shapes, number(tuple(held.items())), held)


@lru_cache(maxsize=1 << 10)
def block_numbers(architecture: LanguageArchitecture) -> tuple[tuple[int, int], ...]:
    """For each layer a number of its block and one of the block whose cache it reads."""
    blocks = architecture.blocks
    numbers = [number(block) for block in blocks]
    return tuple((numbers[index], numbers[cache_owner(architecture, index)]) for index in range(len(blocks)))


def cache_owner(architecture: LanguageArchitecture, index: int) -> int:
    """The layer whose cache ``index`` reads: its own, or the last one of its kind that keeps one."""
    blocks = architecture.blocks
    if blocks[index].cached:
        return index
    alike = (i for i in range(index, -1, -1) if blocks[i].cached and blocks[i].sliding == blocks[index].sliding)
    return next(alike, index)

"""What a graph reads of a table's layers, as numbers that are equal exactly where the layers are alike.

Most tiers and placements of a model make the same graph; these numbers tell so without building it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from weakref import WeakKeyDictionary

from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import Tensor, TensorTable

_SIZED = tuple(
    f"{name}.weight"
    for name in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate", "ffn_up", "ffn_down", "attn_q")
)
_fresh = count(1)


@lru_cache(maxsize=1 << 14)
def number(thing: Hashable) -> int:
    """The same number for equal things as long as they are remembered, never the same one for two that differ."""
    return next(_fresh)


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """Numbers for one layer: ``shapes`` for names and shapes of its tensors, ``sizes`` and ``expert_sizes`` for bytes
    of the weights that a card takes over from the host, ``held`` and ``experts_held`` for bytes of all tensors, each
    over the whole layer and over its experts alone."""

    shapes: int = 0
    sizes: int = 0
    expert_sizes: int = 0
    held: int = 0
    experts_held: int = 0


@dataclass(frozen=True, slots=True)
class TableFacts:
    """``names`` holds the tensors by name, ``layers`` facts by layer; ``outside`` is a number for names and shapes of
    what belongs to no layer, ``outside_held`` for its bytes."""

    names: dict[str, Tensor]
    layers: dict[int, LayerFacts]
    outside: int
    outside_held: int

    def nbytes(self, name: str) -> int:
        """Bytes of a tensor."""
        return self.names[name].nbytes

    def layer(self, index: int) -> LayerFacts:
        """Facts of a layer, which may have no tensors."""
        return self.layers.get(index, _NOTHING)


_NOTHING = LayerFacts()
_facts: WeakKeyDictionary[TensorTable, TableFacts] = WeakKeyDictionary()


def table_facts(tensors: TensorTable) -> TableFacts:
    """Worked out once a table."""
    found = _facts.get(tensors)
    if found is None:
        found = _facts[tensors] = _table_facts(tensors)
    return found


def _table_facts(tensors: TensorTable) -> TableFacts:
    names = {tensor.name: tensor for tensor in tensors}
    layers: defaultdict[int, list[tuple[str, Tensor]]] = defaultdict(list)
    outside: list[Tensor] = []
    for tensor in names.values():
        start, _, rest = tensor.name.partition(".")
        index, _, short = rest.partition(".")
        if start == "blk" and tensor.layer is not None and index == str(tensor.layer):
            layers[tensor.layer].append((short, tensor))
        else:
            outside.append(tensor)
    return TableFacts(
        names,
        {index: _layer_facts(members) for index, members in layers.items()},
        number(tuple((one.name, one.shape, one.layer) for one in outside)),
        number(tuple(one.nbytes for one in outside)),
    )


def _layer_facts(members: list[tuple[str, Tensor]]) -> LayerFacts:
    experts = [(short, tensor) for short, tensor in members if tensor.role == "expert"]
    return LayerFacts(
        number(tuple((short, tensor.shape, tensor.role) for short, tensor in members)),
        number(_sizes(members)),
        number(_sizes(experts)),
        number(tuple(tensor.nbytes for _, tensor in members)),
        number(tuple(tensor.nbytes for _, tensor in experts)),
    )


def _sizes(members: list[tuple[str, Tensor]]) -> tuple[tuple[str, int], ...]:
    return tuple((short, tensor.nbytes) for short, tensor in members if short in _SIZED)


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

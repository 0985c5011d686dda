"""What ``llama-quantize`` writes of a model: tensor tables and sizes of every tier, from the model's shape alone.

The rules stand in ``mixture_rules``. A publisher may set tensors by hand (Unsloth's ``UD-`` files), so such names are
refused: their size is in their header only. Layers alike are worked out once, because there are dozens of tiers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from math import prod

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.mixture_rules import (
    Matrix,
    PlaceInKind,
    Shape,
    chosen_type,
    matrix_of,
    place_of,
    tier_name,
    traits_of,
)
from fitcheck.models.families.language.tables import layer_shapes, outer_shapes
from fitcheck.models.quant import TYPES
from fitcheck.models.roles import classify_gguf
from fitcheck.models.tensors import AlikeLayers, Layered, Tensor, TensorTable

_KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_inp_shexp|altup|laurel|per_layer_model_proj|ssm_conv1d|shortconv\.conv"
    r"|attn_rel_b|position_embd|token_types|time_mix_(first|w\d|v\d|a\d|g\d|decay_w\d|lerp_fused)|indexer\.[kq]_proj"
)
# of those, what the converter leaves in the 16 bits of the original (conversion/base.py); the others it makes float32
_AS_IN_ORIGINAL = re.compile(r"altup_(proj|unembd_proj|router)\.weight|laurel_[lr]\.weight|per_layer_model_proj")
# kinds whose type depends on the layer
_BY_LAYER = frozenset({"attn_v", "ffn_down", "ffn_gate", "ffn_up"})


class MixtureTable(TensorTable):
    """The table of a tier, of which the tensors are made when somebody asks for them: nearly all that is asked of one
    is the same for all layers alike."""

    def __init__(self, architecture: LanguageArchitecture, tier: str, imatrix: bool) -> None:
        self.architecture, self.tier, self.imatrix = architecture, tier, imatrix

    @cached_property
    def layered(self) -> Layered:
        """The tensors outside layers, and the layers in order."""
        shape, types = _shape_of(self.architecture), _types(self.architecture, self.tier, self.imatrix)
        outside = tuple(row.tensor(type_, None) for row, type_ in zip(shape.outside, types.outside, strict=True))
        alike: dict[_Layer, AlikeLayers] = {}
        layers = []
        for index, one in enumerate(types.layers):
            if one not in alike:
                alike[one] = AlikeLayers(one.tensors(index), index)
            layers.append(alike[one])
        return Layered(outside, tuple(layers))

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        """All of them, layer by layer."""
        types = _types(self.architecture, self.tier, self.imatrix)
        within = (tensor for index, one in enumerate(types.layers) for tensor in one.tensors(index))
        return (*self.layered.outside, *within)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return _types(self.architecture, self.tier, self.imatrix).nbytes

    @cached_property
    def elements(self) -> int:
        """Elements of all tensors."""
        return mixture_elements(self.architecture)


def mixture_table(architecture: LanguageArchitecture, tier: str, imatrix: bool = False) -> MixtureTable:
    """The tensor table that ``llama-quantize`` would write for this shape. Raises InputError for an unknown tier.

    ``imatrix`` is whether the publisher used an importance matrix, which changes a few ``ffn_down`` tensors.
    """
    _shape_of(architecture)
    return MixtureTable(architecture, tier_name(tier), imatrix)


def mixture_elements(architecture: LanguageArchitecture) -> int:
    """Elements of all tensors of any tier's ``mixture_table``, whatever type the rules give them."""
    total = sum(prod(shape) for _, shape in outer_shapes(architecture))
    of_layer: dict[object, int] = {}
    for block, shapes in layer_shapes(architecture):
        if block not in of_layer:
            of_layer[block] = sum(prod(shape) for _, shape in shapes)
        total += of_layer[block]
    return total


def usual_imatrix(tier: str) -> bool:
    """IQ tiers are made with an importance matrix: llama-quantize refuses the small ones without."""
    return tier.upper().startswith("IQ")


def header_bytes(architecture: LanguageArchitecture) -> int:
    """What a GGUF header takes, nearly all of it the tokenizer: by token a text, a type and a score or a merge.

    A SentencePiece vocabulary (Gemma, and all small ones) stores 8 bytes of length, 4 of score, 4 of type and about 7
    of text a token; one with merges stores each of them as text, the longer the larger the vocabulary is.
    """
    size = architecture.vocabulary
    if size < 33_000 or architecture.name.startswith("gemma"):
        return size * 23
    return size * (40 if size < 100_000 else 60)


@dataclass(frozen=True, slots=True)
class _Row:
    """A tensor as the rules see it; of one in a layer ``name`` is what comes after ``blk.0.``. ``kept`` is the type
    in which llama-quantize leaves it, empty where it does not; ``varies`` says whether its type depends on which layer
    it is in."""

    name: str
    shape: Shape
    elements: int
    kind: str
    role: str
    kept: str
    varies: bool
    matrix: Matrix | None

    def tensor(self, type_: str, layer: int | None) -> Tensor:
        name = self.name if layer is None else f"blk.{layer}.{self.name}"
        return Tensor(name, self.shape, type_, self.role, layer)


_Rows = tuple[_Row, ...]


def _row(name: str, shape: Shape, prefix: str = "") -> _Row:
    full = prefix + name
    left = len(shape) < 2 or not name.endswith("weight") or _KEPT.search(full) is not None
    kept = "" if not left else "BF16" if _AS_IN_ORIGINAL.search(full) else "F32"
    kind, role = _kind(full), classify_gguf(Tensor(full, shape, "F32")).role
    matrix = None if kept else matrix_of(kind, shape)
    return _Row(name, shape, prod(shape), kind, role, kept, not kept and kind in _BY_LAYER, matrix)


@dataclass(frozen=True, eq=False)
class _Alike:
    """``count`` layers that the rules treat alike: the same rows, each at the same place among those of its kind."""

    rows: _Rows
    places: tuple[PlaceInKind, ...]
    count: int


@dataclass(frozen=True, eq=False)
class _Shape:
    """llama-quant walks tensors by layer; those outside layers come first. ``layers`` are positions in ``alike``."""

    outside: _Rows
    alike: tuple[_Alike, ...]
    layers: tuple[int, ...]


_NOWHERE = place_of(0, 0)


@lru_cache(maxsize=16)
def _shape_of(architecture: LanguageArchitecture) -> _Shape:
    """llama-quant counts tensors of a kind as it walks them; feed-forward ones of a model with experts by their
    layer."""
    outside = tuple(_row(name, shape) for name, shape in outer_shapes(architecture))
    made: dict[object, _Rows] = {}
    layers = []
    for block, shapes in layer_shapes(architecture):
        if block not in made:
            made[block] = tuple(_row(name, shape, "blk.0.") for name, shape in shapes)
        layers.append(made[block])
    totals = Counter(row.kind for rows in (outside, *layers) for row in rows if row.name.endswith(".weight"))
    seen: Counter[str] = Counter()
    numbers: dict[tuple[int, tuple[PlaceInKind, ...]], int] = {}
    kinds = []
    for layer, rows in enumerate(layers):
        places = []
        for row in rows:
            feed_forward = row.kind.startswith("ffn")
            index = layer if feed_forward and architecture.experts > 1 else seen[row.kind]
            total = len(layers) if feed_forward else totals[row.kind]
            places.append(place_of(index, total) if row.varies else _NOWHERE)
            seen[row.kind] += row.varies
        kinds.append(numbers.setdefault((id(rows), tuple(places)), len(numbers)))
    counts = Counter(kinds)
    alike = [_Alike(layers[kinds.index(n)], places, counts[n]) for (_, places), n in numbers.items()]
    return _Shape(outside, tuple(alike), tuple(kinds))


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer's rows with their types; layers alike are the same object."""

    rows: _Rows
    types: tuple[str, ...]

    def tensors(self, index: int) -> tuple[Tensor, ...]:
        return tuple(row.tensor(type_, index) for row, type_ in zip(self.rows, self.types, strict=True))

    @cached_property
    def nbytes(self) -> int:
        return _nbytes(self.rows, self.types)


@dataclass(frozen=True, eq=False)
class _Types:
    """``alike`` as those of the shape."""

    shape: _Shape
    outside: tuple[str, ...]
    alike: tuple[_Layer, ...]

    @property
    def layers(self) -> Iterator[_Layer]:
        return (self.alike[number] for number in self.shape.layers)

    @property
    def nbytes(self) -> int:
        within = zip(self.alike, self.shape.alike, strict=True)
        return _nbytes(self.shape.outside, self.outside) + sum(one.nbytes * many.count for one, many in within)


def _nbytes(rows: _Rows, types: Iterable[str]) -> int:
    sizes = ((row.elements, TYPES[type_]) for row, type_ in zip(rows, types, strict=True))
    return sum(elements // quant.block * quant.block_bytes for elements, quant in sizes)


@lru_cache(maxsize=256)
def _types(architecture: LanguageArchitecture, tier: str, imatrix: bool) -> _Types:
    """Types of all tensors of a tier, layer by layer as far as the rules tell layers apart."""
    shape, traits = _shape_of(architecture), traits_of(architecture)

    def type_of(row: _Row, place: PlaceInKind) -> str:
        return row.kept if row.matrix is None else chosen_type(traits, tier, imatrix, row.matrix, place)

    made: dict[tuple[int, tuple[str, ...]], _Layer] = {}
    alike = []
    for one in shape.alike:
        types = tuple(map(type_of, one.rows, one.places))
        alike.append(made.setdefault((id(one.rows), types), _Layer(one.rows, types)))
    return _Types(shape, tuple(type_of(row, _NOWHERE) for row in shape.outside), tuple(alike))


def _kind(name: str) -> str:
    """llama-quant's tensor category; attn_kv_b counts as a value projection."""
    if name.startswith(("token_embd", "per_layer_token_embd")):
        return "token_embd"
    if name == "output.weight":
        return "output"
    stem = name.split(".")[-2] if "." in name else name
    for category in ("attn_qkv", "attn_output"):
        if stem == category:
            return category
    if stem in ("attn_v", "attn_kv_b"):
        return "attn_v"
    if stem in ("attn_k", "attn_q"):
        return stem
    for category in ("ffn_down", "ffn_gate", "ffn_up"):
        if stem in (category, f"{category}_exps", f"{category}_shexp"):
            return category
    return stem

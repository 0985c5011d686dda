"""What ``llama-quantize`` writes of a model: tensor tables and sizes of every tier, from the model's shape alone.

The rules stand in ``mixture_rules``. A publisher may set tensors by hand (Unsloth's ``UD-`` files), so such names are
refused: their size is in their header only. Layers alike are worked out once, because there are dozens of tiers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.mixture_rules import Rules, Shape, rules_of, tier_name, traits_of
from fitcheck.models.families.language.tables import layer_shapes, outer_shapes
from fitcheck.models.quant import TYPES
from fitcheck.models.roles import classify_gguf
from fitcheck.models.tensors import AlikeLayers, Layered, Tensor, TensorTable

_KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_inp_shexp|altup|laurel|per_layer_model_proj|ssm_conv1d|shortconv\.conv"
    r"|attn_rel_b|position_embd|token_types|time_mix_(first|w\d|v\d|a\d|g\d|decay_w\d|lerp_fused)|indexer\.[kq]_proj"
)
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
        return _types(self.architecture, self.tier, self.imatrix).nbytes(_shape_of(self.architecture))

    @cached_property
    def elements(self) -> int:
        """Elements of all tensors."""
        return mixture_elements(self.architecture)

    @cached_property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes by storage type; largest first."""
        counts = Counter[str]()
        for tensor in self.layered.outside:
            counts[tensor.type] += tensor.nbytes
        for one, count in Counter(self.layered.layers).items():
            for tensor in one.tensors:
                counts[tensor.type] += count * tensor.nbytes
        return dict(counts.most_common())


def mixture_table(architecture: LanguageArchitecture, tier: str, imatrix: bool = False) -> MixtureTable:
    """The tensor table that ``llama-quantize`` would write for this shape. Raises InputError for an unknown tier.

    ``imatrix`` is whether the publisher used an importance matrix, which changes a few ``ffn_down`` tensors.
    """
    _shape_of(architecture)
    return MixtureTable(architecture, tier_name(tier), imatrix)


def mixture_elements(architecture: LanguageArchitecture) -> int:
    """Elements of all tensors of any tier's ``mixture_table``."""
    return _shape_of(architecture).elements


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
    """A tensor as the rules see it; of one in a layer ``name`` is what comes after ``blk.0.``. ``kept`` is whether
    llama-quantize leaves it in float32, ``varies`` whether its type depends on which layer it is in."""

    name: str
    shape: Shape
    elements: int
    kind: str
    role: str
    kept: bool
    varies: bool

    def tensor(self, type_: str, layer: int | None) -> Tensor:
        name = self.name if layer is None else f"blk.{layer}.{self.name}"
        return Tensor(name, self.shape, type_, self.role, layer)


_Rows = tuple[_Row, ...]


def _row(name: str, shape: Shape, prefix: str = "") -> _Row:
    full = prefix + name
    kept = len(shape) < 2 or not name.endswith("weight") or _KEPT.search(full) is not None
    kind, role = _kind(full), classify_gguf(Tensor(full, shape, "F32")).role
    return _Row(name, shape, prod(shape), kind, role, kept, not kept and kind in _BY_LAYER)


@dataclass(frozen=True, eq=False)
class _Shape:
    """llama-quant walks tensors by layer; those outside layers come first. Layers alike share their rows. ``totals``
    counts weights by kind."""

    outside: _Rows
    layers: tuple[_Rows, ...]

    @cached_property
    def totals(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for rows, count in ((self.outside, 1), *self.counted):
            for row in rows:
                counts[row.kind] += count if row.name.endswith(".weight") else 0
        return counts

    @cached_property
    def counted(self) -> tuple[tuple[_Rows, int], ...]:
        """Every kind of layer with how many there are."""
        by_place = {id(rows): rows for rows in self.layers}
        return tuple((by_place[place], count) for place, count in Counter(map(id, self.layers)).items())

    @cached_property
    def elements(self) -> int:
        return sum(row.elements * count for rows, count in ((self.outside, 1), *self.counted) for row in rows)


@lru_cache(maxsize=16)
def _shape_of(architecture: LanguageArchitecture) -> _Shape:
    outside = tuple(_row(name, shape) for name, shape in outer_shapes(architecture))
    made: dict[object, _Rows] = {}
    layers = []
    for block, shapes in layer_shapes(architecture):
        if block not in made:
            made[block] = tuple(_row(name, shape, "blk.0.") for name, shape in shapes)
        layers.append(made[block])
    return _Shape(outside, tuple(layers))


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
    outside: tuple[str, ...]
    layers: tuple[_Layer, ...]

    def nbytes(self, shape: _Shape) -> int:
        return _nbytes(shape.outside, self.outside) + sum(one.nbytes for one in self.layers)


def _nbytes(rows: _Rows, types: Iterable[str]) -> int:
    sizes = ((row.elements, TYPES[type_]) for row, type_ in zip(rows, types, strict=True))
    return sum(elements // quant.block * quant.block_bytes for elements, quant in sizes)


@lru_cache(maxsize=256)
def _types(architecture: LanguageArchitecture, tier: str, imatrix: bool) -> _Types:
    """Types of all tensors of a tier. Counters of each kind are what llama-quant keeps while it walks the tensors; of
    a model with experts it counts feed-forward tensors by their layer."""
    shape, rules = _shape_of(architecture), rules_of(traits_of(architecture), tier, imatrix)
    outside = tuple(_type(rules, shape, row, 0) for row in shape.outside)
    seen: Counter[str] = Counter()
    made: dict[tuple[int, tuple[str, ...]], _Layer] = {}
    fixed: dict[int, tuple[str, ...]] = {}
    layers = []
    for layer, rows in enumerate(shape.layers):
        varying = []
        for row in rows:
            if row.varies:
                by_layer = architecture.experts > 1 and row.kind.startswith("ffn")
                varying.append(_type(rules, shape, row, layer if by_layer else seen[row.kind]))
                seen[row.kind] += 1
        key = (id(rows), tuple(varying))
        if key not in made:
            if id(rows) not in fixed:
                fixed[id(rows)] = tuple("" if row.varies else _type(rules, shape, row, 0) for row in rows)
            rest = iter(varying)
            made[key] = _Layer(rows, tuple(type_ or next(rest) for type_ in fixed[id(rows)]))
        layers.append(made[key])
    return _Types(outside, tuple(layers))


def _type(rules: Rules, shape: _Shape, row: _Row, index: int) -> str:
    """llama-quant counts ffn tensors by layers and attn_v by those it saw."""
    if row.kept:
        return "F32"
    total = len(shape.layers) if row.kind.startswith("ffn") else shape.totals.get(row.kind, 0)
    return rules.type_of(row.kind, index, total, row.shape)


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

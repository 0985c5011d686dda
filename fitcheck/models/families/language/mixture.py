"""llama.cpp's quantization mixtures: which type each tensor gets under ``Q4_K_M``, ``IQ3_XS`` and the rest.

The rules are those of ggml-org/llama.cpp src/llama-quant.cpp (llama_tensor_get_type, tensor_allows_quantization) as of
November 2026, and give a file's size from a model's shape and a tier's name. A publisher may set tensors by hand
(Unsloth's ``UD-`` files), so such names are refused: their size is in their header only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import prod

from fitcheck.errors import ModelError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.tables import tensor_shapes
from fitcheck.models.quant import ALIASES, BASE, TYPES
from fitcheck.models.roles import classify
from fitcheck.models.tensors import Tensor, TensorTable

# tier name -> the type of most matrices
_LOW = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "Q2_K": "Q4_0", "Q3_K": "Q4_0", "TQ1_0": "Q4_0"} | {
    "TQ2_0": "Q4_0"
}
_KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_inp_shexp|altup|laurel|per_layer_model_proj|ssm_conv1d|shortconv\.conv"
    r"|attn_rel_b|position_embd|token_types|time_mix_(first|w\d|v\d|a\d|g\d|decay_w\d|lerp_fused)|indexer\.[kq]_proj"
)
# kinds whose type depends on the layer
_BY_LAYER = frozenset({"attn_v", "ffn_down", "ffn_gate", "ffn_up"})
_LAYER = re.compile(r"blk\.(\d+)\.")
_EIGHT_EXPERT_OUTPUT = frozenset(
    {"Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M", "IQ4_XS"}
)


def tier_name(text: str) -> str:
    """The tier as llama.cpp calls it. Raises InputError for one whose mixture is not a rule of llama-quant."""
    name = ALIASES.get(text.strip().upper(), text.strip().upper())
    if name not in BASE:
        raise ModelError(
            f"quant tier {text!r} is not one of llama.cpp's own mixtures, so its size is only known from the file's "
            f"header; choose from {', '.join(BASE)} or point fitcheck at the file."
        )
    return name


def mixture_table(architecture: LanguageArchitecture, tier: str, imatrix: bool = False) -> TensorTable:
    """The tensor table that ``llama-quantize`` would write for this shape. Raises InputError for an unknown tier.

    ``imatrix`` is whether the publisher used an importance matrix, which changes a few ``ffn_down`` tensors.
    """
    rows = _rows(architecture)
    roles = _roles(architecture)
    rules = _Rules(architecture, tier_name(tier), imatrix, _totals(rows))
    return TensorTable(
        Tensor(row.name, row.shape, rules.type_of(row), role, layer)
        for row, (role, layer) in zip(rows, roles, strict=True)
    )


def mixture_sizes(architecture: LanguageArchitecture, tiers: Iterable[str]) -> dict[str, int]:
    """Bytes of the tensors of each tier's ``mixture_table``, without making them. Raises InputError."""
    rows = _rows(architecture)
    totals = _totals(rows)
    kept = sum(row.elements for row in rows if row.kept) * TYPES["F32"].block_bytes
    matrices = _alike([row for row in rows if not row.kept])
    sizes = {}
    for tier in tiers:
        rules = _Rules(architecture, tier_name(tier), usual_imatrix(tier), totals)
        counts: Counter[str] = Counter()
        for row in matrices:
            counts[rules.type_of(row)] += row.elements
        sizes[tier] = kept + sum(n // TYPES[t].block * TYPES[t].block_bytes for t, n in counts.items())
    return sizes


def mixture_elements(architecture: LanguageArchitecture) -> int:
    """Elements of all tensors of any tier's ``mixture_table``, without making one."""
    return sum(row.elements for row in _rows(architecture))


def _alike(rows: Iterable[_Row]) -> list[_Row]:
    """One row for all tensors of a kind and shape whose type does not depend on which layer they are of."""
    found: list[_Row] = []
    same: dict[tuple[str, tuple[int, ...]], int] = {}
    for row in rows:
        if row.kind in _BY_LAYER:
            found.append(row)
        elif (row.kind, row.shape) in same:
            first = found[same[row.kind, row.shape]]
            found[same[row.kind, row.shape]] = replace(first, elements=first.elements + row.elements)
        else:
            same[row.kind, row.shape] = len(found)
            found.append(row)
    return found


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
    """A tensor as the rules see it. ``kept`` is whether llama-quantize leaves it in float32."""

    name: str
    shape: tuple[int, ...]
    elements: int
    kind: str
    layer: int | None
    kept: bool


def _row(name: str, shape: tuple[int, ...]) -> _Row:
    found = _LAYER.match(name)
    kept = len(shape) < 2 or not name.endswith("weight") or _KEPT.search(name) is not None
    return _Row(name, shape, prod(shape), _kind(name), int(found.group(1)) if found else None, kept)


@lru_cache(maxsize=8)
def _rows(architecture: LanguageArchitecture) -> tuple[_Row, ...]:
    """llama-quant walks tensors by layer; those outside layers come first."""
    rows = [_row(name, shape) for name, shape in tensor_shapes(architecture)]
    return tuple(sorted(rows, key=lambda row: -1 if row.layer is None else row.layer))


@lru_cache(maxsize=8)
def _roles(architecture: LanguageArchitecture) -> tuple[tuple[str, int | None], ...]:
    table = classify(Tensor(row.name, row.shape, "F32") for row in _rows(architecture))
    return tuple((tensor.role, tensor.layer) for tensor in table)


def _totals(rows: tuple[_Row, ...]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for row in rows:
        if row.name.endswith(".weight"):
            totals[row.kind] = totals.get(row.kind, 0) + 1
    return totals


@dataclass
class _Rules:
    """The state llama-quant keeps while it walks the tensors: counters of each kind seen so far."""

    architecture: LanguageArchitecture
    tier: str
    imatrix: bool
    totals: dict[str, int]
    seen: dict[str, int] = field(default_factory=dict)

    def type_of(self, row: _Row) -> str:
        base = BASE[self.tier]
        if row.kept:
            return "F32"
        if not TYPES[base].quantized:
            return base
        kind = row.kind
        index = seen = self.seen.get(kind, 0)
        if self.architecture.experts > 1 and row.layer is not None and kind.startswith("ffn"):
            index = row.layer
        chosen = self._choose(kind, index, self._total(kind), base, row.shape)
        self.seen[kind] = seen + 1
        return _fit(chosen, row.shape[-1])

    def _total(self, kind: str) -> int:
        """llama-quant counts ffn tensors by layers and attn_v by those it saw."""
        return self.architecture.layers if kind.startswith("ffn") else self.totals.get(kind, 0)

    def _choose(self, kind: str, index: int, total: int, base: str, shape: tuple[int, ...]) -> str:
        tier, falcon = self.tier, self.architecture.name == "falcon"
        if kind == "output" or (kind == "token_embd" and self.architecture.tied_embeddings):
            return self._head(base, shape)
        if tier in ("MXFP4", "MXFP4_MOE"):
            return "MXFP4" if len(shape) == 3 and shape[0] > 1 and kind.startswith("ffn") else "Q8_0"
        if kind == "token_embd":
            return self._embedding(base)
        if tier in _LOW:
            return self._low(kind, index, total, base)
        if kind == "attn_v":
            return self._value(index, total, base)
        if kind == "attn_k":
            if self._eight:
                return "Q8_0"
            return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(tier, base)
        if kind == "attn_q":
            return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(tier, base)
        if kind == "ffn_down":
            return self._down(index, total, base, falcon)
        if kind == "attn_output":
            return self._attention_output(base, falcon)
        if kind == "attn_qkv":
            if tier in ("Q3_K_M", "Q3_K_L", "IQ3_M"):
                return "Q4_K"
            return {"Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}.get(tier, base)
        if kind in ("ffn_gate", "ffn_up") and tier == "IQ3_XS" and total // 8 <= index < 7 * total // 8:
            return "IQ3_XXS"
        return base

    @property
    def _eight(self) -> bool:
        return self.architecture.experts == 8

    @cached_property
    def _grouped(self) -> int:
        block = next((b for b in self.architecture.blocks if b.kv_heads), None)
        return block.heads // block.kv_heads if block else 0

    def _head(self, base: str, shape: tuple[int, ...]) -> str:
        if self.tier in ("MXFP4", "MXFP4_MOE") or self.architecture.name == "falcon":
            return "Q8_0"
        if shape[-1] % TYPES[base].block:
            return "Q8_0"
        if self.tier in _LOW or self.tier == "IQ3_XXS":
            return "Q5_K"
        return base if base == "Q8_0" else "Q6_K"

    def _embedding(self, base: str) -> str:
        if self.tier in ("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"):
            return "Q2_K"
        if self.tier in ("IQ2_S", "IQ2_M", "IQ3_XXS"):
            return "IQ3_S"
        return "Q4_K" if self.tier in ("TQ1_0", "TQ2_0") else base

    def _low(self, kind: str, index: int, total: int, base: str) -> str:
        fine = self.tier in ("IQ2_S", "IQ2_M")
        if kind == "attn_v":
            if self._grouped >= 4 or self.architecture.experts >= 4:
                return "Q4_K"
            return "IQ3_S" if fine else "Q2_K"
        if kind == "attn_k" and self._eight:
            return "Q4_K"
        if kind == "ffn_down" and index < total // 8:
            return "IQ3_S" if fine else "Q2_K"
        if kind == "attn_output":
            if self._eight:
                return "Q5_K"
            if self.tier in ("IQ1_S", "IQ1_M"):
                return "IQ2_XXS"
            if fine:
                return "IQ3_S"
        return base

    def _value(self, index: int, total: int, base: str) -> str:
        tier, grouped = self.tier, self._grouped >= 4
        chosen = base
        if tier == "Q2_K":
            chosen = "Q4_K" if grouped else "Q3_K"
        elif tier == "Q2_K_S" and grouped:
            chosen = "Q4_K"
        elif tier == "IQ3_XXS":
            chosen = "Q4_K" if grouped else "IQ3_XXS" if self.imatrix else "IQ3_S"
        elif (tier in ("IQ3_XS", "IQ3_S") and grouped) or tier == "IQ3_M":
            chosen = "Q4_K"
        elif tier == "Q3_K_M":
            chosen = "Q5_K" if index < 2 else "Q4_K"
        elif tier == "Q3_K_L" or (tier in ("IQ4_NL", "IQ4_XS") and grouped):
            chosen = "Q5_K"
        elif tier in ("Q4_K_M", "Q5_K_M") and _more_bits(index, total):
            chosen = "Q6_K"
        elif tier == "Q4_K_S" and index < 4:
            chosen = "Q5_K"
        if self._seventy and chosen in ("Q3_K", "Q4_K"):
            chosen = "Q5_K"
        return "Q8_0" if self._eight else chosen

    @property
    def _seventy(self) -> bool:
        """llama.cpp's LLM_TYPE_70B: an 80-layer llama with grouped heads."""
        return self.architecture.name == "llama" and self.architecture.layers == 80 and self._grouped > 1

    def _down(self, index: int, total: int, base: str, falcon: bool) -> str:
        tier = self.tier
        if tier == "Q2_K":
            return "Q3_K"
        if tier == "Q2_K_S" and index < total // 8:
            return "Q4_K"
        if tier == "IQ3_XXS" and not self.imatrix:
            return "Q4_K" if index < total // 8 else "Q3_K"
        if tier == "Q3_K_M":
            if index < total // 16:
                return "Q5_K"
            return "Q4_K" if not falcon or _more_bits(index, total) else "Q3_K"
        if tier == "IQ3_M" and (index < total // 8 or (self._eight and _more_bits(index, total))):
            return "Q4_K"
        if tier == "Q3_K_L":
            return "Q4_K" if falcon else "Q5_K"
        if tier == "Q4_K_M":
            if falcon:
                return "Q6_K" if index < total // 16 else "Q5_K" if _more_bits(index, total) else "Q4_K"
            return "Q6_K" if _more_bits(index, total) else base
        if index < total // 8 and tier in ("IQ4_NL", "IQ4_XS") and not self.imatrix:
            return "Q5_K"
        if tier == "Q5_K_M" and _more_bits(index, total):
            return "Q6_K"
        if tier == "Q4_K_S" and not falcon and index < total // 8:
            return "Q5_K"
        if tier in ("Q4_0", "Q5_0") and self.imatrix and index < total // 8:
            return "Q4_1" if tier == "Q4_0" else "Q5_1"
        return base

    def _attention_output(self, base: str, falcon: bool) -> str:
        if falcon:
            return "Q4_K" if self.tier == "Q3_K_L" else base
        if self._eight:
            return "Q5_K" if self.tier in _EIGHT_EXPERT_OUTPUT else base
        changed = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
        return changed.get(self.tier, base)


def _more_bits(index: int, total: int) -> bool:
    return index < total // 8 or index >= 7 * total // 8 or (index - total // 8) % 3 == 2


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


def _fit(chosen: str, columns: int) -> str:
    """A row that is no whole number of blocks falls back to a type with smaller blocks, else to F16."""
    if columns % TYPES[chosen].block == 0:
        return chosen
    smaller = _FALLBACK.get(chosen, "IQ4_NL" if chosen.startswith("IQ") else chosen)
    return smaller if columns % TYPES[smaller].block == 0 else "F16"

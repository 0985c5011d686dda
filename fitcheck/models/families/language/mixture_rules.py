"""llama.cpp's quantization mixtures as rules: which type a tensor gets under ``Q4_K_M``, ``IQ3_XS`` and the rest.

Those of ggml-org/llama.cpp src/llama-quant.cpp (llama_tensor_get_type, tensor_allows_quantization) as of November 2026.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import ModelError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.quant import ALIASES, BASE, TYPES

Shape = tuple[int, ...]
# tier name -> the type of most matrices
_LOW = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "Q2_K": "Q4_0", "Q3_K": "Q4_0", "TQ1_0": "Q4_0"} | {
    "TQ2_0": "Q4_0"
}
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


class MixtureTraits(NamedTuple):
    """All of an architecture that the rules ask for. ``experts`` beyond 9 and ``heads_per_kv``, of its first layer with
    attention, beyond 4 make no difference; ``seventy`` is llama.cpp's LLM_TYPE_70B: an 80-layer llama with grouped
    heads. ``native`` is gpt-oss, whose experts are published in MXFP4 alone."""

    falcon: bool
    seventy: bool
    experts: int
    tied: bool
    heads_per_kv: int
    native: bool


def traits_of(architecture: LanguageArchitecture) -> MixtureTraits:
    """What the rules ask of ``architecture``."""
    block = next((b for b in architecture.blocks if b.kv_heads), None)
    heads = block.heads // block.kv_heads if block else 0
    seventy = architecture.name == "llama" and architecture.layers == 80 and heads > 1
    falcon, experts = architecture.name == "falcon", min(architecture.experts, 9)
    native = architecture.name == "gpt-oss"
    return MixtureTraits(falcon, seventy, experts, architecture.tied_embeddings, min(heads, 4), native)


class PlaceInKind(NamedTuple):
    """All that the rules ask of where a tensor stands among those of its kind."""

    first_two: bool
    first_four: bool
    sixteenth: bool
    eighth: bool
    more_bits: bool
    middle: bool


@lru_cache(maxsize=4096)
def place_of(index: int, total: int) -> PlaceInKind:
    """The place of the ``index``-th of ``total``."""
    eighth = total // 8
    last = index >= 7 * total // 8
    more = index < eighth or last or (index - eighth) % 3 == 2
    return PlaceInKind(index < 2, index < 4, index < total // 16, index < eighth, more, eighth <= index and not last)


class Matrix(NamedTuple):
    """All that the rules ask of a tensor: llama-quant's category, the largest power of two up to 256 that divides its
    columns, whether it holds several experts' matrices."""

    kind: str
    columns: int
    stacked: bool


def matrix_of(kind: str, shape: Shape) -> Matrix:
    """What the rules ask of a tensor of this shape."""
    return Matrix(kind, gcd(shape[-1], 256), len(shape) == 3 and shape[0] > 1)


@lru_cache(maxsize=1 << 14)
def chosen_type(traits: MixtureTraits, tier: str, imatrix: bool, matrix: Matrix, place: PlaceInKind) -> str:
    """The type that a matrix gets in a tier."""
    base = BASE[tier]
    # "All quants keep the feed forward networks at mxfp4" (bartowski/openai_gpt-oss-20b-GGUF, read 2026-11-27); the
    # F16 file of gpt-oss-120b has 4.48 bits a weight (ailocalcheck.com, unsloth/gpt-oss-120b-GGUF, read 2026-11-27)
    if traits.native and matrix.stacked and matrix.kind.startswith("ffn"):
        return "MXFP4"
    if not TYPES[base].quantized:
        return base
    return _fit(_Rules(traits, tier, imatrix).choose(matrix, place, base), matrix.columns)


@dataclass(frozen=True, slots=True)
class _Rules:
    """One tier's rules."""

    traits: MixtureTraits
    tier: str
    imatrix: bool

    def choose(self, matrix: Matrix, place: PlaceInKind, base: str) -> str:
        tier, kind, falcon = self.tier, matrix.kind, self.traits.falcon
        if kind == "output" or (kind == "token_embd" and self.traits.tied):
            return self._head(base, matrix.columns)
        if tier in ("MXFP4", "MXFP4_MOE"):
            return "MXFP4" if matrix.stacked and kind.startswith("ffn") else "Q8_0"
        if kind == "token_embd":
            return self._embedding(base)
        if tier in _LOW:
            return self._low(kind, place, base)
        if kind == "attn_v":
            return self._value(place, base)
        if kind == "attn_k":
            if self._eight:
                return "Q8_0"
            return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(tier, base)
        if kind == "attn_q":
            return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(tier, base)
        if kind == "ffn_down":
            return self._down(place, base, falcon)
        if kind == "attn_output":
            return self._attention_output(base, falcon)
        if kind == "attn_qkv":
            if tier in ("Q3_K_M", "Q3_K_L", "IQ3_M"):
                return "Q4_K"
            return {"Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}.get(tier, base)
        if kind in ("ffn_gate", "ffn_up") and tier == "IQ3_XS" and place.middle:
            return "IQ3_XXS"
        return base

    @property
    def _eight(self) -> bool:
        return self.traits.experts == 8

    def _head(self, base: str, columns: int) -> str:
        if self.tier in ("MXFP4", "MXFP4_MOE") or self.traits.falcon:
            return "Q8_0"
        if columns % TYPES[base].block:
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

    def _low(self, kind: str, place: PlaceInKind, base: str) -> str:
        fine = self.tier in ("IQ2_S", "IQ2_M")
        if kind == "attn_v":
            if self.traits.heads_per_kv >= 4 or self.traits.experts >= 4:
                return "Q4_K"
            return "IQ3_S" if fine else "Q2_K"
        if kind == "attn_k" and self._eight:
            return "Q4_K"
        if kind == "ffn_down" and place.eighth:
            return "IQ3_S" if fine else "Q2_K"
        if kind == "attn_output":
            if self._eight:
                return "Q5_K"
            if self.tier in ("IQ1_S", "IQ1_M"):
                return "IQ2_XXS"
            if fine:
                return "IQ3_S"
        return base

    def _value(self, place: PlaceInKind, base: str) -> str:
        tier, grouped = self.tier, self.traits.heads_per_kv >= 4
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
            chosen = "Q5_K" if place.first_two else "Q4_K"
        elif tier == "Q3_K_L" or (tier in ("IQ4_NL", "IQ4_XS") and grouped):
            chosen = "Q5_K"
        elif tier in ("Q4_K_M", "Q5_K_M") and place.more_bits:
            chosen = "Q6_K"
        elif tier == "Q4_K_S" and place.first_four:
            chosen = "Q5_K"
        if self.traits.seventy and chosen in ("Q3_K", "Q4_K"):
            chosen = "Q5_K"
        return "Q8_0" if self._eight else chosen

    def _down(self, place: PlaceInKind, base: str, falcon: bool) -> str:
        tier = self.tier
        if tier == "Q2_K":
            return "Q3_K"
        if tier == "Q2_K_S" and place.eighth:
            return "Q4_K"
        if tier == "IQ3_XXS" and not self.imatrix:
            return "Q4_K" if place.eighth else "Q3_K"
        if tier == "Q3_K_M":
            if place.sixteenth:
                return "Q5_K"
            return "Q4_K" if not falcon or place.more_bits else "Q3_K"
        if tier == "IQ3_M" and (place.eighth or (self._eight and place.more_bits)):
            return "Q4_K"
        if tier == "Q3_K_L":
            return "Q4_K" if falcon else "Q5_K"
        if tier == "Q4_K_M":
            if falcon:
                return "Q6_K" if place.sixteenth else "Q5_K" if place.more_bits else "Q4_K"
            return "Q6_K" if place.more_bits else base
        if place.eighth and tier in ("IQ4_NL", "IQ4_XS") and not self.imatrix:
            return "Q5_K"
        if tier == "Q5_K_M" and place.more_bits:
            return "Q6_K"
        if tier == "Q4_K_S" and not falcon and place.eighth:
            return "Q5_K"
        if tier in ("Q4_0", "Q5_0") and self.imatrix and place.eighth:
            return "Q4_1" if tier == "Q4_0" else "Q5_1"
        return base

    def _attention_output(self, base: str, falcon: bool) -> str:
        if falcon:
            return "Q4_K" if self.tier == "Q3_K_L" else base
        if self._eight:
            return "Q5_K" if self.tier in _EIGHT_EXPERT_OUTPUT else base
        changed = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
        return changed.get(self.tier, base)


def _fit(chosen: str, columns: int) -> str:
    """A row that is no whole number of blocks falls back to a type with smaller blocks, else to F16."""
    if columns % TYPES[chosen].block == 0:
        return chosen
    smaller = _FALLBACK.get(chosen, "IQ4_NL" if chosen.startswith("IQ") else chosen)
    return smaller if columns % TYPES[smaller].block == 0 else "F16"

"""llama.cpp's quantization mixtures as rules: which type a tensor gets under ``Q4_K_M``, ``IQ3_XS`` and the rest.

Those of ggml-org/llama.cpp src/llama-quant.cpp (llama_tensor_get_type, tensor_allows_quantization) as of November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

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


class Traits(NamedTuple):
    """All of an architecture that the rules ask for; ``heads_per_kv`` of its first layer with attention."""

    name: str
    layers: int
    experts: int
    tied: bool
    heads_per_kv: int


def traits_of(architecture: LanguageArchitecture) -> Traits:
    """What the rules ask of ``architecture``."""
    block = next((b for b in architecture.blocks if b.kv_heads), None)
    heads = block.heads // block.kv_heads if block else 0
    return Traits(architecture.name, architecture.layers, architecture.experts, architecture.tied_embeddings, heads)


@lru_cache(maxsize=512)
def rules_of(traits: Traits, tier: str, imatrix: bool) -> Rules:
    """The rules of one tier, which remember what they chose."""
    return Rules(traits, tier, imatrix)


@dataclass
class Rules:
    """Types by llama-quant's own categories."""

    traits: Traits
    tier: str
    imatrix: bool
    chosen: dict[tuple[str, int, int, Shape], str] = field(default_factory=dict)

    def type_of(self, kind: str, index: int, total: int, shape: Shape) -> str:
        """The type of a matrix: the ``index``-th of ``total`` of its kind."""
        key = (kind, index, total, shape)
        found = self.chosen.get(key)
        if found is None:
            found = self.chosen[key] = self._found(kind, index, total, shape)
        return found

    def _found(self, kind: str, index: int, total: int, shape: Shape) -> str:
        base = BASE[self.tier]
        if not TYPES[base].quantized:
            return base
        return _fit(self._choose(kind, index, total, base, shape), shape[-1])

    def _choose(self, kind: str, index: int, total: int, base: str, shape: tuple[int, ...]) -> str:
        tier, falcon = self.tier, self.traits.name == "falcon"
        if kind == "output" or (kind == "token_embd" and self.traits.tied):
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
        return self.traits.experts == 8

    def _head(self, base: str, shape: tuple[int, ...]) -> str:
        if self.tier in ("MXFP4", "MXFP4_MOE") or self.traits.name == "falcon":
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
            if self.traits.heads_per_kv >= 4 or self.traits.experts >= 4:
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
        return self.traits.name == "llama" and self.traits.layers == 80 and self.traits.heads_per_kv > 1

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


def _fit(chosen: str, columns: int) -> str:
    """A row that is no whole number of blocks falls back to a type with smaller blocks, else to F16."""
    if columns % TYPES[chosen].block == 0:
        return chosen
    smaller = _FALLBACK.get(chosen, "IQ4_NL" if chosen.startswith("IQ") else chosen)
    return smaller if columns % TYPES[smaller].block == 0 else "F16"

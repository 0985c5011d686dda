"""Language models: the numbers that size weights, caches and activations, whatever file they were read from."""

from __future__ import annotations

from dataclasses import field
from functools import cached_property
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass


@dataclass(frozen=True, slots=True)
class LanguageLayer:
    """One layer. ``kv_heads`` is 0 where it keeps no attention cache of its own kind (recurrent layers).

    ``key_length`` and ``value_length`` are elements a head; ``sliding`` says that attention looks at a window only;
    ``cached`` is False where the layer reads another layer's cache; ``prediction`` marks a multi-token-prediction
    layer that the main pass does not run; ``indexes`` one that chooses anew which tokens sparse attention reads.
    """

    heads: int
    kv_heads: int
    key_length: int
    value_length: int
    feed_forward: int
    expert_feed_forward: int = 0
    experts_used: int = 0
    sliding: bool = False
    recurrent: bool = False
    attention: bool = True
    cached: bool = True
    prediction: bool = False
    indexes: bool = False

    @property
    def key_elements(self) -> int:
        """Elements of K a token puts into the cache."""
        return self.kv_heads * self.key_length if self.attention and self.cached else 0

    @property
    def value_elements(self) -> int:
        """Elements of V that one token adds to this layer's own cache; 0 where it keeps none."""
        return self.kv_heads * self.value_length if self.attention and self.cached else 0


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek 2): one latent of ``rank`` elements and ``rope`` rotary ones a token.

    ``absorbed`` says that the file holds the up-projections apart (``attn_k_b``, ``attn_v_b``), so that llama.cpp can
    cache the latent; files without them cache full heads of ``key_length`` and ``value_length``.
    """

    rank: int
    rope: int
    query_rank: int
    key_length: int
    value_length: int
    absorbed: bool


@dataclass(frozen=True, slots=True)
class Indexer:
    """What chooses the tokens that sparse attention reads (DeepSeek 3.2): ``heads`` queries of ``key_length`` elements
    against one key a token, the best ``top_k`` tokens."""

    heads: int
    key_length: int
    top_k: int


@dataclass(frozen=True, slots=True)
class Recurrent:
    """State a sequence keeps in a recurrent layer, in elements (float32 in llama.cpp)."""

    convolution: int
    state: int
    inner: int = 0
    groups: int = 0
    state_size: int = 0
    kernel: int = 0
    steps: int = 0

    @property
    def elements(self) -> int:
        """float32 elements that one sequence keeps in one layer."""
        return self.convolution + self.state


@dataclass(frozen=True, slots=True)
class Routing:
    """How a mixture weighs its chosen experts, where the file says so: weights brought to a sum of one, ``scaled``
    by a factor, experts chosen within ``groups_used`` of ``groups`` groups (0 or 1: no groups)."""

    normed: bool = False
    scaled: bool = False
    groups: int = 0
    groups_used: int = 0


@dataclass(frozen=True)
class LanguageArchitecture:
    """The shape of a language model. Lengths in elements, ``context_length`` in tokens.

    ``expert_latent`` is the width that experts read and write where it is not the model's own (Nemotron 3 Super).
    ``encoder`` reads all tokens at once and keeps no cache; ``pools`` is a decoder whose last states are pooled into
    one vector; ``reranks`` says that the file has a classification head.
    """

    name: str
    blocks: tuple[LanguageLayer, ...]
    embedding: int
    vocabulary: int
    context_length: int | None
    experts: int = 0
    shared_experts: int = 0
    shared_feed_forward: int = 0
    expert_latent: int = 0
    routing: Routing = Routing()
    window: int = 0
    latent: LatentAttention | None = None
    indexer: Indexer | None = None
    recurrent: Recurrent | None = None
    tied_embeddings: bool = False
    per_layer_embedding: int = 0
    soft_cap: bool = False
    final_soft_cap: bool = False
    embedding_scaled: bool = False
    layer_norm: bool = False
    dense_lead: int = 0
    unknown: tuple[str, ...] = field(default=())
    encoder: bool = False
    pools: bool = False
    reranks: bool = False

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # caches ask for it at every estimate, and one over every layer takes as long as much of that
        return hash((self.name, self.blocks, self.embedding, self.vocabulary))

    @cached_property
    def predicting(self) -> frozenset[int]:
        """Indices of the layers for multi-token prediction."""
        return frozenset(index for index, block in enumerate(self.blocks) if block.prediction)

    @cached_property
    def recurs(self) -> bool:
        """Whether any layer is a recurrent one."""
        return any(block.recurrent for block in self.blocks)

    @cached_property
    def caches(self) -> bool:
        """Whether any layer keeps or reads keys and values; encoders and diffusion models do not."""
        return any(block.cached for block in self.blocks)

    @property
    def embeds(self) -> bool:
        """Whether it turns texts into vectors or scores and writes nothing."""
        return self.encoder or self.pools or self.reranks

    @property
    def family(self) -> str:
        """The family's name, by which runtimes say what they run."""
        return "language"

    @property
    def layers(self) -> int:
        """Layers as llama.cpp counts them for ``-ngl``: prediction layers included, the output head not."""
        return len(self.blocks)

    @property
    def main_blocks(self) -> tuple[LanguageLayer, ...]:
        """The layers that the main pass runs, without those for multi-token prediction."""
        return tuple(block for block in self.blocks if not block.prediction)

    def cache_bytes(self, context: int) -> int:
        """16-bit keys and values of one sequence; a layer with a window keeps no more than the window."""
        total = 0
        for index, block in enumerate(self.blocks):
            if block.prediction or not block.attention or not block.cached:
                continue
            tokens = min(context, self.window) if block.sliding and self.window else context
            total += sum(self.cache_elements(index)) * tokens * 2
            if block.indexes and self.indexer is not None:
                total += self.indexer.key_length * tokens * 2
        return total

    def cache_elements(self, layer: int) -> tuple[int, int]:
        """(K, V) elements a token takes in ``layer``'s cache when the latent is not used."""
        block = self.blocks[layer]
        if self.latent is not None and block.attention and not block.recurrent:
            return block.heads * self.latent.key_length, block.heads * self.latent.value_length
        return block.key_elements, block.value_elements


def defaults() -> dict[str, Any]:
    """llama.cpp's own defaults and per-architecture traits, with their source."""
    return load("models.families.language", "language")


def traits(architecture: str) -> dict[str, Any]:
    """What ``data/language.json`` says of an architecture; empty for one it does not know."""
    found: dict[str, Any] = defaults()["architectures"].get(architecture, {})
    parent = found.get("like")
    return {**traits(parent), **found} if parent else found

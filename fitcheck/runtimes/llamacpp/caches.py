"""KV cache and recurrent state by layer, as llama.cpp lays them out.

K or V of a layer takes cells × elements a token × bytes an element. Sliding-window layers hold only as many cells as a
window and one micro-batch need, rounded up to 256 (src/llama-kv-cache-iswa.cpp); latent attention holds one latent a
token; recurrent layers hold a fixed float32 state a sequence (src/llama-memory-recurrent.cpp).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.quant import TYPES
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions, cache_type


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Bytes that one layer keeps for all sequences. ``cells`` is the length of its attention cache,
    ``indexer`` the keys by which sparse attention chooses among them."""

    keys: int = 0
    values: int = 0
    recurrent: int = 0
    cells: int = 0
    indexer: int = 0

    @property
    def attention(self) -> int:
        """Bytes of keys and values, all sequences together, an indexer's among them."""
        return self.keys + self.values + self.indexer

    @property
    def total(self) -> int:
        """Bytes of keys, values and recurrent state, all sequences together."""
        return self.attention + self.recurrent


def layer_caches(architecture: LanguageArchitecture, options: LlamaOptions) -> tuple[LayerCache, ...]:
    """One entry a layer, prediction layers included (they keep nothing in the main context)."""
    return _layers(architecture, options.anywhere)  # wherever they lie


@lru_cache(maxsize=1024)
def _layers(architecture: LanguageArchitecture, options: LlamaOptions) -> tuple[LayerCache, ...]:
    return tuple(_layer(architecture, layer, options) for layer in range(architecture.layers))


@dataclass(frozen=True, slots=True)
class CacheSums:
    """Bytes that a number of first layers keep, from none to all of them."""

    attention: tuple[int, ...]
    recurrent: tuple[int, ...]

    def between(self, start: int, stop: int) -> tuple[int, int]:
        """Of the layers from ``start`` up to ``stop``: attention caches, and recurrent states."""
        return self.attention[stop] - self.attention[start], self.recurrent[stop] - self.recurrent[start]


def cache_sums(architecture: LanguageArchitecture, options: LlamaOptions) -> CacheSums:
    """``layer_caches`` added up from the first layer on."""
    return _sums(architecture, options.anywhere)


@lru_cache(maxsize=1024)
def _sums(architecture: LanguageArchitecture, options: LlamaOptions) -> CacheSums:
    caches = _layers(architecture, options)
    attention = accumulate((one.attention for one in caches), initial=0)
    return CacheSums(tuple(attention), tuple(accumulate((one.recurrent for one in caches), initial=0)))


def sliding_cells(architecture: LanguageArchitecture, options: LlamaOptions) -> int:
    """Cells of a sliding-window layer's cache, over all sequences."""
    full = options.padded_context
    if not architecture.window or options.full_sliding_cache or not _has_sliding_cache(options):
        return full
    streams = 1 if options.unified_cache else options.slots
    share = full // streams
    together = options.slots if options.unified_cache else 1
    window = min(share, architecture.window * together + min(options.micro_batch, options.batch))
    step = 256 if options.build.has("padded_context") or options.flash else 32
    return -(-window // step) * step * streams


def _has_sliding_cache(options: LlamaOptions) -> bool:
    return options.build.has("sliding_cache")


def _layer(architecture: LanguageArchitecture, layer: int, options: LlamaOptions) -> LayerCache:
    block = architecture.blocks[layer]
    if block.prediction:
        return LayerCache()
    recurrent = 0
    if block.recurrent and architecture.recurrent is not None:
        recurrent = architecture.recurrent.elements * 4 * options.slots * options.states
    cells = sliding_cells(architecture, options) if block.sliding else options.padded_context
    # without flash attention V is stored transposed, all layers padded to the widest
    padded = not options.flash and architecture.latent is None
    if not block.attention or not block.cached:
        idle = padded and block.cached and not architecture.recurs  # a layer of Deci that does not attend
        values = max(b.value_elements for b in architecture.blocks) if idle else 0
        return LayerCache(values=_bytes(values, options.cache_type_v) * cells, recurrent=recurrent)
    keys, values = cache_elements(architecture, layer, options)
    if padded and values:
        values = max(values, *(b.value_elements for b in architecture.blocks))
    return LayerCache(
        keys=_bytes(keys, options.cache_type_k) * cells,
        values=_bytes(values, options.cache_type_v) * cells,
        recurrent=recurrent,
        cells=cells,
        indexer=_indexer_bytes(architecture, layer, cells, options),
    )


def _indexer_bytes(architecture: LanguageArchitecture, layer: int, cells: int, options: LlamaOptions) -> int:
    """One head's keys and no values (src/llama-kv-cache-dsa.cpp)."""
    indexer = architecture.indexer
    if indexer is None or not architecture.blocks[layer].indexes or not options.build.has("sparse_indexer"):
        return 0
    return _bytes(indexer.key_length, options.cache_type_k) * cells


def cache_elements(architecture: LanguageArchitecture, layer: int, options: LlamaOptions) -> tuple[int, int]:
    """(K, V) elements a token in a layer's cache, latent attention taken into account."""
    latent = architecture.latent
    if latent is None or not _latent_used(architecture, options):
        return architecture.cache_elements(layer)
    together = latent.rank + latent.rope
    if options.build.fork:
        # -mla 1 without flash attention also keeps the transposed latent
        return together, latent.rank if options.latent_mode == 1 and not options.flash else 0
    return together, 0 if options.build.has("latent_without_values") else latent.rank


def _latent_used(architecture: LanguageArchitecture, options: LlamaOptions) -> bool:
    if architecture.latent is None:
        return False
    if options.build.fork:
        return options.latent_mode > 0
    return architecture.latent.absorbed and options.build.has("latent")


def _bytes(elements: int, name: str) -> int:
    if name == "q8_kv":
        return elements + 8 if elements else 0
    if name == "q6_0":
        return elements * 26 // 32
    quant = TYPES[cache_type(name)]
    return elements * quant.block_bytes // quant.block

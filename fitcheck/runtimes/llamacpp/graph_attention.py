"""Attention in the graph: what comes in, the cache, the products with it (llama.cpp src/llama-graph.cpp build_attn)."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from fitcheck.models.families.language.architecture import LanguageLayer
from fitcheck.models.quant import TYPES
from fitcheck.runtimes.llamacpp.arguments import cache_type
from fitcheck.runtimes.llamacpp.caches import LayerCache, cache_elements
from fitcheck.runtimes.llamacpp.graph import F16, F32, Node
from fitcheck.runtimes.llamacpp.graph_parts import Parts
from fitcheck.runtimes.llamacpp.layer_facts import cache_owner

if TYPE_CHECKING:
    from fitcheck.runtimes.llamacpp.indexer import Choosing


class Attending(Parts):
    """Adds attention over a cache to the parts of a graph."""

    def attention_inputs(self) -> None:
        """Masks and cache indices; float16 masks from mid-2026 on, before that float32 with a float16 copy."""
        graph, options = self.graph, self.options
        self.masks: dict[bool, Node] = {}
        self.indices: dict[bool, tuple[Node, Node]] = {}
        latent = self.plan.architecture.latent
        latent_only = latent is not None and latent.absorbed and self.build.has("latent_without_values")
        for slides in (False, True):
            if not any(block.sliding is slides and block.attention for block in self.plan.architecture.main_blocks):
                continue
            cells = self.sliding if slides else self.cells
            per_stream = cells // self.streams
            half = options.flash and self.build.has("half_mask")
            rows = self.tokens // self.streams
            if not half and not self.build.has("padded_context"):
                rows = -(-rows // 64) * 64
            mask = graph.input(per_stream * rows * self.streams * (F16 if half else F32))
            if options.flash and not half:
                mask = graph.op("cpy", (per_stream, rows, self.streams), mask, element=F16)
            self.masks[slides] = mask
            widest = max((b.value_elements for b in self.plan.architecture.main_blocks), default=0)
            if self.build.has("set_rows"):
                keys = graph.input(self.tokens * 8)
                values = graph.input(self.tokens * 8 * (1 if options.flash or latent_only else max(widest, 1)))
                self.indices[slides] = (keys, values)
        self._indexer_inputs()
        self._rotation_inputs()

    def _indexer_inputs(self) -> None:
        """What chooses the tokens that sparse attention reads, where the model has that."""
        self.choosing: Choosing | None = None
        indexer = self.plan.architecture.indexer
        if indexer is not None and self.build.has("sparse_indexer"):
            from fitcheck.runtimes.llamacpp.indexer import Choosing

            self.choosing = Choosing(self, indexer)

    def _rotation_inputs(self) -> None:
        """Hadamard matrices by which K and V are turned before they are quantized (since April 2026)."""
        self.rotations: dict[tuple[bool, int], Node] = {}
        architecture = self.plan.architecture
        if not self.build.has("rotated_cache") or self._latent_cache():
            return
        for slides in (False, True):
            alike = [b for b in architecture.main_blocks if b.attention and b.cached and b.sliding is slides]
            lengths = {(b.key_length, b.value_length) for b in alike}
            if len(lengths) != 1:
                continue
            key, value = lengths.pop()
            quantized = [
                TYPES[cache_type(name)].quantized for name in (self.options.cache_type_k, self.options.cache_type_v)
            ]
            if quantized[0] and key % 64 == 0:
                side = key & -key
                self.rotations[(slides, 0)] = self.graph.input(side * side * F32, side, side)
            if quantized[1] and value % 64 == 0:
                self.rotations[(slides, 1)] = self.graph.input(64 * 64 * F32, 64, 64)

    def _latent_cache(self) -> bool:
        return self.plan.architecture.latent is not None

    def _rotate(self, node: Node, slides: bool, which: int) -> Node:
        matrix = self.rotations.get((slides, which))
        if matrix is None:
            return node
        side, total = matrix.shape[0], prod(node.shape)
        flat = self.graph.reshape(node, (side, total // side))
        turned = self.graph.op("mul_mat", (side, total // side), matrix, flat)
        return self.graph.reshape(turned, node.shape)

    def attend(
        self,
        index: int,
        block: LanguageLayer,
        query: Node,
        keys: Node | None,
        values: Node | None,
        width: int,
        raised: tuple[Node, int] | None = None,
    ) -> Node:
        """Store K and V, multiply with the whole cache; the result is (heads × width, tokens). Where values are a
        latent, ``raised`` is the matrix that makes heads of so many elements of it."""
        graph, options, tokens, heads = self.graph, self.options, self.tokens, block.heads
        owner = cache_owner(self.plan.architecture, index)
        cache_device = self.plan.host if options.cache_on_host else self.plan.layers[owner]
        slides = block.sliding
        cells = self.sliding if slides else self.cells
        held = self.plan.caches[owner]
        cached_keys = graph.cache(cache_device, held.keys)
        cached_values = graph.cache(cache_device, held.values or self._within_keys(held))
        query = self._rotate(query, slides, 0)
        keys = self._rotate(keys, slides, 0) if keys is not None else None
        values = self._rotate(values, slides, 1) if values is not None else None
        graph.expand(query)
        order = (keys, values) if self.plan.architecture.window else (values, keys)
        for part in order if self.build.has("set_rows") else (keys, values):
            if part is not None:
                graph.expand(part)
        pair = self.indices.get(slides)
        for position, (part, target) in enumerate(((keys, cached_keys), (values, cached_values))):
            if part is not None:
                flat = graph.view(part, (part.shape[0] * part.shape[1], tokens))
                sources = (flat, pair[position]) if pair is not None else (flat,)
                graph.expand(graph.store(target, *sources))
        turned = graph.view(query, (query.shape[0], tokens, heads))
        mask = self.masks.get(slides) or next(iter(self.masks.values()))
        if self.choosing is not None:
            mask = self.choosing.masked(mask)
        sinks = f"blk.{index}.attn_sinks.weight"
        beside = (mask, self.weight(sinks)) if sinks in self.plan.names else (mask,)
        if options.flash:
            output = graph.op("flash_attn", (width, heads, tokens), turned, cached_keys, cached_values, *beside)
            output.nbytes += self._half_copy(index, cells)
            if raised is not None:
                output = self._raised(graph.view(output, (width, tokens, heads)), raised)
            output = graph.reshape(output, (prod(output.shape) // tokens, tokens))
            graph.expand(output)
            return self._rotate(output, slides, 1)
        scores = graph.op("mul_mat", (cells // self.streams, tokens, heads), cached_keys, turned)
        if self.plan.architecture.soft_cap:
            for name in ("scale", "unary", "scale"):
                scores = graph.op(name, scores.shape, scores)
        weights = graph.op("soft_max", scores.shape, scores, *beside)
        if raised is not None and not held.values:  # a view of the keys is not turned as it is stored
            cached_values = graph.op("cont", (cells, width), cached_values, element=F16)
        mixed = graph.op("mul_mat", (width, tokens, heads), cached_values, weights)
        if raised is None:
            output = graph.op("cont", (width * heads, tokens), graph.view(mixed, (width, heads, tokens)))
        else:
            output = self._raised(mixed, raised)
            output = graph.reshape(output, (prod(output.shape) // tokens, tokens))
        if options.cache_on_host:
            (output.view_of or output).device = self.plan.host
        graph.expand(output)
        return self._rotate(output, slides, 1)

    def _raised(self, latent: Node, raised: tuple[Node, int]) -> Node:
        """Heads made of a latent (width, tokens, heads), turned to (length, heads, tokens)."""
        weight, length = raised
        _, tokens, heads = latent.shape
        found = self.graph.op("mul_mat", (length, tokens, heads), weight, latent, rows=tokens)
        return self.graph.op("cont", (length, heads, tokens), self.graph.view(found, (length, heads, tokens)))

    def _within_keys(self, held: LayerCache) -> int:
        """Bytes from the first value to the last where values are a part of the keys: the last key ends behind it."""
        latent = self.plan.architecture.latent
        if latent is None or not held.cells:
            return held.keys
        row = held.keys // held.cells
        return held.keys - row * latent.rope // (latent.rank + latent.rope)

    def _half_copy(self, index: int, cells: int) -> int:
        """The float16 copy of a quantized cache that CUDA's flash attention keeps behind its result, in bytes."""
        options = self.options
        on_host = self.plan.layers[index] == self.plan.host and not (self.plan.host and options.op_offload)
        if options.backend != "cuda" or on_host or not self.build.has("half_cache_copy"):
            return 0
        keys, values = cache_elements(self.plan.architecture, index, options)
        size = 0
        if TYPES[cache_type(options.cache_type_k)].name != "F16":
            size += keys * cells * F16 + 128
        if values and TYPES[cache_type(options.cache_type_v)].name != "F16":
            size += values * cells * F16 + 128
        return size

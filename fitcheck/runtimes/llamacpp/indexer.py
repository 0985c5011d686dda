"""Sparse attention in the graph: an indexer chooses the tokens that each token attends to (DeepSeek 3.2, GLM 5).

After llama.cpp src/models/deepseek32.cpp and glm-dsa.cpp, and build_attn of src/llama-graph.cpp with its
llm_graph_input_attn_k_dsa: the indexer has a cache of its own keys, scores every cached token and keeps the best; a
copy of the mask hides all others.
"""

from __future__ import annotations

from fitcheck.models.families.language.architecture import Indexer
from fitcheck.runtimes.llamacpp.graph import F16, F32, Node
from fitcheck.runtimes.llamacpp.graph_parts import Parts

_INT32 = 4


class Choosing:
    """The indexer of one graph: its inputs, and what the last layer that has one chose."""

    def __init__(self, builder: Parts, indexer: Indexer) -> None:
        self.builder, self.graph, self.indexer = builder, builder.graph, indexer
        self.cells = builder.cells // builder.streams
        self.top = min(indexer.top_k, self.cells)
        self.rows = self.graph.input(builder.tokens * 8)
        self.mask = self.graph.input(self.cells * builder.tokens * F16)  # float16 with or without flash attention
        side = indexer.key_length
        self.turning = self.graph.input(side * side * F32, side, side)
        self.chosen: Node | None = None

    def choose(self, index: int, low_query: Node, current: Node, keys_held: int) -> None:
        """Layer ``index`` chooses anew; ``keys_held`` is the bytes of its cache of indexer keys."""
        graph, builder, tokens = self.graph, self.builder, self.builder.tokens
        heads, length, prefix = self.indexer.heads, self.indexer.key_length, f"blk.{index}.indexer."
        query = builder.linear(f"{prefix}attn_q_b", low_query, heads * length)
        query = builder.rope(index, graph.reshape(query, (length, heads, tokens)))
        keys = self._normed(index, builder.linear(f"{prefix}attn_k", current, length))
        keys = builder.rope(index, graph.reshape(keys, (length, 1, tokens)))
        query = graph.op("mul_mat", query.shape, self.turning, query)
        keys = graph.op("mul_mat", keys.shape, self.turning, keys)
        place = builder.plan.host if builder.options.cache_on_host else builder.plan.layers[index]
        cache = graph.cache(place, keys_held)
        graph.expand(graph.store(cache, graph.view(keys, (length, tokens)), self.rows))
        weights = graph.view(builder.linear(f"{prefix}proj", current, heads), (heads, tokens))
        weights = graph.op("scale", weights.shape, weights)
        parts = (graph.view(query, query.shape), cache, weights, self.mask)
        scores = graph.op("lightning_indexer", (self.cells, tokens), *parts)
        best = graph.op("top_k", (self.top, tokens), scores, element=_INT32)
        self.chosen = graph.op("cont", best.shape, best, element=_INT32)

    def _normed(self, index: int, keys: Node) -> Node:
        """A layer norm with weight and bias, whatever norms the model has elsewhere."""
        builder, name = self.builder, f"blk.{index}.indexer.k_norm"
        normed = self.graph.op("norm", keys.shape, keys)
        if builder.plan.full_offload or builder.tokens < 32:
            normed.device = builder.plan.layers[index]
        normed = self.graph.op("mul", keys.shape, normed, builder.weight(f"{name}.weight"))
        return self.graph.op("add", keys.shape, normed, builder.weight(f"{name}.bias"))

    def masked(self, mask: Node) -> Node:
        """``mask`` without the tokens that were not chosen. The zeros that open it are a tensor of their own in every
        layer, and have their memory from the start."""
        graph, tokens, chosen = self.graph, self.builder.tokens, self.chosen
        assert chosen is not None
        element = mask.nbytes // (self.cells * tokens)
        closed = graph.op("fill", (self.cells, tokens), mask, element=element)
        zeros = graph.blank((1, self.top, tokens))
        opening = graph.op("fill", zeros.shape, zeros)
        rows = graph.view(closed, (1, self.cells, tokens))
        opened = graph.store(closed, opening, graph.view(chosen, chosen.shape), rows)
        shape = (self.cells, tokens)
        return graph.op("add", shape, graph.view(opened, shape), mask, element=element)

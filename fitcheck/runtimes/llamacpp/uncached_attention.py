"""Attention over the batch itself, without a cache (src/llama-graph.cpp, build_attn_inp_no_cache)."""

from __future__ import annotations

from fitcheck.models.families.language.architecture import LanguageLayer
from fitcheck.runtimes.llamacpp.graph import F16, F32, Node
from fitcheck.runtimes.llamacpp.graph_parts import Parts


def uncached_masks(builder: Parts) -> dict[bool, Node]:
    """A mask of the batch by itself, and one of the window where the model has that (True)."""
    side = builder.tokens * builder.tokens * (F16 if builder.options.flash else F32)
    kinds = (False, True) if builder.plan.architecture.window else (False,)
    return {slides: builder.graph.input(side) for slides in kinds}


def uncached_attention(builder: Parts, index: int, current: Node, mask: Node) -> Node:
    """The layer's output for all tokens of the batch, which look at each other alone."""
    graph, prefix, tokens = builder.graph, f"blk.{index}.", builder.tokens
    block, names = builder.plan.architecture.blocks[index], builder.plan.names
    query, keys, values = _projected(builder, block, prefix, current)
    if f"{prefix}attn_q_norm.weight" in names:
        query = builder.head_norm(query, f"{prefix}attn_q_norm")
        keys = builder.head_norm(keys, f"{prefix}attn_k_norm")
    if "position_embd.weight" not in names:
        query = graph.op("rope", query.shape, query, builder.positions)
        keys = graph.op("rope", keys.shape, keys, builder.positions)
    for node in (query, keys, values):
        graph.expand(node)
    heads, width = block.heads, block.value_length
    if builder.options.flash:
        # the kernel reads halves; without a cache K and V are turned into them here
        keys, values = (graph.op("cpy", node.shape, node, element=F16) for node in (keys, values))
        mixed = graph.op("flash_attn", (width, heads, tokens), query, keys, values, mask)
        output = graph.reshape(mixed, (width * heads, tokens))
    else:
        scores = graph.op("mul_mat", (tokens, tokens, heads), keys, graph.view(query, (width, tokens, heads)))
        weights = graph.op("soft_max", scores.shape, scores, mask)
        turned = graph.op("cont", (tokens, width, block.kv_heads), graph.view(values, (tokens, width, block.kv_heads)))
        mixed = graph.op("mul_mat", (width, tokens, heads), turned, weights)
        output = graph.op("cont", (width * heads, tokens), graph.view(mixed, (width, heads, tokens)))
    graph.expand(output)
    return builder.linear(f"{prefix}attn_output", output, builder.plan.architecture.embedding)


def _projected(builder: Parts, block: LanguageLayer, prefix: str, current: Node) -> tuple[Node, Node, Node]:
    """Queries, keys and values as (length, heads, tokens)."""
    graph, tokens, names = builder.graph, builder.tokens, builder.plan.names
    parts = (
        ("attn_q", block.key_length, block.heads),
        ("attn_k", block.key_length, block.kv_heads),
        ("attn_v", block.value_length, block.kv_heads),
    )
    if f"{prefix}attn_qkv.weight" in names:
        joint = builder.linear(f"{prefix}attn_qkv", current, sum(length * heads for _, length, heads in parts))
        query, keys, values = (graph.view(joint, (length, heads, tokens)) for _, length, heads in parts)
        return query, keys, values
    query, keys, values = (
        graph.reshape(builder.linear(f"{prefix}{name}", current, length * heads), (length, heads, tokens))
        for name, length, heads in parts
    )
    return query, keys, values

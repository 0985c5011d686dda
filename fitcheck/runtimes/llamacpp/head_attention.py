"""Attention over full heads in the graph (llama.cpp src/models/*.cpp)."""

from __future__ import annotations

from fitcheck.models.families.language.architecture import LanguageLayer
from fitcheck.runtimes.llamacpp.graph import F32, Node
from fitcheck.runtimes.llamacpp.graph_attention import Attending


def head_attention(builder: Attending, index: int, block: LanguageLayer, current: Node) -> Node:
    """The layer's output: queries, keys and values from one product or three, normed and turned as the file says."""
    graph, prefix, tokens = builder.graph, f"blk.{index}.", builder.tokens
    names = builder.plan.names
    heads, kv_heads, key, value = block.heads, block.kv_heads, block.key_length, block.value_length
    own = block.cached and (f"{prefix}attn_k.weight" in names or f"{prefix}attn_qkv.weight" in names)
    gate, whole = None, False
    if f"{prefix}attn_qkv.weight" in names:
        total = heads * key + kv_heads * (key + value)
        joint = builder.linear(f"{prefix}attn_qkv", current, total)
        query = graph.view(joint, (key, heads, tokens))
        keys = graph.view(joint, (key, kv_heads, tokens))
        values = graph.view(joint, (value, kv_heads, tokens), total * F32)
    else:
        rows = names[f"{prefix}attn_q.weight"].shape[0]
        whole = _normed_whole(builder, prefix, rows)
        flat = builder.linear(f"{prefix}attn_q", current, rows)
        flat = builder.head_norm(flat, f"{prefix}attn_q_norm") if whole else flat
        if rows == 2 * heads * key:
            query = graph.view(flat, (key, heads, tokens))
            gate = graph.op("cont", (key * heads, tokens), graph.view(flat, (key, heads, tokens)))
        else:
            query = graph.reshape(flat, (key, heads, tokens))
        if own:
            flat_keys = builder.linear(f"{prefix}attn_k", current, kv_heads * key)
            flat_keys = builder.head_norm(flat_keys, f"{prefix}attn_k_norm") if whole else flat_keys
            keys = graph.reshape(flat_keys, (key, kv_heads, tokens))
            values = keys
            if f"{prefix}attn_v.weight" in names:
                flat_values = builder.linear(f"{prefix}attn_v", current, kv_heads * value)
                values = graph.reshape(flat_values, (value, kv_heads, tokens))
    if f"{prefix}attn_q_norm.weight" in names and not whole:
        query = builder.head_norm(query, f"{prefix}attn_q_norm")
    query = builder.rope(index, query)
    if own:
        if f"{prefix}attn_k_norm.weight" in names and not whole:
            keys = builder.head_norm(keys, f"{prefix}attn_k_norm")
        keys = builder.rope(index, keys)
    output = builder.attend(index, block, query, keys if own else None, values if own else None, value)
    if gate is not None:
        output = graph.op("mul", output.shape, output, graph.op("unary", gate.shape, gate))
    return builder.linear(f"{prefix}attn_output", output, builder.plan.architecture.embedding)


def _normed_whole(builder: Attending, prefix: str, rows: int) -> bool:
    """Whether all of a token's heads are normed as one (OLMo 2, MiniMax M2), before they are told apart."""
    norm = builder.plan.names.get(f"{prefix}attn_q_norm.weight")
    return norm is not None and norm.shape == (rows,)

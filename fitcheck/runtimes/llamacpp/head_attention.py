"""Attention over full heads in the graph (llama.cpp src/models/*.cpp)."""

from __future__ import annotations

from fitcheck.models.families.language.architecture import LanguageLayer
from fitcheck.runtimes.llamacpp.graph import F32, Node
from fitcheck.runtimes.llamacpp.graph_attention import Attending
from fitcheck.runtimes.llamacpp.graph_traits import has_trait


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
    query = _normed_and_turned(builder, index, query, None if whole else f"{prefix}attn_q_norm")
    if own:
        keys = _normed_and_turned(builder, index, keys, None if whole else f"{prefix}attn_k_norm")
        if has_trait(builder.plan.architecture, "values_normed"):
            values = graph.op("rms_norm", values.shape, values)
    output = builder.attend(index, block, query, keys if own else None, values if own else None, value)
    if gate is not None:
        output = graph.op("mul", output.shape, output, graph.op("unary", gate.shape, gate))
    if f"{prefix}attn_gate.weight" in names:
        output = _gated(builder, prefix, block, current, output)
    return builder.linear(f"{prefix}attn_output", output, builder.plan.architecture.embedding)


def _normed_and_turned(builder: Attending, index: int, heads: Node, norm: str | None) -> Node:
    """Heads normed by themselves where the file has that, and turned by position, in the architecture's order."""
    if norm is None or f"{norm}.weight" not in builder.plan.names:
        return builder.rope(index, heads)
    if has_trait(builder.plan.architecture, "turned_before_norm"):
        return builder.head_norm(builder.rope(index, heads), norm)
    return builder.rope(index, builder.head_norm(heads, norm))


def _gated(builder: Attending, prefix: str, block: LanguageLayer, current: Node, output: Node) -> Node:
    """What attention made, weighed by a gate of what it read: one number a head (Step 3.5, Laguna) or a value each."""
    graph, tokens = builder.graph, builder.tokens
    rows = builder.plan.names[f"{prefix}attn_gate.weight"].shape[0]
    gate = builder.linear(f"{prefix}attn_gate", current, rows)
    gate = graph.op("unary", gate.shape, gate)
    if rows != block.heads:
        return graph.op("mul", output.shape, output, gate)
    shape = (output.shape[0] // rows, rows, tokens)
    weighed = graph.op("mul", shape, graph.reshape(output, shape), graph.reshape(gate, (1, rows, tokens)))
    return graph.reshape(weighed, output.shape)


def _normed_whole(builder: Attending, prefix: str, rows: int) -> bool:
    """Whether all of a token's heads are normed as one (OLMo 2, MiniMax M2), before they are told apart."""
    norm = builder.plan.names.get(f"{prefix}attn_q_norm.weight")
    return norm is not None and norm.shape == (rows,)

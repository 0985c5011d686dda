"""Multi-head latent attention in the graph (llama.cpp src/models/deepseek2.cpp)."""

from __future__ import annotations

from fitcheck.models.families.language.architecture import LanguageLayer
from fitcheck.runtimes.llamacpp.caches import cache_elements
from fitcheck.runtimes.llamacpp.graph import Node
from fitcheck.runtimes.llamacpp.graph_attention import Attending


def latent_attention(builder: Attending, index: int, block: LanguageLayer, current: Node) -> Node:
    """Attention over the latent where the file allows it, over full heads otherwise."""
    graph, tokens, prefix = builder.graph, builder.tokens, f"blk.{index}."
    latent = builder.plan.architecture.latent
    assert latent is not None
    heads, rope, rank = block.heads, latent.rope, latent.rank
    plain = latent.key_length - rope
    low = _low_query(builder, prefix, current)
    if builder.choosing is not None and block.indexes:
        builder.choosing.choose(index, low, current, builder.plan.caches[index].indexer)
    query_name = "attn_q" if low is current else "attn_q_b"
    query = builder.linear(f"{prefix}{query_name}", low, heads * latent.key_length)
    query_plain = graph.view(query, (plain, heads, tokens))
    query_rope = graph.view(query, (rope, heads, tokens))
    joint = builder.linear(f"{prefix}attn_kv_a_mqa", current, rank + rope)
    compressed = graph.view(joint, (rank, tokens))
    key_rope = graph.view(joint, (rope, 1, tokens))
    query_rope, key_rope = builder.rope(index, query_rope), builder.rope(index, key_rope)
    values_within = builder.build.has("latent_without_values")
    if not values_within:
        graph.expand(query_rope)
        graph.expand(key_rope)
    compressed = graph.op("rms_norm", compressed.shape, compressed)
    compressed = graph.op("mul", compressed.shape, compressed, builder.weight(f"{prefix}attn_kv_a_norm.weight"))
    width = builder.plan.architecture.embedding
    if cache_elements(builder.plan.architecture, index, builder.options)[0] == rank + rope:
        turned = graph.view(query_plain, (plain, tokens, heads))
        weight = builder.weight(f"{prefix}attn_k_b.weight")
        absorbed = graph.op("mul_mat", (rank, tokens, heads), weight, turned, rows=tokens)
        shape = (rank + rope, heads, tokens)
        absorbed = graph.view(absorbed, (rank, heads, tokens))
        values = graph.reshape(compressed, (rank, 1, tokens))
        # values are a view of the keys' cache, which has to begin with them (pull 19067)
        pair = (absorbed, query_rope) if values_within else (query_rope, absorbed)
        joined = graph.op("concat", shape, *pair)
        pair = (values, key_rope) if values_within else (key_rope, values)
        keys = graph.op("concat", (rank + rope, 1, tokens), *pair)
        stored = values if cache_elements(builder.plan.architecture, index, builder.options)[1] else None
        raised = (builder.weight(f"{prefix}attn_v_b.weight"), latent.value_length)
        output = builder.attend(index, block, joined, keys, stored, rank, raised)
    else:
        both = plain + latent.value_length
        # a file with the up-projections apart has no joint one; the fork puts it together from them when it loads
        joined_name = f"{prefix}attn_kv_b"
        weight_name = joined_name if f"{joined_name}.weight" in builder.plan.names else f"{prefix}attn_k_b"
        expanded = builder.linear(weight_name, compressed, heads * both, bias=False)
        key_plain = graph.view(expanded, (plain, heads, tokens))
        values = graph.op("cont", (latent.value_length, heads, tokens), graph.view(expanded, (1, heads, tokens)))
        shape = (latent.key_length, heads, tokens)
        repeated = graph.op("repeat", (rope, heads, tokens), key_rope)
        if builder.build.has("rope_offset"):
            joined = builder.rope(index, graph.reshape(query, shape))
            keys = graph.op("concat", shape, key_plain, repeated)
        else:
            joined = graph.op("concat", shape, query_rope, query_plain)
            keys = graph.op("concat", shape, repeated, key_plain)
        output = builder.attend(index, block, joined, keys, values, latent.value_length)
    return builder.linear(f"{prefix}attn_output", output, width)


def _low_query(builder: Attending, prefix: str, current: Node) -> Node:
    """What queries are made of: a latent of their own where the file has one."""
    names, graph = builder.plan.names, builder.graph
    if f"{prefix}attn_q_a.weight" not in names:
        return current
    low = builder.linear(f"{prefix}attn_q_a", current, names[f"{prefix}attn_q_a.weight"].shape[0])
    low = graph.op("rms_norm", low.shape, low)
    return graph.op("mul", low.shape, low, builder.weight(f"{prefix}attn_q_a_norm.weight"))

"""The forward pass of an encoder: all tokens at once, attention over the batch itself, no cache and no head.

After llama.cpp src/models/{bert,modern-bert,eurobert,gemma-embedding}.cpp and src/llama-graph.cpp (build_pooling). BERT
and its kin norm after each part, the newer ones before it; which it is, is read off the tensors.
"""

from __future__ import annotations

from fitcheck.runtimes.llamacpp.feedforward import dense
from fitcheck.runtimes.llamacpp.graph import F32, Graph, Node
from fitcheck.runtimes.llamacpp.graph_layers import Builder
from fitcheck.runtimes.llamacpp.uncached_attention import uncached_attention, uncached_masks


def encoder_graph(builder: Builder, kept: tuple[int, ...]) -> Graph:
    """The graph of the layers ``kept``, from the embeddings to the pooled output."""
    graph, tokens, names = builder.graph, builder.tokens, builder.plan.names
    width = builder.plan.architecture.embedding
    stream = graph.op("get_rows", (width, tokens), builder.weight("token_embd.weight"), graph.input(tokens * 4))
    graph.keep_leaf(graph.input(tokens * width * F32))
    builder.positions = graph.input(tokens * 4)
    if builder.plan.architecture.embedding_scaled:
        stream = graph.op("scale", stream.shape, stream)
    if "token_types.weight" in names:
        stream = graph.op("add", stream.shape, stream, builder.weight("token_types.weight"))
    if "position_embd.weight" in names:
        places = graph.op("get_rows", stream.shape, builder.weight("position_embd.weight"), builder.positions)
        stream = graph.op("add", stream.shape, places, stream)
    if "token_embd_norm.weight" in names:
        stream = builder.norm(stream, "token_embd_norm", builder.plan.layers[0])
    masks = uncached_masks(builder)
    builder.output_ids = graph.input(tokens * 4)
    for index in kept:
        graph.begin_layer()
        mask = masks[builder.plan.architecture.blocks[index].sliding]
        stream = _layer(builder, index, stream, mask, last=index == kept[-1])
    if "output_norm.weight" in names:
        stream = builder.norm(stream, "output_norm", builder.plan.output)
    graph.expand(_pooled(builder, stream))
    return graph


def _layer(builder: Builder, index: int, stream: Node, mask: Node, *, last: bool) -> Node:
    graph, names, prefix = builder.graph, builder.plan.names, f"blk.{index}."
    device = builder.plan.layers[index]
    current = builder.norm(stream, f"{prefix}attn_norm", device) if f"{prefix}attn_norm.weight" in names else stream
    current = _after(builder, f"{prefix}post_attention_norm", uncached_attention(builder, index, current, mask), device)
    if last:
        current, stream = builder.select(current, builder.tokens), builder.select(stream, builder.tokens)
    middle = graph.op("add", current.shape, current, stream)
    if f"{prefix}attn_output_norm.weight" in names:
        middle = builder.norm(middle, f"{prefix}attn_output_norm", device)
    before = f"{prefix}ffn_norm"
    inner = builder.norm(middle, before, device) if f"{before}.weight" in names else middle
    current = _after(builder, f"{prefix}post_ffw_norm", _feed_forward(builder, index, inner), device)
    current = graph.op("add", current.shape, current, middle)
    if f"{prefix}layer_output_norm.weight" in names:
        current = builder.norm(current, f"{prefix}layer_output_norm", device)
    return current


def _after(builder: Builder, name: str, current: Node, device: int) -> Node:
    return builder.norm(current, name, device) if f"{name}.weight" in builder.plan.names else current


def _feed_forward(builder: Builder, index: int, current: Node) -> Node:
    prefix = f"blk.{index}."
    if f"{prefix}ffn_down_exps.weight" in builder.plan.names:
        from fitcheck.runtimes.llamacpp.experts import expert_feed_forward

        return expert_feed_forward(builder, index, builder.plan.architecture.blocks[index], current)
    return dense(builder, prefix, "ffn_up", "ffn_gate", "ffn_down", current)


def _pooled(builder: Builder, stream: Node) -> Node:
    """One vector a sequence, or its score where the file has a classification head."""
    graph, names, slots = builder.graph, builder.plan.names, builder.options.slots
    width = builder.plan.architecture.embedding
    current = graph.op("get_rows", (width, slots), stream, graph.input(slots * 4))
    for name in ("cls", "cls.output"):
        if f"{name}.weight" in names:
            current = builder.linear(name, current, names[f"{name}.weight"].shape[0])
            current = graph.op("unary", current.shape, current)
    return current

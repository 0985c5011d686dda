"""Feed-forward parts of the graph: plain and gated layers, and Gemma's per-layer embeddings."""

from __future__ import annotations

from fitcheck.runtimes.llamacpp.graph import Node
from fitcheck.runtimes.llamacpp.graph_parts import Parts


def dense(builder: Parts, prefix: str, up: str, gate: str, down: str, current: Node) -> Node:
    """A plain or gated feed-forward layer."""
    graph, names = builder.graph, builder.plan.names
    rows = names[f"{prefix}{up}.weight"].shape[0]
    inner = names[f"{prefix}{down}.weight"].shape[-1]
    width = builder.plan.architecture.embedding
    tokens = current.shape[-1]
    upper = builder.linear(f"{prefix}{up}", current, rows)
    if f"{prefix}{gate}.weight" in names:
        gated = builder.linear(f"{prefix}{gate}", current, inner)
        upper = glu(builder, gated, upper, (inner, tokens))
    elif rows == 2 * inner:
        if builder.build.has("glu") or builder.build.fork:
            upper = graph.op("glu", (inner, tokens), upper)
        else:
            first = graph.op("cont", (inner, tokens), graph.view(upper, (inner, tokens)))
            second = graph.op("cont", (inner, tokens), graph.view(upper, (inner, tokens)))
            upper = graph.op("mul", first.shape, graph.op("unary", first.shape, first), second)
    else:
        upper = graph.op("unary", upper.shape, upper)
    return builder.linear(f"{prefix}{down}", upper, width)


def glu(builder: Parts, gated: Node, upper: Node, shape: tuple[int, ...]) -> Node:
    """act(gate) × up: one operation into a third tensor since mid-2025, two in-place ones before."""
    if builder.build.has("glu"):
        return builder.graph.op("glu", shape, gated, upper)
    if builder.build.fork:
        return builder.graph.op("mul", shape, gated, upper)
    return builder.graph.op("mul", shape, builder.graph.op("unary", shape, gated), upper)


def per_layer_inputs(builder: Parts, stream: Node) -> Node:
    """Gemma 3n and 4: one more embedding of every token for every layer, projected and added where the first layer
    reads it."""
    graph, architecture, tokens = builder.graph, builder.plan.architecture, builder.tokens
    width, count = architecture.per_layer_embedding, architecture.layers
    ids = graph.input(tokens * 4)
    looked = graph.op("get_rows", (width, count, tokens), builder.weight("per_layer_token_embd.weight"), ids)
    looked = graph.op("scale", looked.shape, looked)
    graph.expand(looked)
    projected = builder.linear("per_layer_model_proj", stream, width * count)
    projected = graph.op("scale", projected.shape, projected)
    shaped = graph.reshape(projected, (width, count, tokens))
    normed = graph.op("rms_norm", shaped.shape, shaped)
    normed = graph.op("mul", shaped.shape, normed, builder.weight("per_layer_proj_norm.weight"))
    total = graph.op("scale", shaped.shape, graph.op("add", shaped.shape, normed, looked))
    return graph.op("cont", (width, tokens, count), graph.view(total, (width, tokens, count)))


def add_per_layer(builder: Parts, index: int, current: Node, extra: Node, last: bool) -> Node:
    """``current`` with the layer's share of ``extra`` gated and added; as it is where the layer has none of the
    tensors. Of the last layer only the output rows of ``extra`` are read."""
    graph, prefix = builder.graph, f"blk.{index}."
    width = builder.plan.architecture.per_layer_embedding
    if f"{prefix}inp_gate.weight" not in builder.plan.names:
        return current
    gate = builder.linear(f"{prefix}inp_gate", current, width)
    gate = graph.op("unary", gate.shape, gate)
    part = graph.view(extra, (width, builder.tokens))
    if last:
        part = graph.op("get_rows", (width, builder.options.outputs), part, builder.output_ids)
    product = graph.op("mul", gate.shape, gate, part)
    found = builder.linear(f"{prefix}proj", product, builder.plan.architecture.embedding)
    found = builder.norm(found, f"{prefix}post_norm", builder.plan.layers[index])
    return graph.op("add", current.shape, current, found)

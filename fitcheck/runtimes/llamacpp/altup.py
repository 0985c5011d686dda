"""Gemma 3n in the graph: four streams of which one goes through the layer, and the others are predicted from it.

After llama.cpp src/models/gemma3n.cpp, in the order in which it makes its tensors.
"""

from __future__ import annotations

from fitcheck.runtimes.llamacpp.feedforward import per_layer_inputs
from fitcheck.runtimes.llamacpp.graph import F32, Graph, Node
from fitcheck.runtimes.llamacpp.graph_layers import Builder
from fitcheck.runtimes.llamacpp.graph_traits import SPARSE_LAYERS
from fitcheck.runtimes.llamacpp.head_attention import head_attention

STREAMS = 4


def altup_graph(builder: Builder, kept: tuple[int, ...]) -> Graph:
    """The graph of the layers ``kept``, between embedding and head."""
    graph, architecture, tokens = builder.graph, builder.plan.architecture, builder.tokens
    width = architecture.embedding
    stream = graph.op("get_rows", (width, tokens), builder.weight("token_embd.weight"), graph.input(tokens * 4))
    graph.expand(stream)
    graph.keep_leaf(graph.input(tokens * width * F32))
    stream = graph.op("scale", stream.shape, stream)
    builder.position_inputs()
    builder.attention_inputs()
    extra = per_layer_inputs(builder, stream)
    stream = _stacked(builder, stream)
    for index in kept:
        graph.begin_layer()
        stream = _layer(builder, index, stream, extra)
    builder.output_ids = graph.input(builder.options.outputs * 4)
    merged = builder.select(_merged(builder, stream), builder.options.outputs)
    graph.expand(builder.capped(builder.norm(merged, "output_norm", None)))
    return graph


def _slice(builder: Builder, stacked: Node) -> Node:
    """One stream of all of them."""
    return builder.graph.reshape(stacked, (builder.plan.architecture.embedding, builder.tokens))


def _magnitude(builder: Builder, node: Node) -> Node:
    graph = builder.graph
    squares = graph.op("sqr", node.shape, node)
    sums = graph.op("sum_rows", (1, *node.shape[1:]), squares)
    return graph.op("sqrt", sums.shape, sums)


def _as_large(builder: Builder, node: Node, wanted: Node) -> Node:
    """``node`` brought to the magnitude ``wanted``."""
    graph = builder.graph
    product = graph.op("mul", node.shape, node, wanted)
    return graph.op("div", node.shape, product, _magnitude(builder, node))


def _stacked(builder: Builder, stream: Node) -> Node:
    """The stream with three more made of it."""
    graph, (width, tokens) = builder.graph, stream.shape
    wanted = _magnitude(builder, stream)
    shape = (width, tokens, STREAMS - 1)
    repeated = graph.op("repeat", shape, stream)
    added = graph.op("mul_mat", shape, builder.weight("altup_proj.weight"), repeated, rows=tokens * (STREAMS - 1))
    return graph.op("concat", (width, tokens, STREAMS), stream, _as_large(builder, added, wanted))


def _merged(builder: Builder, stacked: Node) -> Node:
    """One stream of the four."""
    graph, width, tokens = builder.graph, builder.plan.architecture.embedding, builder.tokens
    wanted = _magnitude(builder, _slice(builder, stacked))
    shape = (width, tokens, STREAMS - 1)
    weight = builder.weight("altup_unembd_proj.weight")
    raised = graph.op("mul_mat", shape, weight, graph.view(stacked, shape), rows=tokens * (STREAMS - 1))
    raised = _as_large(builder, raised, wanted)
    total = _slice(builder, stacked)
    for _ in range(STREAMS - 1):
        total = graph.op("add", (width, tokens), total, _slice(builder, raised))
    return graph.op("scale", total.shape, total)


def _modalities(builder: Builder, index: int, node: Node) -> Node:
    graph, prefix = builder.graph, f"blk.{index}.altup_"
    inputs = builder.norm(node, f"{prefix}router_norm", builder.plan.layers[index])
    routed = builder.linear(f"{prefix}router", graph.op("scale", inputs.shape, inputs), STREAMS)
    return graph.op("unary", routed.shape, routed)


def _predicted(builder: Builder, index: int, stacked: Node) -> Node:
    graph, (width, tokens, _) = builder.graph, stacked.shape
    modalities = _modalities(builder, index, _slice(builder, stacked))
    factors = builder.linear(f"blk.{index}.altup_predict_coef", modalities, STREAMS * STREAMS)
    factors = graph.reshape(factors, (STREAMS, STREAMS, tokens))
    turned = (STREAMS, width, tokens)
    turned_streams = graph.op("cont", turned, graph.view(stacked, turned))
    mixed = graph.op("mul_mat", (width, STREAMS, tokens), turned_streams, factors)
    mixed = graph.op("cont", stacked.shape, graph.view(mixed, stacked.shape))
    return graph.op("add", stacked.shape, mixed, stacked)


def _corrected(builder: Builder, index: int, predictions: Node, found: Node) -> Node:
    graph, tokens = builder.graph, builder.tokens
    modalities = _modalities(builder, index, found)
    news = graph.op("sub", found.shape, found, _slice(builder, predictions))
    factors = builder.linear(f"blk.{index}.altup_correct_coef", modalities, STREAMS)
    factors = graph.op("scale", factors.shape, factors)
    factors = graph.op("cont", (1, tokens, STREAMS), graph.transposed(factors, (tokens, STREAMS)))
    repeated = graph.op("repeat", predictions.shape, news)
    changed = graph.op("mul", predictions.shape, repeated, factors)
    return graph.op("add", predictions.shape, changed, predictions)


def _layer(builder: Builder, index: int, stacked: Node, extra: Node) -> Node:
    graph, prefix, device = builder.graph, f"blk.{index}.", builder.plan.layers[index]
    predictions = _predicted(builder, index, stacked)
    active = _slice(builder, predictions)
    normed = builder.norm(active, f"{prefix}attn_norm", device)
    low = _low_rank(builder, prefix, normed, device)
    current = head_attention(builder, index, builder.plan.architecture.blocks[index], normed)
    current = builder.norm(current, f"{prefix}post_attention_norm", device)
    current = graph.op("add", current.shape, current, active)
    middle = graph.op("add", current.shape, current, low)
    middle = graph.op("scale", middle.shape, middle)
    current = _fed(builder, index, builder.norm(middle, f"{prefix}ffn_norm", device))
    current = builder.norm(current, f"{prefix}post_ffw_norm", device)
    current = graph.op("add", current.shape, current, middle)
    corrected = _corrected(builder, index, predictions, current)
    rest = graph.view(corrected, (*current.shape, STREAMS - 1))
    rest = graph.op("add", rest.shape, rest, _first_prediction(builder, index, corrected, extra))
    return graph.op("concat", corrected.shape, _slice(builder, corrected), rest)


def _low_rank(builder: Builder, prefix: str, normed: Node, device: int) -> Node:
    """What the layer adds through a product of low rank (LAuReL)."""
    rank = builder.plan.names[f"{prefix}laurel_l.weight"].shape[0]
    low = builder.linear(f"{prefix}laurel_l", normed, rank)
    low = builder.linear(f"{prefix}laurel_r", low, normed.shape[0])
    low = builder.norm(low, f"{prefix}laurel_post_norm", device)
    return builder.graph.op("add", low.shape, low, normed)


def _fed(builder: Builder, index: int, current: Node) -> Node:
    graph, prefix = builder.graph, f"blk.{index}."
    rows = builder.plan.names[f"{prefix}ffn_up.weight"].shape[0]
    upper = builder.linear(f"{prefix}ffn_up", current, rows)
    gate = builder.linear(f"{prefix}ffn_gate", current, rows)
    if index < SPARSE_LAYERS:
        gate = _cut_off(builder, gate)
    gate = graph.op("unary", gate.shape, gate)
    return builder.linear(f"{prefix}ffn_down", graph.op("mul", upper.shape, upper, gate), current.shape[0])


def _cut_off(builder: Builder, gate: Node) -> Node:
    """Zero where a gate is not far enough above the mean."""
    graph, each = builder.graph, (1, gate.shape[1])
    mean = graph.op("mean", each, gate)
    away = graph.op("sub", gate.shape, gate, mean)
    spread = graph.op("sum_rows", each, graph.op("sqr", gate.shape, away))
    spread = graph.op("sqrt", each, graph.op("scale", each, spread))
    least = graph.op("add", each, mean, graph.op("scale", each, spread))
    return graph.op("unary", gate.shape, graph.op("sub", gate.shape, gate, least))


def _first_prediction(builder: Builder, index: int, corrected: Node, extra: Node) -> Node:
    """The layer's share of the embeddings for each layer, gated by the first stream."""
    graph, prefix = builder.graph, f"blk.{index}."
    width = builder.plan.architecture.per_layer_embedding
    first = _slice(builder, corrected)
    first = graph.op("mul", first.shape, first, builder.weight(f"{prefix}altup_correct_scale.weight"))
    gate = builder.linear(f"{prefix}inp_gate", first, width)
    gate = graph.op("unary", gate.shape, gate)
    product = graph.op("mul", gate.shape, gate, graph.view(extra, (width, builder.tokens)))
    found = builder.linear(f"{prefix}proj", product, corrected.shape[0])
    return builder.norm(found, f"{prefix}post_norm", builder.plan.layers[index])

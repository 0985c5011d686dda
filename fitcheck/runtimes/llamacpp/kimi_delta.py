"""Kimi's delta attention in the graph: three convolutions, a gate for every element, the delta net, an output gate.

After llama.cpp src/models/kimi-linear.cpp.
"""

from __future__ import annotations

from fitcheck.models.families.language.architecture import LanguageLayer, Recurrent
from fitcheck.runtimes.llamacpp.chunked_delta import DeltaShape, chunked_delta
from fitcheck.runtimes.llamacpp.graph import Node
from fitcheck.runtimes.llamacpp.graph_parts import Parts
from fitcheck.runtimes.llamacpp.states import States

CHUNK, SMALL_CHUNK = 64, 16


def kimi_delta(
    builder: Parts, prefix: str, block: LanguageLayer, state: Recurrent, states: States, current: Node
) -> Node:
    """The layer's output for ``current``."""
    graph, tokens, slots = builder.graph, builder.tokens, builder.options.slots
    inner, heads = state.inner, max(block.heads, 1)
    length = inner // heads
    held = states.read_convolution()
    query, key, value = (_convolved(builder, prefix, name, states, inner, current, held) for name in "qkv")
    low = builder.linear(f"{prefix}ssm_f_a", current, builder.plan.names[f"{prefix}ssm_f_a.weight"].shape[0])
    gate = builder.linear(f"{prefix}ssm_f_b", low, inner, bias=False)
    gate = graph.op("add", gate.shape, gate, builder.weight(f"{prefix}ssm_dt.bias"))
    gate = graph.reshape(graph.op("unary", gate.shape, gate), (length, heads, tokens))
    gate = graph.op("mul", gate.shape, gate, _reshaped_weight(builder, f"{prefix}ssm_a"))
    rates = builder.linear(f"{prefix}ssm_beta", current, heads)
    beta = graph.op("unary", (heads, tokens), graph.reshape(rates, rates.shape))
    old = states.read(state.state)
    query, key = (graph.op("l2_norm", (length, heads, tokens), node) for node in (query, key))
    if builder.build.has("fused_delta"):
        total = inner * tokens + state.state * slots
        mixed = graph.op("delta_net", (total,), query, key, value, gate, beta, old)
        output, new = graph.reshape(mixed, (length, heads, tokens)), graph.view(mixed, (state.state, slots))
    else:
        chunk = SMALL_CHUNK if builder.build.has("small_delta_chunks") else CHUNK
        shape = DeltaShape(length, heads, tokens // slots, slots, chunk, wide=True)
        output, new = chunked_delta(graph, shape, (query, key, value, gate, beta), old)
    output = graph.op("cont", (length, heads, tokens), output)
    states.write(new)
    low = builder.linear(f"{prefix}ssm_g_a", current, builder.plan.names[f"{prefix}ssm_g_a.weight"].shape[0])
    outer = builder.linear(f"{prefix}ssm_g_b", low, inner)
    normed = builder.norm(graph.reshape(output, output.shape), f"{prefix}ssm_norm", states.device)
    outer = graph.reshape(outer, output.shape)
    found = graph.op("mul", normed.shape, normed, graph.op("unary", outer.shape, outer))
    found = graph.op("cont", (inner, tokens), found)
    return builder.linear(f"{prefix}attn_output", found, builder.plan.architecture.embedding)


def _convolved(builder: Parts, prefix: str, name: str, states: States, inner: int, current: Node, held: Node) -> Node:
    """A projection with the inputs before it, through its causal convolution."""
    graph, slots = builder.graph, builder.options.slots
    weight = builder.plan.names[f"{prefix}ssm_conv1d_{name}.weight"]
    kernel = min(side for side in weight.shape if side > 1)
    old = graph.view(held, (kernel - 1, inner, slots))
    projected = builder.linear(f"{prefix}attn_{name}", current, inner)
    joined = states.join(old, projected)
    found = graph.op("ssm_conv", (inner, builder.tokens), joined, _reshaped_weight(builder, weight.name))
    found = graph.op("unary", found.shape, graph.reshape(found, found.shape))
    return graph.reshape(found, found.shape)


def _reshaped_weight(builder: Parts, name: str) -> Node:
    """A view of a weight, which draws no operation to where it lies."""
    weight = builder.weight(name)
    return builder.graph.reshape(weight, (builder.plan.names[name].elements,))

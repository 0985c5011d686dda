"""Recurrent layers in the graph: gated delta net, Mamba, short convolution.

After llama.cpp src/models/{delta-net-base,qwen3next,qwen35,mamba-base,lfm2}.cpp. RWKV's time mixing is bounded by its
main tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fitcheck.models.families.language.architecture import LanguageLayer, Recurrent
from fitcheck.runtimes.llamacpp.graph import Node
from fitcheck.runtimes.llamacpp.kimi_delta import kimi_delta

if TYPE_CHECKING:
    from fitcheck.runtimes.llamacpp.graph_layers import Builder


def mixer(builder: Builder, index: int, block: LanguageLayer, current: Node) -> Node:
    """What takes attention's place in a recurrent layer; chosen by the tensors the layer has."""
    prefix, names = f"blk.{index}.", builder.plan.names
    state = builder.plan.architecture.recurrent
    assert state is not None
    if f"{prefix}shortconv.in_proj.weight" in names:
        return _short_convolution(builder, prefix, state, current)
    if f"{prefix}ssm_in.weight" in names and f"{prefix}ssm_conv1d.weight" in names and _is_mamba(builder, prefix):
        return _mamba(builder, prefix, state, current)
    if f"{prefix}ssm_conv1d_q.weight" in names:
        return kimi_delta(builder, prefix, block, state, current)
    if f"{prefix}ssm_conv1d.weight" in names:
        return _delta_net(builder, prefix, state, current)
    return _bounded(builder, current)


def _is_mamba(builder: Builder, prefix: str) -> bool:
    return f"{prefix}ssm_d" in builder.plan.names


def _states(builder: Builder, elements: int) -> Node:
    """Read the sequences' states out of the recurrent cache."""
    graph = builder.graph
    cache = graph.cache(builder.plan.layers[0] if builder.plan.full_offload else builder.plan.layers[-1])
    states = graph.op("get_rows", (elements, builder.options.slots), cache, builder.state_ids)
    graph.expand(states)
    return states


def _convolve(
    builder: Builder, prefix: str, mixed: Node, channels: int, state: Recurrent, old: Node | None = None
) -> Node:
    """The causal convolution: old inputs in front of the new ones, then a depthwise product."""
    graph, slots = builder.graph, builder.options.slots
    per_sequence = builder.tokens // slots
    held = old if old is not None else _states(builder, (state.kernel - 1) * channels)
    shaped = graph.reshape(held, (state.kernel - 1, channels, slots))
    turned = graph.view(mixed, (per_sequence, channels, slots))
    joined = graph.op("concat", (state.kernel - 1 + per_sequence, channels, slots), shaped, turned)
    graph.expand(graph.store(graph.cache(builder.plan.layers[-1]), graph.view(joined, (state.kernel - 1, channels))))
    weight = builder.weight(f"{prefix}ssm_conv1d.weight")
    found = graph.op("ssm_conv", (channels, per_sequence, slots), joined, weight)
    if f"{prefix}ssm_conv1d.bias" in builder.plan.names:
        found = graph.op("add", found.shape, found, builder.weight(f"{prefix}ssm_conv1d.bias"))
    return found


def _delta_net(builder: Builder, prefix: str, state: Recurrent, current: Node) -> Node:
    graph, tokens, names = builder.graph, builder.tokens, builder.plan.names
    slots, steps = builder.options.slots, max(state.steps, 1)
    keys = state.groups * state.state_size
    channels = state.inner + 2 * keys
    if f"{prefix}attn_qkv.weight" in names:
        mixed = builder.linear(f"{prefix}attn_qkv", current, channels)
        outer = builder.linear(f"{prefix}attn_gate", current, state.inner)
    else:
        joint = builder.linear(f"{prefix}ssm_in", current, channels + state.inner)
        outer = graph.op("cont", (state.inner, tokens), graph.view(joint, (state.inner, tokens)))
        mixed = graph.op("concat", (channels, tokens), graph.view(joint, (channels, tokens)))
    rates = []
    for name in ("ssm_beta", "ssm_alpha", "ssm_ba"):
        if f"{prefix}{name}.weight" in names:
            rates.append(builder.linear(f"{prefix}{name}", current, names[f"{prefix}{name}.weight"].shape[0]))
    beta = graph.op("unary", rates[0].shape, rates[0])
    gate = graph.op("unary", rates[-1].shape, rates[-1]) if len(rates) > 1 else graph.op("cont", (steps, tokens), beta)
    convolved = _convolve(builder, prefix, mixed, channels, state)
    convolved = graph.op("unary", convolved.shape, convolved)
    old = _states(builder, state.state)
    query = graph.op("l2_norm", (keys, tokens), graph.view(convolved, (keys, tokens)))
    key = graph.op("l2_norm", (keys, tokens), graph.view(convolved, (keys, tokens)))
    value = graph.view(convolved, (state.inner, tokens))
    if state.groups != steps and f"{prefix}ssm_ba.weight" in names:
        query = graph.op("repeat", (state.inner, tokens), query)
        key = graph.op("repeat", (state.inner, tokens), key)
    total = state.inner * tokens + state.state * slots
    mixed_out = graph.op("delta_net", (total,), query, key, value, gate, beta, old)
    graph.expand(graph.store(graph.cache(builder.plan.layers[-1]), graph.view(mixed_out, (state.state, slots))))
    output = graph.view(mixed_out, (state.inner, tokens))
    normed = graph.op("rms_norm", (state.inner, tokens), output)
    normed = graph.op("mul", normed.shape, normed, builder.weight(f"{prefix}ssm_norm.weight"))
    gated = graph.op("unary", outer.shape, outer)
    found = graph.op("mul", normed.shape, normed, gated)
    return builder.linear(f"{prefix}ssm_out", found, builder.plan.architecture.embedding)


def _mamba(builder: Builder, prefix: str, state: Recurrent, current: Node) -> Node:
    graph, tokens, names = builder.graph, builder.tokens, builder.plan.names
    slots = builder.options.slots
    second = f"{prefix}ssm_x.weight" not in names
    channels = state.inner + (2 * state.groups * state.state_size if second else 0)
    old = _states(builder, (state.kernel - 1) * channels)
    joint = builder.linear(f"{prefix}ssm_in", current, names[f"{prefix}ssm_in.weight"].shape[0])
    mixed = graph.view(joint, (channels, tokens))
    convolved = _convolve(builder, prefix, mixed, channels, state, old)
    convolved = graph.op("unary", convolved.shape, convolved)
    if second:
        step = graph.op("cont", (state.steps, tokens), graph.view(joint, (state.steps, tokens)))
        step = graph.op("add", step.shape, step, builder.weight(f"{prefix}ssm_dt.bias"))
    else:
        projected = builder.linear(f"{prefix}ssm_x", convolved, names[f"{prefix}ssm_x.weight"].shape[0])
        step = builder.linear(f"{prefix}ssm_dt", graph.view(projected, (state.steps, tokens)), state.inner)
    total = state.inner * tokens + state.state * slots
    scanned = graph.op("ssm_scan", (total,), graph.view(convolved, (state.inner, tokens)), step, builder.state_ids)
    graph.expand(graph.store(graph.cache(builder.plan.layers[-1]), graph.view(scanned, (state.state, slots))))
    output = graph.view(scanned, (state.inner, tokens))
    scale = builder.weight(f"{prefix}ssm_d")
    skipped = graph.op("mul", (state.inner, tokens), graph.view(convolved, (state.inner, tokens)), scale)
    output = graph.op("add", (state.inner, tokens), output, skipped)
    gate = graph.op("cont", (state.inner, tokens), graph.view(joint, (state.inner, tokens)))
    output = graph.op("glu", (state.inner, tokens), gate, output)
    if f"{prefix}ssm_norm.weight" in names:
        normed = graph.op("rms_norm", output.shape, output)
        output = graph.op("mul", output.shape, normed, builder.weight(f"{prefix}ssm_norm.weight"))
    return builder.linear(f"{prefix}ssm_out", output, builder.plan.architecture.embedding)


def _short_convolution(builder: Builder, prefix: str, state: Recurrent, current: Node) -> Node:
    graph, tokens = builder.graph, builder.tokens
    width, slots = builder.plan.architecture.embedding, builder.options.slots
    per_sequence = tokens // slots
    joint = builder.linear(f"{prefix}shortconv.in_proj", current, 3 * width)
    parts = [graph.view(joint, (width, tokens)) for i in range(3)]
    product = graph.op("mul", (width, tokens), parts[0], parts[2])
    old = graph.reshape(_states(builder, (state.kernel - 1) * width), (state.kernel - 1, width, slots))
    turned = graph.view(product, (per_sequence, width, slots))
    joined = graph.op("concat", (state.kernel - 1 + per_sequence, width, slots), old, turned)
    graph.expand(graph.store(graph.cache(builder.plan.layers[-1]), graph.view(joined, (state.kernel - 1, width))))
    found = graph.op("ssm_conv", (width, tokens), joined, builder.weight(f"{prefix}shortconv.conv.weight"))
    found = graph.op("mul", found.shape, parts[1], found)
    return builder.linear(f"{prefix}shortconv.out_proj", found, width)


def _bounded(builder: Builder, current: Node) -> Node:
    """A recurrent layer whose parts are not modelled: six tensors as wide as the stream at once."""
    graph = builder.graph
    parts = [graph.op("cont", current.shape, current) for _ in range(5)]
    return graph.op("cont", current.shape, *parts)

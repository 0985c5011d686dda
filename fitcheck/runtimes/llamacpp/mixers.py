"""Recurrent layers in the graph: gated delta net, Mamba, short convolution.

After llama.cpp src/models/{delta-net-base,qwen3next,qwen35,mamba-base,lfm2}.cpp, in the order in which these make their
tensors. RWKV's time mixing is bounded by its main tensors.
"""

from __future__ import annotations

from fitcheck.models.families.language.architecture import LanguageLayer, Recurrent
from fitcheck.runtimes.llamacpp.graph import F32, Node
from fitcheck.runtimes.llamacpp.graph_parts import Parts
from fitcheck.runtimes.llamacpp.kimi_delta import kimi_delta
from fitcheck.runtimes.llamacpp.plamo import plamo_mixer
from fitcheck.runtimes.llamacpp.states import States


def mixer(builder: Parts, index: int, block: LanguageLayer, current: Node) -> Node:
    """What takes attention's place in a recurrent layer; chosen by the tensors the layer has."""
    prefix, names = f"blk.{index}.", builder.plan.names
    state = builder.plan.architecture.recurrent
    assert state is not None
    states = States(builder, index)
    if f"{prefix}shortconv.in_proj.weight" in names:
        return _short_convolution(builder, prefix, state, states, current)
    if f"{prefix}ssm_b_norm" in names:
        return plamo_mixer(builder, prefix, state, states, current)
    if f"{prefix}ssm_in.weight" in names and f"{prefix}ssm_d" in names:
        mamba = _mamba if f"{prefix}ssm_x.weight" in names else _second_mamba
        return mamba(builder, prefix, state, states, current)
    if f"{prefix}ssm_conv1d_q.weight" in names:
        return kimi_delta(builder, prefix, block, state, states, current)
    if f"{prefix}ssm_conv1d.weight" in names:
        return _delta_net(builder, prefix, state, states, current)
    return _bounded(builder, current)


def _convolved(builder: Parts, prefix: str, joined: Node, channels: int) -> Node:
    """The depthwise product of the joined inputs, with its bias where the file has one."""
    slots = builder.options.slots
    shape = (channels, builder.tokens // slots, slots)
    found = builder.graph.op("ssm_conv", shape, joined, builder.weight(f"{prefix}ssm_conv1d.weight"))
    if f"{prefix}ssm_conv1d.bias" in builder.plan.names:
        found = builder.graph.op("add", shape, found, builder.weight(f"{prefix}ssm_conv1d.bias"))
    return builder.graph.op("unary", shape, found)


def _delta_net(builder: Parts, prefix: str, state: Recurrent, states: States, current: Node) -> Node:
    """Gated delta net of Qwen3-Next and Qwen3.5."""
    graph, tokens = builder.graph, builder.tokens
    steps = max(state.steps, 1)
    length, keys = state.inner // steps, state.groups * state.state_size
    mixed, outer = _mixed_and_outer(builder, prefix, state, current)
    beta, gate = _rates(builder, prefix, steps, current)
    channels = state.inner + 2 * keys
    joined = states.joined(mixed)
    old = states.read(state.state)
    convolved = _convolved(builder, prefix, joined, channels)
    shape = (state.state_size, state.groups, tokens)
    query, key = (graph.op("l2_norm", shape, graph.view(convolved, shape, channels * F32)) for _ in range(2))
    value = graph.view(convolved, (length, steps, tokens), channels * F32)
    if state.groups != steps and f"{prefix}ssm_ba.weight" in builder.plan.names:
        query, key = (graph.op("repeat", (state.state_size, steps, tokens), part) for part in (query, key))
    output = states.delta(query, key, value, gate, beta, old, inner=state.inner)
    normed = builder.norm(graph.reshape(output, (length, steps, tokens)), f"{prefix}ssm_norm", states.device)
    gated = graph.op("unary", (length, steps, tokens), graph.reshape(outer, (length, steps, tokens)))
    found = graph.reshape(graph.op("mul", normed.shape, normed, gated), (state.inner, tokens))
    return _flat(builder, builder.linear(f"{prefix}ssm_out", found, builder.plan.architecture.embedding))


def _mixed_and_outer(builder: Parts, prefix: str, state: Recurrent, current: Node) -> tuple[Node, Node]:
    """(what is convolved, the output's gate); older files of Qwen3-Next have both in one product."""
    graph, tokens = builder.graph, builder.tokens
    keys = state.groups * state.state_size
    if f"{prefix}attn_qkv.weight" in builder.plan.names:
        mixed = builder.linear(f"{prefix}attn_qkv", current, state.inner + 2 * keys)
        return mixed, builder.linear(f"{prefix}attn_gate", current, state.inner)
    joint = builder.linear(f"{prefix}ssm_in", current, 2 * (keys + state.inner))
    row = joint.shape[0] * F32
    outer = graph.op("cont", (state.inner, tokens), graph.view(joint, (state.inner, tokens), row))
    query, key, value = (
        graph.op("cont", (rows, tokens), graph.view(joint, (rows, tokens), row)) for rows in (keys, keys, state.inner)
    )
    both = graph.op("concat", (2 * keys, tokens), query, key)
    return graph.op("concat", (2 * keys + state.inner, tokens), both, value), outer


def _rates(builder: Parts, prefix: str, steps: int, current: Node) -> tuple[Node, Node]:
    """(beta, gate) of a gated delta net, one number a head and token."""
    graph, shape = builder.graph, (steps, builder.tokens)
    if f"{prefix}ssm_ba.weight" in builder.plan.names:
        both = builder.linear(f"{prefix}ssm_ba", current, 2 * steps)
        beta, alpha = (graph.op("cont", shape, graph.view(both, shape)) for _ in range(2))
    else:
        beta, alpha = (builder.linear(f"{prefix}{name}", current, steps) for name in ("ssm_beta", "ssm_alpha"))
    alpha = graph.op("add", shape, alpha, builder.weight(f"{prefix}ssm_dt.bias"))
    gate = graph.op("mul", shape, graph.op("unary", shape, alpha), builder.weight(f"{prefix}ssm_a"))
    return graph.op("unary", shape, beta), gate


def _second_mamba(builder: Parts, prefix: str, state: Recurrent, states: States, current: Node) -> Node:
    """Mamba 2: one projection makes gate, inputs and steps (mamba-base.cpp, build_mamba2_layer)."""
    graph, tokens, names = builder.graph, builder.tokens, builder.plan.names
    steps = max(state.steps, 1)
    channels, length = state.inner + 2 * state.groups * state.state_size, state.inner // steps
    held = states.read_convolution()
    joint = builder.linear(f"{prefix}ssm_in", current, names[f"{prefix}ssm_in.weight"].shape[0])
    row = joint.shape[0] * F32
    joined = states.join(held, graph.view(joint, (channels, tokens), row))
    convolved = _convolved(builder, prefix, joined, channels)
    step = graph.op("cont", (steps, tokens), graph.view(joint, (steps, tokens), row))
    step = graph.op("add", step.shape, step, builder.weight(f"{prefix}ssm_dt.bias"))
    wide, narrow = (length, steps, tokens), (state.state_size, state.groups, tokens)
    inputs, *both = (graph.view(convolved, shape, channels * F32) for shape in (wide, narrow, narrow))
    scanned = states.scan(inputs, step, builder.weight(f"{prefix}ssm_a"), *both, inner=state.inner)
    skipped = graph.op("mul", wide, inputs, builder.weight(f"{prefix}ssm_d"))
    output = graph.op("add", wide, graph.reshape(scanned, wide), skipped)
    output = graph.op("glu", wide, graph.op("cont", wide, graph.view(joint, wide, row)), output)
    if f"{prefix}ssm_norm.weight" in names:
        output = builder.norm(graph.reshape(output, (state.inner, tokens)), f"{prefix}ssm_norm", states.device)
    found = graph.reshape(output, (state.inner, tokens))
    return builder.linear(f"{prefix}ssm_out", found, builder.plan.architecture.embedding)


def _mamba(builder: Parts, prefix: str, state: Recurrent, states: States, current: Node) -> Node:
    """Mamba 1: steps and both matrices are projected from the convolved inputs (build_mamba_layer)."""
    graph, tokens, names = builder.graph, builder.tokens, builder.plan.names
    wide = (state.inner, tokens)
    held = states.read_convolution()
    joint = builder.linear(f"{prefix}ssm_in", current, 2 * state.inner)
    joined = states.join(held, graph.view(joint, wide, 2 * state.inner * F32))
    convolved = _convolved(builder, prefix, joined, state.inner)
    projected = builder.linear(f"{prefix}ssm_x", convolved, names[f"{prefix}ssm_x.weight"].shape[0])
    row = projected.shape[0] * F32
    parts = [graph.view(projected, (rows, tokens), row) for rows in (state.steps, state.state_size, state.state_size)]
    if f"{prefix}ssm_dt_norm.weight" in names:
        kinds = ("ssm_dt_norm", "ssm_b_norm", "ssm_c_norm")
        parts = [builder.norm(part, f"{prefix}{kind}", states.device) for part, kind in zip(parts, kinds, strict=True)]
    else:
        parts[0] = graph.op("cont", parts[0].shape, parts[0])
    step = builder.linear(f"{prefix}ssm_dt", parts[0], state.inner)
    inputs = graph.reshape(convolved, (1, *wide))
    scanned = states.scan(inputs, step, builder.weight(f"{prefix}ssm_a"), *parts[1:], inner=state.inner)
    skipped = graph.op("mul", wide, convolved, builder.weight(f"{prefix}ssm_d"))
    output = graph.op("add", wide, graph.reshape(scanned, wide), skipped)
    output = graph.op("glu", wide, graph.op("cont", wide, graph.view(joint, wide, 2 * state.inner * F32)), output)
    return _flat(builder, builder.linear(f"{prefix}ssm_out", output, builder.plan.architecture.embedding))


def _short_convolution(builder: Parts, prefix: str, state: Recurrent, states: States, current: Node) -> Node:
    graph, tokens = builder.graph, builder.tokens
    width, slots = builder.plan.architecture.embedding, builder.options.slots
    shape = (width, tokens // slots, slots)
    joint = builder.linear(f"{prefix}shortconv.in_proj", current, 3 * width)
    before, after, inputs = (graph.view(joint, shape, 3 * width * F32) for _ in range(3))
    product = graph.op("mul", shape, before, inputs)
    joined = states.joined(graph.reshape(product, (width, tokens)))
    found = graph.op("ssm_conv", shape, joined, builder.weight(f"{prefix}shortconv.conv.weight"))
    found = graph.op("mul", shape, after, found)
    return _flat(builder, builder.linear(f"{prefix}shortconv.out_proj", graph.reshape(found, (width, tokens)), width))


def _flat(builder: Parts, found: Node) -> Node:
    """A view of the sequences' tokens one behind the other, whose memory nothing takes over."""
    return builder.graph.reshape(found, found.shape)


def _bounded(builder: Parts, current: Node) -> Node:
    """A recurrent layer whose parts are not modelled: six tensors as wide as the stream at once."""
    graph = builder.graph
    parts = [graph.op("cont", current.shape, current) for _ in range(5)]
    return graph.op("cont", current.shape, *parts)

"""PLaMo 2's mixer in the graph: Mamba 2's scan whose steps and matrices are projected from the convolved inputs.

After llama.cpp src/models/plamo2.cpp (build_plamo2_mamba_layer).
"""

from __future__ import annotations

from fitcheck.models.families.language.architecture import Recurrent
from fitcheck.runtimes.llamacpp.graph import F32, Node
from fitcheck.runtimes.llamacpp.graph_parts import Parts
from fitcheck.runtimes.llamacpp.states import States


def plamo_mixer(builder: Parts, prefix: str, state: Recurrent, states: States, current: Node) -> Node:
    """The layer's output for ``current``."""
    graph, tokens, slots = builder.graph, builder.tokens, builder.options.slots
    steps = max(state.steps, 1)
    length = state.inner // steps
    held = states.read_convolution()
    joint = builder.linear(f"{prefix}ssm_in", current, 2 * state.inner)
    joint = graph.op("cont", (2 * length, steps, tokens), graph.view(joint, (2 * length, steps, tokens)))
    inputs = graph.op("cont", (state.inner, tokens), graph.view(joint, (length, steps, tokens)))
    joined = states.join(held, inputs)
    wide = (state.inner, tokens // slots, slots)
    convolved = graph.op("ssm_conv", wide, joined, builder.weight(f"{prefix}ssm_conv1d.weight"))
    convolved = graph.op("unary", wide, convolved)
    step, *both = _projected(builder, prefix, state, states, convolved)
    step = builder.linear(f"{prefix}ssm_dt", step, steps)
    shape = (length, steps, tokens)
    inputs = graph.view(convolved, shape, state.inner * F32)
    scanned = states.scan(inputs, step, _reshaped(builder, f"{prefix}ssm_a"), *both, inner=state.inner)
    skipped = graph.op("mul", shape, inputs, _reshaped(builder, f"{prefix}ssm_d"))
    output = graph.op("add", shape, graph.view(scanned, shape), skipped)
    outer = graph.op("cont", shape, graph.view(joint, shape))
    output = graph.op("glu", shape, outer, output)
    found = builder.linear(
        f"{prefix}ssm_out", graph.view(output, (state.inner, tokens)), builder.plan.architecture.embedding
    )
    return graph.reshape(found, found.shape)


def _projected(builder: Parts, prefix: str, state: Recurrent, states: States, convolved: Node) -> list[Node]:
    """The latent of the steps and both matrices, each normed."""
    graph, names, tokens = builder.graph, builder.plan.names, builder.tokens
    rows = names[f"{prefix}ssm_x.weight"].shape[0]
    projected = builder.linear(f"{prefix}ssm_x", graph.reshape(convolved, (state.inner, tokens)), rows)
    low = names[f"{prefix}ssm_dt.weight"].shape[1]
    kinds = (("ssm_dt_norm", low), ("ssm_b_norm", state.state_size), ("ssm_c_norm", state.state_size))
    return [
        builder.norm(graph.view(projected, (length, tokens), rows * F32), f"{prefix}{kind}", states.device)
        for kind, length in kinds
    ]


def _reshaped(builder: Parts, name: str) -> Node:
    """A view of a weight, which draws no operation to where it lies."""
    return builder.graph.reshape(builder.weight(name), (builder.plan.names[name].elements,))

"""Mixture-of-experts layers of the graph (llama.cpp build_moe_ffn)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fitcheck.models.families.language.architecture import LanguageLayer
from fitcheck.runtimes.llamacpp.feedforward import dense, glu
from fitcheck.runtimes.llamacpp.graph import Node

if TYPE_CHECKING:
    from fitcheck.runtimes.llamacpp.graph_layers import Builder


def expert_feed_forward(builder: Builder, index: int, block: LanguageLayer, current: Node) -> Node:
    """Router, chosen experts, weighted sum, and the shared experts where there are some."""
    graph, names, prefix = builder.graph, builder.plan.names, f"blk.{index}."
    routed = _routed(builder, prefix, block, current)
    if f"{prefix}ffn_up_shexp.weight" not in names:
        return routed
    shared = dense(builder, prefix, "ffn_up_shexp", "ffn_gate_shexp", "ffn_down_shexp", current)
    if f"{prefix}ffn_gate_inp_shexp.weight" in names:
        tokens = current.shape[-1]
        gate = graph.op(
            "mul_mat", (1, tokens), builder.weight(f"{prefix}ffn_gate_inp_shexp.weight"), current, rows=tokens
        )
        shared = graph.op("mul", shared.shape, shared, graph.op("unary", gate.shape, gate))
    return graph.op("add", routed.shape, routed, shared)


def _routed(builder: Builder, prefix: str, block: LanguageLayer, current: Node) -> Node:
    graph, names = builder.graph, builder.plan.names
    tokens, width = current.shape[-1], current.shape[0]
    count, used = builder.plan.architecture.experts, block.experts_used
    weights, chosen = _router(builder, prefix, current, count, used, tokens)
    source = graph.reshape(current, (width, 1, tokens))
    inner = names[f"{prefix}ffn_down_exps.weight"].shape[-1]
    shape = (inner, used, tokens)
    # the fork asks how many tokens an expert sees on average before a card takes its weights (its pull request 520)
    batch = max(tokens * used // max(count, 1), 1) if builder.build.fork else tokens

    def through(name: str, node: Node, rows: int) -> Node:
        weight = builder.weight(f"{prefix}{name}.weight")
        found = graph.op("mul_mat_id", (rows, used, tokens), weight, node, chosen, rows=batch)
        if f"{prefix}{name}.bias" in names:
            found = graph.op("add_id", found.shape, found, builder.weight(f"{prefix}{name}.bias"), chosen)
        return found

    if f"{prefix}ffn_gate_up_exps.weight" in names:
        joint = through("ffn_gate_up_exps", source, 2 * inner)
        hidden = graph.op("glu", shape, graph.view(joint, shape), graph.view(joint, shape))
    elif builder.build.fork and builder.options.fused_experts and f"{prefix}ffn_gate_exps.weight" in names:
        up, gate = (builder.weight(f"{prefix}{name}.weight") for name in ("ffn_up_exps", "ffn_gate_exps"))
        hidden = graph.op("mul_mat_id", shape, up, gate, source, chosen, rows=batch)
    else:
        upper = through("ffn_up_exps", source, inner)
        if f"{prefix}ffn_gate_exps.weight" in names:
            hidden = glu(builder, through("ffn_gate_exps", source, inner), upper, shape)
        else:
            hidden = graph.op("unary", shape, upper)
    experts = through("ffn_down_exps", hidden, width)
    experts = graph.op("mul", experts.shape, experts, weights)
    graph.expand(experts)
    parts = [graph.view(experts, (width, tokens)) for i in range(used)]
    for part in parts:
        graph.expand(part)
    total = parts[0]
    for part in parts[1:]:
        total = graph.op("add", (width, tokens), total, part)
        graph.expand(total)
    return graph.op("cont", (width, tokens), total) if used == 1 else total


def _router(builder: Builder, prefix: str, current: Node, count: int, used: int, tokens: int) -> tuple[Node, Node]:
    """(weights of the chosen experts, their indices)."""
    graph, names = builder.graph, builder.plan.names
    logits = graph.op("mul_mat", (count, tokens), builder.weight(f"{prefix}ffn_gate_inp.weight"), current, rows=tokens)
    if f"{prefix}ffn_gate_inp.bias" in names:
        logits = graph.op("add", logits.shape, logits, builder.weight(f"{prefix}ffn_gate_inp.bias"))
    probabilities = graph.op("soft_max", logits.shape, logits)
    ranked = probabilities
    if f"{prefix}exp_probs_b.bias" in names:
        ranked = graph.op("add", logits.shape, probabilities, builder.weight(f"{prefix}exp_probs_b.bias"))
    order = graph.op("argsort", logits.shape, ranked)
    chosen = graph.view(order, (used, tokens))
    table = graph.reshape(probabilities, (1, count, tokens))
    weights = graph.op("get_rows", (1, used, tokens), table, chosen)
    graph.expand(weights)
    return weights, chosen

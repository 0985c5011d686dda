"""Mixture-of-experts layers of the graph (llama.cpp build_moe_ffn)."""

from __future__ import annotations

from fitcheck.models.families.language.architecture import LanguageLayer
from fitcheck.runtimes.llamacpp.feedforward import dense, glu
from fitcheck.runtimes.llamacpp.graph import F32, Fused, Node
from fitcheck.runtimes.llamacpp.graph_parts import Parts
from fitcheck.runtimes.llamacpp.graph_traits import has_trait

_MOST_SUMMED = 15  # ggml-cuda.cu, MOE_WEIGHTED_REDUCTION_MAX_EXPERTS


def expert_feed_forward(
    builder: Parts, index: int, block: LanguageLayer, current: Node, logits: Node | None = None
) -> Node:
    """Router, chosen experts, weighted sum, and the shared experts where there are some. ``logits`` are the router's
    where they are of something else than ``current``."""
    graph, names, prefix = builder.graph, builder.plan.names, f"blk.{index}."
    read, latent = current, f"{prefix}ffn_latent_down"
    if f"{latent}.weight" in names:
        read = builder.linear(latent, current, names[f"{latent}.weight"].shape[0])
    routed = _routed(builder, prefix, block, read, logits or router_logits(builder, prefix, current))
    if read is not current:
        routed = builder.linear(f"{prefix}ffn_latent_up", routed, current.shape[0])
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


def router_logits(builder: Parts, prefix: str, current: Node) -> Node:
    """A number for each expert and token of ``current``."""
    count, tokens = builder.plan.architecture.experts, current.shape[-1]
    weight = builder.weight(f"{prefix}ffn_gate_inp.weight")
    logits = builder.graph.op("mul_mat", (count, tokens), weight, current, rows=tokens)
    if f"{prefix}ffn_gate_inp.bias" in builder.plan.names:
        logits = builder.graph.op("add", logits.shape, logits, builder.weight(f"{prefix}ffn_gate_inp.bias"))
    return logits


def _routed(builder: Parts, prefix: str, block: LanguageLayer, current: Node, logits: Node) -> Node:
    graph, names = builder.graph, builder.plan.names
    tokens, width = current.shape[-1], current.shape[0]
    count, used = builder.plan.architecture.experts, block.experts_used
    weights, chosen = _router(builder, prefix, logits, used)
    source = graph.reshape(current, (width, 1, tokens))
    before = has_trait(builder.plan.architecture, "weighed_before")
    if before:
        repeated = graph.op("repeat", (width, used, tokens), source)
        source = graph.op("mul", repeated.shape, repeated, weights)
    inner = names[f"{prefix}ffn_down_exps.weight"].shape[-1]
    shape = (inner, used, tokens)
    # the fork asks how many tokens an expert sees on average before a card takes its weights (its pull request 520)
    batch = max(tokens * used // max(count, 1), 1) if builder.build.fork else tokens

    def through(name: str, node: Node, rows: int) -> Node:
        weight = builder.weight(f"{prefix}{name}.weight")
        found = graph.op("mul_mat_id", (rows, used, tokens), weight, node, chosen, rows=batch)
        if f"{prefix}{name}.bias" in names:
            found = graph.op("add_id", found.shape, found, builder.weight(f"{prefix}{name}.bias"), chosen)
        if f"{prefix}{name}.scale" in names:
            each = graph.reshape(builder.weight(f"{prefix}{name}.scale"), (1, count))
            each = graph.op("repeat", (1, count, tokens), each)
            each = graph.op("get_rows", (1, used, tokens), each, chosen)
            found = graph.op("mul", found.shape, found, each)
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
    weighted = experts if before else graph.op("mul", experts.shape, experts, weights)
    graph.expand(weighted)
    parts = [graph.view(weighted, (width, tokens), used * width * F32) for i in range(used)]
    for part in parts:
        graph.expand(part)
    total, sums = parts[0], []
    for part in parts[1:]:
        total = graph.op("add", (width, tokens), total, part)
        graph.expand(total)
        sums.append(total)
    if 1 < used <= _MOST_SUMMED and not before:
        graph.fused.append(Fused((weighted, *sums), total))
    return graph.op("cont", (width, tokens), total) if used == 1 else total


def _router(builder: Parts, prefix: str, logits: Node, used: int) -> tuple[Node, Node]:
    """(weights of the chosen experts, their indices)."""
    graph, names = builder.graph, builder.plan.names
    count, tokens = logits.shape
    first = len(graph.nodes)
    late = has_trait(builder.plan.architecture, "experts_softmax_late")
    probabilities = logits if late else graph.op("soft_max", logits.shape, logits)
    biased = logits if has_trait(builder.plan.architecture, "weighed_before") else probabilities
    if f"{prefix}exp_probs_b.bias" in names:
        biased = graph.op("add", logits.shape, probabilities, builder.weight(f"{prefix}exp_probs_b.bias"))
    ranked = _within_groups(builder, biased, count, tokens)
    order = graph.op("argsort", logits.shape, ranked)
    chosen = graph.view(order, (used, tokens), count * F32)
    table = graph.reshape(probabilities, (1, count, tokens))
    weights = graph.op("get_rows", (1, used, tokens), table, chosen)
    flat = (used, tokens)
    if late:
        weights = graph.reshape(graph.op("soft_max", flat, graph.reshape(weights, flat)), weights.shape)
    if _normed(builder):
        parts = graph.reshape(weights, flat)
        total = graph.op("sum_rows", (1, tokens), parts)
        total = graph.op("clamp", total.shape, total)
        weights = graph.reshape(graph.op("div", flat, parts, total), weights.shape)
    if builder.plan.architecture.routing.scaled:
        weights = graph.op("scale", weights.shape, weights)
    graph.expand(weights)
    if not late and biased is not logits and ranked is biased and _ranks_at_once(count):
        graph.fused.append(Fused(tuple(graph.nodes[graph.nodes.index(probabilities, first) :]), whole=True))
    return weights, chosen


def _ranks_at_once(count: int) -> bool:
    """Whether CUDA's fused router is made for that many experts (topk-moe.cu, ggml_cuda_should_use_topk_moe)."""
    return (count <= 512 and count & (count - 1) == 0) or count in (288, 576)


def _normed(builder: Parts) -> bool:
    architecture = builder.plan.architecture
    if has_trait(architecture, "experts_normed"):
        return True
    return architecture.routing.normed and not has_trait(architecture, "experts_never_normed")


def _within_groups(builder: Parts, ranked: Node, count: int, tokens: int) -> Node:
    """What experts are ranked by when only those of the best groups can be chosen."""
    graph, routing = builder.graph, builder.plan.architecture.routing
    groups, used = routing.groups, routing.groups_used
    if groups <= 1:
        return ranked
    each = count // groups
    apart = graph.reshape(ranked, (each, groups, tokens))
    best = graph.view(graph.op("argsort", apart.shape, apart), (2, groups, tokens))
    scores = graph.op("get_rows", (1, 2, groups, tokens), graph.reshape(ranked, (1, each, groups, tokens)), best)
    sums = graph.op("sum_rows", (1, groups, tokens), graph.reshape(scores, (2, groups, tokens)))
    sums = graph.reshape(sums, (groups, tokens))
    taken = graph.view(graph.op("argsort", sums.shape, sums), (used, tokens))
    kept = graph.op("get_rows", (each, used, tokens), apart, taken)
    empty = graph.op("fill", apart.shape, apart)
    return graph.reshape(graph.store(empty, kept, taken, empty), (count, tokens))

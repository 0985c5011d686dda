"""A dense part and experts that read the same stream side by side: Gemma 4's mixtures, Grok's.

After llama.cpp src/models/{gemma4,grok}.cpp.
"""

from __future__ import annotations

from fitcheck.models.families.language.architecture import LanguageLayer
from fitcheck.runtimes.llamacpp.experts import expert_feed_forward, router_logits
from fitcheck.runtimes.llamacpp.feedforward import dense
from fitcheck.runtimes.llamacpp.graph import Node
from fitcheck.runtimes.llamacpp.graph_parts import Parts


def normed_apart(builder: Parts, index: int, block: LanguageLayer, stream: Node) -> Node:
    """Both parts of ``stream``, each with norms of its own; the router reads the stream with a norm of a third kind
    (Gemma 4)."""
    graph, prefix, device = builder.graph, f"blk.{index}.", builder.plan.layers[index]
    fed = dense(builder, prefix, "ffn_up", "ffn_gate", "ffn_down", builder.norm(stream, f"{prefix}ffn_norm", device))
    fed = builder.norm(fed, f"{prefix}post_ffw_norm_1", device)
    inputs = builder.norm(stream, f"{prefix}pre_ffw_norm_2", device)
    routed = graph.op("rms_norm", stream.shape, stream)
    routed = graph.op("scale", stream.shape, routed)
    routed = graph.op("mul", stream.shape, routed, builder.weight(f"{prefix}ffn_gate_inp.scale"))
    chosen = expert_feed_forward(builder, index, block, inputs, router_logits(builder, prefix, routed))
    return graph.op("add", fed.shape, fed, builder.norm(chosen, f"{prefix}post_ffw_norm_2", device))


def halved_sum(builder: Parts, index: int, block: LanguageLayer, current: Node) -> Node:
    """Both parts of ``current``, added and scaled (Grok 2)."""
    chosen = expert_feed_forward(builder, index, block, current)
    fed = dense(builder, f"blk.{index}.", "ffn_up", "ffn_gate", "ffn_down", current)
    both = builder.graph.op("add", fed.shape, fed, chosen)
    return builder.graph.op("scale", both.shape, both)

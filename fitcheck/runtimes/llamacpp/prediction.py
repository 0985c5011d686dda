"""Multi-token prediction: the context that drafts with a model's own prediction layers (``--spec-type draft-mtp``).

It has a cache and a compute buffer of its own beside the model's (llama.cpp common/speculative.cpp; the graph after
src/models/qwen35.cpp graph_mtp). Without it llama.cpp does not load those layers at all.
"""

from __future__ import annotations

from dataclasses import replace

from fitcheck.errors import OptionError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.graph import F32, Graph
from fitcheck.runtimes.llamacpp.graph_layers import Builder


def predicting(architecture: LanguageArchitecture) -> LanguageArchitecture:
    """The prediction layers as the model, the main ones as what is left out. Raises OptionError where there are
    none."""
    blocks = tuple(replace(block, prediction=not block.prediction) for block in architecture.blocks)
    if all(block.prediction for block in blocks):
        raise OptionError("--spec-type: the model has no layers that predict tokens ahead; leave draft-mtp out.")
    return replace(architecture, blocks=blocks, indexer=None)  # their attention is over all tokens


def predicting_options(options: LlamaOptions) -> LlamaOptions:
    """How that context runs: a cache of 16 bits whatever the model's is, and no window smaller than the context."""
    return options.with_(cache_type_k="f16", cache_type_v="f16", speculative=None, draft_tokens=0)


def prediction_graph(builder: Builder, index: int) -> Graph:
    """Token and hidden state joined, one layer, the head."""
    graph, tokens, names, prefix = builder.graph, builder.tokens, builder.plan.names, f"blk.{index}."
    width, device = builder.plan.architecture.embedding, builder.plan.layers[index]
    own = f"{prefix}nextn.embed_tokens.weight"
    table = builder.weight(own if own in names else "token_embd.weight")
    embedded = graph.op("get_rows", (width, tokens), table, graph.input(tokens * 4))
    graph.keep_leaf(graph.input(tokens * width * F32))
    hidden = graph.input(tokens * width * F32, width, tokens)
    builder.position_inputs()
    builder.sequence_inputs()
    builder.output_ids = graph.input(builder.options.outputs * 4)
    builder.attention_inputs()
    normed = builder.norm(hidden, f"{prefix}nextn.hnorm", device)
    embedded = builder.norm(embedded, f"{prefix}nextn.enorm", device)
    joined = graph.op("concat", (2 * width, tokens), embedded, normed)
    stream = builder.linear(f"{prefix}nextn.eh_proj", joined, width)
    stream = builder.layer(index, stream)
    last = f"{prefix}nextn.shared_head_norm"
    stream = builder.norm(stream, last if f"{last}.weight" in names else "output_norm", builder.plan.output)
    stream = builder.select(stream, builder.options.outputs)
    rows = stream.shape[-1]
    graph.expand(graph.op("mul_mat", (builder.plan.architecture.vocabulary, rows), builder.head(index), stream))
    return graph

"""The tensors of a language model, from its shape alone: what a file would hold if there were one.

Names and shapes are llama.cpp's (src/models/*.cpp, ``load_arch_tensors``); which of them an architecture has stands as
traits in ``data/language.json``. A real header is always better: this is for a config, or a shape somebody published.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fitcheck.models.families.language.architecture import LanguageArchitecture, LanguageLayer, Recurrent, traits

Shape = tuple[int, ...]
_TOKEN_TYPES = 2  # first and second sentence
_BIASED = {"norm_bias": True}


def tensor_shapes(architecture: LanguageArchitecture) -> list[tuple[str, Shape]]:
    """(name, row-major shape) of every tensor, in the order converters write them."""
    found = list(outer_shapes(architecture))
    for layer, (_, shapes) in enumerate(layer_shapes(architecture)):
        found += [(f"blk.{layer}.{name}", shape) for name, shape in shapes]
    return found


def outer_shapes(architecture: LanguageArchitecture) -> Iterator[tuple[str, Shape]]:
    """Those that belong to no layer."""
    return _outer(architecture, traits(architecture.name))


def layer_shapes(architecture: LanguageArchitecture) -> Iterator[tuple[LanguageLayer, tuple[tuple[str, Shape], ...]]]:
    """Each layer's block with its tensors, without ``blk.N.`` before their names; alike where blocks are."""
    known = traits(architecture.name)
    made: dict[LanguageLayer, tuple[tuple[str, Shape], ...]] = {}
    for block in architecture.blocks:
        if block not in made:
            made[block] = tuple(_block(architecture, block, known))
        yield block, made[block]


def _outer(architecture: LanguageArchitecture, known: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    width, rows = architecture.embedding, architecture.vocabulary
    yield "token_embd.weight", (rows, width)
    if known.get("positions") and architecture.context_length:
        yield "position_embd.weight", (architecture.context_length, width)
    if architecture.encoder and not known.get("pre_normed_encoder"):
        yield "token_types.weight", (_TOKEN_TYPES, width)
        yield from _norm("token_embd_norm", width, _BIASED)
        yield from _scoring_head(width) if architecture.reranks else ()
        return
    if known.get("embedding_norm"):
        yield from _norm("token_embd_norm", width, known)
    if architecture.per_layer_embedding:
        total = architecture.per_layer_embedding * architecture.layers
        yield "per_layer_token_embd.weight", (rows, total)
        yield "per_layer_model_proj.weight", (total, width)
        yield "per_layer_proj_norm.weight", (architecture.per_layer_embedding,)
    if known.get("altup"):
        yield "altup_proj.weight", (3, width, width)
        yield "altup_unembd_proj.weight", (3, width, width)
    if not architecture.tied_embeddings:
        yield "output.weight", (rows, width)
    if known.get("head_bias"):
        yield "output.bias", (rows,)
    yield from _norm(known.get("final_norm", "output_norm"), width, known)
    if known.get("rope_frequencies"):
        yield "rope_freqs.weight", (max((block.key_length for block in architecture.blocks), default=0) // 2,)
    if known.get("rope_factors"):
        half = max((block.key_length for block in architecture.blocks), default=0) // 2
        yield "rope_factors_long.weight", (half,)
        yield "rope_factors_short.weight", (half,)


def _scoring_head(width: int) -> Iterator[tuple[str, Shape]]:
    """Of BERT rerankers: a dense layer over the first token and one score."""
    yield "cls.weight", (width, width)
    yield "cls.bias", (width,)
    yield "cls.output.weight", (width,)
    yield "cls.output.bias", (1,)


def _post_norm(which: int, width: int, known: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    """Behind attention (0) or the feed-forward part (1), under the architecture's own names."""
    told = known["post_norms"]
    name = told[which] if isinstance(told, list) else ("post_attention_norm", "post_ffw_norm")[which]
    yield from [(name, (width,))] if known.get("bare_post_norms") else _norm(name, width, known)


def _norm(name: str, width: int, known: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    if known.get("no_norm_weights"):
        return
    yield f"{name}.weight", (width,)
    if known.get("norm_bias"):
        yield f"{name}.bias", (width,)


def _block(
    architecture: LanguageArchitecture, block: LanguageLayer, known: dict[str, Any]
) -> Iterator[tuple[str, Shape]]:
    width = architecture.embedding
    if architecture.encoder and not known.get("pre_normed_encoder"):
        yield from _encoder_block(architecture, block, known)
        return
    if known.get("pre_norm", True) and (block.heads or block.recurrent):
        yield from _norm("attn_norm", width, known)
    if block.recurrent:
        yield from _mixer(architecture, known)
    if block.attention and (not block.recurrent or known.get("attention_and_recurrent")):
        yield from _latent(architecture, block) if architecture.latent else _attention(architecture, block, known)
    if known.get("post_norms"):
        yield from _post_norm(0, width, known)
    elif known.get("post_attention_only"):
        yield from _norm("post_attention_norm", width, known)
    has_feed_forward = bool(block.feed_forward or block.experts_used)
    second_norm = known.get("pre_norm", True) and not known.get("parallel") and not known.get("post_attention_only")
    if known.get("recurrent") == "no_kv_heads_no_ffn":  # Nemotron-H's layers are one part each
        second_norm = second_norm and (block.recurrent or block.attention)
    if has_feed_forward and second_norm:
        name = known.get("second_norm", "ffn_norm")
        yield from [(name, (width,))] if known.get("bare_ffn_norm") else _norm(name, width, known)
    beside = bool(known.get("dense_beside_experts"))
    if block.experts_used:
        yield from _experts(architecture, block, known)
    if block.experts_used and beside:
        yield "ffn_gate_inp.scale", (width,)
        yield "ffn_down_exps.scale", (architecture.experts,)
        for name in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
            yield f"{name}.weight", (width,)
    if block.feed_forward and (beside or known.get("dense_with_experts") or not block.experts_used):
        yield from _feed_forward(block, width, known)
    if known.get("post_norms"):
        yield from _post_norm(1, width, known)
    if architecture.per_layer_embedding:
        yield "inp_gate.weight", (architecture.per_layer_embedding, width)
        yield "proj.weight", (width, architecture.per_layer_embedding)
        yield "post_norm.weight", (width,)
    if known.get("altup"):
        yield from _altup(width)
    if known.get("layer_scale"):
        yield "layer_output_scale.weight", (1,)
    if block.prediction:
        yield "nextn.eh_proj.weight", (width, 2 * width)
        yield "nextn.enorm.weight", (width,)
        yield "nextn.hnorm.weight", (width,)


def _encoder_block(
    architecture: LanguageArchitecture, block: LanguageLayer, known: dict[str, Any]
) -> Iterator[tuple[str, Shape]]:
    """Of BERT and its kin (src/models/bert.cpp): a norm after each part."""
    width = architecture.embedding
    yield from _attention(architecture, block, known)
    yield from _norm("attn_output_norm", width, _BIASED)
    yield from _feed_forward(block, width, known)
    yield from _norm("layer_output_norm", width, _BIASED)


def _attention(
    architecture: LanguageArchitecture, block: LanguageLayer, known: dict[str, Any]
) -> Iterator[tuple[str, Shape]]:
    width = architecture.embedding
    # Gemma 4 E2B and E4B: layers that read another layer's cache keep K and V weights in the file, and V is its own
    stored = block.cached or not architecture.caches or bool(known.get("shared_layers_keep_kv"))
    one_for_both = bool(known.get("value_is_key_where_dense")) and not architecture.per_layer_embedding
    output = block.heads * (block.value_length or block.key_length)
    query = block.heads * block.key_length * (2 if known.get("gated_query") else 1)
    key, value = block.kv_heads * block.key_length, block.kv_heads * block.value_length
    if known.get("qkv") == "fused":
        parts = [("attn_qkv", query + key + value)]
    elif not stored:
        parts = [("attn_q", query)]
    elif one_for_both and not block.sliding and block.key_length != width // block.heads:
        parts = [("attn_q", query), ("attn_k", key)]
    else:
        parts = [("attn_q", query), ("attn_k", key), ("attn_v", value)]
    for name, rows in parts:
        yield f"{name}.weight", (rows, width)
        if known.get("qkv_bias"):
            yield f"{name}.bias", (rows,)
    yield "attn_output.weight", (width, output)
    if known.get("output_bias"):
        yield "attn_output.bias", (width,)
    if known.get("qk_norm") == "head":
        yield "attn_q_norm.weight", (block.key_length,)
        if stored:
            yield "attn_k_norm.weight", (block.key_length,)
    elif known.get("qk_norm") == "full":
        yield "attn_q_norm.weight", (block.heads * block.key_length,)
        yield "attn_k_norm.weight", (key,)
    elif known.get("qk_norm") == "each":
        yield "attn_q_norm.weight", (block.heads, block.key_length)
        yield "attn_k_norm.weight", (block.kv_heads, block.key_length)
    if known.get("output_gate"):
        yield "attn_gate.weight", (block.heads if known["output_gate"] == "head" else output, width)
    if known.get("sinks"):
        yield "attn_sinks.weight", (block.heads,)


def _latent(architecture: LanguageArchitecture, block: LanguageLayer) -> Iterator[tuple[str, Shape]]:
    latent, width, heads = architecture.latent, architecture.embedding, block.heads
    if latent is None:
        return
    plain = latent.key_length - latent.rope
    if latent.query_rank:
        yield "attn_q_a.weight", (latent.query_rank, width)
        yield "attn_q_a_norm.weight", (latent.query_rank,)
        yield "attn_q_b.weight", (heads * latent.key_length, latent.query_rank)
    else:
        yield "attn_q.weight", (heads * latent.key_length, width)
    yield "attn_kv_a_mqa.weight", (latent.rank + latent.rope, width)
    yield "attn_kv_a_norm.weight", (latent.rank,)
    if latent.absorbed:
        yield "attn_k_b.weight", (heads, latent.rank, plain)
        yield "attn_v_b.weight", (heads, latent.value_length, latent.rank)
    else:
        yield "attn_kv_b.weight", (heads * (plain + latent.value_length), latent.rank)
    yield "attn_output.weight", (width, heads * latent.value_length)
    indexer = architecture.indexer
    if indexer is not None and (block.indexes or block.prediction):
        yield "indexer.k_norm.weight", (indexer.key_length,)
        yield "indexer.k_norm.bias", (indexer.key_length,)
        yield "indexer.proj.weight", (indexer.heads, width)
        yield "indexer.attn_k.weight", (indexer.key_length, width)
        yield "indexer.attn_q_b.weight", (indexer.heads * indexer.key_length, latent.query_rank)


def _feed_forward(block: LanguageLayer, width: int, known: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    rows, gate = block.feed_forward, known.get("gate", "separate")
    if gate == "separate":
        yield "ffn_gate.weight", (rows, width)
    yield "ffn_up.weight", ((2 if gate == "fused" else 1) * rows, width)
    yield "ffn_down.weight", (width, rows)
    if known.get("ffn_bias"):
        yield "ffn_up.bias", (rows,)
        yield "ffn_down.bias", (width,)


def _experts(
    architecture: LanguageArchitecture, block: LanguageLayer, known: dict[str, Any]
) -> Iterator[tuple[str, Shape]]:
    count, rows, model = architecture.experts, block.expert_feed_forward, architecture.embedding
    width = architecture.expert_latent or model
    yield "ffn_gate_inp.weight", (count, model)
    if architecture.expert_latent:
        yield "ffn_latent_down.weight", (width, model)
        yield "ffn_latent_up.weight", (model, width)
    if known.get("gate_up_together"):
        yield "ffn_gate_up_exps.weight", (count, 2 * rows, width)
    else:
        if known.get("gate", "separate") != "none":
            yield "ffn_gate_exps.weight", (count, rows, width)
        yield "ffn_up_exps.weight", (count, rows, width)
    yield "ffn_down_exps.weight", (count, width, rows)
    if known.get("expert_bias"):
        yield "ffn_gate_inp.bias", (count,)
        yield "ffn_gate_exps.bias", (count, rows)
        yield "ffn_up_exps.bias", (count, rows)
        yield "ffn_down_exps.bias", (count, width)
    if architecture.latent or known.get("expert_correction"):
        yield "exp_probs_b.bias", (count,)
    shared = architecture.shared_feed_forward
    if shared:
        if known.get("shared_gate"):
            yield "ffn_gate_inp_shexp.weight", (model,)
        within = bool(known.get("shared_gate_within"))
        if known.get("gate", "separate") != "none" and not within:
            yield "ffn_gate_shexp.weight", (shared, model)
        yield "ffn_up_shexp.weight", ((2 if within else 1) * shared, model)
        yield "ffn_down_shexp.weight", (model, shared)


def _mixer(architecture: LanguageArchitecture, known: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    state, width, kind = architecture.recurrent, architecture.embedding, known.get("mixer")
    if state is None or kind == "rwkv":
        return
    if kind == "shortconv":
        yield "shortconv.conv.weight", (width, state.kernel)
        yield "shortconv.in_proj.weight", (3 * width, width)
        yield "shortconv.out_proj.weight", (width, width)
        return
    if kind == "kda":
        yield from _kimi_delta(state, width)
        return
    keys = state.groups * state.state_size
    channels = state.inner + 2 * keys
    if kind == "delta":
        yield "attn_qkv.weight", (channels, width)
        yield "attn_gate.weight", (state.inner, width)
        if known.get("beta_alpha") == "apart":
            yield "ssm_beta.weight", (state.steps, width)
            yield "ssm_alpha.weight", (state.steps, width)
        else:
            yield "ssm_ba.weight", (2 * state.steps, width)
        yield "ssm_conv1d.weight", (channels, state.kernel)
        yield "ssm_dt.bias", (state.steps,)
        yield "ssm_a", (state.steps,)
        yield "ssm_norm.weight", (state.inner // max(state.steps, 1),)
    elif kind == "mamba":
        yield "ssm_in.weight", (2 * state.inner, width)
        yield "ssm_conv1d.weight", (state.inner, state.kernel)
        yield "ssm_conv1d.bias", (state.inner,)
        yield "ssm_x.weight", (state.steps + 2 * state.state_size, state.inner)
        yield "ssm_dt.weight", (state.inner, state.steps)
        yield "ssm_dt.bias", (state.inner,)
        yield "ssm_a", (state.inner, state.state_size)
        yield "ssm_d", (state.inner,)
        if known.get("mixer_norms"):
            yield from _mixer_norms(state.steps, state.state_size)
    elif kind == "plamo2":
        yield from _plamo(state, width)
    else:
        yield "ssm_in.weight", (state.inner + channels + state.steps, width)
        yield "ssm_conv1d.weight", (channels, state.kernel)
        yield "ssm_conv1d.bias", (channels,)
        yield "ssm_dt.bias", (state.steps,)
        yield "ssm_a", (state.steps, 1)
        yield "ssm_d", (state.steps, 1)
        yield "ssm_norm.weight", (max(state.groups, 1), state.inner // max(state.groups, 1))
    yield "ssm_out.weight", (width, state.inner)


def _mixer_norms(steps: int, states: int) -> Iterator[tuple[str, Shape]]:
    """Of Jamba's steps and both of its matrices."""
    for name, length in (("ssm_dt_norm", steps), ("ssm_b_norm", states), ("ssm_c_norm", states)):
        yield f"{name}.weight", (length,)


def _kimi_delta(state: Recurrent, width: int) -> Iterator[tuple[str, Shape]]:
    """Kimi's delta attention: gates through a latent as wide as a head (src/models/kimi-linear.cpp)."""
    inner, length, heads = state.inner, state.state_size, state.steps
    for name in "qkv":
        yield f"attn_{name}.weight", (inner, width)
        yield f"ssm_conv1d_{name}.weight", (inner, 1, state.kernel)
    for name in ("ssm_f", "ssm_g"):
        yield f"{name}_a.weight", (length, width)
        yield f"{name}_b.weight", (inner, length)
    yield "ssm_beta.weight", (heads, width)
    yield "ssm_a", (heads, 1)
    yield "ssm_dt.bias", (inner,)
    yield "ssm_norm.weight", (length,)
    yield "attn_output.weight", (width, inner)


def _plamo(state: Recurrent, width: int) -> Iterator[tuple[str, Shape]]:
    """PLaMo 2's mixer: steps are a latent of at least 64, one number a head is made of it (src/models/plamo2.cpp)."""
    low, heads = max(64, width // 16), state.steps
    yield "ssm_in.weight", (2 * state.inner, width)
    yield "ssm_conv1d.weight", (state.inner, state.kernel)
    yield "ssm_x.weight", (low + 2 * state.state_size, state.inner)
    yield "ssm_dt.weight", (heads, low)
    yield "ssm_dt.bias", (heads,)
    yield "ssm_a", (heads,)
    yield "ssm_d", (heads,)
    for name, length in (("ssm_dt_norm", low), ("ssm_b_norm", state.state_size), ("ssm_c_norm", state.state_size)):
        yield name, (length,)


def _altup(width: int) -> Iterator[tuple[str, Shape]]:
    """Gemma 3n's alternating updates: 4 streams and a low-rank layer of 64."""
    yield "altup_correct_coef.weight", (4, 4)
    yield "altup_correct_scale.weight", (width,)
    yield "altup_predict_coef.weight", (16, 4)
    yield "altup_router.weight", (4, width)
    yield "altup_router_norm.weight", (width,)
    yield "laurel_l.weight", (64, width)
    yield "laurel_r.weight", (width, 64)
    yield "laurel_post_norm.weight", (width,)

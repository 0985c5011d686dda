"""What a tensor does, read off its name: llama.cpp's GGUF names and the usual checkpoint names of transformers.

Roles are about placement and work: "expert" matrices can be left on the host, "embedding" is looked up row by row,
"head" is one large matrix product a token, "shared_expert" and "router" run for every token.
GGUF names follow ggml-org/llama.cpp src/llama-arch.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from fitcheck.models.tensors import Tensor, TensorTable

_GGUF_LAYER = re.compile(r"(?:^|\.)(?:proj_)?blk\.(\d{1,6})\.")
_GGUF_ROLES = (
    (r"^(v|a|mm|resampler|model\.(vision|image))\.|(^|\.)vis_", "vision"),
    (r"\.nextn\.", "nextn"),
    (r"^(token_embd|position_embd|token_types|per_layer_token_embd)\.", "embedding"),
    (r"^(output|cls\.output)\.(weight|bias)$", "head"),
    (r"rope_(freqs|factors)|attn_rot_embd", "rope"),
    (r"norm(_\d+|_exps)?(\.|$)|_ln\.", "norm"),
    (r"_(ch)?exps\.|ffn_(gate|up|down)\.\d+\.", "expert"),
    (r"_shexp\.|ffn_latent", "shared_expert"),
    (r"ffn_gate_inp|exp_probs_b|altup_router", "router"),
    (r"\.(ssm|time_mix|channel_mix|shortconv)[_.]", "recurrent"),
    (r"\.(cross_)?attn|\.indexer\.", "attention"),
    (r"\.ffn", "mlp"),
)
_TORCH_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|(?:single_)?transformer_blocks)\.(\d{1,6})\.")
_TORCH_ROLES = (
    (r"(^|\.)(vision_tower|vision_model|visual|image_encoder|multi_modal_projector|audio_tower)\.", "vision"),
    (r"(embed_tokens|_embeddings|\bwte|\bwpe|embed_in)\.|^shared\.weight$", "embedding"),
    (r"(^|\.)(lm_head|embed_out)\.", "head"),
    (r"rotary_emb|inv_freq", "rope"),
    (r"(norm|ln_)\w*\.(weight|bias|scale)$", "norm"),
    (r"shared_experts?\b", "shared_expert"),
    (r"\.experts\.|\.experts_|\.experts$", "expert"),
    (r"(mlp|moe|block_sparse_moe|feed_forward)\.(gate|router)\.|\.router\.|e_score_correction_bias", "router"),
    (r"\.(mamba|mixer|linear_attn|ssm|conv1d|time_mixer)\.|\.(A_log|dt_bias)$", "recurrent"),
    (r"attn|attention|\.(q|k|v|o|qkv)_proj\.|\.attn\d?\.", "attention"),
    (r"mlp|feed_forward|\bff\b|\.(gate|up|down|fc\d)_proj|\.fc\d\.|\.wi_\d|\.wo\.", "mlp"),
)


_Roles = tuple[tuple[str, str], ...]


@cache
def _compiled(roles: _Roles) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Compiled when the first name of the kind is read: few commands read both."""
    return tuple((re.compile(pattern), role) for pattern, role in roles)


def _matched(tensor: Tensor, layers: re.Pattern[str], roles: _Roles) -> Tensor:
    match = layers.search(tensor.name)
    role = next((role for pattern, role in _compiled(roles) if pattern.search(tensor.name)), "other")
    return Tensor(tensor.name, tensor.shape, tensor.type, role, int(match.group(1)) if match else None)


def classify_gguf(tensor: Tensor) -> Tensor:
    """The tensor with role and layer read off its llama.cpp name ("blk.3.ffn_up_exps.weight": expert, layer 3)."""
    return _matched(tensor, _GGUF_LAYER, _GGUF_ROLES)


def classify_torch(tensor: Tensor) -> Tensor:
    """The tensor with role and layer read off its checkpoint name ("model.layers.3.self_attn.q_proj.weight")."""
    return _matched(tensor, _TORCH_LAYER, _TORCH_ROLES)


def classify(tensors: Iterable[Tensor]) -> TensorTable:
    """The table with roles, by the naming scheme that the names show. Unrecognized tensors keep the role "other"."""
    table = TensorTable(tensors)
    names = [tensor.name for tensor in table]
    gguf = any(_GGUF_LAYER.search(name) or name == "token_embd.weight" for name in names)
    return TensorTable(map(classify_gguf if gguf else classify_torch, table))

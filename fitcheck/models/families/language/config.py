"""Read the shape of a language model from a transformers ``config.json``, by turning it into GGUF's own keys.

The mapping is that of llama.cpp's converters (conversion/*.py); the GGUF reader then fills in what both leave out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fitcheck.errors import FileError
from fitcheck.models.families.language.architecture import LanguageArchitecture, defaults, traits
from fitcheck.models.families.language.metadata import architecture_from_gguf

# GGUF key -> the names transformers' configs use for it, in order of preference
_KEYS = {
    "block_count": ("num_hidden_layers", "n_layer", "n_layers"),
    "embedding_length": ("hidden_size", "n_embd", "d_model"),
    "feed_forward_length": ("intermediate_size", "n_inner", "ffn_dim", "shared_intermediate_size"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads", "num_kv_heads"),
    "attention.key_length": ("head_dim", "attention_head_dim"),
    "attention.value_length": ("head_dim", "attention_head_dim"),
    "context_length": ("max_position_embeddings", "n_positions", "max_seq_len"),
    "vocab_size": ("vocab_size",),
    "expert_count": ("num_local_experts", "n_routed_experts", "num_experts"),
    "expert_used_count": ("num_experts_per_tok", "experts_per_token"),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_count": ("n_shared_experts",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "leading_dense_block_count": ("first_k_dense_replace",),
    "attention.sliding_window": ("sliding_window",),
    "attention.sliding_window_pattern": ("sliding_window_pattern",),
    "attention.q_lora_rank": ("q_lora_rank",),
    "attention.kv_lora_rank": ("kv_lora_rank",),
    "attention.shared_kv_layers": ("num_kv_shared_layers",),
    "attention.key_length_swa": ("swa_head_dim",),
    "embedding_length_per_layer_input": ("hidden_size_per_layer_input",),
    "full_attention_interval": ("full_attention_interval",),
    "ssm.conv_kernel": ("linear_conv_kernel_dim", "mamba_d_conv", "conv_kernel"),
    "ssm.state_size": ("linear_key_head_dim", "mamba_d_state", "state_size", "ssm_state_size"),
    "ssm.group_count": ("linear_num_key_heads", "mamba_n_groups", "n_groups"),
    "ssm.time_step_rank": ("linear_num_value_heads", "mamba_n_heads", "mamba_num_heads", "num_heads", "time_step_rank"),
    "ssm.inner_size": ("mamba_d_ssm", "intermediate_size_ssm"),
    "shortconv.l_cache": ("conv_L_cache",),
}


def architecture_from_config(config: Mapping[str, Any]) -> LanguageArchitecture:
    """The architecture of a checkpoint. Raises InputError when the config says too little or is no language model."""
    inner = config.get("text_config")
    told: dict[str, Any] = {**config, **inner} if isinstance(inner, Mapping) else dict(config)
    name = _name(config, told)
    known = traits(name)
    metadata: dict[str, Any] = {"general.architecture": name}
    for key, candidates in _KEYS.items():
        value = next((told[candidate] for candidate in candidates if told.get(candidate) is not None), None)
        if value is not None:
            metadata[f"{name}.{key}"] = value
    for key in ("block_count", "embedding_length"):
        if f"{name}.{key}" not in metadata:
            raise FileError(f"config.json: {_KEYS[key][0]} is missing, so the model's shape is unknown.")
    _latent(name, told, metadata)
    _per_layer(name, told, metadata)
    _state(name, told, metadata)
    architecture = architecture_from_gguf(metadata)
    tied = told.get("tie_word_embeddings", config.get("tie_word_embeddings", known.get("tied", False)))
    return replace(architecture, tied_embeddings=bool(tied))


def _name(config: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    types = defaults()["from_config"]["model_type"]
    for source in (told, config):
        kind = source.get("model_type")
        if isinstance(kind, str) and kind in types:
            return str(types[kind])
    kind = told.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise FileError("config.json: model_type is missing, so this is not a transformers model.")
    return kind


def _latent(name: str, told: Mapping[str, Any], metadata: dict[str, Any]) -> None:
    """Latent attention as converters have written it since April 2025: one shared head of rank and rope together."""
    rank, rope = told.get("kv_lora_rank"), told.get("qk_rope_head_dim")
    plain, value = told.get("qk_nope_head_dim"), told.get("v_head_dim")
    if not all(isinstance(number, int) for number in (rank, rope, plain, value)):
        return
    metadata[f"{name}.attention.head_count_kv"] = 1
    metadata[f"{name}.rope.dimension_count"] = rope
    metadata[f"{name}.attention.key_length"] = rank + rope  # type: ignore[operator]
    metadata[f"{name}.attention.value_length"] = rank
    metadata[f"{name}.attention.key_length_mla"] = plain + rope  # type: ignore[operator]
    metadata[f"{name}.attention.value_length_mla"] = value


def _per_layer(name: str, told: Mapping[str, Any], metadata: dict[str, Any]) -> None:
    """``layer_types`` say which layers slide or recur; layers without attention get no K and V heads."""
    kinds = told.get("layer_types") or told.get("layers_block_type")
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        return
    if "sliding_attention" in kinds:
        metadata[f"{name}.attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in kinds]
    recurrent = [kind in ("mamba", "conv", "linear_attention", "recurrent") for kind in kinds]
    if any(recurrent):
        heads = metadata.get(f"{name}.attention.head_count_kv", 0)
        metadata[f"{name}.attention.head_count_kv"] = [0 if recurs else heads for recurs in recurrent]
        metadata[f"{name}.attention.recurrent_layers"] = recurrent


def _state(name: str, told: Mapping[str, Any], metadata: dict[str, Any]) -> None:
    """The inner width of a recurrent layer, where configs give it as heads times head size or as a factor."""
    if f"{name}.ssm.inner_size" in metadata:
        return
    heads, size = told.get("linear_num_value_heads"), told.get("linear_value_head_dim")
    if not isinstance(heads, int) or not isinstance(size, int):
        heads = told.get("mamba_n_heads") or told.get("mamba_num_heads")
        size = told.get("mamba_d_head") or told.get("mamba_head_dim")
    if isinstance(heads, int) and isinstance(size, int):
        metadata[f"{name}.ssm.inner_size"] = heads * size
        return
    factor, width = told.get("mamba_expand") or told.get("expand"), metadata.get(f"{name}.embedding_length")
    if isinstance(factor, int) and isinstance(width, int):
        metadata[f"{name}.ssm.inner_size"] = factor * width

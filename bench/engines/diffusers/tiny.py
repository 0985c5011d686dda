"""Every component scaled down so far that a whole pipeline runs in seconds on a CPU. It measures nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.engines.diffusers.recipes import ComponentRecipe, Recipe

_SMALL: dict[str, dict[str, Any]] = {
    "CLIPTextModel": {"num_hidden_layers": 2, "intermediate_size": 64},
    "CLIPTextModelWithProjection": {"num_hidden_layers": 2, "intermediate_size": 64},
    "T5EncoderModel": {"num_layers": 1, "d_ff": 64, "num_heads": 2, "d_kv": 8, "vocab_size": 2048},
    "UMT5EncoderModel": {"num_layers": 1, "d_ff": 64, "num_heads": 2, "d_kv": 8, "vocab_size": 2048},
    "Qwen3Model": {"num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 2,
                   "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 2048},
    "Qwen3ForCausalLM": {"num_hidden_layers": 28, "intermediate_size": 64, "num_attention_heads": 2,
                         "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 2048},
    "FluxTransformer2DModel": {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2},
    "Flux2Transformer2DModel": {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2},
    "QwenImageTransformer2DModel": {"num_layers": 1, "num_attention_heads": 2},
    "ZImageTransformer2DModel": {"n_layers": 1, "n_refiner_layers": 1, "dim": 256, "n_heads": 2, "n_kv_heads": 2},
    "WanTransformer3DModel": {"num_layers": 1, "num_attention_heads": 2, "ffn_dim": 64},
    "AutoencoderKL": {"block_out_channels": [32] * 4, "sample_size": 64},
    "AutoencoderKLFlux2": {"block_out_channels": [32] * 4},
    "AutoencoderKLWan": {"base_dim": 16, "decoder_base_dim": 16},
    "AutoencoderKLQwenImage": {"base_dim": 16},
}  # fmt: skip
_TEXT = {"num_hidden_layers": 1, "intermediate_size": 64, "vocab_size": 152064}


def tiny(recipe: Recipe) -> Recipe:
    """The same pipeline with few and small layers."""
    return replace(recipe, parts={name: _part(part) for name, part in recipe.parts.items()})


def _part(part: ComponentRecipe) -> ComponentRecipe:
    config = dict(part.config)
    if "text_config" in config:
        config["text_config"] = {**config["text_config"], **_TEXT}
        config["vision_config"] = {**config["vision_config"], "depth": 1}
    if part.cls == "UNet2DConditionModel":
        config |= _unet(len(config["block_out_channels"]))
    return replace(part, config={**config, **_SMALL.get(part.cls, {})})


def _unet(blocks: int) -> dict[str, Any]:
    """A U-Net's widths for as many blocks as it has: SDXL has three, SD 1.5 four."""
    heads = [1, 2, 4, 4][:blocks]
    return {
        "block_out_channels": [32 * count for count in heads],
        "attention_head_dim": heads,
        "transformer_layers_per_block": [1] * blocks,
    }

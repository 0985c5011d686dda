"""Every component scaled down so far that a whole pipeline runs in seconds on a CPU. It measures nothing.

What components hand each other keeps its width: a text encoder's states, latents, pictures. Their inside does not:
few blocks, two heads, thin layers between, a small vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.engines.diffusers.recipes import ComponentRecipe, PictureCells, Recipe
from bench.engines.diffusers.surveys import shallow
from fitcheck.errors import MeasurementError
from fitcheck.models.families.pipeline.architecture import DENOISER, VAE

# ids of a prompt are below a thousand; those of a picture's placeholder and of what stands before it come next
_VOCABULARY, _PICTURE, _BEFORE = 2048, 1001, 1002
_PROMPT = 256
# what only some models of a class have
_BRANCH = "added_kv_proj_dim"
_LANGUAGE: dict[str, Any] = {"intermediate_size": 64, "vocab_size": _VOCABULARY, "pad_token_id": 0}
_TWO_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
_VISION = {"depth": 1, "num_hidden_layers": 1, "intermediate_size": 64, "deepstack_visual_indexes": [0]}
_CLIP = {"num_hidden_layers": 2, "intermediate_size": 64}
_T5 = {"num_layers": 1, "d_ff": 64, "num_heads": 2, "d_kv": 8, "vocab_size": _VOCABULARY}
# what the catalog leaves to the class's own settings
_SEEING: Mapping[str, Mapping[str, Any]] = {
    "Mistral3ForConditionalGeneration": {
        "text_config": {"model_type": "mistral", "hidden_size": 5120, "num_hidden_layers": 40, "head_dim": 128},
        "vision_config": {"model_type": "pixtral"},
    },
}
_SMALL: Mapping[str, Mapping[str, Any]] = {
    "CLIPTextModel": _CLIP,
    "CLIPTextModelWithProjection": _CLIP,
    "CLIPVisionModel": {"intermediate_size": 64},
    "T5EncoderModel": _T5,
    "UMT5EncoderModel": _T5,
    "LlamaModel": {"head_dim": 128, **_TWO_HEADS, **_LANGUAGE},
    "LlamaForCausalLM": {"head_dim": 128, **_TWO_HEADS, **_LANGUAGE},
    "Gemma2Model": {**_TWO_HEADS, **_LANGUAGE},
    "Qwen3Model": {**_TWO_HEADS, **_LANGUAGE},
    "Qwen3ForCausalLM": {**_TWO_HEADS, **_LANGUAGE},
    "Qwen2_5_VLTextModel": _LANGUAGE,
    "FluxTransformer2DModel": {"num_attention_heads": 2},
    "Flux2Transformer2DModel": {"num_attention_heads": 2},
    "Flux3Transformer2DModel": {"num_attention_heads": 2},
    "QwenImageTransformer2DModel": {"num_attention_heads": 2},
    "QwenImage21Transformer2DModel": {"num_attention_heads": 2},
    "ZImageTransformer2DModel": {"n_refiner_layers": 1, "dim": 256, "n_heads": 2, "n_kv_heads": 2},
    "WanTransformer3DModel": {"num_attention_heads": 2, "ffn_dim": 64, "added_kv_proj_dim": 256},
    "Krea2Transformer2DModel": {**_TWO_HEADS, "intermediate_size": 64, "text_intermediate_size": 64,
                                "num_layerwise_text_blocks": 1, "num_refiner_text_blocks": 1},
    "LTX2VideoTransformer3DModel": {"num_attention_heads": 2, "cross_attention_dim": 256,
                                    "audio_num_attention_heads": 2, "audio_cross_attention_dim": 128},
    "LTX2TextConnectors": {"video_connector_num_attention_heads": 2, "video_hidden_dim": 256,
                           "audio_connector_num_attention_heads": 2, "audio_hidden_dim": 128,
                           "video_connector_num_layers": 1, "audio_connector_num_layers": 1},
    "LTXVideoTransformer3DModel": {"num_attention_heads": 2, "cross_attention_dim": 256},
    "SD3Transformer2DModel": {"num_attention_heads": 2, "caption_projection_dim": 128, "num_layers": 2,
                              "dual_attention_layers": [0]},
    "ChromaTransformer2DModel": {"num_attention_heads": 2, "approximator_hidden_dim": 64, "approximator_layers": 1},
    "HunyuanVideoTransformer3DModel": {"num_attention_heads": 2},
    "HunyuanVideo15Transformer3DModel": {"num_attention_heads": 2},
    "MiniMaxH3Transformer3DModel": {"num_attention_heads": 2, "ffn_dim": 64, "num_layers": 2, "num_refiner_layers": 1,
                                    "hidden_size": 256, "time_embed_hidden_dim": 64, "time_embed_dim": 64},
    "HiDreamImageTransformer2DModel": {"num_attention_heads": 2},
    "Lumina2Transformer2DModel": {"hidden_size": 192, "num_attention_heads": 2, "num_kv_heads": 1},
    "PixArtTransformer2DModel": {"num_attention_heads": 2, "cross_attention_dim": 144},
    "CogVideoXTransformer3DModel": {"num_attention_heads": 2},
    "AutoencoderKL": {"block_out_channels": [32] * 4, "sample_size": 64},
    "AutoencoderKLFlux2": {"block_out_channels": [32] * 4},
    "AutoencoderKLWan": {"base_dim": 16, "decoder_base_dim": 16},
    "AutoencoderKLQwenImage": {"base_dim": 16},
    "AutoencoderKLQwenImage21": {"base_dim": 16, "decoder_base_dim": 16},
    "AutoencoderKLHunyuanVideo": {"block_out_channels": [32] * 4},
    "AutoencoderKLHunyuanVideo15": {"block_out_channels": [32, 64, 128, 256, 256], "layers_per_block": 1},
    "AutoencoderKLCogVideoX": {"block_out_channels": [16] * 4, "norm_num_groups": 8, "layers_per_block": 1},
    "AutoencoderKLLTXVideo": {"block_out_channels": [32, 64, 128, 256, 512], "layers_per_block": [1] * 5,
                              "decoder_block_out_channels": [64, 128, 256], "decoder_layers_per_block": [1] * 4},
    "AutoencoderKLLTX2Video": {"block_out_channels": [32, 64, 128, 128], "layers_per_block": [1] * 5,
                               "decoder_block_out_channels": [32, 64, 64, 128], "decoder_layers_per_block": [1] * 5},
    "AutoencoderKLLTX2Audio": {"num_res_blocks": 1},
    "AutoencoderKLMiniMaxH3": {"block_out_channels": [32] * 6, "layers_per_block": 1, "decoder_num_layers": 1,
                               "decoder_num_attention_heads": 2},
    "AutoencoderKLMiniMaxH3Audio": {"encoder_dim": 8, "latent_dim": 64, "decoder_dim": 128},
    "LTX2VocoderWithBWE": {"hidden_channels": 64, "bwe_hidden_channels": 32},
}  # fmt: skip


def tiny(recipe: Recipe) -> Recipe:
    """The same pipeline with few and small layers. Raises MeasurementError for a component that nobody scaled down."""
    roles = {one.name: one.role for one in recipe.architecture.components}
    parts = {name: _part(part, large=roles[name] in (DENOISER, VAE)) for name, part in recipe.parts.items()}
    vision = recipe.style.vision
    seen = None if vision is None else PictureCells(vision.patch, vision.merge, _PICTURE, _BEFORE)
    # a shorter prompt where the call says how long it is, and no template lies around it
    shorter = recipe.style.sequence and not recipe.hidden and not recipe.style.fixed
    text = min(recipe.text, _PROMPT) if shorter else recipe.text
    return replace(recipe, parts=parts, text=text, style=replace(recipe.style, vision=seen))


def _part(part: ComponentRecipe, *, large: bool) -> ComponentRecipe:
    config = {**_SEEING.get(part.cls, {}), **shallow(part).config}
    if part.cls == "UNet2DConditionModel":
        config |= _unet(len(config["block_out_channels"]))
    elif "text_config" in config:
        config |= _seeing(config)
    elif part.cls in _SMALL:
        small = _SMALL[part.cls]
        config |= {name: value for name, value in small.items() if name != _BRANCH or config.get(name)}
    elif large or part.library == "transformers":
        raise MeasurementError(f"--tiny: {part.cls} has no small form; leave --tiny out.")
    return replace(part, config=config)


def _seeing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a language model that sees pictures. Without a width of its own a head is a share of the states."""
    text = {**config["text_config"], **_LANGUAGE, **(_TWO_HEADS if "head_dim" in config["text_config"] else {})}
    tokens = {"image_token_id": _PICTURE, "vision_start_token_id": _BEFORE, "image_token_index": _PICTURE}
    return {"text_config": text, "vision_config": {**config.get("vision_config", {}), **_VISION}, **tokens}


def _unet(blocks: int) -> dict[str, Any]:
    """A U-Net's widths for as many blocks as it has: SDXL has three, SD 1.5 four."""
    heads = [1, 2, 4, 4][:blocks]
    return {
        "block_out_channels": [32 * count for count in heads],
        "attention_head_dim": heads,
        "transformer_layers_per_block": [1] * blocks,
    }

"""Pipelines as the bench builds them: classes, configurations and a call of the usual sizes. No torch here.

Where a class's defaults are the published shape, the configuration is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """One component: the library and class that model_index.json names, and its configuration where it departs from
    the class's defaults. ``dtype`` is what it is loaded in; ``trace`` is the key of its traces."""

    library: str
    cls: str
    trace: str
    config: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "bfloat16"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One pipeline: its class, its modules, its scheduler, how many tokens a prompt has, and arguments of its call."""

    pipeline: str
    parts: Mapping[str, Part]
    scheduler: tuple[str, Mapping[str, Any]]
    tokenizers: Mapping[str, int]
    call: Mapping[str, Any]
    denoisers: tuple[str, ...] = ("transformer",)
    extras: Mapping[str, Any] = field(default_factory=dict)
    video: bool = False


_CLIP_L = Part(
    "transformers", "CLIPTextModel", "clip-l",
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
     "projection_dim": 768, "max_position_embeddings": 77, "vocab_size": 49408},
)  # fmt: skip
_CLIP_G = Part(
    "transformers", "CLIPTextModelWithProjection", "clip-g",
    {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
     "projection_dim": 1280, "max_position_embeddings": 77, "vocab_size": 49408, "hidden_act": "gelu"},
)  # fmt: skip
_T5 = {
    "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip
_T5_XXL = Part("transformers", "T5EncoderModel", "t5-xxl", _T5)
_UMT5_XXL = Part("transformers", "UMT5EncoderModel", "umt5-xxl", {**_T5, "vocab_size": 256384})
_QWEN3 = {
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 151936, "max_position_embeddings": 40960,
}  # fmt: skip
_QWEN3_4B = {**_QWEN3, "hidden_size": 2560, "intermediate_size": 9728, "tie_word_embeddings": True}
_QWEN3_8B = {**_QWEN3, "hidden_size": 4096, "intermediate_size": 12288, "tie_word_embeddings": False}
_QWEN25_VL = Part(
    "transformers", "Qwen2_5_VLForConditionalGeneration", "qwen2.5-vl-7b",
    {"text_config": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]},
     },
     "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
                       "out_hidden_size": 3584},
     "tie_word_embeddings": False},
)  # fmt: skip
_FLUX_VAE = Part(
    "diffusers", "AutoencoderKL", "autoencoder-kl-16",
    {"in_channels": 3, "out_channels": 3, "latent_channels": 16, "block_out_channels": [128, 256, 512, 512],
     "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
     "layers_per_block": 2, "norm_num_groups": 32, "sample_size": 1024, "scaling_factor": 0.3611,
     "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False, "force_upcast": True},
)  # fmt: skip
_SDXL_VAE = Part(
    "diffusers", "AutoencoderKL", "autoencoder-kl-4",
    {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": [128, 256, 512, 512],
     "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
     "layers_per_block": 2, "norm_num_groups": 32, "sample_size": 1024, "scaling_factor": 0.13025,
     "force_upcast": True}, dtype="float16",
)  # fmt: skip
_SDXL_UNET = Part(
    "diffusers", "UNet2DConditionModel", "unet-sdxl",
    {"sample_size": 128, "block_out_channels": [320, 640, 1280], "attention_head_dim": [5, 10, 20],
     "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
     "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
     "transformer_layers_per_block": [1, 2, 10], "cross_attention_dim": 2048, "addition_embed_type": "text_time",
     "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816, "use_linear_projection": True},
    dtype="float16",
)  # fmt: skip
_WAN_21_VAE = Part("diffusers", "AutoencoderKLWan", "autoencoder-kl-wan-21", {}, dtype="float32")
_WAN_22_VAE = Part(
    "diffusers", "AutoencoderKLWan", "autoencoder-kl-wan-22",
    {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "in_channels": 12, "out_channels": 12, "patch_size": 2,
     "is_residual": True, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48},
    dtype="float32",
)  # fmt: skip
_FLOW = ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0})
_DYNAMIC_FLOW = ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_dynamic_shifting": True})
_WAN_FLOW = (
    "UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0},
)  # fmt: skip


def _klein(layers: int, single: int, heads: int, encoder: dict[str, Any], key: str, size: str) -> Recipe:
    return Recipe(
        "Flux2KleinPipeline",
        {
            "text_encoder": Part("transformers", "Qwen3ForCausalLM", f"qwen3-{size}-causal", encoder),
            "transformer": Part(
                "diffusers", "Flux2Transformer2DModel", key,
                {"num_layers": layers, "num_single_layers": single, "num_attention_heads": heads,
                 "joint_attention_dim": 3 * encoder["hidden_size"], "guidance_embeds": False},
            ),
            "vae": Part("diffusers", "AutoencoderKLFlux2", "autoencoder-kl-flux2"),
        },
        _DYNAMIC_FLOW, {"tokenizer": 512}, {"guidance_scale": 1.0}, extras={"is_distilled": True},
    )  # fmt: skip


RECIPES: dict[str, Recipe] = {
    "flux.1-dev": Recipe(
        "FluxPipeline",
        {"text_encoder": _CLIP_L, "text_encoder_2": _T5_XXL,
         "transformer": Part("diffusers", "FluxTransformer2DModel", "flux-guidance", {"guidance_embeds": True}),
         "vae": _FLUX_VAE},
        _DYNAMIC_FLOW, {"tokenizer": 77, "tokenizer_2": 512}, {"guidance_scale": 3.5},
    ),
    "sdxl": Recipe(
        "StableDiffusionXLPipeline",
        {"text_encoder": Part("transformers", "CLIPTextModel", "clip-l", _CLIP_L.config, "float16"),
         "text_encoder_2": Part("transformers", "CLIPTextModelWithProjection", "clip-g", _CLIP_G.config, "float16"),
         "unet": _SDXL_UNET, "vae": _SDXL_VAE},
        ("EulerDiscreteScheduler", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
                                    "steps_offset": 1, "timestep_spacing": "leading"}),
        {"tokenizer": 77, "tokenizer_2": 77}, {"guidance_scale": 7.0}, denoisers=("unet",),
        extras={"add_watermarker": False},
    ),
    "qwen-image": Recipe(
        "QwenImagePipeline",
        {"text_encoder": _QWEN25_VL,
         "transformer": Part("diffusers", "QwenImageTransformer2DModel", "qwen-image"),
         "vae": Part("diffusers", "AutoencoderKLQwenImage", "autoencoder-kl-qwen-image")},
        _DYNAMIC_FLOW, {"tokenizer": 290}, {"true_cfg_scale": 4.0, "negative_prompt": " "},
    ),
    "z-image-turbo": Recipe(
        "ZImagePipeline",
        {"text_encoder": Part("transformers", "Qwen3Model", "qwen3-4b", _QWEN3_4B),
         "transformer": Part("diffusers", "ZImageTransformer2DModel", "z-image"), "vae": _FLUX_VAE},
        _FLOW, {"tokenizer": 256}, {"guidance_scale": 0.0},
    ),
    "wan2.2-ti2v-5b": Recipe(
        "WanPipeline",
        {"text_encoder": _UMT5_XXL,
         "transformer": Part(
             "diffusers", "WanTransformer3DModel", "wan-5b",
             {"num_attention_heads": 24, "attention_head_dim": 128, "in_channels": 48, "out_channels": 48,
              "ffn_dim": 14336, "num_layers": 30}),
         "vae": _WAN_22_VAE},
        _WAN_FLOW, {"tokenizer": 512}, {"guidance_scale": 5.0, "max_sequence_length": 512},
        extras={"expand_timesteps": True, "boundary_ratio": None}, video=True,
    ),
    "wan2.2-t2v-a14b": Recipe(
        "WanPipeline",
        {"text_encoder": _UMT5_XXL,
         "transformer": Part("diffusers", "WanTransformer3DModel", "wan-14b"),
         "transformer_2": Part("diffusers", "WanTransformer3DModel", "wan-14b"),
         "vae": _WAN_21_VAE},
        _WAN_FLOW, {"tokenizer": 512}, {"guidance_scale": 4.0, "guidance_scale_2": 3.0, "max_sequence_length": 512},
        denoisers=("transformer", "transformer_2"), extras={"boundary_ratio": 0.875}, video=True,
    ),
    "flux.2-klein-4b": _klein(5, 20, 24, _QWEN3_4B, "flux2-klein-4b", "4b"),
    "flux.2-klein-9b": _klein(8, 24, 32, _QWEN3_8B, "flux2-klein-9b", "8b"),
}  # fmt: skip

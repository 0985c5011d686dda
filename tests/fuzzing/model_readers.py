"""Readers of models: GGUF, safetensors, configurations, indices, folders of pipelines, LoRA files."""

from __future__ import annotations

import functools
import json
import random
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "models"))

from gguf_files import ARRAY, BOOL, F32, STRING, U32, U64, array, gguf, pair, small_model, text
from mutations import INTEGERS, damaged, damaged_json
from pipeline_files import rows_of, safetensors
from reading import CARD, check

import fitcheck
from fitcheck.errors import InputError

# ---- GGUF

ARCHITECTURES = ["llama", "qwen2", "qwen3", "qwen3moe", "gemma3", "gemma3n", "deepseek2", "mamba", "mamba2", "jamba",
                 "qwen3next", "bert", "modern-bert", "t5", "gpt-oss", "glm4moe", "falcon-h1", "lfm2", "kimi-linear",
                 "granitehybrid", "flux", "wan", "sd3", "clip", "nemotron_h", "minimax-m2", "llama4",
                 "rwkv7"]  # fmt: skip
KEYS = ["block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
        "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.sliding_window",
        "attention.sliding_window_pattern", "attention.kv_lora_rank", "attention.q_lora_rank", "rope.dimension_count",
        "expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_count", "vocab_size",
        "leading_dense_block_count", "ssm.state_size", "ssm.inner_size", "ssm.conv_kernel", "ssm.time_step_rank",
        "ssm.group_count", "full_attention_interval", "nextn_predict_layers", "attention.key_length_mla",
        "attention.value_length_mla", "attention.shared_kv_layers", "kda.head_dim", "shortconv.l_cache",
        "pooling_type", "attention.causal", "decoder_block_count", "embedding_length_per_layer_input"]  # fmt: skip
SOUND = {"block_count": 2, "context_length": 2048, "embedding_length": 64, "feed_forward_length": 128,
         "attention.head_count": 4, "attention.head_count_kv": 2, "rope.dimension_count": 16,
         "vocab_size": 256}  # fmt: skip


def gguf_value(chance: random.Random, key: str) -> bytes:
    kind = chance.random()
    small = chance.choice([0, 1, 2, 3, 4, 5, 8, 16, 64, 100, 4096, 1 << 20])
    if kind < 0.55:
        return pair(key, U32, small)
    if kind < 0.65:
        return pair(key, U64, chance.choice(INTEGERS))
    if kind < 0.72:
        return pair(key, F32, chance.choice([0.0, -1.0, 1e30, float("nan"), float("inf"), 0.5]))
    if kind < 0.78:
        return pair(key, BOOL, True)
    if kind < 0.84:
        return pair(key, STRING, chance.choice(["", "12", "x" * 300, "é", "nan"]))
    if kind < 0.87:
        return text(key) + struct.pack("<IIQ", ARRAY, chance.choice([U32, STRING, 77]), chance.choice(INTEGERS))
    return array(key, U32, [chance.choice([0, 1, 2, 8, 1 << 31]) for _ in range(chance.choice([0, 1, 2, 3, 100]))])


def gguf_case(chance: random.Random) -> bytes:
    if chance.random() < 0.25:
        return damaged(chance, [small_model().data])
    name = chance.choice(ARCHITECTURES)
    wanted = dict.fromkeys(SOUND) | dict.fromkeys(chance.sample(KEYS, chance.randint(0, 6)))
    odd = set(chance.sample(list(wanted), chance.randint(0, 2))) | (wanted.keys() - SOUND.keys())
    pairs = [pair("general.architecture", STRING, name)]
    for key in wanted:
        full = f"{name}.{key}"
        if chance.random() > 0.03:
            pairs.append(gguf_value(chance, full) if key in odd else pair(full, U32, SOUND[key]))
    rows: list[tuple[str, tuple[int, ...], str]] = [
        ("token_embd.weight", (64, 256), "F16"),
        ("output_norm.weight", (64,), "F32"),
    ]
    for layer in range(2):
        for part, shape in (("attn_norm", (64,)), ("attn_q", (64, 64)), ("attn_k", (64, 32)), ("attn_v", (64, 32)),
                            ("attn_output", (64, 64)), ("ffn_norm", (64,)), ("ffn_gate", (64, 128)),
                            ("ffn_up", (64, 128)), ("ffn_down", (128, 64))):  # fmt: skip
            if chance.random() > 0.02:
                rows.append((f"blk.{layer}.{part}.weight", shape, "F32" if len(shape) == 1 else "F16"))
    if chance.random() < 0.3:
        odd_name = chance.choice(
            ["blk.99999999.x.weight", "blk.-1.x", "", "v.blk.0.x", "mm.0.weight", "blk.0.ffn_gate_exps.weight"]
        )
        rows.append((odd_name, chance.choice([(64, 128, 2), (1,), (32, 0), (1 << 20, 1 << 20)]), "F16"))
    data = gguf(pairs, rows).data
    return damaged(chance, [data]) if chance.random() < 0.1 else data


def sparse(path: Path, data: bytes, size: int) -> Path:
    with path.open("wb") as file:
        file.write(data)
        file.truncate(max(size, len(data)))
    return path


def read_gguf(data: bytes, room: Path) -> None:
    check(sparse(room / "hostile.gguf", data, 1 << 20))


# ---- safetensors, configurations, pipelines

ST_NAMES = ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight",
            "lora_unet_x.lora_down.weight", "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
            "double_blocks.0.img_attn.qkv.weight", "model.diffusion_model.input_blocks.0.0.weight",
            "first_stage_model.x", "blocks.0.self_attn.q.weight", "x.weight_scale", "x.qweight"]  # fmt: skip


@functools.cache
def denoisers() -> list[tuple[str, dict[str, Any]]]:
    """Headers of real denoisers and text encoders, as the catalog knows their tensors."""
    from fitcheck.models.families.pipeline import catalog

    found = []
    for slug in ("sd1.5", "flux.1-schnell", "wan2.1-t2v-1.3b"):
        with suppress(InputError, LookupError):
            part = next(one for one in catalog.architecture_of(slug).components if one.name in ("transformer", "unet"))
            data = safetensors(rows_of(part)).data
            found.append((slug, json.loads(data[8 : 8 + struct.unpack_from("<Q", data)[0]])))
    return found


def denoiser_case(chance: random.Random) -> bytes:
    """A real denoiser's header, or what a LoRA of it holds, a few entries of it damaged."""
    _, header = chance.choice(denoisers())
    entries = dict(header)
    if chance.random() < 0.4:
        size, entries = 0, {}
        for name in chance.sample(sorted(header), min(20, len(header))):
            stem = chance.choice(["transformer.", "lora_unet_", "diffusion_model.", ""]) + name.removesuffix(".weight")
            for part, shape in ((".lora_A.weight", [4, 64]), (".lora_B.weight", [64, 4]), (".alpha", [])):
                count = 4 * max(1, 4 * 64 if shape else 1)
                entries[stem + part] = {"dtype": "F32", "shape": shape, "data_offsets": [size, size + count]}
                size += count
    for name in chance.sample(sorted(entries), chance.randint(0, 4)):
        entry = json.loads(json.dumps(entries[name]))
        if chance.random() < 0.3:
            del entries[name]
        elif chance.random() < 0.5:
            entries[name] = {**entry, "dtype": chance.choice(["F8_E4M3", "F32", "I64", "x"])}
        else:
            entries[name] = {**entry, "shape": chance.choice([[1], [0], [64, 64], [1 << 40, 1 << 40], [-1], ["x"]])}
    if chance.random() < 0.6:
        entries = relaid(entries)
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw


def relaid(entries: dict[str, Any]) -> dict[str, Any]:
    """The entries one behind the other, each as long as its shape says: a sound header of tensors that are odd."""
    from fitcheck.models.quant import TYPES

    found, at = {}, 0
    for name, entry in entries.items():
        size = 1
        for side in entry["shape"]:
            size *= side if isinstance(side, int) and 0 <= side < 1 << 20 else 1
        kind = entry["dtype"] if entry["dtype"] in TYPES else "F32"
        size = size * TYPES[kind].block_bytes // TYPES[kind].block
        shape = [side if isinstance(side, int) and 0 <= side < 1 << 20 else 1 for side in entry["shape"]]
        found[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return found


def safetensors_case(chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return denoiser_case(chance)
    names = chance.sample(ST_NAMES, chance.randint(1, 6))
    rows = [
        (name, chance.choice([(8,), (4, 8), (2, 3, 4), ()]), chance.choice(["BF16", "F16", "F32", "F8_E4M3"]))
        for name in names
    ]
    data = safetensors(rows).data
    if chance.random() < 0.5:
        length = struct.unpack_from("<Q", data)[0]
        raw = damaged_json(chance, json.loads(data[8 : 8 + length]), ["F8_E4M3", [0, 16], [16, 0], [1 << 62, 1 << 63]])
        return struct.pack("<Q", chance.choice([len(raw), len(raw), len(raw), *INTEGERS])) + raw
    return damaged(chance, [data])


def read_safetensors(data: bytes, room: Path) -> None:
    check(sparse(room / "hostile.safetensors", data, claimed(data)))


def claimed(data: bytes) -> int:
    """The size of the file that a header speaks of, so that more than its end is looked at."""
    try:
        length = struct.unpack_from("<Q", data)[0]
        header = json.loads(data[8 : 8 + length])
        ends = [one["data_offsets"][1] for one in header.values() if isinstance(one, dict) and "data_offsets" in one]
        return int(min(8 + length + max(ends, default=0), 1 << 40))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error, RecursionError):
        return 1 << 16


CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
    "max_position_embeddings": 2048, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-5,
    "head_dim": 16, "sliding_window": None, "layer_types": ["full_attention", "sliding_attention"],
    "rope_scaling": {"type": "yarn", "factor": 4.0}, "quantization_config": {"quant_method": "awq", "bits": 4},
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "kv_lora_rank": 8, "q_lora_rank": None,
    "text_config": {"hidden_size": 64, "num_hidden_layers": 2}, "vision_config": {"depth": 2},
}  # fmt: skip
KINDS = ["LlamaForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "Gemma3ForConditionalGeneration", "BertModel",
         "DeepseekV3ForCausalLM", "MambaForCausalLM", "Qwen3NextForCausalLM", "NeoChatModel",
         "SenseNovaU1"]  # fmt: skip


def config_case(chance: random.Random) -> bytes:
    return damaged_json(chance, CONFIG | {"architectures": [chance.choice(KINDS)]}, KINDS)


WEIGHTS: list[tuple[str, tuple[int, ...], str]] = [
    ("model.embed_tokens.weight", (256, 64), "BF16"), ("model.layers.0.mlp.up_proj.weight", (128, 64), "BF16"),
]  # fmt: skip


@functools.cache
def small_weights() -> bytes:
    head = safetensors(WEIGHTS)
    return head.data + bytes(head.size - len(head.data))


def lay_config(data: bytes, room: Path) -> None:
    """A checkpoint's folder with this configuration."""
    (room / "config.json").write_bytes(data)
    (room / "model.safetensors").write_bytes(small_weights())


def read_config(data: bytes, room: Path) -> None:
    lay_config(data, room)
    check(room)


INDEX = {"metadata": {"total_size": 100}, "weight_map": {
         "model.embed_tokens.weight": "model-00001-of-00002.safetensors",
         "model.layers.0.mlp.up_proj.weight": "model-00002-of-00002.safetensors"}}  # fmt: skip


def read_index(data: bytes, room: Path) -> None:
    (room / "config.json").write_text(json.dumps(CONFIG))
    (room / "model.safetensors.index.json").write_bytes(data)
    for number, row in enumerate(WEIGHTS, 1):
        head = safetensors([row])
        head.write(room / f"model-0000{number}-of-00002.safetensors")
    check(room)


PIPELINE = {"_class_name": "FluxPipeline", "_diffusers_version": "0.42.1", "scheduler": ["diffusers", "X"],
            "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
            "transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"],
            "image_encoder": [None, None]}  # fmt: skip
PART = {"_class_name": "FluxTransformer2DModel", "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
        "num_attention_heads": 4, "joint_attention_dim": 64, "pooled_projection_dim": 64, "in_channels": 64,
        "guidance_embeds": True, "patch_size": 1, "axes_dims_rope": [16, 56, 56]}  # fmt: skip
PIPELINES = ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "WanPipeline",
             "QwenImagePipeline", "LTXPipeline", "../x", "KolorsPipeline", "PixArtSigmaPipeline"]  # fmt: skip


@functools.cache
def real_pipelines() -> list[dict[str, Any]]:
    """model_index.json and the configuration of each part of pipelines of the catalog."""
    from fitcheck.models.families.pipeline import catalog

    found = []
    for slug in ("sd1.5", "flux.1-schnell", "wan2.1-t2v-1.3b"):
        with suppress(InputError, LookupError):
            architecture = catalog.architecture_of(slug)
            listed: dict[str, Any] = {**PIPELINE, "_class_name": architecture.pipeline}
            parts = {one.name: {"_class_name": one.cls, **dict(one.config)} for one in architecture.components}
            listed |= {one.name: [one.library, one.cls] for one in architecture.components}
            found.append({"model_index": listed, "parts": parts, "slug": slug})
    return found


def pipeline_case(chance: random.Random) -> bytes:
    if chance.random() < 0.6:
        real = chance.choice(real_pipelines())
        if chance.random() < 0.5:
            return json.dumps({**real, "model_index": PIPELINE}).encode()
        part = chance.choice(sorted(real["parts"]))
        broken = damaged_json(chance, real["parts"][part])
        with suppress(ValueError, RecursionError):
            return json.dumps({**real, "parts": {**real["parts"], part: json.loads(broken)}}).encode()
        return broken
    listed: dict[str, Any] = dict(PIPELINE)
    if chance.random() < 0.6:
        listed["_class_name"] = chance.choice(PIPELINES)
    both = {"model_index": listed, "config": PART}
    return damaged_json(
        chance, both, ["../transformer", "transformer/../..", ["diffusers"], ["a", "b", "c"], *PIPELINES]
    )


def read_pipeline(data: bytes, room: Path) -> None:
    lay_pipeline(data, room)
    check(room)


def lay_pipeline(data: bytes, room: Path) -> None:
    """A pipeline's folder whose model_index.json and configurations are damaged."""
    both: Any
    try:
        both = json.loads(data)
        if "parts" in both:
            _real_folder(both, room)
            return
        listed, config = json.dumps(both["model_index"]), json.dumps(both["config"])
    except (ValueError, KeyError, TypeError, RecursionError):
        listed = config = data.decode("utf-8", "replace")
    (room / "model_index.json").write_text(listed, "utf-8", "surrogatepass")
    for part in ("transformer", "vae", "text_encoder"):
        (room / part).mkdir(exist_ok=True)
        (room / part / "config.json").write_text(config, "utf-8", "surrogatepass")
        name = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        (room / part / f"{name}.safetensors").write_bytes(small_weights())


def _real_folder(both: dict[str, Any], room: Path) -> None:
    from fitcheck.models.families.pipeline import catalog

    (room / "model_index.json").write_text(json.dumps(both["model_index"]))
    for one in catalog.architecture_of(both["slug"]).components:
        (room / one.name).mkdir()
        (room / one.name / "config.json").write_text(json.dumps(both["parts"].get(one.name)))
        name = "diffusion_pytorch_model" if one.library == "diffusers" else "model"
        safetensors(rows_of(one)).write(room / one.name / f"{name}.safetensors")


def read_lora(data: bytes, room: Path) -> None:
    lora = sparse(room / "lora.safetensors", data, claimed(data))
    for target in ("flux.1-schnell", "sd1.5"):
        with suppress(InputError):
            fitcheck.check(target, "RTX 4090", lora=str(lora), **CARD)  # type: ignore[arg-type]

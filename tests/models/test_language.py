"""Shapes from metadata and configs, tensor names from shapes, and llama-quantize's mixtures."""

from __future__ import annotations

from typing import Any

import pytest

from fitcheck.errors import InputError
from fitcheck.models.families.language.config import architecture_from_config
from fitcheck.models.families.language.known_models import known_language_model, known_language_models
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.families.language.mixture_rules import tier_name
from fitcheck.models.families.language.tables import tensor_shapes
from fitcheck.models.gguf_values import GgufArray
from fitcheck.models.tensors import Tensor, TensorTable

BASE: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 4,
    "llama.embedding_length": 256,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "llama.feed_forward_length": 512,
    "llama.vocab_size": 1000,
}


def changed(**keys: Any) -> dict[str, Any]:
    return BASE | {f"llama.{key.replace('__', '.')}": value for key, value in keys.items()}


def test_a_plain_transformer() -> None:
    architecture = architecture_from_gguf(BASE)
    assert architecture.layers == 4
    assert architecture.blocks[0].key_length == 32
    assert architecture.blocks[0].key_elements == 64
    assert architecture.vocabulary == 1000
    assert not architecture.unknown


def test_arrays_a_layer_as_a_header_holds_them() -> None:
    heads = GgufArray("i32", 4, (2, 0, 2, 0))
    architecture = architecture_from_gguf(changed(attention__head_count_kv=heads))
    assert [block.kv_heads for block in architecture.blocks] == [2, 0, 2, 0]
    tokens = {"tokenizer.ggml.tokens": GgufArray("string", 777, None)}
    without = {key: value for key, value in BASE.items() if key != "llama.vocab_size"}
    assert architecture_from_gguf(without | tokens).vocabulary == 777


def test_tensors_decide_over_metadata() -> None:
    table = TensorTable([Tensor("token_embd.weight", (32000, 256), "Q8_0", "embedding")])
    architecture = architecture_from_gguf(BASE, table)
    assert architecture.vocabulary == 32000
    assert architecture.tied_embeddings


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"general.architecture": 3},
        {"general.architecture": "llama"},
        BASE | {"llama.block_count": 0},
        BASE | {"llama.block_count": 10**9},
        BASE | {"llama.embedding_length": -1},
        BASE | {"llama.embedding_length": "wide"},
        BASE | {"llama.embedding_length": 2.5},
        BASE | {"llama.attention.head_count_kv": GgufArray("i32", 2, (1, 1))},
    ],
)
def test_metadata_that_cannot_be_used(metadata: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        architecture_from_gguf(metadata)


def test_an_unknown_architecture_is_named_and_read_as_plain() -> None:
    metadata = {key.replace("llama.", "novel."): value for key, value in BASE.items()} | {
        "general.architecture": "novel"
    }
    architecture = architecture_from_gguf(metadata)
    assert "novel" in architecture.unknown[0]
    assert architecture.blocks[0].key_elements == 64


def test_a_window_counts_only_where_llama_cpp_uses_it() -> None:
    assert architecture_from_gguf(changed(attention__sliding_window=4096)).window == 0
    gemma = known_language_model("gemma-2-9b")
    assert (gemma.window, sum(block.sliding for block in gemma.blocks)) == (4096, 21)
    assert known_language_model("gpt-oss-20b").window == 128
    phi = known_language_model("phi-3-mini")
    assert phi.window == 0


def test_hybrids_know_which_layers_recur() -> None:
    qwen = known_language_model("qwen3-next-80b-a3b")
    assert sum(block.recurrent for block in qwen.blocks) == 36
    assert qwen.recurrent is not None
    assert qwen.recurrent.elements == 3 * 8192 + 128 * 4096
    predicting = known_language_model("qwen3.5-27b")
    assert (predicting.layers, len(predicting.main_blocks)) == (65, 64)
    assert not predicting.blocks[-1].recurrent


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("llama-2-13b", 13.016),
        ("llama-3.1-8b", 8.030),
        ("qwen2.5-32b", 32.764),
        ("qwen3-30b-a3b", 30.532),
        ("qwen3-235b-a22b", 235.094),
        ("glm-4-32b", 32.566),
        ("gemma-3-27b", 27.009),
        ("deepseek-v3", 671.026),
        ("phi-4", 14.660),
        ("gpt-oss-20b", 20.915),
        ("gemma-4-12b", 11.907),
        ("mixtral-8x7b", 46.703),
    ],
)
def test_parameters_from_shape_alone(model: str, billions: float) -> None:
    elements = mixture_table(known_language_model(model), "Q8_0").elements
    assert elements / 1e9 == pytest.approx(billions, abs=0.02 if billions < 100 else 1.2)


def test_every_known_model_has_a_whole_table() -> None:
    for name in known_language_models():
        architecture = known_language_model(name)
        names = [tensor for tensor, _ in tensor_shapes(architecture)]
        assert len(names) == len(set(names)), name
        assert "token_embd.weight" in names


def test_mixtures_follow_llama_quantize() -> None:
    types = {tensor.name: tensor.type for tensor in mixture_table(known_language_model("llama-3.1-8b"), "Q4_K_M")}
    assert types["output.weight"] == "Q6_K"
    assert types["token_embd.weight"] == "Q4_K"
    assert types["blk.0.attn_v.weight"] == types["blk.0.ffn_down.weight"] == "Q6_K"
    assert types["blk.4.attn_v.weight"] == "Q4_K"
    assert types["blk.0.attn_norm.weight"] == "F32"
    tied = {tensor.name: tensor.type for tensor in mixture_table(known_language_model("gemma-2-9b"), "Q4_K_M")}
    assert tied["token_embd.weight"] == "Q6_K"
    eight = {tensor.name: tensor.type for tensor in mixture_table(known_language_model("mixtral-8x7b"), "Q4_K_M")}
    assert eight["blk.5.attn_k.weight"] == "Q8_0"
    odd = {tensor.name: tensor.type for tensor in mixture_table(known_language_model("gpt-oss-20b"), "Q4_K_M")}
    assert odd["blk.0.attn_q.weight"] == "Q5_0"


def test_a_tier_that_is_no_rule_is_refused() -> None:
    assert tier_name("q4_k_m") == "Q4_K_M"
    for name in ("UD-Q4_K_XL", "IQ4_K_R4", "", "Q7"):
        with pytest.raises(InputError):
            tier_name(name)


def test_a_config_of_transformers_gives_the_same_shape() -> None:
    config = {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    }
    ours, known = architecture_from_config(config), known_language_model("llama-3.1-8b")
    assert (ours.blocks, ours.vocabulary, ours.embedding) == (known.blocks, known.vocabulary, known.embedding)


def test_configs_with_experts_windows_latents_and_recurrence() -> None:
    deepseek = architecture_from_config(
        {
            "model_type": "deepseek_v3", "num_hidden_layers": 61, "hidden_size": 7168, "intermediate_size": 18432,
            "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280, "kv_lora_rank": 512,
            "q_lora_rank": 1536, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
            "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1, "moe_intermediate_size": 2048,
            "first_k_dense_replace": 3,
        }
    )  # fmt: skip
    assert deepseek.latent == known_language_model("deepseek-v3").latent
    gemma = architecture_from_config(
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text", "num_hidden_layers": 62, "hidden_size": 5376, "intermediate_size": 21504,
                "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128, "vocab_size": 262208,
                "sliding_window": 1024,
            },
        }
    )  # fmt: skip
    assert gemma.blocks == known_language_model("gemma-3-27b").blocks
    assert gemma.tied_embeddings


@pytest.mark.parametrize(
    "config", [{}, {"model_type": "llama"}, {"model_type": 3}, {"model_type": "llama", "hidden_size": "x"}]
)
def test_configs_that_cannot_be_used(config: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        architecture_from_config(config)

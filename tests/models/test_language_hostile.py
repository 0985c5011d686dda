"""Any value under any key of a model's metadata gives a shape or one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.errors import InputError
from fitcheck.models.families.language.architecture import traits
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.gguf_values import GgufArray

BASE: dict[str, Any] = {
    "block_count": 2,
    "context_length": 2048,
    "embedding_length": 64,
    "feed_forward_length": 128,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "vocab_size": 256,
}
KEYS = [
    *BASE,
    *("attention.key_length", "attention.value_length", "attention.sliding_window", "expert_count"),
    *("expert_used_count", "ssm.state_size", "ssm.conv_kernel", "attention.kv_lora_rank", "leading_dense_block_count"),
    *("attention.sliding_window_pattern", "full_attention_interval", "nextn_predict_layers", "wkv.head_size"),
    *("rope.dimension_count", "interleave_moe_layer_step", "expert_feed_forward_length", "attention.key_length_mla"),
]
NUMBER = st.integers(-3, 5) | st.sampled_from([2**31, 2**32 - 1, 2**64 - 1]) | st.floats() | st.booleans()
VALUE = NUMBER | st.text(max_size=3) | st.lists(NUMBER, max_size=3).map(lambda v: GgufArray("F64", len(v), tuple(v)))


def metadata(architecture: str, values: dict[str, Any]) -> dict[str, Any]:
    named = {f"{architecture}.{key}": value for key, value in (BASE | values).items()}
    return {"general.architecture": architecture, **named}


@settings(max_examples=400, deadline=None)
@given(
    architecture=st.sampled_from(["llama", "gemma3", "deepseek2", "qwen3moe", "mamba", "jamba", "qwen3next", "rwkv7"]),
    values=st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=3),
)
def test_any_metadata_is_a_shape_or_a_sentence(architecture: str, values: dict[str, Any]) -> None:
    try:
        shape = architecture_from_gguf(metadata(architecture, values))
    except InputError:
        return
    assert shape.embedding > 0
    assert all(b.heads > 0 < b.key_length and b.value_length > 0 for b in shape.blocks if b.attention)
    assert traits(architecture) is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1.5, "12", True])
@pytest.mark.parametrize("key", ["block_count", "embedding_length", "attention.head_count"])
def test_what_is_no_whole_number_is_named(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"llama.{key} is .*not a whole number"):
        architecture_from_gguf(metadata("llama", {key: value}))


@pytest.mark.parametrize("key", ["embedding_length", "attention.head_count", "attention.key_length"])
def test_a_model_of_no_width_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=r"no width|of 0|0 heads"):
        architecture_from_gguf(metadata("llama", {key: 0}))

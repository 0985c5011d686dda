"""Kimi's delta attention: the compute buffer by build, against what its author printed."""

from __future__ import annotations

from typing import Any

import pytest

from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.roles import classify
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate
from fitcheck.runtimes.llamacpp.builds import parse_build
from fitcheck.units import GIB, MIB

WIDTH, HEADS, LAYERS, VOCABULARY = 2304, 32, 27, 163840
INNER, FULL = HEADS * 128, {3, 7, 11, 15, 19, 23, 26}
METADATA: dict[str, Any] = {
    "general.architecture": "kimi-linear",
    "kimi-linear.block_count": LAYERS,
    "kimi-linear.context_length": 1048576,
    "kimi-linear.embedding_length": WIDTH,
    "kimi-linear.feed_forward_length": 9216,
    "kimi-linear.attention.head_count": HEADS,
    "kimi-linear.attention.head_count_kv": [int(layer in FULL) for layer in range(LAYERS)],
    "kimi-linear.attention.layer_norm_rms_epsilon": 1e-5,
    "kimi-linear.attention.kv_lora_rank": 512,
    "kimi-linear.attention.key_length": 576,
    "kimi-linear.attention.value_length": 512,
    "kimi-linear.attention.key_length_mla": 192,
    "kimi-linear.attention.value_length_mla": 128,
    "kimi-linear.rope.dimension_count": 64,
    "kimi-linear.kda.head_dim": 128,
    "kimi-linear.ssm.conv_kernel": 4,
    "kimi-linear.expert_count": 256,
    "kimi-linear.expert_used_count": 8,
    "kimi-linear.expert_feed_forward_length": 1024,
    "kimi-linear.expert_shared_count": 1,
    "kimi-linear.leading_dense_block_count": 1,
}


def tensors() -> TensorTable:
    rows: list[tuple[str, tuple[int, ...], str]] = [
        ("token_embd.weight", (VOCABULARY, WIDTH), "Q4_K"),
        ("output_norm.weight", (WIDTH,), "F32"),
        ("output.weight", (VOCABULARY, WIDTH), "Q6_K"),
    ]
    for layer in range(LAYERS):
        mixer = _latent() if layer in FULL else _delta()
        feed = _dense() if layer == 0 else _mixture()
        norms = [("attn_norm.weight", (WIDTH,), "F32"), ("ffn_norm.weight", (WIDTH,), "F32")]
        rows += [(f"blk.{layer}.{name}", shape, kind) for name, shape, kind in [*norms, *mixer, *feed]]
    return classify(Tensor(*row) for row in rows)


Rows = list[tuple[str, tuple[int, ...], str]]


def _latent() -> Rows:
    return [
        ("attn_q.weight", (HEADS * 192, WIDTH), "IQ3_S"),
        ("attn_kv_a_mqa.weight", (576, WIDTH), "IQ3_S"),
        ("attn_kv_a_norm.weight", (512,), "F32"),
        ("attn_k_b.weight", (HEADS, 512, 128), "Q8_0"),
        ("attn_v_b.weight", (HEADS, 128, 512), "Q8_0"),
        ("attn_output.weight", (WIDTH, INNER), "IQ3_S"),
    ]


def _delta() -> Rows:
    return [
        *((f"attn_{name}.weight", (INNER, WIDTH), "IQ3_S") for name in "qkv"),
        *((f"ssm_conv1d_{name}.weight", (INNER, 1, 4), "F32") for name in "qkv"),
        ("ssm_f_a.weight", (128, WIDTH), "IQ3_S"),
        ("ssm_f_b.weight", (INNER, 128), "Q8_0"),
        ("ssm_beta.weight", (HEADS, WIDTH), "IQ3_S"),
        ("ssm_a", (HEADS, 1), "F32"),
        ("ssm_g_a.weight", (128, WIDTH), "IQ3_S"),
        ("ssm_g_b.weight", (INNER, 128), "Q8_0"),
        ("ssm_dt.bias", (INNER,), "F32"),
        ("ssm_norm.weight", (128,), "F32"),
        ("attn_output.weight", (WIDTH, INNER), "IQ3_S"),
    ]


def _dense() -> Rows:
    shapes = (("ffn_gate", (9216, WIDTH)), ("ffn_up", (9216, WIDTH)), ("ffn_down", (WIDTH, 9216)))
    return [(f"{name}.weight", shape, "IQ3_S") for name, shape in shapes]


def _mixture() -> Rows:
    return [
        ("ffn_gate_inp.weight", (256, WIDTH), "F32"),
        ("exp_probs_b.bias", (256,), "F32"),
        ("ffn_gate_exps.weight", (256, 1024, WIDTH), "IQ3_S"),
        ("ffn_up_exps.weight", (256, 1024, WIDTH), "IQ3_S"),
        ("ffn_down_exps.weight", (256, WIDTH, 1024), "IQ3_S"),
        ("ffn_gate_shexp.weight", (1024, WIDTH), "IQ3_S"),
        ("ffn_up_shexp.weight", (1024, WIDTH), "IQ3_S"),
        ("ffn_down_shexp.weight", (WIDTH, 1024), "IQ3_S"),
    ]


TABLE = tensors()


def run(build: str, **options: Any) -> LlamaEstimate:
    asked = LlamaOptions(**{"context": 196608, "sequences": 1, "build": parse_build(build), **options})
    return estimate(architecture_from_gguf(METADATA, TABLE), TABLE, asked, vram=(24 * GIB,))


def test_the_buffer_that_its_author_printed_before_the_small_chunks() -> None:
    """ggml-org/llama.cpp pull 19827: 1693.51 MiB at 192k on an RTX 3090. Nothing is fitted on it."""
    assert run("2026-02-20").cards[0].compute == pytest.approx(1693.51 * MIB, rel=0.005)


def test_the_buffer_printed_with_small_chunks_lies_in_the_interval() -> None:
    """991.29 MiB in that pull's text, of a state of it before the merge: the width of the interval rests on it."""
    found = run("2026-02-25")
    total, compute = found.card_totals[0], found.cards[0].compute
    assert total.low <= found.cards[0].total - compute + round(991.29 * MIB) <= total.high


def test_fewer_steps_need_less_from_build_to_build() -> None:
    sizes = [run(build).cards[0].compute for build in ("2026-02-20", "2026-02-25", "2026-04-01", "newest")]
    assert sizes == sorted(sizes, reverse=True)


def test_the_decay_of_chunks_grows_with_the_micro_batch() -> None:
    small, large = (run("2026-02-25", context=4096, micro_batch=tokens).cards[0].compute for tokens in (256, 512))
    assert 1.7 < large / small < 2.3


# printed by llama.cpp 0c1e57098 (benchmarks/llamacpp_probe) at 8,192 tokens, in MiB: cards, host
PRINTED: list[tuple[dict[str, Any], int, tuple[float, ...]]] = [
    ({}, 1, (127.55, 17.01)),
    ({"gpu_layers": 10}, 1, (362.87, 20.69)),
    ({}, 2, (169.57, 169.57, 54.52)),
]


@pytest.mark.parametrize(("options", "cards", "printed"), PRINTED, ids=("full", "partial", "two cards"))
def test_compute_buffers_of_the_fused_operation(
    options: dict[str, Any], cards: int, printed: tuple[float, ...]
) -> None:
    asked = LlamaOptions(context=8192, sequences=1, **options)
    found = estimate(architecture_from_gguf(METADATA, TABLE), TABLE, asked, vram=(24 * GIB,) * cards)
    sizes = [*(card.compute for card in found.cards), found.host.compute]
    assert [size / MIB for size in sizes] == pytest.approx(printed, abs=0.02)

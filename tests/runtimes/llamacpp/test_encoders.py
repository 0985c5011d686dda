"""Encoders for embeddings and reranking: weights once, no cache, nothing written."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "models"))
from gguf_files import F32, STRING, U32, gguf, pair

import fitcheck
from fitcheck.errors import OptionError
from fitcheck.memory.weighing import Verdict
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.roles import classify
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.models.workload import Task
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate
from fitcheck.units import GIB, MIB

WIDTH, LAYERS, VOCABULARY, INNER, POSITIONS = 1024, 24, 250002, 4096, 8194


def bert_tensors(kind: str = "F16") -> TensorTable:
    """XLM-RoBERTa large as bge-reranker-v2-m3 is: embeddings, 24 layers with biases, a classification head."""
    rows: list[tuple[str, tuple[int, ...], str]] = [
        ("token_embd.weight", (VOCABULARY, WIDTH), kind),
        ("position_embd.weight", (POSITIONS - 2, WIDTH), "F32"),
        ("token_types.weight", (WIDTH,), "F32"),
        ("token_embd_norm.weight", (WIDTH,), "F32"),
        ("token_embd_norm.bias", (WIDTH,), "F32"),
        ("cls.weight", (WIDTH, WIDTH), kind),
        ("cls.bias", (WIDTH,), "F32"),
        ("cls.output.weight", (1, WIDTH), kind),
        ("cls.output.bias", (1,), "F32"),
    ]
    for layer in range(LAYERS):
        for name, shape in (
            ("attn_q", (WIDTH, WIDTH)), ("attn_k", (WIDTH, WIDTH)), ("attn_v", (WIDTH, WIDTH)),
            ("attn_output", (WIDTH, WIDTH)), ("ffn_up", (INNER, WIDTH)), ("ffn_down", (WIDTH, INNER)),
        ):  # fmt: skip
            rows += [(f"blk.{layer}.{name}.weight", shape, kind), (f"blk.{layer}.{name}.bias", shape[:1], "F32")]
        for name in ("attn_output_norm", "layer_output_norm"):
            rows += [(f"blk.{layer}.{name}.{part}", (WIDTH,), "F32") for part in ("weight", "bias")]
    return classify(Tensor(*row) for row in rows)


METADATA = {
    "general.architecture": "bert",
    "bert.block_count": LAYERS,
    "bert.context_length": 8192,
    "bert.embedding_length": WIDTH,
    "bert.feed_forward_length": INNER,
    "bert.attention.head_count": 16,
    "bert.attention.layer_norm_epsilon": 1e-5,
    "bert.pooling_type": 4,
}


def run(**options: Any) -> LlamaEstimate:
    table = bert_tensors()
    return estimate(architecture_from_gguf(METADATA, table), table, LlamaOptions(**options), vram=(24 * GIB,))


def test_an_encoder_keeps_no_cache_and_no_second_table() -> None:
    found = run(context=8192)
    table = bert_tensors()
    embeddings = sum(t.nbytes for t in table if t.name.startswith(("token_embd.", "position_embd.", "token_types.")))
    assert found.kv_cache == 0
    assert found.cards[0].weights == pytest.approx(table.nbytes - embeddings, rel=1e-3)
    assert found.host.weights >= embeddings


def test_the_card_holds_what_a_run_of_this_reranker_was_seen_to_take() -> None:
    """926 MiB on a card, with the driver's own part, as somebody's nvidia-smi said of this file."""
    (total,) = run(context=8192).card_totals
    assert total.low <= 926 * MIB <= total.high
    assert total.best == pytest.approx(926 * MIB, rel=0.1)


def test_a_longer_piece_of_text_needs_more_and_attention_without_flash_much_more() -> None:
    short, long = run(micro_batch=512), run(micro_batch=2048)
    assert long.cards[0].compute > 3 * short.cards[0].compute
    plain = run(micro_batch=2048, flash_attention=False)
    # scores of every token with every other, in 16 heads
    assert plain.cards[0].compute - long.cards[0].compute > 2048 * 2048 * 16 * 4 * 0.9


def test_context_does_not_matter_to_what_keeps_no_cache() -> None:
    assert run(context=512).cards == run(context=8192).cards


def write(path: Path, **changes: Any) -> Path:
    pairs = []
    for key, value in {**METADATA, **changes}.items():
        kind = STRING if isinstance(value, str) else F32 if isinstance(value, float) else U32
        pairs.append(pair(key, kind, value))
    return gguf(pairs, [(t.name, t.shape, t.type) for t in bert_tensors()]).write(path)


def test_a_reranker_is_judged_by_reading_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "reranker-F16.gguf")
    report = fitcheck.check(str(path), "RTX 3060 12GB", ram=16 * GIB, prompt_tokens=300)
    best = report.best
    assert (best.verdict, best.workload.task) == (Verdict.FITS, Task.EMBED)
    assert best.workload.new_tokens == 0
    assert best.rate("generation") is None
    assert best.rate("prompt") is not None
    assert best.seconds is not None
    assert "--reranking" in shlex.split(best.commands[-1])
    assert len(report.cells) == 1  # no second cache type to try
    assert report.to_json()["workload"]["task"] == "embed"


def test_a_text_longer_than_a_micro_batch_raises_it(tmp_path: Path) -> None:
    path = write(tmp_path / "reranker-F16.gguf")
    best = fitcheck.check(str(path), "RTX 3060 12GB", prompt_tokens=4000, ctx=8192).best
    words = shlex.split(best.commands[-1])
    assert words[words.index("-ub") + 1] == "4000"


def test_what_an_encoder_cannot_do_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "reranker-F16.gguf")
    with pytest.raises(OptionError, match="--new-tokens"):
        fitcheck.check(str(path), "RTX 3060 12GB", new_tokens=10)
    with pytest.raises(OptionError, match="--prompt-tokens"):
        fitcheck.check(str(path), "RTX 3060 12GB", prompt_tokens=9000, ctx=8192)


@pytest.mark.parametrize(
    ("name", "flag"), [("qwen3-embedding-0.6b", "--embeddings"), ("qwen3-reranker-4b", "--reranking")]
)
def test_decoders_that_embed_write_nothing_either(name: str, flag: str) -> None:
    best = fitcheck.check(name, "RTX 3060 12GB", ram=32 * GIB, tier="Q8_0").best
    assert best.workload.task is Task.EMBED
    assert best.rate("generation") is None
    assert flag in shlex.split(best.commands[-1])
    assert any(phase.kv_cache for phase in best.memory.phases)

"""Tensor types that llama.cpp does not read: the fork's own, and those that were removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf_files import STRING, U32, gguf, pair

import fitcheck
from fitcheck.errors import FileError
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.quant import BY_GGML_ID, TYPES
from fitcheck.models.quant import FORK as FORK_READS
from fitcheck.runtimes.llamacpp.builds import FORK
from fitcheck.verdict.cell import Cell

WIDTH, ROWS, VOCABULARY = 1024, 2048, 2048


def file_of(kind: str, folder: Path) -> Path:
    """A llama of two layers whose matrices are of ``kind``."""
    numbers = {
        "block_count": 2,
        "embedding_length": WIDTH,
        "feed_forward_length": ROWS,
        "attention.head_count": 8,
        "attention.head_count_kv": 8,
        "context_length": 4096,
    }
    pairs = [pair("general.architecture", STRING, "llama")] + [pair(f"llama.{k}", U32, v) for k, v in numbers.items()]
    tensors = [("token_embd.weight", (VOCABULARY, WIDTH), "F16"), ("output_norm.weight", (WIDTH,), "F32")]
    tensors.append(("output.weight", (VOCABULARY, WIDTH), kind))
    for layer in range(2):
        for name in ("attn_norm", "ffn_norm"):
            tensors.append((f"blk.{layer}.{name}.weight", (WIDTH,), "F32"))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors.append((f"blk.{layer}.{name}.weight", (WIDTH, WIDTH), kind))
        for name, shape in (("ffn_gate", (ROWS, WIDTH)), ("ffn_up", (ROWS, WIDTH)), ("ffn_down", (WIDTH, ROWS))):
            tensors.append((f"blk.{layer}.{name}.weight", shape, kind))
    return gguf(pairs, tensors).write(folder / f"model-{kind}.gguf")


def checked(kind: str, folder: Path, **options: Any) -> Cell:
    return fitcheck.check(str(file_of(kind, folder)), "RTX 3060 12GB", ram=32 << 30, **options).best


FORKS = [name for name, one in TYPES.items() if one.reads == FORK_READS]


def test_the_forks_types_are_many_and_apart_from_llama_cpps() -> None:
    assert {"IQ4_KS", "IQ2_KT", "IQ4_K", "Q6_0", "IQ4_K_R4"} <= set(FORKS)
    assert len({TYPES[name].ggml_id for name in FORKS}) == len(FORKS)
    assert BY_GGML_ID[144].name == "IQ4_KS"


@pytest.mark.parametrize("kind", ["IQ4_KS", "IQ2_KT", "IQ5_K", "Q6_0", "Q4_K_R4"])
def test_a_file_of_the_fork_runs_there_alone(kind: str, tmp_path: Path) -> None:
    mainline = checked(kind, tmp_path)
    assert (mainline.verdict, mainline.judgement.binding) == (Verdict.NO, Constraint.RUNTIME)
    assert kind in mainline.reason
    assert f"--build {FORK}" in mainline.reason
    forked = checked(kind, tmp_path, build=FORK)
    assert forked.verdict is Verdict.FITS
    assert forked.need > forked.tier.tensors.nbytes - VOCABULARY * WIDTH * 2
    rate = forked.rate("generation")
    assert rate is not None
    assert rate.low > 0


@pytest.mark.parametrize("kind", ["Q4_0_4_4", "Q4_0_8_8"])
@pytest.mark.parametrize("build", ["newest", FORK])
def test_a_type_that_was_removed_runs_nowhere(kind: str, build: str, tmp_path: Path) -> None:
    cell = checked(kind, tmp_path, build=build)
    assert cell.verdict is Verdict.NO
    assert "take the Q4_0 file" in cell.reason


def test_a_type_of_no_known_program_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = file_of("IQ4_KS", tmp_path)
    data = path.read_bytes().replace((144).to_bytes(4, "little"), (999).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(FileError, match="999, whose size is not known here"):
        fitcheck.check(str(path), "RTX 3060 12GB")


def test_the_forks_buffers_for_latent_attention_are_said_not_to_be_modelled() -> None:
    cell = fitcheck.check("deepseek-v2-lite", "RTX 3090", ram=64 << 30, tier="Q4_K_M", build=FORK).best
    assert cell.verdict is Verdict.UNKNOWN
    assert "not modelled" in cell.reason
    assert cell.memory.card.high > 3 * (cell.memory.card.best - cell.tier.tensors.nbytes)
    plain = fitcheck.check("llama-3.1-8b", "RTX 3090", ram=64 << 30, tier="Q4_K_M", build=FORK).best
    assert plain.verdict is Verdict.FITS

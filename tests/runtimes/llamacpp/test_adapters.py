"""Adapters and control vectors of another model are refused, as llama.cpp refuses to start with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "models"))
from gguf_files import STRING, Shape, gguf, pair

import fitcheck
from fitcheck.errors import OptionError
from fitcheck.verdict.report import Report

WIDTH, ROWS = 4096, 4096  # of Llama 3.1 8B and its attention's queries
Rows = list[tuple[str, Shape, str]]


def adapter(place: Path, name: str, takes: int, gives: int, architecture: str = "llama", rank: int = 16) -> Path:
    rows: Rows = [(f"{name}.lora_a", (rank, takes), "F16"), (f"{name}.lora_b", (gives, rank), "F16")]
    pairs = [pair("general.architecture", STRING, architecture), pair("general.type", STRING, "adapter")]
    return gguf(pairs, rows).write(place / "style.gguf")


def check(file: Path, option: str = "lora") -> Report:
    asked: dict[str, Any] = {option: str(file)}
    return fitcheck.check("llama-3.1-8b", "RTX 4090", tier="Q4_K_M", **asked)


def test_an_adapter_of_this_model_runs_beside_it(tmp_path: Path) -> None:
    found = check(adapter(tmp_path, "blk.31.attn_q.weight", WIDTH, ROWS)).best
    assert found.need > fitcheck.check("llama-3.1-8b", "RTX 4090", tier="Q4_K_M").best.need


def test_an_adapter_of_embeddings_is_turned_round(tmp_path: Path) -> None:
    """Rows of embeddings are looked up by token: A has the vocabulary's rows, B the width's."""
    rows: Rows = [("token_embd.weight.lora_a", (128256, 16), "F16"), ("token_embd.weight.lora_b", (WIDTH, 16), "F16")]
    pairs = [pair("general.architecture", STRING, "llama"), pair("general.type", STRING, "adapter")]
    assert check(gguf(pairs, rows).write(tmp_path / "style.gguf")).best.verdict.value == "fits"
    with pytest.raises(OptionError, match=r"changes a token_embd\.weight of another width"):
        check(adapter(tmp_path, "token_embd.weight", WIDTH, 128256))


@pytest.mark.parametrize(
    ("name", "takes", "gives", "architecture", "said"),
    [
        ("blk.0.attn_q.weight", WIDTH, ROWS, "qwen3", "of architecture 'qwen3', and this one is 'llama'"),
        ("blk.0.attn_q.weight", 5120, ROWS, "llama", "changes a blk.0.attn_q.weight of another width"),
        ("blk.0.attn_k.weight", WIDTH, ROWS, "llama", "changes a blk.0.attn_k.weight of another width"),
        ("blk.32.attn_q.weight", WIDTH, ROWS, "llama", "changes blk.32.attn_q.weight, which the model lacks"),
    ],
)
def test_an_adapter_of_another_model_is_refused(
    tmp_path: Path, name: str, takes: int, gives: int, architecture: str, said: str
) -> None:
    with pytest.raises(OptionError, match=rf"^--lora: .*{said}.*"):
        check(adapter(tmp_path, name, takes, gives, architecture))


@pytest.mark.parametrize(("width", "right"), [(WIDTH, True), (5120, False)])
def test_a_control_vector_is_as_wide_as_the_model(tmp_path: Path, width: int, right: bool) -> None:
    rows: Rows = [("direction.1", (width,), "F32"), ("direction.2", (width,), "F32")]
    file = gguf([pair("general.architecture", STRING, "controlvector")], rows).write(tmp_path / "calm.gguf")
    if right:
        assert check(file, "control_vector").best.verdict.value == "fits"
        return
    with pytest.raises(OptionError, match=r"^--control-vector: .* is 5120 wide, and the model 4096"):
        check(file, "control_vector")

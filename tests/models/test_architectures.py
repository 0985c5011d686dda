"""Every architecture of llama.cpp: what it is, and that a file of it never ends in a traceback."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from gguf import MODEL_ARCH_NAMES
from gguf_files import STRING, U32, gguf, pair

import fitcheck
from fitcheck.errors import InputError
from fitcheck.hardware.card import Card, Sourced
from fitcheck.hardware.machine import Gpu, Link, Machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models.families.language.kinds import architectures, kind_of_architecture
from fitcheck.models.workload import Task
from fitcheck.units import GIB
from fitcheck.verdict.report import Report

KEYS = {
    "block_count": 2, "embedding_length": 256, "feed_forward_length": 512, "context_length": 2048,
    "attention.head_count": 4, "attention.head_count_kv": 4, "vocab_size": 512,
}  # fmt: skip
Tensors = Sequence[tuple[str, tuple[int, ...], str]]
PLAIN: Tensors = [
    ("token_embd.weight", (512, 256), "F16"),
    ("output_norm.weight", (256,), "F32"),
    ("output.weight", (512, 256), "F16"),
    *(
        (f"blk.{layer}.{name}.weight", shape, "F32" if "norm" in name else "F16")
        for layer in range(2)
        for name, shape in {
            "attn_norm": (256,), "attn_q": (256, 256), "attn_k": (256, 256), "attn_v": (256, 256),
            "attn_output": (256, 256), "ffn_norm": (256,), "ffn_gate": (512, 256), "ffn_up": (512, 256),
            "ffn_down": (256, 512),
        }.items()
    ),
]  # fmt: skip
CARD = Card(
    "card", "Card", "NVIDIA", 24 * GIB, memory_bandwidth=500e9, tensor_flops=Sourced(100e12, "maker", "2026"),
    compute_capability=(8, 9), pcie_generation=4, pcie_lanes=16,
)  # fmt: skip
MACHINE = Machine((Gpu(CARD, Link(4, 16), 24 * GIB, vram_override=24 * GIB),), ram_total=64 * GIB)
LORA: Tensors = [
    ("blk.0.attn_q.weight.lora_a", (16, 256), "F16"),
    ("blk.0.attn_q.weight.lora_b", (256, 16), "F16"),
]


def check(folder: Path, architecture: str, tensors: Tensors = PLAIN, keys: bool = True, **general: str) -> Report:
    """The report on a generated file, on a card of 24 GB with 64 GiB of system memory."""
    pairs = [pair("general.architecture", STRING, architecture)]
    pairs += [pair(f"general.{key}", STRING, value) for key, value in general.items()]
    pairs += [pair(f"{architecture}.{key}", U32, value) for key, value in KEYS.items() if keys]
    path = gguf(pairs, tensors).write(folder / "model-F16.gguf")
    return fitcheck.check(str(path), MACHINE)


def test_the_table_has_every_architecture_of_the_gguf_package() -> None:
    missing = {name for name in MODEL_ARCH_NAMES.values() if kind_of_architecture(name).name == "unknown"}
    assert not missing
    assert len(architectures()) >= 150


@pytest.mark.parametrize(
    ("name", "kind", "modelled"),
    [
        ("llama", "language", True), ("gpt-oss", "language", True), ("deepseek4", "language", False),
        ("bert", "encoder", True), ("t5encoder", "encoder", False), ("clip", "projector", False),
        ("flux", "image denoiser", False),
        ("wavtokenizer-dec", "codec", False), ("t5", "encoder-decoder", False), ("dream", "diffusion language", True),
        ("nobody-knows", "unknown", False),
    ],
)  # fmt: skip
def test_kinds(name: str, kind: str, modelled: bool) -> None:
    found = kind_of_architecture(name)
    assert (found.name, found.modelled) == (kind, modelled)


@pytest.mark.parametrize("name", [*architectures(), "flux", "whisper", "mllama", "nobody-knows"])
def test_a_file_of_any_architecture_is_judged_without_a_traceback(tmp_path: Path, name: str) -> None:
    """A plain transformer under every name: modelled where such a file is one, else unknown or one sentence."""
    kind = kind_of_architecture(name)
    if not kind.model:
        with pytest.raises(InputError, match=re.escape(kind.says)):
            check(tmp_path, name)
        return
    verdicts = {cell.verdict for cell in check(tmp_path, name).cells}
    assert verdicts == {Verdict.FITS if kind.modelled else Verdict.UNKNOWN}


@pytest.mark.parametrize(
    ("tensors", "general", "says"),
    [
        (LORA, {"type": "adapter"}, "LoRA adapter"),
        (LORA, {}, "LoRA adapter"),
        (PLAIN, {"type": "mmproj"}, "projector"),
        (PLAIN, {"type": "imatrix"}, "importance matrix"),
        ([], {}, "vocabulary"),
    ],
)
def test_what_is_no_model_is_called_what_it_is(
    tmp_path: Path, tensors: Tensors, general: dict[str, str], says: str
) -> None:
    for keys in (True, False):
        with pytest.raises(InputError, match=f"this is an? .*{says}"):
            check(tmp_path, "llama", tensors, keys, **general)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (("blk.0.ffn_gate.0.weight", (512, 256), "F16"), "one tensor an expert"),
        (("v.blk.0.attn_q.weight", (256, 256), "F16"), "vision tower within"),
    ],
)
def test_files_that_llamacpp_does_not_load_are_unknown_with_the_reason(
    tmp_path: Path, extra: tuple[str, tuple[int, ...], str], says: str
) -> None:
    report = check(tmp_path, "llama", [*PLAIN, extra])
    assert {cell.verdict for cell in report.cells} == {Verdict.UNKNOWN}
    assert says in report.cells[0].reason
    assert report.cells[0].ask.workload.task is Task.CHAT


def test_a_file_without_a_tensor_that_the_graph_needs_is_unknown(tmp_path: Path) -> None:
    report = check(tmp_path, "llama", [row for row in PLAIN if row[0] != "blk.1.ffn_down.weight"])
    assert {cell.verdict for cell in report.cells} == {Verdict.UNKNOWN}
    assert "blk.1.ffn_down.weight" in report.cells[0].reason


def test_weights_that_fit_neither_card_nor_host_are_a_sure_no(tmp_path: Path) -> None:
    huge = ("blk.0.attn_q.weight", (1 << 18, 1 << 18), "F16")
    report = check(tmp_path, "deepseek4", [huge])
    assert {cell.verdict for cell in report.cells} == {Verdict.NO}
    assert "deepseek4" in report.cells[0].reason


def test_an_adapter_beside_a_model_is_no_tier(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    pairs = [pair("general.architecture", STRING, "llama"), *(pair(f"llama.{k}", U32, v) for k, v in KEYS.items())]
    gguf(pairs, PLAIN).write(folder / "model-F16.gguf")
    gguf([*pairs, pair("general.type", STRING, "adapter")], LORA).write(folder / "style-F32.gguf")
    report = fitcheck.check(str(folder), MACHINE)
    assert {cell.tier.name for cell in report.cells} == {"F16"}
    assert any("LoRA adapter" in note for note in report.notes)

"""Files beside a model: projectors counted where they lie with it, adapters where they are given."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "models"))
from gguf_files import STRING, U32, Shape, gguf, pair

import fitcheck
from fitcheck.errors import FileError
from fitcheck.models.companions import Companion, best_projector
from fitcheck.models.find import read_companion
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate
from fitcheck.runtimes.llamacpp.projector import projector_memory
from fitcheck.units import GIB, MIB
from fitcheck.verdict.cell import Cell

Rows = list[tuple[str, Shape, str]]
WIDTH, PATCH, SIDE, LAYERS, HEADS, INNER = 1152, 14, 896, 27, 16, 4304


def projector_rows(layers: int = LAYERS) -> Rows:
    """The vision tower of Gemma 3: SigLIP with a projection to 5376."""
    rows: Rows = [
        ("v.patch_embd.weight", (WIDTH, 3, PATCH, PATCH), "F32"),
        ("v.position_embd.weight", ((SIDE // PATCH) ** 2, WIDTH), "F32"),
        ("mm.input_projection.weight", (WIDTH, 5376), "F16"),
    ]
    for layer in range(layers):
        prefix = f"v.blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            rows += [(f"{prefix}{name}.weight", (WIDTH, WIDTH), "F16"), (f"{prefix}{name}.bias", (WIDTH,), "F32")]
        rows += [(f"{prefix}ffn_up.weight", (INNER, WIDTH), "F16"), (f"{prefix}ffn_down.weight", (WIDTH, INNER), "F16")]
    return rows


def projector_pairs(kind: str = "gemma3", **changes: int) -> list[bytes]:
    numbers = {
        "image_size": SIDE,
        "patch_size": PATCH,
        "embedding_length": WIDTH,
        "attention.head_count": HEADS,
        **changes,
    }
    pairs = [pair("general.architecture", STRING, "clip"), pair("general.type", STRING, "mmproj")]
    pairs.append(pair("clip.projector_type", STRING, kind))
    return pairs + [pair(f"clip.vision.{key}", U32, value) for key, value in numbers.items()]


def language_rows(width: int = 512, layers: int = 2) -> Rows:
    rows: Rows = [
        ("token_embd.weight", (1024, width), "F16"),
        ("output_norm.weight", (width,), "F32"),
        ("output.weight", (1024, width), "F16"),
    ]
    for layer in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            rows.append((f"blk.{layer}.{name}.weight", (width,), "F32"))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            rows.append((f"blk.{layer}.{name}.weight", (width, width), "F16"))
    return rows


def language_pairs() -> list[bytes]:
    keys = ("block_count", 2), ("embedding_length", 512), ("feed_forward_length", 512), ("context_length", 4096)
    numbers = {**dict(keys), "attention.head_count": 4, "attention.head_count_kv": 4}
    return [pair("general.architecture", STRING, "llama")] + [pair(f"llama.{k}", U32, v) for k, v in numbers.items()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gguf(language_pairs(), language_rows()).write(tmp_path / "model-F16.gguf")
    gguf(projector_pairs(), projector_rows()).write(tmp_path / "mmproj-model-F16.gguf")
    return tmp_path


def check(place: Path, **options: Any) -> Cell:
    return fitcheck.check(str(place), "RTX 3060 12GB", ram=16 * GIB, **options).best


def beside(cell: Cell) -> int:
    assert isinstance(cell.footprint.layout, LlamaEstimate)
    return cell.footprint.layout.cards[0].beside


def weight(rows: Rows) -> int:
    return TensorTable(Tensor(*row) for row in rows).nbytes


def test_a_projector_in_the_folder_is_counted_and_in_the_command(folder: Path) -> None:
    with_, without = check(folder), check(folder, no_mmproj=True)
    assert beside(with_) > weight(projector_rows())
    assert beside(without) == 0
    assert with_.need - without.need == beside(with_)
    words = shlex.split(with_.commands[-1])
    assert words[words.index("--mmproj") + 1] == str(folder / "mmproj-model-F16.gguf")
    assert "--no-mmproj" in shlex.split(without.commands[-1])


def test_a_projector_can_be_kept_off_the_card(folder: Path) -> None:
    usual, kept = check(folder), check(folder, no_mmproj_offload=True)
    assert beside(kept) == 0
    assert kept.footprint.host.total.best - usual.footprint.host.total.best == beside(usual)
    assert "--no-mmproj-offload" in shlex.split(kept.commands[-1])
    assert "--no-mmproj-offload" not in shlex.split(usual.commands[-1])
    assert "--no-mmproj-offload" not in check(folder, no_mmproj=True, no_mmproj_offload=True).commands[-1]


def test_a_file_alone_has_the_projector_that_is_given(folder: Path) -> None:
    model, projector = folder / "model-F16.gguf", folder / "mmproj-model-F16.gguf"
    assert beside(check(model)) == 0
    assert beside(check(model, mmproj=str(projector))) == beside(check(folder))


def test_a_model_by_name_takes_a_projector_too(folder: Path) -> None:
    report = fitcheck.check("gemma-3-27b", "RTX 4090", tier="Q4_0", mmproj=str(folder / "mmproj-model-F16.gguf"))
    assert beside(report.best) > weight(projector_rows())
    assert "--no-mmproj" not in report.best.commands[-1]
    assert not any("mmproj file is not counted" in note for note in report.notes)


def test_a_projector_that_was_not_counted_is_left_out_of_the_command() -> None:
    """``llama-server -hf`` fetches the repository's mmproj file and loads it, unless told."""
    report = fitcheck.check("gemma-3-27b", "RTX 4090", tier="Q4_0")
    assert shlex.split(report.best.commands[-1])[-1] == "--no-mmproj"
    assert any("mmproj file is not counted" in note for note in report.notes)
    told = fitcheck.check("gemma-3-27b", "RTX 4090", tier="Q4_0", no_mmproj=True)
    assert told.best.commands == report.best.commands
    assert not any("mmproj file is not counted" in note for note in told.notes)
    assert "--no-mmproj" not in fitcheck.check("qwen3-8b", "RTX 4090", tier="Q4_0").best.commands[-1]


def test_what_is_no_projector_is_refused(folder: Path) -> None:
    with pytest.raises(FileError, match="this is a model and no projector"):
        check(folder, mmproj=str(folder / "model-F16.gguf"))
    with pytest.raises(FileError, match="this is a projector and no adapter"):
        check(folder, lora=str(folder / "mmproj-model-F16.gguf"))
    other = folder / "lora.safetensors"
    other.write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(FileError, match=r"no \.gguf file, and an adapter beside .* --load-lora-weights"):
        check(folder / "model-F16.gguf", lora=str(other))


def test_an_adapter_lies_beside_the_layers_that_it_changes(folder: Path, tmp_path: Path) -> None:
    rows: Rows = [
        (f"blk.{layer}.attn_q.weight.lora_{side}", shape, "F16")
        for layer in range(2)
        for side, shape in (("a", (64, 512)), ("b", (512, 64)))
    ]
    pairs = [pair("general.architecture", STRING, "llama"), pair("general.type", STRING, "adapter")]
    place = gguf(pairs, rows).write(tmp_path / "style.gguf")
    cell = check(folder / "model-F16.gguf", lora=str(place))
    assert beside(cell) == weight(rows)
    assert "--lora" in shlex.split(cell.commands[-1])
    half = check(folder / "model-F16.gguf", lora=str(place), ngl=2)  # the head and the last layer
    assert beside(half) == weight(rows) // 2


def test_an_adapter_of_the_head_lies_where_the_head_does(folder: Path, tmp_path: Path) -> None:
    """With one layer on the card that is the head, since December 2025; the first layers are on the host."""
    rows: Rows = [("output.weight.lora_a", (64, 512), "F16"), ("output.weight.lora_b", (1024, 64), "F16")]
    pairs = [pair("general.architecture", STRING, "llama"), pair("general.type", STRING, "adapter")]
    place = gguf(pairs, rows).write(tmp_path / "head.gguf")
    assert beside(check(folder / "model-F16.gguf", lora=str(place), ngl=1)) == weight(rows)
    assert beside(check(folder / "model-F16.gguf", lora=str(place), ngl=0)) == 0


def test_a_projector_lies_on_the_first_card_of_this_machine(folder: Path) -> None:
    """Workers come before it among the cards, and hold layers alone."""
    layout = check(folder, rpc="box:24GB").footprint.layout
    assert isinstance(layout, LlamaEstimate)
    worker, own = (card.beside for card in layout.cards)
    assert (worker, own) == (0, beside(check(folder)))


def companion(kind: str = "gemma3", **changes: int) -> Companion:
    numbers = {
        "image_size": SIDE,
        "patch_size": PATCH,
        "embedding_length": WIDTH,
        "attention.head_count": HEADS,
        **changes,
    }
    table = TensorTable(Tensor(*row) for row in projector_rows())
    return Companion(
        "projector", "mmproj.gguf", table, tuple((f"clip.vision.{k}", v) for k, v in numbers.items()), kind
    )


def test_a_larger_image_needs_more_and_scores_without_flash_much_more() -> None:
    small, usual = projector_memory(companion(image_size=448)), projector_memory(companion())
    plain = projector_memory(companion(), flash=False)
    assert small.compute is not None
    assert usual.compute is not None
    assert plain.compute is not None
    assert 2 < usual.compute / small.compute < 4  # the projection itself does not shrink
    patches = (SIDE // PATCH) ** 2
    assert plain.compute > patches * patches * HEADS * 4
    assert usual.compute < 300 * MIB


def test_the_size_tried_at_the_start_is_the_kinds_own() -> None:
    """Qwen's towers take any size and are tried with 46 × 46 tokens of 2 × 2 patches."""
    tried, told = (projector_memory(companion("qwen2.5vl_merger", image_size=side)) for side in (SIDE, 448))
    assert tried == told
    assert tried.compute is not None
    assert tried.compute > (46 * 2) ** 2 * WIDTH * 4 * 4


@pytest.mark.parametrize("flash", [True, False])
def test_the_bytes_that_llama_cpp_takes_of_a_card(flash: bool) -> None:
    """Captures of benchmarks/llamacpp_probe/projector.py; a build of October 2026."""
    probe = Path(__file__).parents[3] / "benchmarks" / "llamacpp_probe"
    sys.path.append(str(probe))
    from projector import TOWERS, predicted

    printed = json.loads((probe / "projectors.json").read_text())
    assert len(printed) == 2 * len(TOWERS)
    for name, one in TOWERS.items():
        theirs = printed[name if flash else f"{name}, no flash attention"]
        assert predicted(one, flash) == pytest.approx(theirs, abs=2048), name


@pytest.mark.parametrize("changes", [{"image_size": 0}, {"image_size": 1 << 30}, {"attention.head_count": 0}])
def test_what_cannot_be_is_no_graph(changes: dict[str, Any]) -> None:
    assert projector_memory(companion(**changes)).compute is None


def test_of_several_projectors_the_one_of_fewest_bits_is_taken() -> None:
    assert best_projector(["mmproj-F32.gguf", "mmproj-BF16.gguf", "mmproj-Q8_0.gguf"]) == "mmproj-Q8_0.gguf"
    assert best_projector(["mmproj-F16.gguf", "mmproj-BF16.gguf"]) == "mmproj-F16.gguf"
    assert best_projector([]) is None


def test_a_safetensors_file_is_told_that_an_adapter_is_a_gguf_file(tmp_path: Path) -> None:
    """A LoRA of diffusers was said to be a model."""
    tensor = {"dtype": "F16", "shape": [4, 8], "data_offsets": [0, 64]}
    header = json.dumps({"transformer.blocks.0.lora_A.weight": tensor}).encode()
    file = tmp_path / "style.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(FileError, match=r"no \.gguf file, and an adapter .* name a \.gguf file"):
        read_companion(str(file), "adapter", offline=True)

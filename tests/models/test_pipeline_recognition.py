"""Folders, repositories and single denoiser files: recognized by class and shapes, refused in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from gguf_files import STRING, gguf, pair
from hypothesis import given
from hypothesis import strategies as st
from pipeline_files import denoiser_of, rows_of, safetensors, write_folder, write_gguf, write_untraced
from standin_hub import Blob, StandInHub

from fitcheck.errors import FileError, InputError, ModelError
from fitcheck.models.candidates import Candidate, WeightSet
from fitcheck.models.families.base import ReadTier
from fitcheck.models.families.pipeline import catalog, single_file
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.find import Identified, find_model
from fitcheck.models.gguf import read_gguf
from fitcheck.models.hub import HubSettings
from fitcheck.models.identify import identify
from fitcheck.models.model import Tier
from fitcheck.models.resolve import resolve


def found(path: Path) -> Identified:
    """The model at ``path``, without the network."""
    return find_model(str(path), offline=True)


@pytest.fixture(scope="module")
def lumina(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound folder; copies of it are broken by the tests."""
    return write_folder(tmp_path_factory.mktemp("pipelines") / "lumina", "lumina-2")


@pytest.fixture
def folder(lumina: Path, tmp_path: Path) -> Path:
    """A copy of the sound folder, whose weights are links."""
    copy = tmp_path / "lumina"
    shutil.copytree(lumina, copy, copy_function=lambda a, b: Path(b).hardlink_to(a))
    return copy


def rewrite(path: Path, change: dict[str, Any]) -> None:
    """Changes keys of a JSON file."""
    values = json.loads(path.read_text()) | change
    path.unlink()
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("slug", ["lumina-2", "sd1.5", "wan2.2-t2v-a14b", "pixart-sigma"])
def test_a_folder_is_the_pipeline_of_the_catalog(tmp_path: Path, slug: str) -> None:
    model = found(write_folder(tmp_path / "p", slug)).model
    known = catalog.architecture_of(slug)
    assert isinstance(model.architecture, PipelineArchitecture)
    assert [(one.name, one.trace) for one in model.architecture.components] == [
        (one.name, one.trace) for one in known.components
    ]
    assert set(model.tiers[0].tensors.bytes_by_branch) == {one.name for one in known.components}
    assert {tensor.role for tensor in model.tiers[0].tensors} <= {
        "linear",
        "convolution",
        "embedding",
        "norm",
        "parameter",
    }
    assert model.runtimes == catalog.RUNTIMES


def test_a_repository_on_the_hub_is_read_by_its_headers(lumina: Path, tmp_path: Path) -> None:
    """Nothing but headers and configs is fetched: a hundredth of a per mille of the weights."""
    files = {}
    for path in lumina.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                files[path.relative_to(lumina).as_posix()] = Blob(file.read(1 << 20).rstrip(b"\0"), path.stat().st_size)
    with StandInHub({"some/lumina": files}) as hub:
        settings = HubSettings(endpoint=hub.url, cache=tmp_path / "cache")
        with resolve("some/lumina", settings=settings) as place:
            recognized, _ = identify(place)
            assert place.traffic is not None
            assert place.traffic.fetched_bytes < 3e-4 * recognized.tiers[0].disk_bytes
    assert recognized.model.slug == "some/lumina"
    assert recognized.model.licence == "unknown"
    assert isinstance(recognized.model.architecture, PipelineArchitecture)
    assert recognized.model.architecture.component("transformer").trace == "lumina2-transformer"


def test_one_class_in_two_sizes_is_told_by_shapes(tmp_path: Path) -> None:
    model = found(write_folder(tmp_path / "p", "cogvideox-5b")).model
    assert isinstance(model.architecture, PipelineArchitecture)
    assert model.architecture.component("transformer").trace == "cogvideox-5b-transformer"
    assert "CogVideoX 5B" in model.notes[0]


@pytest.mark.parametrize("value", [None, False, 0.0, []])
def test_an_unknown_key_that_switches_nothing_on_is_ignored(folder: Path, value: object) -> None:
    """As ``"clip_output": false`` in the VAE of Wan-AI/Wan2.2-TI2V-5B-Diffusers."""
    rewrite(folder / "vae" / "config.json", {"clip_output": value})
    model = found(folder).model
    assert isinstance(model.architecture, PipelineArchitecture)
    assert model.architecture.component("vae").trace == "autoencoder-kl-16"


def test_a_component_of_other_shapes_has_no_trace(tmp_path: Path) -> None:
    model = found(write_untraced(tmp_path / "p")).model
    assert isinstance(model.architecture, PipelineArchitecture)
    transformer = model.architecture.component("transformer")
    assert transformer.trace is None
    assert transformer.role == "denoiser"
    assert set(transformer.lists) == {"noise_refiner", "context_refiner", "layers"}
    assert model.architecture.component("vae").trace == "autoencoder-kl-16"
    assert "activations are not known" in " ".join(model.notes)


def test_packed_weights_are_recognized_too(folder: Path) -> None:
    """bitsandbytes stores a linear weight as bytes in one column, with its scales beside it."""
    rows = []
    for name, shape, kind in rows_of(denoiser_of("lumina-2")):
        if len(shape) == 2 and name.endswith("proj.weight"):
            rows += [(name, (shape[0] * shape[1] // 2, 1), "U8"), (f"{name}.absmax", (shape[0],), "F32")]
        else:
            rows.append((name, shape, kind))
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    safetensors(rows).write(weights)
    model = found(folder).model
    assert isinstance(model.architecture, PipelineArchitecture)
    assert model.architecture.component("transformer").trace == "lumina2-transformer"


def test_a_pipeline_of_no_catalog_is_judged_by_its_weights(folder: Path) -> None:
    rewrite(folder / "model_index.json", {"_class_name": "KolorsPipeline"})
    model = found(folder).model
    assert model.architecture.family == "unknown"
    assert model.runtimes == ("weights only",)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("model_index.json", {"_class_name": "NopePipeline"}, "NopePipeline, which diffusers 0.42.1 does not have"),
        ("model_index.json", {"_class_name": 7}, "names the pipeline nothing"),
        ("model_index.json", {"_class_name": "Evil\x1b[2JPipeline"}, "does not have"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderNope"]}, "AutoencoderNope as vae"),
        ("model_index.json", {"transformer_3": ["diffusers", "VQModel"]}, "transformer_3 (VQModel)"),
        ("transformer/config.json", {"no_such_key": 1}, "has 'no_such_key', which Lumina2Transformer2DModel"),
        ("vae/config.json", {"no\x07such\x1b[1m": 1}, "does not know"),
    ],
)
def test_a_strange_folder_is_refused_in_one_sentence(
    folder: Path, file: str, change: dict[str, Any], words: str
) -> None:
    rewrite(folder / file, change)
    with pytest.raises(InputError) as caught:
        found(folder)
    said = str(caught.value)
    assert words in said
    assert said.isprintable()
    assert said.endswith(".")


def test_a_component_without_weights_is_named(folder: Path) -> None:
    (folder / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(FileError, match=r"text_encoder \(Gemma2Model\) .* has no .safetensors weights"):
        found(folder)


def test_a_folder_without_weights(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(FileError, match=r"holds no \.gguf or \.safetensors weights"):
        found(folder)


def read_or_refused(folder: Path) -> bool:
    """Whether the folder is read, or refused in one printable sentence."""
    try:
        return bool(found(folder).model.tiers)
    except InputError as problem:
        return str(problem).isprintable() and str(problem).endswith(".")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(
    index=st.dictionaries(
        st.text(max_size=16) | st.sampled_from(["_class_name", "transformer", "vae"]), JSON, max_size=6
    )
)
def test_any_model_index_is_read_or_refused(lumina: Path, index: dict[str, Any]) -> None:
    """Never a traceback, whatever stands in model_index.json."""
    copy = lumina.parent / "fuzz"
    if not copy.exists():
        shutil.copytree(lumina, copy, copy_function=lambda a, b: Path(b).hardlink_to(a))
    rewrite(copy / "model_index.json", index)
    assert read_or_refused(copy)


@given(config=st.dictionaries(st.text(max_size=16) | st.sampled_from(["hidden_size", "_class_name"]), JSON, max_size=6))
def test_any_config_is_read_or_refused(lumina: Path, config: dict[str, Any]) -> None:
    copy = lumina.parent / "fuzz-config"
    if not copy.exists():
        shutil.copytree(lumina, copy, copy_function=lambda a, b: Path(b).hardlink_to(a))
    (copy / "transformer" / "config.json").unlink()
    (copy / "transformer" / "config.json").write_text(json.dumps(config))
    assert read_or_refused(copy)


@pytest.mark.parametrize(
    ("slug", "tier", "file", "architecture"),
    [
        ("flux.1-dev", "Q4_K_S", "flux1-dev-Q4_K_S.gguf", "flux"),
        ("flux.1-schnell", "Q8_0", "flux1-schnell-Q8_0.gguf", "flux"),
        ("flux.1-kontext-dev", "Q5_K_M", "flux1-kontext-dev-Q5_K_M.gguf", "flux"),
        ("qwen-image", "Q4_K_M", "qwen-image-Q4_K_M.gguf", "qwen_image"),
        ("z-image-turbo", "Q6_K", "z_image_turbo-Q6_K.gguf", "lumina2"),
        ("wan2.2-t2v-a14b", "Q4_K_M", "Wan2.2-T2V-A14B-HighNoise-Q4_K_M.gguf", "wan"),
        ("wan2.1-t2v-14b", "Q4_K_M", "wan2.1-t2v-14b-Q4_K_M.gguf", "wan"),
    ],
)
def test_a_gguf_denoiser_brings_the_rest_of_its_pipeline(
    tmp_path: Path, slug: str, tier: str, file: str, architecture: str
) -> None:
    identified = found(write_gguf(tmp_path / file, slug, tier, architecture=architecture))
    assert identified.model.slug == slug
    (mine,) = identified.tiers
    assert mine.name == tier
    assert mine.components == tuple(one.name for one in catalog.architecture_of(slug).components)
    assert mine.tensors.bytes_by_branch == catalog.get(slug).tier_named(tier).tensors.bytes_by_branch


def test_two_experts_files_are_one_tier(tmp_path: Path) -> None:
    """A repository has a folder for each expert; a file alone stands for both."""
    for expert in ("High", "Low"):
        (tmp_path / f"{expert}Noise").mkdir()
        for label in ("Q4_K_S", "Q2_K"):
            file = tmp_path / f"{expert}Noise" / f"Wan2.2-T2V-A14B-{expert}Noise-{label}.gguf"
            if (expert, label) != ("Low", "Q2_K"):
                write_gguf(file, "wan2.2-t2v-a14b", label, architecture="wan")
    identified = found(tmp_path)
    assert identified.model.slug == "wan2.2-t2v-a14b"
    assert sorted(tier.name for tier in identified.tiers) == ["Q2_K", "Q4_K_S"]
    for tier in identified.tiers:
        sizes = tier.tensors.bytes_by_branch
        assert sizes["transformer"] == sizes["transformer_2"]
        assert tier.disk_bytes == pytest.approx(tier.tensors.nbytes, rel=1e-3)


def test_a_single_safetensors_denoiser(tmp_path: Path) -> None:
    """ComfyUI's files carry a wrapper's prefix and scales, and call the blocks by their publisher's names."""
    rows = []
    for name, shape, kind in rows_of(denoiser_of("flux.1-dev"), "F8_E4M3"):
        theirs = name.replace("single_transformer_blocks.", "single_blocks.").replace(
            "transformer_blocks.", "double_blocks."
        )
        rows.append((f"model.diffusion_model.{theirs}", shape, kind))
    rows.append(("model.diffusion_model.double_blocks.0.img_attn.qkv.scale_weight", (1,), "F32"))
    rows.append(("first_stage_model.decoder.conv_in.weight", (512, 16, 3, 3), "BF16"))
    (tier,) = found(safetensors(rows).write(tmp_path / "flux1-dev-fp8.safetensors")).tiers
    assert tier.tensors.bytes_by_branch["transformer"] == 11_901_408_320
    blocks = {tensor.name.split(".")[1] for tensor in tier.tensors if tensor.branch == "transformer"}
    assert {"transformer_blocks", "single_transformer_blocks"} <= blocks


def test_a_language_model_is_no_denoiser(tmp_path: Path) -> None:
    """As many weights as a denoiser has, but the tensors of a language model."""
    rows = [("token_embd.weight", (131072, 4096), "Q8_0"), ("blk.0.attn_q.weight", (4096, 4096), "Q8_0")]
    path = gguf([pair("general.architecture", STRING, "llama")], rows).write(tmp_path / "flux.1-dev-Q8_0.gguf")
    read = ReadTier(Candidate("Q8_0", "gguf", (WeightSet((path.name,)),), None), read_gguf(path), tier_at(path))
    assert single_file.pipelines_of(read) == []


def tier_at(path: Path) -> Tier:
    """The file as a tier by itself."""
    return Tier(path.name, read_gguf(path).tensors, "gguf", file=path.name)


def test_a_lora_is_no_model(tmp_path: Path) -> None:
    rows = [
        (f"transformer.blocks.{n}.attn.to_q.lora_{side}.weight", (16, 3072), "BF16") for n in range(3) for side in "AB"
    ]
    with pytest.raises(FileError, match="this is a LoRA"):
        found(safetensors(rows).write(tmp_path / "style.safetensors"))


def test_a_gguf_for_a_catalog_model(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "mine.gguf", "flux.1-dev", "Q4_K_S")
    (tier,) = find_model("flux.1-dev", gguf=path).tiers
    assert tier.local_path == str(path)
    with pytest.raises(ModelError, match=r"not a file of Qwen-Image: it has the shape of flux\.1-dev"):
        find_model("qwen-image", gguf=path)


def test_a_gguf_of_no_denoiser(tmp_path: Path) -> None:
    path = gguf([pair("general.architecture", STRING, "flux")], [("double_blocks.0.x.weight", (64, 64), "F16")])
    with pytest.raises(ModelError, match="no denoiser of the catalog has its shape"):
        find_model("flux.1-dev", gguf=path.write(tmp_path / "x.gguf"))

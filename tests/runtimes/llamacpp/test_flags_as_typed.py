"""llama.cpp's own flags are understood as they are typed there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

import fitcheck
from fitcheck.cli.main import application
from fitcheck.errors import OptionError
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate
from fitcheck.units import GIB


def cell(*words: str) -> dict[str, Any]:
    asked = ["check", "qwen3-8b", "--gpu", "RTX 4090", "--ram", "64GB", "--tier", "Q4_K_M", "--json", *words]
    found: dict[str, Any] = json.loads(CliRunner().invoke(application(), asked).stdout)["cells"][0]
    return found


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["-c", "16k"], ["--ctx", "16384"]),
        (["--ctx-size", "16384"], ["--ctx", "16384"]),
        (["-ngl", "20"], ["--ngl", "20"]),
        (["--n-gpu-layers", "20"], ["--ngl", "20"]),
        (["--gpu-layers", "all"], ["--ngl", "99"]),
        (["-ngl", "auto"], []),
        (["-ctk", "q8_0", "-ctv", "q8_0"], ["--cache-type", "q8_0"]),
        (["-ctk", "Q8_0"], ["--cache-type", "q8_0,f16"]),
        (["-np", "2"], ["--sequences", "2"]),
        (["--parallel", "2"], ["--sequences", "2"]),
        (["--ubatch-size", "1024"], ["--ubatch", "1024"]),
        (["-fa", "auto"], []),
    ],
)
def test_their_flags_mean_ours(theirs: list[str], ours: list[str]) -> None:
    one, other = cell(*theirs), cell(*ours)
    assert one["details"]["buffers"] == other["details"]["buffers"]
    assert one["commands"] == other["commands"]


def laid_out(**options: Any) -> LlamaEstimate:
    report = fitcheck.check("qwen3-30b-a3b", "RTX 4090", ram=64 * GIB, tier="Q4_K_M", **options)
    found = report.best.footprint.layout
    assert isinstance(found, LlamaEstimate)
    return found


def test_experts_of_all_layers_stay_on_the_host() -> None:
    all_of_them, counted = laid_out(cpu_moe=True), laid_out(n_cpu_moe=48)
    assert all_of_them.cards == counted.cards
    assert all_of_them.host.weights > 15 * GIB


def test_without_flash_attention_scores_take_room_and_a_quantized_cache_is_refused() -> None:
    assert laid_out(flash_attn="off", ctx=8192).cards[0].compute > 2 * laid_out(ctx=8192).cards[0].compute
    with pytest.raises(OptionError, match="leave --flash-attn on"):
        laid_out(flash_attn="off", cache_type="q8_0")


def test_prompts_that_are_kept_count_as_system_memory() -> None:
    kept, plain = (
        fitcheck.check("qwen3-8b", "RTX 4090", ram=64 * GIB, tier="Q4_K_M", cache_ram=size) for size in (4096, 0)
    )
    more = kept.best.footprint.host.total.best - plain.best.footprint.host.total.best
    assert more == 4 * GIB
    assert "-cram 4096" in kept.best.commands[-1]
    assert any("4.0 GiB is for prompts seen before" in note for note in kept.notes)
    assert kept.best.footprint.cards == plain.best.footprint.cards
    with pytest.raises(OptionError, match="--cache-ram"):
        LlamaOptions(cache_ram=-2)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"ram": 8 * GIB}, True),
        ({"ram": 64 * GIB}, False),
        ({"ram": 8 * GIB, "cache_ram": 0}, False),
        ({"ram": 8 * GIB, "build": "2025-09"}, False),
    ],
)
def test_prompts_that_the_server_keeps_by_itself_are_said_where_there_is_no_room(
    asked: dict[str, Any], said: bool
) -> None:
    report = fitcheck.check("qwen3-8b", "RTX 4090", tier="Q4_K_M", **asked)
    assert any("in time up to 8.0 GiB" in note for note in report.notes) is said


@pytest.mark.parametrize(
    ("typed", "flash"), [("on", True), ("enabled", True), ("TRUE", True), ("1", True), ("off", False), ("false", False)]
)
def test_flash_attention_is_said_as_llama_cpp_takes_it(typed: str, flash: bool) -> None:
    assert laid_out(flash_attn=typed, ctx=8192) == laid_out(flash_attn="on" if flash else "off", ctx=8192)
    assert laid_out(flash_attn="-1", ctx=8192) == laid_out(ctx=8192)


@pytest.mark.parametrize("typed", ["", "f16,f16,f16", ","])
def test_cache_types_are_one_or_two(typed: str) -> None:
    with pytest.raises(OptionError, match="is not one type, or one each for K and V"):
        laid_out(cache_type=typed)


@pytest.mark.parametrize(("name", "value"), [("ngl", "many"), ("flash_attn", "maybe"), ("cache_type_k", "q3")])
def test_what_means_nothing_is_refused(name: str, value: str) -> None:
    with pytest.raises(OptionError, match="--"):
        laid_out(**{name: value})


def test_a_context_that_was_asked_for_is_the_one_that_is_judged() -> None:
    """A shorter one may be advised; it is no answer to the question."""
    report = fitcheck.check("qwen3-32b", "RTX 3090", ram=64 * GIB, tier="Q4_K_M", ctx=131072, cache_type="q8_0")
    assert {cell.workload.context for cell in report.cells} == {131072}


def test_a_tier_may_be_typed_without_its_underlines() -> None:
    assert fitcheck.check("qwen3-8b", "RTX 4090", tier="q4km").best.tier.name == "Q4_K_M"

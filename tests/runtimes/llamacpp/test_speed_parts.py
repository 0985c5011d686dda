"""What of a run's seconds comes from where: hand-overs between devices, the prompt that is asked, unknown hosts."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

import fitcheck
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.records.run import Run, TokenTest
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate
from fitcheck.runtimes.llamacpp.recorded_options import promises, timings
from fitcheck.runtimes.llamacpp.schedule import OFFLOAD_MIN_ROWS
from fitcheck.runtimes.llamacpp.seconds import run_of
from fitcheck.runtimes.llamacpp.token_host import Host, host_generation_seconds
from fitcheck.runtimes.llamacpp.token_passes import TokenRun, computes_on_host, token_seconds
from fitcheck.runtimes.llamacpp.token_rates import fitted
from fitcheck.runtimes.llamacpp.token_spread import interval_of
from fitcheck.runtimes.llamacpp.token_work import TokenWork
from fitcheck.units import GIB


def run_on(cards: int) -> TokenRun:
    architecture, options = known_language_model("llama-3.1-8b"), LlamaOptions(sequences=1, context=4096)
    table = mixture_table(architecture, "Q4_K_M")
    result = estimate(architecture, table, options, vram=[24 * GIB] * cards)
    return run_of(architecture, table, result, machine_for(find_card("RTX 3090"), count=cards).gpus, 128)


@pytest.mark.parametrize("cards", [1, 2, 4])
def test_a_token_is_handed_over_once_between_two_cards(cards: int) -> None:
    run, longer = run_on(cards), fitted() | {"card boundary": fitted()["card boundary"] + 1.0}
    slow, usual = token_seconds(run, longer), token_seconds(run, fitted())
    assert slow is not None
    assert usual is not None
    assert slow - usual == pytest.approx(cards - 1)


def test_as_many_tokens_as_are_carried_to_the_card_are_not_computed_on_the_host() -> None:
    assert computes_on_host(run_on(1), OFFLOAD_MIN_ROWS - 1)
    assert not computes_on_host(run_on(1), OFFLOAD_MIN_ROWS)


def test_layers_on_the_host_are_handed_over_where_there_is_a_card() -> None:
    work = TokenWork(read=defaultdict(float, {"Q4": 1e9}), layers=7)
    alone, beside = (host_generation_seconds(work, Host(6e10), fitted(), alone=one) for one in (True, False))
    assert beside - alone == pytest.approx(7 * fitted()["host layer"])


def test_what_nobody_said_of_a_host_adds_to_what_is_not_known_anyway() -> None:
    found = interval_of(10.0, 0.3, (math.exp(-0.4), math.exp(1.6)))
    assert math.log(found.best / found.low) == pytest.approx(0.5)
    assert math.log(found.high / found.best) == pytest.approx(math.hypot(0.3, 1.6))


def test_several_cards_read_a_long_prompt_faster_a_token_than_one_micro_batch() -> None:
    def cell(prompt: int) -> tuple[float, float, float]:
        cards = "4x RTX 3090"
        best = fitcheck.check("llama 3.1 8b", cards, ram="64GB", tier="Q4_K_M", ctx=8192, prompt_tokens=prompt).best
        assert best.duration is not None
        assert isinstance(best.footprint.layout, LlamaEstimate)
        rate = best.duration.rate("prompt")
        assert rate is not None
        asked = replace(best.ask, workload=replace(best.ask.workload, prompt_tokens=prompt))
        test = TokenTest(prompt, 0, 0, 1.0)
        run = cast("Run", SimpleNamespace(tests=(test,), setting=lambda name: None))
        promised = promises(run, asked, best.footprint.layout)[test.name]
        timed = timings(asked, best.footprint.layout)["prompt"]
        return rate.best, 1 / timed.seconds({}), promised.best

    for short, long in zip(cell(512), cell(4096), strict=True):
        assert long > 1.4 * short


def test_a_draft_on_two_cards_reads_a_long_prompt_faster_a_token_too() -> None:
    def draft_seconds(prompt: int) -> float:
        """A token, besides the model's own, at the same depth whatever the prompt."""
        cards, draft = ["RTX 3090", "RTX 3090"], "qwen3-0.6b:Q8_0"
        asked = {
            name: fitcheck.check(
                "qwen3-32b",
                cards,
                ram="64GB",
                tier="Q4_K_M",
                ctx=8192,
                model_draft=name,
                prompt_tokens=prompt,
                new_tokens=2 * (2112 - prompt),
            ).best.duration
            for name in (draft, None)
        }
        rates = {name: duration.rate("prompt") for name, duration in asked.items() if duration is not None}
        both, alone = rates[draft], rates[None]
        assert both is not None
        assert alone is not None
        return 1 / both.best - 1 / alone.best

    assert draft_seconds(2048) < 0.9 * draft_seconds(512)

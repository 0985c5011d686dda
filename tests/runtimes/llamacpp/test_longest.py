"""The longest context that fits as an answer of its own, and the host's memory as it is sold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import fitcheck
from fitcheck.errors import OptionError
from fitcheck.memory.weighing import Verdict
from fitcheck.runtimes import registry
from fitcheck.runtimes.level import level_of
from fitcheck.runtimes.llamacpp.placement import bandwidth_of
from fitcheck.runtimes.options import LONGEST, context_tokens
from fitcheck.units import GIB
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.report import Report


def asked(model: str = "qwen3-32b", card: Any = "RTX 3090", tier: str = "Q4_K_M", **options: Any) -> Report:
    return fitcheck.check(model, card, ram=64 * GIB, tier=tier, **{"ctx": "max", **options})


def cache_of(cell: Cell) -> str:
    return str(cell.placement.get("cache_type_k", "f16"))


def test_max_is_a_context_of_its_own_and_words_are_not() -> None:
    assert context_tokens("max") == context_tokens(" Longest ") == LONGEST
    assert context_tokens("16k") == 16384
    with pytest.raises(OptionError, match="--ctx"):
        asked(ctx="most")


def test_each_cache_type_has_its_longest_and_a_smaller_one_reaches_further() -> None:
    report = asked()
    reached = {cache_of(cell): cell.workload.context for cell in report.cells}
    assert reached["f16"] < reached["q8_0"]
    assert report.best.workload.context == max(reached.values())
    assert any("longest context that fits" in note for note in report.notes)


def test_a_thousand_tokens_more_do_not_fit() -> None:
    for cell in asked(sequences=1).cells:
        assert cell.verdict is Verdict.FITS  # what is tight is no answer to how far it reaches
        limit = cell.ask.architecture.context_length
        assert limit is not None
        if cell.workload.context + 1024 > limit:
            continue
        longer = replace(cell.ask, workload=cell.workload.with_(context=cell.workload.context + 1024))
        runtime = registry.get(cell.placement.runtime)
        footprint = runtime.spread(longer, runtime.footprint(longer))
        assert level_of(runtime, longer, footprint).verdict is not Verdict.FITS


def test_no_longer_than_it_was_trained_on_and_then_the_best_cache_alone() -> None:
    report = asked("qwen3-8b", "RTX 5090")
    assert [(cell.workload.context, cache_of(cell)) for cell in report.cells] == [(40960, "f16")]


def test_the_cache_that_is_asked_for_alone() -> None:
    assert {cache_of(cell) for cell in asked(cache_type="q8_0").cells} == {"q8_0"}


def test_more_memory_never_shortens_it() -> None:
    small, large = (asked(card=card, cache_type="f16").best.workload.context for card in ("RTX 3090", "RTX 5090"))
    assert small <= large


def test_where_nothing_fits_that_is_said() -> None:
    report = fitcheck.check("llama-3.1-70b", "GTX 1050 Ti", ram=8 * GIB, tier="Q8_0", ctx="max")
    assert report.best.verdict is not Verdict.FITS
    assert any("No context of" in note for note in report.notes)


@pytest.mark.parametrize(
    ("text", "gigabytes"),
    [("DDR5-5600", 89.6), ("5600", 89.6), ("DDR4 3200 MT/s", 51.2), ("4800x8", 307.2), ("DDR4-2666 x 6", 127.968)],
)
def test_memory_as_it_is_sold_has_a_bandwidth(text: str, gigabytes: float) -> None:
    report = asked("qwen3-8b", "none", ctx=4096, ram_speed=text)
    assert bandwidth_of(report.best.placement) == pytest.approx(gigabytes * 1e9)
    assert any("channels of 64 bits" in note for note in report.notes)


@pytest.mark.parametrize("text", ["", "fast", "5", "DDR5", "99999", "4800x99", "-4800"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--ram-speed"):
        asked("qwen3-8b", "none", ctx=4096, ram_speed=text)


def test_what_is_said_of_the_bandwidth_goes_before_the_modules() -> None:
    report = asked("qwen3-8b", "none", ctx=4096, ram_speed="4800", host_bandwidth=50.0)
    assert bandwidth_of(report.best.placement) == 50e9


def test_a_host_that_shares_its_memory_reads_it_at_the_pools_rate() -> None:
    report = fitcheck.check("qwen3-30b-a3b", "Radeon 8060S", ram=32 * GIB, tier="Q8_0", ngl=10)
    assert bandwidth_of(report.best.placement) == 256e9


@pytest.mark.parametrize(("slug", "told"), [("qwen3-8b", True), ("llama-3.1-8b", False)])
def test_a_build_older_than_the_architecture_is_told_of(slug: str, *, told: bool) -> None:
    """b4000 is of October 2024: Llama's architecture is older, Qwen3's half a year younger."""
    report = fitcheck.check(slug, "RTX 4090", tier="Q4_K_M", build="b4000")
    assert any("older than the first model of this architecture" in note for note in report.notes) is told
    newest = fitcheck.check(slug, "RTX 4090", tier="Q4_K_M")
    assert not any("older than the first model" in note for note in newest.notes)

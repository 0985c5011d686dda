"""Flash attention where nobody asks for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

import fitcheck
from fitcheck.errors import OptionError
from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.model import Tier
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.builds import FORK, Build, day_of_change, newest_build, parse_build
from fitcheck.runtimes.llamacpp.commands import server
from fitcheck.runtimes.llamacpp.flash import flash_of
from fitcheck.runtimes.llamacpp.options import TextOptions

LLAMA = known_language_model("llama-3.1-8b")


@pytest.mark.parametrize(
    ("asked", "build", "expected"),
    [
        (None, Build(date(2025, 8, 29)), False), (None, Build(day_of_change("automatic_flash")), None),
        (None, newest_build(), None),
        (True, Build(date(2024, 5, 1)), True), (False, newest_build(), False), (None, parse_build(FORK), None),
    ],
)  # fmt: skip
def test_a_build_before_the_automatic_runs_without(asked: bool | None, build: Build, expected: bool | None) -> None:
    assert flash_of(asked, build) is expected


def test_who_asks_for_an_old_build_gets_what_it_does_by_itself() -> None:
    old = TextOptions(build=parse_build("2025-03"))
    assert old.arguments(LLAMA).flash is False
    assert replace(old, flash_attn=True).arguments(LLAMA).flash is True
    assert TextOptions().arguments(LLAMA).flash is True


@pytest.mark.parametrize(
    ("build", "flash", "said"),
    [
        ("2025-03", False, []), ("2025-03", True, ["-fa"]), ("newest", None, []), ("newest", False, ["-fa", "off"]),
        ("newest", True, ["-fa", "on"]),
    ],
)  # fmt: skip
def test_the_command_has_the_option_as_the_build_takes_it(build: str, flash: bool | None, said: list[str]) -> None:
    tier = Tier("Q4_K_M", mixture_table(LLAMA, "Q4_K_M"), "gguf", file="a.gguf")
    options = LlamaOptions(context=4096, sequences=1, flash_attention=flash, build=parse_build(build))
    words = server(tier, options, LLAMA).split()
    at = words.index("-fa") if "-fa" in words else len(words)
    assert words[at : at + 1 + (build == "newest")] == said
    assert build == "newest" or not {"on", "off"} & set(words)


@pytest.mark.parametrize(("build", "flash"), [("b4000", None), ("b4000", False), (None, False)])
def test_the_longest_context_without_flash_attention_keeps_an_unquantized_cache(
    build: str | None, flash: bool | None
) -> None:
    asked: dict[str, Any] = {"build": build} if build else {}
    if flash is not None:
        asked["flash_attn"] = "on" if flash else "off"
    report = fitcheck.check("llama-3.1-8b", "RTX 4090", tier="Q4_K_M", ctx="max", **asked)
    assert report.best.ask.workload.context > 8192
    assert {cell.ask.placement.mode for cell in report.cells} == {"ngl 99"}


def test_a_quantized_cache_on_a_build_that_leaves_flash_attention_off_is_refused_with_the_way_out() -> None:
    with pytest.raises(OptionError, match=r"build b4000 leaves off unless told; add --flash-attn on"):
        fitcheck.check("llama-3.1-8b", "RTX 4090", tier="Q4_K_M", build="b4000", cache_type="q8_0")
    told = fitcheck.check("llama-3.1-8b", "RTX 4090", tier="Q4_K_M", build="b4000", cache_type="q8_0", flash_attn="on")
    assert "cache q8_0" in told.best.ask.placement.mode


def test_the_fork_takes_the_cache_that_was_asked_for_without_flash_attention() -> None:
    asked: dict[str, Any] = {"build": FORK, "cache_type": "q8_0", "flash_attn": "off"}
    report = fitcheck.check("llama-3.1-8b", "RTX 4090", tier="Q4_K_M", **asked)
    assert report.best.ask.placement.mode == "ngl 99, cache q8_0"

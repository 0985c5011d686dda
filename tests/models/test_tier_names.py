"""Names of tiers: whose they are, and what they are like."""

from __future__ import annotations

import pytest

from fitcheck.models.tier_names import base_of, like_published, publisher_of, without_tier


@pytest.mark.parametrize(
    ("tier", "publisher", "like", "base"),
    [
        ("UD-Q4_K_XL", "unsloth", "Q4_K_XL", "Q4_K"),
        ("ud-iq1_m", "unsloth", "iq1_m", "IQ1"),
        ("Q4_K_M", None, "Q4_K_M", "Q4_K"),
        ("IQ4_NL", None, "IQ4_NL", "IQ4"),
        ("IQ3_XXS", None, "IQ3_XXS", "IQ3"),
        ("Q8_0", None, "Q8_0", "Q8_0"),
        ("BF16", None, "BF16", "BF16"),
        ("MXFP4_MOE", None, "MXFP4_MOE", "MXFP4"),
    ],
)
def test_whose_and_like_what(tier: str, publisher: str | None, like: str, base: str) -> None:
    assert publisher_of(tier) == publisher
    assert like_published(tier) == like
    assert base_of(tier) == base


@pytest.mark.parametrize(
    ("stem", "left"),
    [
        ("Meta-Llama-3.1-8B-Instruct-Q4_K_M", "Meta-Llama-3.1-8B-Instruct"),
        ("zephyr-7b-beta.Q4_K_S", "zephyr-7b-beta"),
        ("Qwen3-30B-A3B-UD-Q2_K_XL", "Qwen3-30B-A3B"),
        ("phi-4-fp16", "phi-4"),
        ("Q4_K_M-merge", "Q4_K_M-merge"),
        ("plain", "plain"),
    ],
)
def test_a_name_without_its_tier(stem: str, left: str) -> None:
    assert without_tier(stem) == left

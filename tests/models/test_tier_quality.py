"""Quality of a tier is what was published of it, with the model that it was measured on, or nothing."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

import fitcheck
from fitcheck.models import catalog
from fitcheck.models.families import registry
from fitcheck.models.quant import BASE
from fitcheck.models.tier_quality import TierQuality

DATA: dict[str, Any] = json.loads(
    resources.files("fitcheck.models.families.language").joinpath("data/tier_quality.json").read_text("utf-8")
)


def quality(slug: str, tier: str) -> TierQuality | None:
    model = catalog.get(slug)
    return registry.get(model.architecture.family).quality(model, model.tier_named(tier))


def test_a_tier_that_was_measured_on_another_model_says_so() -> None:
    found = quality("llama-3.1-8b", "Q4_K_M")
    assert found is not None
    assert not found.own
    assert found.words == (
        "KL divergence 0.028 to 0.031, perplexity 2.4 to 2.8 % above 16 bits (Llama 3 8B; not measured for this model)"
    )
    assert found.to_json()["this_model"] is False


def test_the_models_own_measurement_goes_before_another() -> None:
    found = quality("llama-2-7b", "Q4_K_M")
    assert found is not None
    assert found.own
    assert found.words == "KL divergence 0.013, perplexity 1.4 % above 16 bits (Llama 2 7B)"
    large = quality("llama-2-70b", "Q4_K_M")
    assert large is not None
    assert large.words == "perplexity 1.2 % above 16 bits (Llama 2 70B)"


def test_sixteen_bits_are_what_others_are_measured_against() -> None:
    for tier in ("BF16", "F16"):
        found = quality("qwen3-8b", tier)
        assert found is not None
        assert "measured against" in found.words


@pytest.mark.parametrize(
    ("slug", "tier"),
    [("gpt-oss-20b", "MXFP4"), ("qwen3-8b", "TQ1_0"), ("sensenova-u1-8b-mot", "Q4_K_S"), ("flux.1-dev", "Q4_K_S")],
)
def test_what_nobody_measured_is_nothing(slug: str, tier: str) -> None:
    assert quality(slug, tier) is None


def test_every_row_has_a_source_and_names_a_mixture() -> None:
    for one in DATA["sets"]:
        assert one["url"].startswith("https://github.com/")
        assert set(one["tiers"]) <= set(BASE)
        assert all(catalog.has(slug) for slug in one["slugs"])
        for rows in one["tiers"].values():
            for divergence, ratio, drift in rows.values():
                assert ratio >= 1
                assert (divergence is None) == (drift is None)
    assert DATA["date"] >= "2026-11-26"


def test_fewer_bits_of_one_kind_are_never_nearer_to_the_original() -> None:
    rows = DATA["sets"][0]["tiers"]
    for order in (
        ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"),
        ("IQ4_NL", "IQ4_XS", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M"),
    ):
        kind = "imatrix" if order[0].startswith("I") else "plain"
        values = [rows[name][kind][0] for name in order]
        assert values == sorted(values)


def test_check_runs_and_plan_carry_it() -> None:
    report = fitcheck.check("llama-3.1-8b", "RTX 4070", tier="Q4_K_M", ram="32GB")
    found = report.to_json()["cells"][0]["quality"]
    assert found["divergence"] == {"low": 0.028152, "high": 0.031273}
    assert found["source"].startswith("https://")

"""Quality of llama.cpp's mixtures as published, by tier name: ``data/tier_quality.json``."""

from __future__ import annotations

from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.models.tier_quality import Range, TierQuality


@cache
def measured(slug: str, tier: str) -> TierQuality | None:
    """What was published of ``tier`` for the model itself, else for the model whose table is the longest; ``None``
    where no table has such a tier."""
    data = load("models.families.language", "tier_quality")
    sets = data["sets"]
    own = [one for one in sets if slug in one["slugs"] and tier.upper() in one["tiers"]]
    found = next((one for one in (*own, sets[0]) if tier.upper() in one["tiers"]), None)
    return None if found is None else _quality(found, tier.upper(), own=bool(own), date=data["date"])


def _quality(found: dict[str, Any], tier: str, *, own: bool, date: str) -> TierQuality:
    divergence, perplexity, drift = (_range(values) for values in zip(*found["tiers"][tier].values(), strict=True))
    assert perplexity is not None
    return TierQuality(
        divergence,
        perplexity,
        drift,
        found["model"],
        own,
        found["dataset"],
        f"{found['url']} ({found['revision']})",
        date,
    )


def _range(values: tuple[float | None, ...]) -> Range | None:
    """The least and the most with and without an importance matrix."""
    known = [value for value in values if value is not None]
    return Range(min(known), max(known)) if known else None

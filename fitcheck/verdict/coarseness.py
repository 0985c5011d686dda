"""How coarse a tier is: by what somebody measured of it and published; by its bits a weight where nobody has.

The thresholds and where they are from stand in ``data/coarseness.json``.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import Any

from fitcheck.data_files import load
from fitcheck.models.families import registry as families
from fitcheck.models.model import Model, Tier
from fitcheck.models.tier_quality import TierQuality


def is_coarse(model: Model, tier: Tier) -> bool:
    """Whether the tier lies beyond the gap below which quality falls fast: by its published divergence, else by its
    published perplexity, else by bits a weight."""
    limits, found = _data()["coarse"], _published(model, tier)
    if found is None:
        return tier.tensors.bits < float(limits["bits"])
    if found.divergence is None:
        return found.perplexity.high > float(limits["perplexity"])
    return found.divergence.high > float(limits["divergence"])


def is_broken(model: Model, tier: Tier) -> bool:
    """Whether so much is lost that anything finer which runs at all is worth more, however slow."""
    limit: float = _data()["broken"]["divergence"]
    return loss_of(model, tier) > limit


def loss_of(model: Model, tier: Tier) -> float:
    """Nats a token that the tier is expected to lie from 16 bits: as published, else what tiers of Llama 3 8B with as
    many bits a weight lose. As near as ``enough`` of the data counts as nothing lost more."""
    found = _published(model, tier)
    far = _by_bits(tier.tensors.bits) if found is None or found.divergence is None else found.divergence.high
    enough: float = _data()["enough"]["divergence"]
    return max(far, enough)


def quality_words(model: Model, tier: Tier) -> str:
    """What is known of the tier's quality, and by what it was put in order where that is nothing."""
    found = _published(model, tier)
    if found is not None:
        return found.words
    return f"not measured; {tier.tensors.bits:.1f} bits a weight stand in for it where tiers are put in order"


def _published(model: Model, tier: Tier) -> TierQuality | None:
    return families.get(model.architecture.family).quality(model, tier)


@cache
def _by_bits(bits: float) -> float:
    """The divergence of that many bits a weight, along the rows of the data and their ends."""
    rows = [(row[1], row[2]) for row in _data()["by_bits"]["rows"]]
    for (more, less_lost), (less, more_lost) in pairwise(rows):
        if bits >= less or less == rows[-1][0]:
            share = (more - bits) / (more - less)
            return math.exp(math.log(less_lost) + share * math.log(more_lost / less_lost))
    raise AssertionError("the data has at least two rows")


def _data() -> dict[str, Any]:
    return load("verdict", "coarseness")

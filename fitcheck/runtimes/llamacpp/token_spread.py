"""How far a prediction may be off: as far as rows of other cards were when nobody had told the fit about theirs.

``data/llamacpp_tokens.json`` holds, by regime, the half-width of log(rate) for each maker and backend, from rows
left out card by card, larger ones where a generation or a maker with this backend has no row at all, and smaller ones
on cards that several models have run on (from rows left out model by model).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import exp, hypot, log
from typing import Any

from fitcheck.hardware.card import Card
from fitcheck.runtimes.llamacpp.token_passes import TokenRun, age_of
from fitcheck.runtimes.llamacpp.token_rates import data, generation_of
from fitcheck.runtimes.llamacpp.weight_placement import HOST
from fitcheck.units import Interval

LATENT, WIDE, DEEP, OLD = "latent cache", "16-bit experts", "deep", "old build"
SEVERAL = "several cards"
_DEEP = 0.25  # attention's part, of the products of a prompt or of the bytes of a generated token


def half_width(
    regime: str, cards: Sequence[Card], backend: str, table: dict[str, Any] | None = None, traits: Sequence[str] = ()
) -> float:
    """Half-width in log(rate) of ``regime`` ("generation, dense", "prompt, host", …) on ``cards`` with ``backend``, for
    a run with ``traits``."""
    if table is None:
        return _kept_half_width(regime, tuple(cards), backend, tuple(traits))
    return _half_width(regime, cards, backend, table, traits)


@lru_cache(maxsize=4096)
def _kept_half_width(regime: str, cards: tuple[Card, ...], backend: str, traits: tuple[str, ...]) -> float:
    return _half_width(regime, cards, backend, data()["spread"], traits)


def _half_width(
    regime: str, cards: Sequence[Card], backend: str, table: dict[str, Any], traits: Sequence[str]
) -> float:
    known = table["regimes"][regime]
    half = max((_on_card(known, card, backend, table) for card in cards), default=float(known["half_width"]))
    phase = regime.split(",")[0]
    scales = table["traits"].get(phase, {})
    half *= max((float(scales.get(trait, 1.0)) for trait in traits), default=1.0)
    seen = set(table["seen"].get(phase, ()))
    ran = cards and all(ran_name(card.name, backend) in seen for card in cards)
    return half * float(known["seen"]) if ran else half


def ran_name(card: str, backend: str) -> str:
    """A card that several models have run on with a backend, as the table names it."""
    return f"{card} {backend}"


def traits_of(run: TokenRun, *, prompt: bool) -> tuple[str, ...]:
    """What makes a run harder to predict than others: kernels that few people run, or that have changed much."""
    works = run.works.values()
    weights = sum(sum(work.read.values()) + sum(work.experts.values()) for work in works)
    experts = sum(sum(work.experts.values()) for work in works)
    wide = sum(work.experts.get("float", 0.0) for work in works)
    flops = sum(sum(work.flops.values()) + sum(work.expert_flops.values()) for work in works)
    deep = (
        sum(work.attention_flops for work in works) > _DEEP * flops if prompt
        else sum(work.cache for work in works) > _DEEP * weights
    )  # fmt: skip
    age = age_of(run)
    found = {
        LATENT: any(work.latent for work in works),
        WIDE: 2 * wide > experts > 0,
        DEEP: deep,
        OLD: not age.fused or age.youth > 0,
        SEVERAL: sum(device != HOST for device in run.works) > 1,
    }
    return tuple(name for name, holds in found.items() if holds)


def pool_name(card: Card, backend: str) -> str:
    """Cards whose predictions are off alike: a maker's with a backend; NVIDIA's before Turing, without integer matrix
    units and little tuned for today, are apart."""
    old = card.compute_capability is not None and card.compute_capability < (7, 5)
    return f"{card.vendor} {backend}{' before Turing' if old else ''}"


def _on_card(known: dict[str, Any], card: Card, backend: str, table: dict[str, Any]) -> float:
    pool = pool_name(card, backend)
    if pool not in table["measured"]:
        return float(known["new"])
    if pool not in known["pools"]:  # the maker's cards have run, but nothing of this regime
        return 1.15 * float(known["half_width"])
    width, new_generation = known["pools"][pool]
    seen = generation_of(card) in table["measured"].get(pool, ())
    return float(width) if seen else float(new_generation)


def interval_of(best: float, half: float, host: tuple[float, float] = (1.0, 1.0)) -> Interval[float]:
    """``best`` with ``half`` to both sides; ``host`` is what a slow or fast host of unknown memory would make of it.

    Independent causes add up as squares.
    """
    low, high = (abs(log(factor)) for factor in host)
    return Interval(best * exp(-hypot(half, low)), best, best * exp(hypot(half, high)))


def new_units(card: Card) -> tuple[float, float]:
    """(factor on the best prompt rate, factor that low and high widen by) for matrix units that no row has run on."""
    entry = data()["unmeasured_units"].get(generation_of(card))
    return (1.0, 1.0) if entry is None else (float(entry["best"]), float(entry["either_way"]))

"""How far off predictions of tokens per second are for cards that the constants were not fitted on: the half-widths
that intervals get, and the tables of what they hold.

``fit_tokens.py`` works out the residuals that all of it starts from.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm as normal
from scipy.stats import t as student
from token_parameters import ASSUMED

from fitcheck.runtimes.llamacpp import token_predict, token_rates
from fitcheck.runtimes.llamacpp.token_rows import BenchRow
from fitcheck.runtimes.llamacpp.token_spread import half_width, pool_name, ran_name, traits_of

COVERED = 0.93  # share of left-out rows that half-widths are set to hold
# where single cards differ most from the rest, a width that other cards set holds fewer of a card's rows than that
COVERED_OF = {"generation, dense": 0.96}
COVERED_MIXTURES = 0.88  # beyond the dense width, which holds COVERED
COVERED_SEEN = 0.95
MARGIN = 1.25  # beyond the worst generation or maker that was left out
WIDEST_TRAIT = 2.5  # times a plain row's half-width
FEW = 3  # cards with several models from which a regime's share of the width for seen cards is taken
LEAST_SEEN = 0.5
SHRUNK = 3.0  # cards that a regime's mean counts for against a pool's own


@dataclass
class LeftOut:
    """Residuals of rows that the constants were not fitted on, by what else was left out."""

    rows: list[BenchRow]
    card: np.ndarray
    generation: np.ndarray
    vendor: np.ndarray
    model: np.ndarray

    def without(self, at: Sequence[int]) -> LeftOut:
        """The same without the rows ``at``."""
        gone = set(at)
        kept = [row for i, row in enumerate(self.rows) if i not in gone]
        arrays = (self.card, self.generation, self.vendor, self.model)
        return LeftOut(kept, *(np.delete(values, at) for values in arrays))

    def scaled(self, traits: dict[str, dict[str, float]]) -> LeftOut:
        """Residuals in units of what rows of their traits are off more than plain ones."""
        scale = np.array([trait_scale(row, traits) for row in self.rows])
        return LeftOut(self.rows, *(values / scale for values in (self.card, self.generation, self.vendor, self.model)))


_traits: dict[int, tuple[str, ...]] = {}


def traits_by_row(row: BenchRow) -> tuple[str, ...]:
    """The row's traits, as a run of it has."""
    known = _traits.get(row.index)
    if known is None:
        known = _traits[row.index] = traits_of(token_predict.run_of(row), prompt=row.prompt)
    return known


def trait_scale(row: BenchRow, traits: dict[str, dict[str, float]]) -> float:
    """How much further off than plain rows those with the row's traits are."""
    known = traits.get(phase_of(row), {})
    return max((known.get(name, 1.0) for name in traits_by_row(row)), default=1.0)


def phase_of(row: BenchRow) -> str:
    return "prompt" if row.prompt else "generation"


def model_of(row: BenchRow) -> str:
    return row.model.split()[0]


def pool_of(row: BenchRow) -> str:
    return pool_name(row.gpus[0].card, row.backend) if row.gpus else "CPU"


def generation_key(row: BenchRow) -> str:
    return token_rates.generation_of(row.gpus[0].card) if row.gpus else row.card


def vendor_of(row: BenchRow) -> str:
    return row.gpus[0].card.vendor if row.gpus else row.card


def single(row: BenchRow) -> str:
    return row.regime.replace("several cards, ", "")


def widths(outs: dict[str, LeftOut], leave: str | None = None) -> dict[str, Any]:
    """The spread table from left-out residuals; ``leave`` is a card whose rows set no width."""
    if leave is not None:
        outs = {
            name: out.without([i for i, row in enumerate(out.rows) if row.card == leave]) for name, out in outs.items()
        }
    traits = {phase: trait_scales(out) for phase in ("prompt", "generation") for out in [outs[phase]]}
    scaled = {name: out.scaled(traits) for name, out in outs.items()}
    regimes: dict[str, Any] = {}
    measured: dict[str, set[str]] = defaultdict(set)
    for out in scaled.values():
        for row in out.rows:
            if row.gpus:
                measured[pool_of(row)].add(generation_key(row))
        for regime in sorted({single(row) for row in out.rows}):
            regimes[regime] = regime_width(out, [i for i, row in enumerate(out.rows) if single(row) == regime])
    for regime in [name for name in regimes if name.endswith("MoE")]:
        dense = regimes[regime.replace("MoE", "dense")]
        regimes[regime] = mixture_width(scaled, regime, dense) | {"seen": regimes[regime]["seen"]}
    return {
        "regimes": regimes,
        "measured": {pool: sorted(names) for pool, names in sorted(measured.items())},
        "traits": {phase: {name: round(scale, 3) for name, scale in known.items()} for phase, known in traits.items()},
        "seen": {phase: seen_cards(outs[phase].rows) for phase in ("prompt", "generation")},
    }


def trait_scales(out: LeftOut) -> dict[str, float]:
    """How much further off rows with a trait are than plain ones of their pool: the mean over cards, leaning on 1."""
    plain: dict[str, list[float]] = defaultdict(list)
    apart: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row, error in zip(out.rows, np.abs(out.card), strict=True):
        traits = traits_by_row(row)
        if not traits:
            plain[pool_of(row)].append(float(error))
        for trait in traits:
            apart[trait][pool_of(row), row.card].append(float(error))
    every = float(np.mean([error for errors in plain.values() for error in errors]))
    usual = {pool: (sum(errors) + SHRUNK * every) / (len(errors) + SHRUNK) for pool, errors in plain.items()}
    found = {}
    for trait, groups in sorted(apart.items()):
        ratios = [float(np.mean(errors)) / usual.get(pool, every) for (pool, _), errors in groups.items()]
        found[trait] = min(max((sum(ratios) + SHRUNK) / (len(ratios) + SHRUNK), 1.0), WIDEST_TRAIT)
    return found


def seen_cards(rows: Sequence[BenchRow]) -> list[str]:
    """Cards that at least two models ran on with a back end."""
    models: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.gpus:
            models[ran_name(row.gpus[0].card.name, row.backend)].add(model_of(row))
    return sorted(name for name, ran in models.items() if len(ran) > 1)


def regime_width(out: LeftOut, at: Sequence[int]) -> dict[str, Any]:
    """Half-widths by pool, so that COVERED of the left-out rows are inside; pools of few cards lean on the regime."""
    rows = [out.rows[i] for i in at]
    card, generation, vendor, model = (values[at] for values in (out.card, out.generation, out.vendor, out.model))
    by_card: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row, error in zip(rows, np.abs(card), strict=True):
        by_card[pool_of(row), row.card].append(float(error))
    means = {key: float(np.mean(errors)) for key, errors in by_card.items()}
    whole = float(np.mean(list(means.values())))
    pools: dict[str, float] = {}
    for pool in sorted({pool for pool, _ in means}):
        own = [value for (name, _), value in means.items() if name == pool]
        pools[pool] = (sum(own) + SHRUNK * whole) / (len(own) + SHRUNK)
    scores = np.array([abs(error) / pools[pool_of(row)] for row, error in zip(rows, card, strict=True)])
    factor = quantile(scores, [(pool_of(row), row.card) for row in rows], COVERED_OF.get(single(rows[0]), COVERED))
    factor *= few_cards(len(means))
    scales = {pool: factor * value for pool, value in pools.items()}
    newer = {pool: new_generation(pool, rows, generation, half) for pool, half in scales.items()}
    makers = max(
        float(np.quantile(np.abs(vendor)[[vendor_of(row) == name for row in rows]], 0.95))
        for name in {vendor_of(row) for row in rows}
    )
    return {
        "half_width": round(factor * whole, 4),
        "pools": {pool: [round(half, 4), round(newer[pool], 4)] for pool, half in scales.items()},
        "new": round(MARGIN * max(factor * whole, makers), 4),
        "seen": seen_share(rows, model, scales),
        "rows": len(rows),
        "cards": len(means),
    }


def seen_share(rows: Sequence[BenchRow], model: np.ndarray, scales: dict[str, float]) -> float:
    """Half-widths on cards that other models have run on, against those on new ones: rows left out model by model."""
    seen = set(seen_cards(rows))
    scores = [
        abs(float(error)) / scales[pool_of(row)]
        for row, error in zip(rows, model, strict=True)
        if row.gpus and ran_name(row.gpus[0].card.name, row.backend) in seen
    ]
    if len(seen) < FEW:
        return 1.0
    return round(min(max(float(np.quantile(scores, COVERED_SEEN)), LEAST_SEEN), 1.0), 3)


def mixture_width(outs: dict[str, LeftOut], regime: str, dense: dict[str, Any]) -> dict[str, Any]:
    """Mixtures of experts ran on few cards: dense half-widths times how much further off their rows were."""
    found = [
        (row.card, abs(float(error)) / half_width(regime, [row.gpus[0].card], row.backend, alone(regime, dense, out)))
        for out in outs.values()
        for row, error in zip(out.rows, out.card, strict=True)
        if single(row) == regime
    ]
    scores, cards = [score for _, score in found], [card for card, _ in found]
    factor = max(1.0, quantile(scores, cards, COVERED_MIXTURES)) if found else 1.5
    return {
        "half_width": round(factor * dense["half_width"], 4),
        "pools": {pool: [round(factor * half, 4) for half in both] for pool, both in dense["pools"].items()},
        "new": round(factor * dense["new"], 4),
        "rows": len(found),
        "cards": len({card for card, _ in found}),
    }


def alone(regime: str, dense: dict[str, Any], out: LeftOut) -> dict[str, Any]:
    """A table of the dense widths under the name of ``regime``, every generation of its rows known."""
    measured: dict[str, set[str]] = defaultdict(set)
    for row in out.rows:
        if row.gpus:
            measured[pool_of(row)].add(generation_key(row))
    return {
        "regimes": {regime: dense}, "measured": {pool: list(names) for pool, names in measured.items()},
        "traits": {}, "seen": {},
    }  # fmt: skip


def quantile(scores: Sequence[float] | np.ndarray, groups: Sequence[Hashable], covered: float = COVERED) -> float:
    """The score that ``covered`` of the rows are below; a card's rows together weigh the root of their number."""
    count = Counter(groups)
    order = np.argsort(scores)
    weight = np.array([count[groups[i]] ** -0.5 for i in order])
    share = np.cumsum(weight) / weight.sum()
    return float(np.asarray(scores)[order][int(np.searchsorted(share, covered))])


def new_generation(pool: str, rows: Sequence[BenchRow], errors: np.ndarray, half: float) -> float:
    """Half-width where the generation has no row: beyond the worst of the pool's generations that was left out."""
    mine = defaultdict(list)
    for row, error in zip(rows, np.abs(errors), strict=True):
        if pool_of(row) == pool:
            mine[generation_key(row)].append(float(error))
    worst = max(float(np.quantile(values, 0.9)) for values in mine.values())
    return max(1.15 * half, MARGIN * worst)


def few_cards(count: int) -> float:
    """What Student's t is of the normal distribution at 80 %: widths from few cards are uncertain
    themselves. One or two left out against each other already differ by more than they do from their mean."""
    return 1.0 if count < 3 else float(student.ppf(0.9, count - 1) / normal.ppf(0.9))


Line = tuple[str, int, int, float, float, float]


def report(outs: dict[str, LeftOut]) -> list[Line]:
    """(regime, rows, cards, median error, share inside, median width) with each card's rows and widths left out."""
    tables = {card: widths(outs, card) for card in sorted({row.card for out in outs.values() for row in out.rows})}
    groups: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for out in outs.values():
        for row, error in zip(out.rows, out.card, strict=True):
            for regime in names_of(row):
                groups[regime].append((row.card, float(error), half_of(row, tables[row.card])))
    return [summary(name, entries) for name, entries in sorted(groups.items())]


def models_report(outs: dict[str, LeftOut], errors: dict[str, np.ndarray]) -> list[Line]:
    """The same with other things than cards left out of the constants; widths are those that users get."""
    table = widths(outs)
    groups: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for name, out in outs.items():
        for row, error in zip(out.rows, errors[name], strict=True):
            groups[row.regime].append((row.card, float(error), half_of(row, table)))
    return [summary(name, entries) for name, entries in sorted(groups.items())]


def names_of(row: BenchRow) -> list[str]:
    names = [row.regime]
    if row.placement == "card" and len(row.gpus) == 1:
        names.append(f"{row.regime.split(', ')[0]}, one card, all models")
    if row.placement == "host" or row.placement == "cpu":
        names.append(f"{row.regime}, memory {'known' if row.host_bandwidth else 'not named'}")
    return names


def half_of(row: BenchRow, table: dict[str, Any]) -> float:
    cards = [gpu.card for gpu in row.gpus]
    half = half_width(single(row), cards, row.backend, table, traits_by_row(row))
    if row.placement == "card" or row.host_bandwidth:
        return half
    usual = ASSUMED["host_usual"]["server" if cards and cards[0].form == "datacenter" else "desktop"]
    return math.hypot(half, math.log(usual["high"] / usual["low"]) / 2)


def summary(name: str, entries: Sequence[tuple[str, float, float]]) -> tuple[str, int, int, float, float, float]:
    errors = np.array([error for _, error, _ in entries])
    halves = np.array([half for _, _, half in entries])
    return (
        name, len(entries), len({card for card, _, _ in entries}), float(np.median(np.abs(np.expm1(-errors)))),
        float(np.mean(np.abs(errors) <= halves)), float(np.median(np.exp(2 * halves))),
    )  # fmt: skip


def ignorance(outs: dict[str, LeftOut]) -> list[tuple[str, int, float, float]]:
    """(what is left out, rows, share inside, median width) for whole generations and makers with a single backend."""
    found = []
    for stage, out in outs.items():
        for kind, key, errors in (("generation", generation_key, out.generation), ("maker", vendor_of, out.vendor)):
            for name in sorted({key(row) for row in out.rows if row.placement == "card"}):
                at = [i for i, row in enumerate(out.rows) if key(row) == name]
                table = widths(outs | {stage: out.without(at)})
                regimes = [i for i in at if single(out.rows[i]) in table["regimes"]]
                halves = np.array([half_of(out.rows[i], table) for i in regimes])
                inside = np.abs(errors[regimes]) <= halves
                what = f"{kind} {name}: {'prompts' if out.rows[0].prompt else 'generation'}"
                found.append((what, len(regimes), float(np.mean(inside)), float(np.median(np.exp(2 * halves)))))
    return found


def left_out_rates(outs: dict[str, LeftOut]) -> dict[str, list[float]]:
    """By row: [best, half-width] of the rate with the row's card left out of constants and widths."""
    tables = {card: widths(outs, card) for card in sorted({row.card for out in outs.values() for row in out.rows})}
    found = {}
    for out in outs.values():
        for row, error in zip(out.rows, out.card, strict=True):
            rate = row.measured * math.exp(-float(error))
            found[str(row.index)] = [float(f"{rate:.5g}"), round(half_of(row, tables[row.card]), 4)]
    return found

"""How far off predictions of tokens per second are for cards that the constants were not fitted on: the half-widths
that intervals get, and the tables of what they hold.

``fit_tokens.py`` works out the residuals that all of it starts from.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm as normal
from scipy.stats import t as student
from token_left_out import (
    LeftOut,
    Table,
    generation_key,
    machine_of,
    model_of,
    pool_of,
    single,
    telling,
    trait_scale,
    traits_by_row,
    vendor_of,
)

from fitcheck.runtimes.llamacpp.token_rows import BenchRow
from fitcheck.runtimes.llamacpp.token_spread import OLD, SEVERAL, ran_name

# Half-widths are set to hold 0.9 of the rows of a card that nothing was fitted on: by the conformal count, that of one
# more card, where there are about fifty
COVERED = 0.9 * (1 + 1 / 50)
COVERED_SEEN = 0.95
MARGIN = 1.25  # beyond the worst generation that was left out
WIDEST_TRAIT = 2.5  # times a plain row's half-width
FEW = 3  # cards with several models that tell a regime's share of the width for seen cards
LEAST_SEEN = 0.5
SHRUNK = 3  # cards that a regime's mean counts for against a pool's own, and a phase's against a regime's
STAGES = ("generation", "prompt", "host generation", "host prompt")  # what few machines tell leans on the first two


def tables(outs: dict[str, LeftOut]) -> tuple[Table, dict[str, Table]]:
    """The spread table that users get, and one for each card that knows nothing of its rows."""
    units, counts = counted(outs)
    alone = {card: finished(unit, [(row, count) for row, count in counts if machine_of(row) != card])
             for card, unit in units.items()}  # fmt: skip
    return finished(unit_table(outs), counts), alone


def counted(outs: dict[str, LeftOut]) -> tuple[dict[str, Table], list[tuple[BenchRow, float]]]:
    """Units without each card, and each telling row's residual in those without its own.

    How wide a unit has to be is told by rows that the units themselves were not taken from.
    """
    cards = sorted({machine_of(row) for out in outs.values() for row in out.rows})
    units = {card: unit_table({name: out.without_card(card) for name, out in outs.items()}) for card in cards}
    counts = [
        (row, size / unit)
        for out in outs.values()
        for row, size, host in zip(out.rows, out.unexplained(out.card), out.hosts, strict=True)
        for unit in [unit_of(row, units[machine_of(row)])]
        if unit and telling(row, host)
    ]
    return units, counts


def unit_of(row: BenchRow, units: Table) -> float | None:
    """The row's unit; ``None`` where its generation or regime is not among the rows, which have widths of their own."""
    regime, pool = units["regimes"].get(single(row)), pool_of(row)
    if regime is None:
        return None
    if row.gpus and generation_key(row) not in units["measured"].get(pool, ()):
        return None
    return float(regime["pools"].get(pool, regime["whole"])) * trait_scale(row, units["traits"])


def unit_table(outs: dict[str, LeftOut]) -> Table:
    """How far off rows are of each regime and pool, by left-out residuals: means, and the worst of what is new."""
    traits = {phase: trait_scales(outs[phase]) for phase in ("prompt", "generation")}
    regimes: dict[str, Any] = {}
    measured: dict[str, set[str]] = defaultdict(set)
    for name in STAGES:
        out, scaled = outs[name], outs[name].scaled(traits)
        for row in out.rows:
            if row.gpus:
                measured[pool_of(row)].add(generation_key(row))
        for regime in sorted({single(row) for row in out.rows}, key=lambda one: (not one.endswith("dense"), one)):
            at = [i for i, row in enumerate(out.rows) if single(row) in together(regime)]
            at = [i for i in at if telling(out.rows[i], out.hosts[i])] or at
            regimes[regime] = regime_units(scaled, at, regimes.get(f"{regime.split(', ')[0]}, dense"))
    for name in [name for name in regimes if name.endswith("MoE")]:
        regimes[name] = mixture_units(regimes[name], regimes[name.replace("MoE", "dense")])
    for regime in regimes.values():
        del regime["usual"]
    return {
        "regimes": regimes,
        "measured": {pool: sorted(names) for pool, names in sorted(measured.items())},
        "traits": {phase: {name: round(scale, 3) for name, scale in known.items()} for phase, known in traits.items()},
        "seen": {phase: seen_cards(outs[phase].rows) for phase in ("prompt", "generation")},
    }


def together(regime: str) -> tuple[str, ...]:
    """Regimes that tell each other's widths: a token waits for the host's memory with a card beside it or without."""
    return ("generation, cpu", "generation, host") if regime in ("generation, cpu", "generation, host") else (regime,)


def regime_units(out: LeftOut, at: Sequence[int], phase: dict[str, Any] | None) -> dict[str, Any]:
    """Usual sizes of residuals, means over a pool's cards of each card's median, those of few cards leaning on the
    regime's and those of a regime on what is usual for its ``phase``; the worst generation of each pool and the worst
    maker that were left out; residuals with the model left out of cards that others ran on."""
    rows = [out.rows[i] for i in at]
    card, generation, vendor, model = (values[at] for values in (out.card, out.generation, out.vendor, out.model))
    by_card: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row, error in zip(rows, card, strict=True):
        by_card[pool_of(row), machine_of(row)].append(float(error))
    means = {key: float(np.median(errors)) for key, errors in by_card.items()}
    lean = [] if phase is None else [phase["whole"]] * SHRUNK
    whole = float(np.mean([*means.values(), *lean]))
    pools: dict[str, float] = {}
    for pool in sorted({pool for pool, _ in means}):
        own = [value for (name, _), value in means.items() if name == pool]
        pools[pool] = (sum(own) + SHRUNK * whole) / (len(own) + SHRUNK)
    return {
        "whole": whole,
        "pools": pools,
        "generations": new_generations(rows, generation, pools),
        "makers": new_maker(rows, vendor),
        "seen": seen_counts(rows, model, pools),
        "usual": means,
        "rows": len(rows),
        "cards": len({card for _, card in means}),
    }


def new_generations(rows: Sequence[BenchRow], errors: np.ndarray, pools: Iterable[str]) -> dict[str, float]:
    """The worst generation that was left out, by pool; no less than pools' usual worst: the next one may be as far off
    from those before it as others' worst were."""
    found = {pool: max(worst_of(rows, errors, generation_key, 0.9, pool)) for pool in pools}
    usual = float(np.mean(list(found.values())))
    return {pool: max(size, usual) for pool, size in found.items()}


def new_maker(rows: Sequence[BenchRow], errors: np.ndarray) -> float:
    """Half-width for a maker without rows: Student's t of the makers that ran, times the root mean square of what 95 %
    of each one's residuals lie below when it was left out."""
    sizes = worst_of(rows, errors, vendor_of, 0.95)
    return float(student.ppf(0.95, len(sizes)) * np.sqrt(np.mean(np.square(sizes))))


def worst_of(
    rows: Sequence[BenchRow], errors: np.ndarray, key: Callable[[BenchRow], str], share: float, pool: str | None = None
) -> list[float]:
    """What ``share`` of the residuals of each group lie below, in a pool or everywhere."""
    groups: dict[str, list[float]] = defaultdict(list)
    for row, error in zip(rows, errors, strict=True):
        if pool is None or pool_of(row) == pool:
            groups[key(row)].append(float(error))
    return [float(np.quantile(values, share)) for values in groups.values()]


def seen_counts(rows: Sequence[BenchRow], model: np.ndarray, pools: dict[str, float]) -> float | None:
    """Units that ``COVERED_SEEN`` of the rows are off, model by model left out, on cards that other models ran on."""
    seen = set(seen_cards(rows))
    counts = [
        float(error) / pools[pool_of(row)]
        for row, error in zip(rows, model, strict=True)
        if row.gpus and ran_name(row.gpus[0].card.name, row.backend) in seen
    ]
    return None if len(seen) < FEW else float(np.quantile(counts, COVERED_SEEN))


def finished(units: Table, counts: Sequence[tuple[BenchRow, float]]) -> Table:
    """Half-widths: units times the count that ``COVERED`` of a phase's plain dense rows lie below. The few cards of
    other regimes tell how far off a row usually is, not how long the tail is."""
    known = {phase: tails(counts, phase) for phase in ("generation", "prompt")}
    regimes = {}
    for name, regime in units["regimes"].items():
        cards = units["regimes"][name.replace("MoE", "dense")]["cards"]
        on_cards = name.endswith(("dense", "MoE"))
        tail = known[name.split(", ")[0]]
        few = few_cards(cards if on_cards else cards + SHRUNK)
        regimes[name] = widened(regime, (tail if on_cards else tail.undivided()).times(few))
    return {**units, "regimes": regimes}


@dataclass(frozen=True)
class Tail:
    """Units that ``COVERED`` of the rows lie below: of settled pools, of unsettled ones, of both."""

    settled: float
    unsettled: float
    both: float

    def undivided(self) -> Tail:
        """One tail for all."""
        return Tail(self.both, self.both, self.both)

    def times(self, factor: float) -> Tail:
        """Longer by ``factor``."""
        return Tail(factor * self.settled, factor * self.unsettled, factor * self.both)

    def of(self, pool: str) -> float:
        """The pool's."""
        return self.unsettled if unsettled(pool) else self.settled


def unsettled(pool: str) -> bool:
    """Whether llama.cpp's kernels are little tuned for the pool's cards, so that one that is far off says nothing about
    others': NVIDIA's before Turing, and Intel's, whose drivers differ in whether they know matrix units."""
    return pool.startswith("Intel") or pool.endswith("before Turing")


def tails(counts: Sequence[tuple[BenchRow, float]], phase: str) -> Tail:
    """The tail of a phase's plain dense rows. Unsettled pools' is no shorter than settled ones': where it would be, all
    tell one."""
    mine = [(row, count) for row, count in counts if single(row) == f"{phase}, dense" and plain(row)]
    apart = [(row, count) for row, count in mine if unsettled(pool_of(row))]
    near = [(row, count) for row, count in mine if not unsettled(pool_of(row))]
    both, settled = tail_of(mine), tail_of(near)
    wide = tail_of(apart) if apart else both
    return Tail(settled, wide, both) if wide > settled else Tail(both, both, both)


def tail_of(counts: Sequence[tuple[BenchRow, float]]) -> float:
    """The count that ``COVERED`` of the rows are below."""
    return quantile([count for _, count in counts], [(pool_of(row), row.card) for row, _ in counts])


def plain(row: BenchRow) -> bool:
    """Without a trait that makes it harder to predict; what old builds and several cards do, their units have."""
    return set(traits_by_row(row)) <= {OLD, SEVERAL}


def few_cards(count: int) -> float:
    """What Student's t is of the normal distribution at 80 %: widths from few cards are uncertain themselves, those of
    one or two no less than those of three."""
    return float(student.ppf(0.9, max(count, 3) - 1) / normal.ppf(0.9))


def mixture_units(mixture: dict[str, Any], dense: dict[str, Any]) -> dict[str, Any]:
    """Mixtures of experts ran on few cards. What is usual for them holds wherever none of a pool's cards tells more,
    and they are off no less than the pool's dense rows: the card's own deviation is in both."""
    own: dict[str, list[float]] = defaultdict(list)
    for (pool, _), size in mixture["usual"].items():
        own[pool].append(size)
    pools = {
        pool: float(np.mean([*own[pool], *[max(mixture["whole"], unit)] * SHRUNK]))
        for pool, unit in dense["pools"].items()
    }
    worst = mixture["generations"]
    generations = {pool: max(worst.get(pool, 0.0), size) for pool, size in dense["generations"].items()}
    return {**mixture, "pools": pools, "generations": generations}


def widened(regime: dict[str, Any], tail: Tail) -> dict[str, Any]:
    """A regime's half-widths: of each pool where the generation has rows and where it has none, and elsewhere."""
    whole, seen = tail.both * regime["whole"], regime["seen"]
    known = {pool: tail.of(pool) * unit for pool, unit in regime["pools"].items()}
    return {
        "half_width": round(whole, 4),
        "pools": {
            pool: [round(half, 4), round(max(1.15 * half, MARGIN * regime["generations"][pool]), 4)]
            for pool, half in known.items()
        },
        "new": round(max(MARGIN * whole, regime["makers"]), 4),
        "seen": 1.0 if seen is None else round(min(max(seen / tail.settled, LEAST_SEEN), 1.0), 3),
        "rows": regime["rows"],
        "cards": regime["cards"],
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


def quantile(scores: Sequence[float] | np.ndarray, groups: Sequence[Hashable], covered: float = COVERED) -> float:
    """The score that ``covered`` of the rows are below; a card's rows together weigh the root of their number."""
    count = Counter(groups)
    order = np.argsort(scores)
    weight = np.array([count[groups[i]] ** -0.5 for i in order])
    share = np.cumsum(weight) / weight.sum()
    return float(np.asarray(scores)[order][int(np.searchsorted(share, covered))])


Line = tuple[str, int, int, float, float, float, float, float]
Entry = tuple[str, float, tuple[float, float]]


def report(outs: dict[str, LeftOut]) -> list[Line]:
    """(regime, rows, cards, median error, share inside, median width, the error and the width that are median over
    cards of each card's own) with each card's rows and widths left out."""
    _, alone = tables(outs)
    groups: dict[str, list[Entry]] = defaultdict(list)
    for out in outs.values():
        for i, row in enumerate(out.rows):
            for regime in names_of(row):
                groups[regime].append((row.card, float(out.card[i]), out.halves(i, alone[machine_of(row)])))
    return [summary(name, entries) for name, entries in sorted(groups.items())]


def models_report(outs: dict[str, LeftOut], errors: dict[str, np.ndarray]) -> list[Line]:
    """The same with other things than cards left out of the constants; widths are those that users get."""
    table, _ = tables(outs)
    groups: dict[str, list[Entry]] = defaultdict(list)
    for name, out in outs.items():
        for i, row in enumerate(out.rows):
            groups[row.regime].append((row.card, float(errors[name][i]), out.halves(i, table)))
    return [summary(name, entries) for name, entries in sorted(groups.items())]


def names_of(row: BenchRow) -> list[str]:
    names = [row.regime]
    if row.placement == "card" and len(row.gpus) == 1:
        names.append(f"{row.regime.split(', ')[0]}, one card, all models")
    if row.placement == "host" or row.placement == "cpu":
        names.append(f"{row.regime}, memory {'known' if row.host_bandwidth else 'not named'}")
    return names


def summary(name: str, entries: Sequence[Entry]) -> Line:
    cards = np.array([card for card, _, _ in entries])
    errors = np.array([error for _, error, _ in entries])
    lows, highs = np.array([halves for _, _, halves in entries]).T
    off, widths = np.abs(np.expm1(-errors)), np.exp(lows + highs)
    return (
        name, len(entries), len(set(cards)), float(np.median(off)),
        float(np.mean((-lows <= errors) & (errors <= highs))), float(np.median(widths)),
        median_over(cards, off), median_over(cards, widths),
    )  # fmt: skip


def median_over(cards: np.ndarray, values: np.ndarray) -> float:
    """The median card's median value: a card's repeats are one."""
    return float(np.median([np.median(values[cards == card]) for card in sorted(set(cards))]))


def ignorance(outs: dict[str, LeftOut]) -> list[tuple[str, int, float, float]]:
    """(what is left out, rows, share inside, median width) for whole generations and makers, of prompts and tokens."""
    found = []
    _, counts = counted(outs)
    for kind, key in (("generation", generation_key), ("maker", vendor_of)):
        for name in sorted({key(row) for out in outs.values() for row in out.rows if row.placement == "card"}):
            others = {stage: out.without([i for i, row in enumerate(out.rows) if key(row) == name])
                      for stage, out in outs.items()}  # fmt: skip
            table = finished(unit_table(others), [(row, count) for row, count in counts if key(row) != name])
            for stage in ("generation", "prompt"):
                out = outs[stage]
                at = [i for i, row in enumerate(out.rows) if key(row) == name and single(row) in table["regimes"]]
                if at:
                    errors = (out.generation if kind == "generation" else out.vendor)[at]
                    lows, highs = np.array([out.halves(i, table) for i in at]).T
                    inside = (-lows <= errors) & (errors <= highs)
                    width = float(np.median(np.exp(lows + highs)))
                    found.append((f"{kind} {name}: {stage}", len(at), float(np.mean(inside)), width))
    return found

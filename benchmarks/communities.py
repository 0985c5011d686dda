"""Simulated communities: how soon records make the seconds of a card right, and what wrong records do.

    python benchmarks/communities.py [--communities 200] [--seed 1]

Each community is a card of the catalog whose compute, dequantization, launches and link differ from the model by known
factors, and people who send one to twenty records of any modes and tiers, one in ten of them wrong by a factor of
three. Every answer comes from ``check`` with those records. Prints one JSON object; exit code 1 when a bar is missed:
after three honest records the seconds of every mode within 15 % of the truth in 90 % of communities; one wrong record
among five moves no answer by more than 10 %, in 90 % of communities.

How far cards differ is assumed (no community exists yet): logarithms with standard deviations of 0.4 for all of a
card's work, 0.15 for compute and for dequantization on top, 0.25 for launches, 0.15 for the link; runs scatter by 3 %.
With twice that (``--wild``) the bars are printed and not judged.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from statistics import median
from typing import Any

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.records.run import CellKey, Run
from fitcheck.records.run_index import Index
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.speed.timing import Timing
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check

CARDS = ("RTX 4070", "RTX 4090", "RTX 3060 12 GB", "RTX 5080", "RTX 3080 10 GB", "L4")
MODEL = "sensenova-u1-8b-mot"
TIERS = ("Q4_K_S", "Q8_0")
BARS = {"close": 0.9, "still": 0.9}


@dataclass(frozen=True)
class Known:
    """A card's cells as they are estimated, with what their seconds are made of."""

    slug: str
    cells: tuple[tuple[Cell, Timing], ...]


def known(name: str) -> Known:
    """The estimates of a card."""
    card = find_card(name)
    report = check(catalog.get(MODEL), machine_for(card), Wanted(tiers=TIERS), advise=False)
    runtime = registry.get(report.best.placement.runtime)
    return Known(card.slug, tuple((cell, runtime.timings(cell.ask)["seconds"]) for cell in report.cells))


def truth_of(chance: random.Random, wild: float) -> dict[str, float]:
    """The factors of one card."""
    common = chance.gauss(0, 0.4 * wild)
    found = {part: exp(common + chance.gauss(0, 0.15 * wild)) for part in ("compute", "dequantization")}
    return found | {"launches": exp(chance.gauss(0, 0.25 * wild)), "pinned copies": exp(chance.gauss(0, 0.15 * wild))}


def record(card: Known, cell: Cell, seconds: float, number: int) -> Run:
    """A person's record of a cell, on a machine of its own."""
    named = registry.get(cell.placement.runtime).recorded(cell.placement)
    identity = (named["name"], named["revision"], named["policy"], named["mode"])
    key = CellKey.of(MODEL, cell.tier.name, cell.workload, *identity)
    return Run(f"r{number}", card.slug, None, key, "real", "ok", number, seconds=seconds, machine=f"m{number}")


def records(chance: random.Random, card: Known, truth: dict[str, float], count: int) -> list[Run]:
    """Honest records of any modes and tiers."""
    found = []
    for number in range(count):
        cell, timing = chance.choice(card.cells)
        found.append(record(card, cell, timing.seconds(truth) * exp(chance.gauss(0, 0.03)), number))
    return found


def answers(card: Known, found: Sequence[Run]) -> list[float]:
    """Seconds of every cell with these records."""
    machine, index = machine_for(find_card(card.slug)), Index(tuple(found))
    report = check(catalog.get(MODEL), machine, Wanted(tiers=TIERS), index=index, advise=False)
    by_place = {(cell.tier.name, cell.placement): cell for cell in report.cells}
    cells = (by_place[cell.tier.name, cell.placement] for cell, _ in card.cells)
    return [cell.seconds.best for cell in cells if cell.seconds is not None]


def moved(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """Relative changes, as absolute values."""
    return [abs(new / old - 1) for old, new in zip(before, after, strict=True)]


def wrong(chance: random.Random, run: Run) -> Run:
    """The same record, wrong by a factor of three."""
    return replace(run, seconds=(run.seconds or 0.0) * chance.choice((3.0, 1 / 3)))


def simulated(communities: int, seed: int, wild: float) -> dict[str, Any]:
    """What came of all communities."""
    chance, cards = random.Random(seed), [known(name) for name in CARDS]
    errors: list[float] = []
    moves: list[float] = []
    large: dict[str, list[float]] = {}
    for number in range(communities):
        card, truth = cards[number % len(cards)], truth_of(chance, wild)
        true = [timing.seconds(truth) for _, timing in card.cells]
        honest = records(chance, card, truth, 20)
        errors.append(max(moved(true, answers(card, honest[:3]))))
        odd = wrong(chance, honest[4])
        moves.append(max(moved(answers(card, honest[:4]), answers(card, [*honest[:4], odd]))))
        count = chance.randint(1, 20)
        sent = [wrong(chance, run) if chance.random() < 0.1 else run for run in honest[:count]]
        size = "1 to 2" if count < 3 else "3 to 5" if count < 6 else "6 to 20"
        large.setdefault(size, []).append(median(moved(true, answers(card, sent))))
    return {
        "communities": communities,
        "close": sum(error <= 0.15 for error in errors) / len(errors),
        "median worst error of three honest records": round(median(errors), 3),
        "still": sum(move <= 0.10 for move in moves) / len(moves),
        "largest move by one wrong of five": round(max(moves), 3),
        "median error with one in ten wrong, by records": {
            size: round(median(found), 3) for size, found in sorted(large.items())
        },
    }


def main() -> int:
    """Exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--communities", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wild", action="store_true", help="cards that differ twice as far; nothing is judged")
    options = parser.parse_args()
    started = time.perf_counter()
    figures = simulated(options.communities, options.seed, 2.0 if options.wild else 1.0)
    print(json.dumps(figures | {"seconds": round(time.perf_counter() - started, 1), "bars": BARS}, indent=2))
    return 0 if options.wild or all(figures[name] >= bar for name, bar in BARS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())

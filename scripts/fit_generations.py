"""Fits how much slower vendors and generations are than their published rates say.

Writes ``fitcheck/speed/data/generations.json``. Two kinds of rows: seconds of denoising passes, and of forwards of a
denoiser alone, that others published, over what the H100's shares of published rates give for that card; and how fast
llama.cpp reads prompts (pp512, models of 7 and 8 B) over the published matrix rate, which says how vendors and
generations differ and nothing of the level.

Run: python scripts/fit_generations.py
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from math import exp, log
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from fitcheck.errors import InputError
from fitcheck.hardware.catalog import find_card
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Measured
from fitcheck.runtimes.figures import Figure

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "fitcheck/speed/data/generations.json"
PROMPTS = ROOT / "fitcheck/runtimes/llamacpp/data/llama_bench_rows.csv"
PARAMETERS = {"llama 7b": 6.74e9, "llama 2 7b": 6.74e9, "llama 8b": 8.03e9, "llama 3 8b": 8.03e9}
REFERENCE = ("NVIDIA", "Hopper")


class Level(NamedTuple):
    """How much slower the ``cards`` of a generation were in ``rows``; without rows, in all of the cards' prompts."""

    slowness: float
    rows: list[str]
    cards: list[str]


def step_seconds() -> dict[tuple[str, str], Level]:
    """Measured over predicted seconds by vendor and generation, published cards apart from the reference.

    Where the same cell was run with two counts of steps, the seconds between them leave out what happens once; else
    rows of later images count as they are, and rows of first images not at all.
    """
    cells: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for runtime in registry.every():
        for one in runtime.published():
            card = one.ask.card.card
            # mode fast and balanced of a card: the link hides behind the card's work
            if one.seconds is not None and (card.vendor, card.architecture) != REFERENCE and not one.inferred_text:
                cells[card.vendor, card.architecture or ""].append(one)
    return {key: found for key, rows in cells.items() if (found := _slowness(rows)) is not None}


def forward_seconds() -> dict[tuple[str, str], Level]:
    """The same from forwards of a denoiser alone: a model counts once however many of its tiers and runs were timed."""
    found: dict[tuple[str, str], dict[str, list[Figure]]] = defaultdict(lambda: defaultdict(list))
    for figure in (one for runtime in registry.every() for one in runtime.figures()):
        card = figure.computes
        if card is not None and (card.vendor, card.architecture) != REFERENCE:
            found[card.vendor, card.architecture or ""][figure.name.split()[0]].append(figure)
    return {key: _of_models(list(models.values())) for key, models in found.items()}


def _of_models(models: list[list[Figure]]) -> Level:
    slowness = median(median(one.published / one.predicted for one in runs) for runs in models)
    figures = [(one.computes.name, one.name) for runs in models for one in runs if one.computes]
    return Level(slowness, sorted({f"{card}: {name}" for card, name in figures}), sorted({card for card, _ in figures}))


def _slowness(rows: list[Measured]) -> Level | None:
    pairs = [
        (few, many)
        for few in rows
        for many in rows
        if few.ask.placement == many.ask.placement and few.ask.workload.steps < many.ask.workload.steps
    ]
    if pairs:
        few, many = pairs[0]
        predicted = _predicted(many) - _predicted(few)
        slowness = ((many.seconds or 0.0) - (few.seconds or 0.0)) / predicted
        return Level(slowness, [few.name, many.name], [few.ask.card.card.name])
    later = [one for one in rows if not one.ask.process.first]
    ratios = [(one.seconds or 0.0) / _predicted(one) for one in later]
    cards = sorted({one.ask.card.card.name for one in later})
    return Level(median(ratios), [one.name for one in later], cards) if ratios else None


def _predicted(one: Measured) -> float:
    """Seconds of the compute alone with the reference's shares."""
    runtime = registry.get(one.ask.placement.runtime)
    found = runtime.duration(one.ask, runtime.footprint(one.ask))
    assert found is not None
    assert found.seconds is not None
    return found.seconds.best


def prompt_shares() -> dict[tuple[str, str], Level]:
    """The inverse share of the published matrix rate that prompts reach, by vendor and generation.

    NVIDIA's generations are taken together: their int8 kernels pass the bf16 rate on some generations and not on
    others, so that they say nothing of how generations differ in bf16.
    """
    cards: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in csv.DictReader(PROMPTS.read_text("utf-8").splitlines()):
        size = next((PARAMETERS[name] for name in PARAMETERS if name in row["model"].lower()), None)
        if row["test"] != "pp512" or size is None or row["n_cpu_moe"] or row["card_count"] not in ("1", ""):
            continue
        try:
            card = find_card(row["card_key"])
        except InputError:
            continue
        if card.tensor_flops is not None and card.vendor in ("NVIDIA", "AMD", "Intel"):
            share = 2 * size * float(row["tokens_per_second"]) / card.tensor_flops.value
            generation = "all" if card.vendor == "NVIDIA" else card.architecture or ""
            cards[card.vendor, generation][card.name].append(share)
    return {
        key: Level(exp(-mean(log(median(shares)) for shares in found.values())), [], sorted(found))
        for key, found in cards.items()
    }


def main() -> None:
    data = json.loads(TARGET.read_text("utf-8"))
    prompts = [_row(*key, level) for key, level in sorted(prompt_shares().items())]
    data |= {"measured": [_reference(data)], "prompts": prompts}
    TARGET.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    from fitcheck.data_files import load
    from fitcheck.runtimes.sensenova import card_seen
    from fitcheck.speed import generations, overlap, rates

    kept = generations._expected, generations._measured_vendors, rates.rates_of, overlap.prices_of, card_seen._seen
    for cached in (load, *kept):
        cached.cache_clear()
    # beside the reference alone every other card is asked about with its shares; whole passes say more than forwards
    passes = forward_seconds() | step_seconds()
    measured = [_reference(data), *(_row(*key, level) for key, level in sorted(passes.items()))]
    TARGET.write_text(json.dumps(data | {"measured": measured}, indent=1) + "\n", "utf-8")
    for row in measured + prompts:
        print(row["vendor"], row["architecture"], row["slowness"])


def _row(vendor: str, generation: str, level: Level) -> dict[str, object]:
    row = {"vendor": vendor, "architecture": generation, "slowness": round(level.slowness, 3), "cards": level.cards}
    return row | ({"rows": level.rows} if level.rows else {})


def _reference(data: dict[str, object]) -> dict[str, object]:
    reference = data["reference"]
    assert isinstance(reference, dict)
    rows = ["rates.json: the profile and link records of an H100"]
    return _row(*REFERENCE, Level(1.0, rows, [reference["card"]]))


if __name__ == "__main__":
    main()

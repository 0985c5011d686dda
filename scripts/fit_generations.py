"""Fits how much slower vendors and generations are than their published rates say.

Writes ``fitcheck/speed/data/generations.json``. Two kinds of rows: seconds of denoising passes that others published,
over what the H100's shares of published rates give for that card; and how fast llama.cpp reads prompts (pp512, models
of 7 and 8 B) over the published matrix rate, which says how vendors and generations differ and nothing of the level.

Run: python scripts/fit_generations.py
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from math import exp, log
from pathlib import Path
from statistics import mean, median

from fitcheck.errors import InputError
from fitcheck.hardware.catalog import find_card
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Measured

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "fitcheck/speed/data/generations.json"
PROMPTS = ROOT / "fitcheck/runtimes/llamacpp/data/llama_bench_rows.csv"
PARAMETERS = {"llama 7b": 6.74e9, "llama 2 7b": 6.74e9, "llama 8b": 8.03e9, "llama 3 8b": 8.03e9}
REFERENCE = ("NVIDIA", "Hopper")


def step_seconds() -> dict[tuple[str, str], tuple[float, list[str]]]:
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


def _slowness(rows: list[Measured]) -> tuple[float, list[str]] | None:
    pairs = [
        (few, many)
        for few in rows
        for many in rows
        if few.ask.placement == many.ask.placement and few.ask.workload.steps < many.ask.workload.steps
    ]
    if pairs:
        few, many = pairs[0]
        predicted = _predicted(many) - _predicted(few)
        return ((many.seconds or 0.0) - (few.seconds or 0.0)) / predicted, [few.name, many.name]
    later = [one for one in rows if not one.ask.process.first]
    ratios = [(one.seconds or 0.0) / _predicted(one) for one in later]
    return (median(ratios), [one.name for one in later]) if ratios else None


def _predicted(one: Measured) -> float:
    """Seconds of the compute alone with the reference's shares."""
    runtime = registry.get(one.ask.placement.runtime)
    found = runtime.duration(one.ask, runtime.footprint(one.ask))
    assert found is not None
    assert found.seconds is not None
    return found.seconds.best


def prompt_shares() -> dict[tuple[str, str], tuple[float, list[str]]]:
    """Share of the published matrix rate that prompts reach, by vendor and generation; GeForce and Radeon alike.

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
        key: (exp(mean(log(median(shares)) for shares in found.values())), sorted(found))
        for key, found in cards.items()
    }


def main() -> None:
    data = json.loads(TARGET.read_text("utf-8"))
    TARGET.write_text(json.dumps(data | {"measured": [_reference(data)]}, indent=1) + "\n", "utf-8")
    from fitcheck.data_files import load
    from fitcheck.runtimes.sensenova import card_seen
    from fitcheck.speed import generations, overlap, rates

    kept = generations._expected, generations._measured_vendors, rates.rates_of, overlap.prices_of, card_seen._seen
    for cached in (load, *kept):
        cached.cache_clear()
    # beside the reference alone every other card is asked about with its shares
    measured = [_reference(data)]
    for (vendor, generation), (ratio, rows) in sorted(step_seconds().items()):
        measured.append(_row(vendor, generation, ratio, rows))
    shares = prompt_shares()
    prompts = [_row(*key, 1 / share, rows) for key, (share, rows) in sorted(shares.items())]
    TARGET.write_text(json.dumps(data | {"measured": measured, "prompts": prompts}, indent=1) + "\n", "utf-8")
    for row in measured + prompts:
        print(row["vendor"], row["architecture"], row["slowness"])


def _row(vendor: str, generation: str, slowness: float, rows: list[str]) -> dict[str, object]:
    return {"vendor": vendor, "architecture": generation, "slowness": round(slowness, 3), "rows": rows}


def _reference(data: dict[str, object]) -> dict[str, object]:
    return _row(*REFERENCE, 1.0, ["rates.json: the profile and link records of an H100"])


if __name__ == "__main__":
    main()

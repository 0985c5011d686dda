"""Two cards side by side on every model of the site, for the pairs that people ask about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fitcheck.pages import wanted
from fitcheck.pages.card_pages import Running, Twins
from fitcheck.pages.document import card_facts
from fitcheck.pages.list_parts import parts_of
from fitcheck.pages.site_inputs import Inputs
from fitcheck.pages.site_plan import LIST_SCHEMA, Page, made, plain, way_to
from fitcheck.pages.view import Crumb
from fitcheck.units import GIB

# both cards stand beside the same system memory, so that the cards alone differ
BESIDE = 32 * GIB
_CELL = ("verdict", "tier", "mode", "seconds", "pace", "price_usd_per")


def pairs_of(inputs: Inputs) -> list[wanted.Pair]:
    """The pairs whose cards the site has."""
    cards = {card.slug for card in inputs.cards}
    return [pair for pair in wanted.pairs() if pair.first in cards and pair.second in cards]


def compares_page(inputs: Inputs, running: Running) -> Page:
    """The list of pairs."""
    cards = {card.slug: card for card in inputs.cards}
    listed = [
        {
            "address": pair.address,
            "why": pair.why,
            "names": [cards[slug].name for slug in (pair.first, pair.second)],
            "fits": [_fits(running[slug]) for slug in (pair.first, pair.second)],
            "models": len(inputs.models),
        }
        for pair in pairs_of(inputs)
    ]
    return made(
        inputs,
        "compare/",
        "compares.html",
        "Compare two cards: what runs on each, how fast, for what price",
        f"{len(listed)} pairs of cards that people choose between, and any two of {len(cards)} side by side.",
        document={
            "schema": LIST_SCHEMA,
            "address": "compare/",
            "pairs": listed,
            "cards": [{"slug": card.slug, "name": card.name} for card in inputs.cards],
            "models": [{"slug": model.slug, "name": model.name} for model in inputs.models],
        },
        preview=plain("fitcheck", "Compare two cards", "what runs on each, how fast, for what price"),
        section="compare/",
    )


def _fits(running: Sequence[Mapping[str, Any]]) -> int:
    """How many models run beside the memory that both cards get, or in what the card shares."""
    count: int = next((one for one in running if one["ram"] == BESIDE), running[0])["fits"]
    return count


def pair_pages(inputs: Inputs, rows: Twins, pair: wanted.Pair) -> Iterator[Page]:
    """The page of two cards."""
    by_slug = {card.slug: card for card in inputs.cards}
    cards = by_slug[pair.first], by_slug[pair.second]
    names = " or ".join(card.name for card in cards)
    found = []
    for model in inputs.models:
        cells = [_beside(rows[model.slug, card.slug]) for card in cards]
        addresses = [rows[model.slug, card.slug]["address"] for card in cards]
        found.append({"model": model.slug, "name": model.name, "addresses": addresses, "cells": cells})
    fits = [sum(row["cells"][side]["verdict"] == "fits" for row in found) for side in (0, 1)]
    told = f"{fits[0]} and {fits[1]} of {len(found)} models fit beside {BESIDE // GIB} GB"
    for part in parts_of(found, pair.address):
        yield made(
            inputs,
            part.address(pair.address),
            "compare.html",
            part.titled(f"{names}: which runs more models, which is faster"),
            f"{cards[0].name} against {cards[1].name}: {told}. Verdict, speed and price for what it does, model by "
            "model.",
            document={
                "schema": LIST_SCHEMA,
                "address": part.address(pair.address),
                "why": pair.why,
                "ram": BESIDE,
                "cards": [card_facts(card) for card in cards],
                "fits": fits,
                "models": len(found),
                "rows": part.rows,
            },
            preview=plain("Compare", names, told, pair.why),
            section="compare/",
            crumbs=(Crumb("Compare", "compare/"), *way_to(names, pair.address, part)),
            values=part.values,
            picture=part.number == 1,
        )


def _beside(twin: Mapping[str, Any]) -> dict[str, Any]:
    """The model's first task beside the memory that both cards get, or what the card shares."""
    own = [row for row in twin["by_memory"] if row["task"] == twin["task"]]
    row = next((row for row in own if row["ram"] == BESIDE), own[0])
    return {name: row[name] for name in _CELL}

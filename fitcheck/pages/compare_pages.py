"""Two cards side by side on every model of the site, for the pairs that people ask about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fitcheck.hardware.card import Card
from fitcheck.pages import wanted
from fitcheck.pages.card_pages import Twins
from fitcheck.pages.document import card_facts
from fitcheck.pages.site_inputs import Inputs
from fitcheck.pages.site_plan import LIST_SCHEMA, Page, made, plain
from fitcheck.pages.view import Crumb
from fitcheck.units import GIB

# both cards stand beside the same system memory, so that the cards alone differ
BESIDE = 32 * GIB
_CELL = ("verdict", "tier", "mode", "seconds", "generation", "price_usd_per")


def compare_pages(inputs: Inputs, rows: Twins) -> Iterator[Page]:
    """The list of pairs, and a page for each whose cards the site has."""
    cards = {card.slug: card for card in inputs.cards}
    pairs = [pair for pair in wanted.pairs() if pair.first in cards and pair.second in cards]
    listed = []
    for pair in pairs:
        page = _pair_page(inputs, rows, pair, cards[pair.first], cards[pair.second])
        listed.append({"address": page.address, "why": pair.why, **_in_short(page.document)})
        yield page
    yield made(
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


def _in_short(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "names": [card["name"] for card in document["cards"]],
        "fits": document["fits"],
        "models": len(document["rows"]),
    }


def _pair_page(inputs: Inputs, rows: Twins, pair: wanted.Pair, *cards: Card) -> Page:
    names = " or ".join(card.name for card in cards)
    found = []
    for model in inputs.models:
        cells = [_beside(rows[model.slug, card.slug]) for card in cards]
        addresses = [rows[model.slug, card.slug]["address"] for card in cards]
        found.append({"model": model.slug, "name": model.name, "addresses": addresses, "cells": cells})
    fits = [sum(row["cells"][side]["verdict"] == "fits" for row in found) for side in (0, 1)]
    told = f"{fits[0]} and {fits[1]} of {len(found)} models run beside {BESIDE // GIB} GB"
    return made(
        inputs,
        pair.address,
        "compare.html",
        f"{names}: which runs more models, which is faster",
        f"{cards[0].name} against {cards[1].name}: {told}. Verdict, speed and price for what it does, model by model.",
        document={
            "schema": LIST_SCHEMA,
            "address": pair.address,
            "why": pair.why,
            "ram": BESIDE,
            "cards": [card_facts(card) for card in cards],
            "fits": fits,
            "rows": found,
        },
        preview=plain("Compare", names, told, pair.why),
        section="compare/",
        crumbs=(Crumb("Compare", "compare/"), Crumb(names, None)),
    )


def _beside(twin: Mapping[str, Any]) -> dict[str, Any]:
    """The model's first task beside the memory that both cards get, or what the card shares."""
    own = [row for row in twin["by_memory"] if row["task"] == twin["task"]]
    row = next((row for row in own if row["ram"] == BESIDE), own[0])
    return {name: row[name] for name in _CELL}

"""A page for each card: what runs on it beside 16, 32, 64 and 128 GB, by purpose, and which cards cost as much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fitcheck.hardware.card import Card
from fitcheck.models import catalog
from fitcheck.models.model import Model
from fitcheck.pages import view
from fitcheck.pages.digests import digest, digest_json
from fitcheck.pages.document import card_facts
from fitcheck.pages.list_parts import MOST_ROWS, numbered, parts_of
from fitcheck.pages.neighbours import by_price
from fitcheck.pages.site_inputs import Inputs
from fitcheck.pages.site_plan import LIST_SCHEMA, Page, made, plain, way_to
from fitcheck.pages.view import Crumb
from fitcheck.units import GIB
from fitcheck.verdict.purposes import purposes
from fitcheck.verdict.usual_memory import usual_ram

_CELL = ("verdict", "tier", "mode", "seconds", "pace")
_USUAL = 32 * GIB
MOST_MISSES = 6

# a purpose, and the rows of its models
Listed = tuple[Mapping[str, str], list[dict[str, Any]]]
# by (model, card): the summary of the page about them, with ``by_memory``
Twins = Mapping[tuple[str, str], Mapping[str, Any]]
# by card how many models fit beside each amount of system memory (``counts``)
Running = Mapping[str, Sequence[Mapping[str, Any]]]
Near = Sequence[Mapping[str, Any]]
# each purpose with its models and the task that it asks each for
Served = Sequence[tuple[Mapping[str, str], Sequence[tuple[Model, str]]]]


def card_pages(inputs: Inputs, rows: Twins, card: Card, running: Running, near: Near, served: Served) -> Iterator[Page]:
    """The page of a card with every model on it. ``near`` are the cards of about its price (``near_of``)."""
    listed = list(_purposes(served, rows, card))
    yield from _card_pages(inputs, rows, card, running[card.slug], near, listed)


def near_of(inputs: Inputs, running: Running) -> dict[str, Near]:
    """By card those around it by price, with what runs on each."""
    prices = [_priced(card, running[card.slug]) for card in inputs.cards]
    return {card.slug: by_price(prices, card.slug) for card in inputs.cards}


def counts(inputs: Inputs, rows: Twins, card: Card) -> list[dict[str, Any]]:
    """How many of the site's models fit in their first task, beside each amount of system memory."""
    found: dict[int | None, int] = {}
    for model in inputs.models:
        for row in rows[model.slug, card.slug]["by_memory"]:
            if row["task"] == str(model.tasks[0]):
                found[row["ram"]] = found.get(row["ram"], 0) + (row["verdict"] == "fits")
    return [{"ram": ram, "fits": number} for ram, number in found.items()]


def _priced(card: Card, running: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    beside = next((one for one in running if one["ram"] == _USUAL), running[0])
    price = card.launch_price_usd
    return {
        "card": card.slug,
        "name": card.name,
        "memory": card.memory,
        "price": None if price is None else price.value,
        "ram": beside["ram"],
        "fits": beside["fits"],
    }


def _card_pages(
    inputs: Inputs,
    rows: Twins,
    card: Card,
    running: Sequence[Mapping[str, Any]],
    near: Near,
    listed: list[Listed],
) -> Iterator[Page]:
    own = [rows[model.slug, card.slug] for model in inputs.models]
    usual = usual_ram(card)
    said = next((one for one in running if one["ram"] == usual), running[0])
    size = f"{card.memory / GIB:g} GB"
    ram = "its own memory" if said["ram"] is None else f"{said['ram'] // GIB} GB"
    runs = f"{said['fits']} of {len(inputs.models)}"
    address = f"cards/{card.slug}/"
    document = {
        "schema": LIST_SCHEMA,
        "card": card_facts(card),
        "usable": own[0]["usable_span"],
        "models": len(inputs.models),
        "usual": said["ram"],
        "counts": running,
        "misses": _misses(own, said["ram"]),
        "near": near,
        "software": _software(own),
        "records": [view.record_facts(one) for one in inputs.records_of(card.slug)[: view.MOST_RECORDS]],
        "measured": len(inputs.records_of(card.slug)),
    }
    each = ", ".join(f"{one['fits']} beside {one['ram'] // GIB} GB" for one in running if one["ram"] is not None)
    digests = _digests(listed)
    for part in numbered(_divided(listed), address):
        yield made(
            inputs,
            part.address(address),
            "card.html",
            part.titled(f"{card.name}: what runs on {size}, {runs} models fit beside {ram}"),
            f"{card.name}, {size}: of {len(inputs.models)} wanted models {each or runs} fit. By purpose, with speed.",
            document={**document, "address": part.address(address), "purposes": _together(part.rows)},
            digests={"purposes": digest([digests[row["purpose"]["name"], row["model"]] for row in part.rows])},
            preview={
                **plain(f"{card.vendor} · {size}", f"{card.name} · {ram}: {runs}"),
                "lines": tuple(_told(one, len(inputs.models)) for one in running[:3]),
                "share": said["fits"] / len(inputs.models),
            },
            section="cards/",
            crumbs=(Crumb("Cards", "cards/"), *way_to(card.name, address, part)),
            values=part.values,
            picture=part.number == 1,
            feed=f"{address}feed.xml",
        )


def _divided(listed: list[Listed]) -> list[Sequence[Mapping[str, Any]]]:
    """The rows of all purposes in pages: the first has of each purpose the most wanted models, the same ones on every
    card, the others what is left."""
    share = MOST_ROWS // max(len(listed), 1)
    first = [{**row, "purpose": purpose} for purpose, rows in listed for row in rows[:share]]
    rest = [{**row, "purpose": purpose} for purpose, rows in listed for row in rows[share:]]
    return [first, *(part.rows for part in parts_of(rest, "") if rest)]


def _together(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows by purpose, in each the models that run first."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        own = {name: value for name, value in row.items() if name != "purpose"}
        found.setdefault(row["purpose"]["name"], {**row["purpose"], "rows": []})["rows"].append(own)
    for one in found.values():
        one["rows"].sort(key=lambda row: [view.rank(cell["verdict"]) for cell in row["cells"]])
    return list(found.values())


def _told(one: Mapping[str, Any], of: int) -> str:
    beside = "own memory" if one["ram"] is None else f"{one['ram'] // GIB} GB of system memory"
    return f"{beside}: {one['fits']} of {of} models fit"


def served_by(models: Sequence[Model]) -> Served:
    """Each purpose with the models, the most wanted first, and what it asks each for; the same on every card."""
    listed = {one.slug: one for one in catalog.listed()}
    return [
        (
            {"name": purpose.name, "makes": purpose.makes},
            [(model, str(purpose.task_of(listed[model.slug]))) for model in models],
        )
        for purpose in purposes()
    ]


def _purposes(served: Served, rows: Twins, card: Card) -> Iterator[Listed]:
    """Each purpose with its models, the most wanted first, and a cell of each for each amount of memory; purposes
    without a model are left out. A model that two purposes ask for the same has one row."""
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for purpose, models in served:
        found = []
        for model, task in models:
            if (model.slug, task) not in known:
                twin = rows[model.slug, card.slug]
                cells = [{name: row[name] for name in _CELL} for row in twin["by_memory"] if row["task"] == task]
                row = {"model": model.slug, "name": model.name, "address": twin["address"], "cells": cells}
                known[model.slug, task] = row
            row = known[model.slug, task]
            if row["cells"]:
                found.append(row)
        if found:
            yield purpose, found


def _digests(listed: Sequence[Listed]) -> dict[tuple[str, str], str]:
    """By purpose and model what its row says, each row digested once."""
    known: dict[int, str] = {}
    digests = {}
    for purpose, rows in listed:
        for row in rows:
            if id(row) not in known:
                known[id(row)] = digest_json(row)
            digests[purpose["name"], row["model"]] = f"{purpose['name']} {known[id(row)]}"
    return digests


def _misses(own: Sequence[Mapping[str, Any]], ram: int | None) -> list[dict[str, Any]]:
    """What would run with a little more: models that do not fit beside ``ram``, of which it is known what helps."""
    found = []
    for twin in own:
        for row in twin["by_memory"]:
            if row["ram"] == ram and row["task"] == twin["task"] and row["verdict"] != "fits" and _helps(row["change"]):
                cell = {name: row[name] for name in ("verdict", "change")}
                found.append({"name": twin["model_name"], "address": twin["address"], **cell})
    return sorted(found, key=lambda row: view.rank(row["verdict"]))[:MOST_MISSES]


def _helps(change: Mapping[str, Any] | None) -> bool:
    """Whether a change is known to lead to something that runs."""
    return change is not None and change["verdict"] in view.RUNS


def _software(own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the software must be for any model, each row once, with the runtimes that ask for it."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for twin in own:
        for row in twin["software"]:
            runtimes = found.setdefault(tuple(row.values()), {**row, "runtimes": []})["runtimes"]
            if twin["runtime"] not in runtimes:
                runtimes.append(twin["runtime"])
    return sorted(found.values(), key=lambda row: (row["runtimes"][0], row["component"]))

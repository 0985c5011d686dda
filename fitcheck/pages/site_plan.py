"""Every page of the site as a value: where it stands, what it is drawn from, and a key that changes when it must.

The page about one model on one card is in ``check_page``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fitcheck
from fitcheck.models.model import Model
from fitcheck.pages import view, words
from fitcheck.pages.document import ASKED, accuracy_row, card_facts
from fitcheck.pages.formats import VERDICTS, write
from fitcheck.pages.site_inputs import Inputs, digest, digest_json, newest_first
from fitcheck.pages.view import Crumb
from fitcheck.runtimes import registry
from fitcheck.units import GIB
from fitcheck.verdict.accuracy_summary import summarize

POPULAR = ("rtx-3060-12gb", "rtx-4060-ti-16gb", "rtx-4070", "rtx-5070-ti", "rtx-4090", "rtx-5090")
LIST_SCHEMA = "fitcheck.list/1"


@dataclass(frozen=True)
class Page:
    """One page. ``document`` is its JSON twin (``None``: read the one that is on disk, it has not changed)."""

    address: str
    template: str
    title: str
    description: str
    document: Mapping[str, Any] | None
    preview: Mapping[str, Any]
    key: str
    section: str | None = None
    crumbs: tuple[Crumb, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Folders between the page and the site's root: how many "../" a relative link needs."""
        return self.address.count("/")

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the page, its JSON twin and its picture under the site's folder."""
        return tuple(f"{self.address}{name}" for name in ("index.html", "index.json", "share.png"))


def _page(inputs: Inputs, address: str, template: str, title: str, description: str, **rest: Any) -> Page:
    document = rest["document"]
    extra = digest_json([rest.get("preview"), rest.get("values", {})])
    key = digest([inputs.pages, inputs.base_url, title, description, digest_json(document), extra])
    return Page(address, template, title, description, key=key, **rest)


def _plain(eyebrow: str, title: str, *lines: str) -> dict[str, Any]:
    return {"eyebrow": eyebrow, "title": title, "word": None, "verdict": None, "lines": lines}


def model_page(inputs: Inputs, model: Model, rows: Sequence[Mapping[str, Any]]) -> Page:
    """The page of one model on every card; ``rows`` are its facts, one a card."""
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS}
    published = {tier.name for tier in model.tiers if tier.published}
    running = [row for row in rows if row["verdict"] == "fits" and row["tier"] in published and row["price"]]
    document = {
        "schema": LIST_SCHEMA,
        "address": f"check/{model.slug}/",
        "slug": model.slug,
        "name": model.name,
        "licence": model.licence,
        **{name: rows[0][name] for name in ASKED},
        "counts": counts,
        "best_value": min(running, key=lambda row: (row["price"], row["card"]), default=None),
        "vendors": sorted({row["vendor"] for row in rows}),
        "tiers": [
            {
                "name": tier.name,
                "disk": tier.disk_bytes,
                "published": tier.published,
                "repository": tier.repository,
                "file": tier.file,
                "source": tier.source,
            }
            for tier in model.tiers
        ],
        "notes": list(model.notes),
        "rows": list(rows),
    }
    fits = f"{counts['fits']} of {len(rows)} cards fit"
    return _page(
        inputs,
        f"check/{model.slug}/",
        "model.html",
        f"{model.name}: which cards run it, in which files, how fast",
        f"{fits}. Card memory, system memory, seconds an image and launch price of {len(rows)} cards, with evidence.",
        document=document,
        preview=_plain(
            "Which cards run it?", model.name, fits, "card memory, system memory, time and price side by side"
        ),
        section="check/",
        crumbs=(Crumb("Models", "check/"), Crumb(model.name, None)),
    )


def _model_rows(inputs: Inputs, rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "slug": model.slug,
            "name": model.name,
            "fits": sum(rows[model.slug, card.slug]["verdict"] == "fits" for card in inputs.cards),
        }
        for model in inputs.models
    ]


def _asked(rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The different questions of a table, each once."""
    found = {tuple(row[name] for name in ASKED): None for row in rows.values()}
    return [dict(zip(ASKED, one, strict=True)) for one in found]


_CELL = ("address", "model", "model_name", "verdict", "tier", "mode", "seconds", "way_out")


def list_pages(inputs: Inputs, rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[Page]:
    """The pages over all models and cards: home, /check/, /cards/ and each model."""
    models = _model_rows(inputs, rows)
    yield from (
        model_page(inputs, model, [rows[model.slug, card.slug] for card in inputs.cards]) for model in inputs.models
    )
    popular = [
        rows[model.slug, card.slug] for card in inputs.cards if card.slug in POPULAR for model in inputs.models[:1]
    ] or [rows[inputs.models[0].slug, card.slug] for card in inputs.cards[:6]]
    home = {"schema": LIST_SCHEMA, "address": "", "models": models, "cards": len(inputs.cards), "popular": popular}
    yield _page(
        inputs,
        "",
        "home.html",
        "fitcheck: will this model run on this card?",
        "Which files, which offload mode, how fast, and how we know: from real tensors, checked against measurements.",
        document=home,
        preview=_plain("fitcheck", "Will it run on this card?", "Which files, which mode, how fast, how we know."),
    )
    table = [
        {
            "card": card.slug,
            "name": card.name,
            "vendor": card.vendor,
            "memory": card.memory,
            "cells": [{key: rows[model.slug, card.slug][key] for key in _CELL} for model in inputs.models],
        }
        for card in inputs.cards
    ]
    vendors = sorted({card.vendor for card in inputs.cards})
    yield _page(
        inputs,
        "check/",
        "models.html",
        "Every model on every card: what fits, what is tight, what does not run",
        f"{len(models)} models × {len(table)} cards: the best files and offload mode of each, with time for an image.",
        document={
            "schema": LIST_SCHEMA,
            "address": "check/",
            "asked": _asked(rows),
            "vendors": vendors,
            "models": models,
            "rows": table,
        },
        preview=_plain("fitcheck", "Every model on every card", f"{len(models)} models × {len(table)} cards"),
        section="check/",
    )
    facts = [
        {
            **card_facts(card),
            "fits": sum(rows[model.slug, card.slug]["verdict"] == "fits" for model in inputs.models),
            "records": len(inputs.records_of(card.slug)),
        }
        for card in inputs.cards
    ]
    yield _page(
        inputs,
        "cards/",
        "cards.html",
        "Cards: memory, bandwidth, matrix rate, launch price and what runs on each",
        f"{len(facts)} cards with sourced figures and the models that fit on them.",
        document={"schema": LIST_SCHEMA, "address": "cards/", "vendors": vendors, "rows": facts},
        preview=_plain("fitcheck", "Cards", f"{len(facts)} cards and what runs on each"),
        section="cards/",
    )


def card_pages(inputs: Inputs, rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[Page]:
    """A page for each card with every model on it; ``rows`` by (model slug, card slug)."""
    for card in inputs.cards:
        own = [rows[model.slug, card.slug] for model in inputs.models]
        fits = [row["model_name"] for row in own if row["verdict"] == "fits"]
        runs = f"{' and '.join(fits)} fit{'s' if len(fits) == 1 else ''}" if fits else "no catalog model fits as asked"
        size = f"{card.memory / GIB:g} GB"
        document = {
            "schema": LIST_SCHEMA,
            "address": f"cards/{card.slug}/",
            "card": card_facts(card),
            "usable": own[0]["usable_span"],
            "rows": own,
            "records": [view.record_facts(record) for record in inputs.records_of(card.slug)],
        }
        yield _page(
            inputs,
            f"cards/{card.slug}/",
            "card.html",
            f"{card.name}: which image models run on {size}",
            f"{card.name}, {size}: {runs}. Memory, time and evidence of each model.",
            document=document,
            preview=_plain(f"{card.vendor} · {size}", card.name, *(f"{r['model_name']}: {r['verdict']}" for r in own)),
            section="cards/",
            crumbs=(Crumb("Cards", "cards/"), Crumb(card.name, None)),
        )


def result_pages(inputs: Inputs, addresses: set[str]) -> Iterator[Page]:
    """A page for each record; it links to the page of its model and card where ``addresses`` has that."""
    for record in inputs.records:
        facts = view.record_facts(record)
        about = f"check/{facts['model']}/{facts['card']}/"
        what = f"{facts['model'] or facts['runtime'] or 'link rates'} on {facts['card_name'] or 'CPU'}"
        yield _page(
            inputs,
            f"results/{record['id']}/",
            "result.html",
            f"Measured: {what}, {facts['outcome']}",
            words.result_words(facts),
            document={
                "schema": LIST_SCHEMA,
                "address": f"results/{record['id']}/",
                "records": [record],
                "pages": [about if about in addresses else None],
            },
            preview=_plain("Measured", what[:80], facts["outcome"], write(facts["seconds"], "seconds")),
            section="results/",
            crumbs=(Crumb("Results", "results/"), Crumb(record["id"][:10], None)),
        )


def other_pages(inputs: Inputs) -> Iterator[Page]:
    """The pages that stand once: results, accuracy, method and contribute."""
    records = newest_first(inputs.records)
    yield _page(
        inputs,
        "results/",
        "results.html",
        "Results: measurements that people sent",
        f"{len(records)} accepted measurements of models on cards, each with what is needed to repeat it.",
        document={"schema": LIST_SCHEMA, "address": "results/", "records": [view.record_facts(one) for one in records]},
        preview=_plain("fitcheck", "Results", f"{len(records)} accepted measurements"),
        section="results/",
    )
    summaries = summarize(inputs.accuracy)
    tested = [one for one in summaries if not one.fitted]
    errors = [
        f"{one.quantity}, {one.origin}: median error {write(one.median, 'percent')} of {one.rows} rows"
        for one in tested
    ]
    best = ", ".join(f"{one.quantity} ({one.origin}) within {write(one.worst, 'percent')}" for one in tested)
    yield _page(
        inputs,
        "accuracy/",
        "accuracy.html",
        "Accuracy: predicted against measured, misses as large as hits",
        f"{len(inputs.accuracy)} measured quantities beside the prediction: {best}.",
        document={
            "schema": "fitcheck.accuracy/1",
            "address": "accuracy/",
            "summary": [
                {
                    "origin": one.origin,
                    "quantity": one.quantity,
                    "rows": one.rows,
                    "median": one.median,
                    "worst": one.worst,
                    "covered": one.covered,
                    "fitted": one.fitted,
                }
                for one in summaries
            ],
            "rows": [accuracy_row(row) for row in inputs.accuracy],
        },
        preview=_plain("fitcheck", "Predicted against measured", *errors),
        section="accuracy/",
    )
    yield _page(
        inputs,
        "method/",
        "method.html",
        "Method: from a model’s tensors to a verdict",
        "How memory, time and the verdict are computed, what each word means, and how it is checked.",
        document={"schema": LIST_SCHEMA, "address": "method/", "sources": sources(), "modes": modes_of(inputs)},
        preview=_plain("fitcheck", "Method", "from a model’s tensors to a verdict"),
        section="method/",
    )
    wanted = [{"slug": card.slug, "name": card.name} for card in inputs.cards if not inputs.records_of(card.slug)]
    yield _page(
        inputs,
        "contribute/",
        "contribute.html",
        "Contribute a measurement of your card",
        "Three commands: measure, look at every byte, send. Nothing is sent unless you say so.",
        document={
            "schema": LIST_SCHEMA,
            "address": "contribute/",
            "wanted": wanted[:120],
            "example": _example(inputs.models[0]),
        },
        preview=_plain("fitcheck", "Contribute a measurement", "measure, look, send"),
        section="contribute/",
    )


def _example(model: Model) -> dict[str, Any]:
    """The cell that most people can measure: the smallest published files in the mode that needs least of the card."""
    tier = min(model.tiers, key=lambda tier: (not tier.published, tier.disk_bytes))
    modes = [mode for runtime in registry.serving(model)[:1] for mode in runtime.modes]
    return {"model": model.slug, "tier": tier.name, "mode": modes[-1] if modes else None}


def modes_of(inputs: Inputs) -> dict[str, str]:
    """What the modes mean of the runtimes that the site's models are asked about."""
    names = dict.fromkeys(runtime.name for model in inputs.models for runtime in registry.serving(model))
    return {mode: words_ for name in names for mode, words_ in registry.get(name).modes.items()}


def sources() -> list[list[str]]:
    """Where the constants of the estimator come from, as the data files of its rooms say: place and source."""
    root = Path(fitcheck.__file__).parent
    found = []
    for path in sorted(file for room in ("memory", "speed", "runtimes") for file in (root / room).rglob("data/*.json")):
        content = json.loads(path.read_bytes())
        room = ", ".join(path.parent.parent.relative_to(root).parts)
        found += [[place, text] for place, text in _stated(f"{room}: {path.stem}", content)]
    return found


def _stated(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if isinstance(value.get("source"), str):
            yield place.replace("_", " "), value["source"]
        for key, inner in value.items():
            yield from _stated(f"{place}, {key}", inner)

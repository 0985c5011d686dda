"""The pages of measurements and of how the numbers are made: results, each record, accuracy, method, contribute."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fitcheck
from fitcheck.dataclass_later import dataclass
from fitcheck.pages import view, words
from fitcheck.pages.document import accuracy_row
from fitcheck.pages.formats import write
from fitcheck.pages.site_inputs import Inputs, newest_first
from fitcheck.pages.site_plan import LIST_SCHEMA, Page, made, plain
from fitcheck.pages.site_rows import SiteRows
from fitcheck.pages.view import Crumb
from fitcheck.runtimes import registry
from fitcheck.verdict.accuracy import AccuracyRow
from fitcheck.verdict.accuracy_summary import AccuracySummary, summarize
from fitcheck.verdict.glossary import MODES, glossary

MOST_WANTED = 40
# of the newest records, on the page of all; each has its own, and its card's page and feed name it too
MOST_LISTED = 60


def result_pages(inputs: Inputs) -> Iterator[Page]:
    """A page for the records of each card, model and file, which links to the page of its model and card where the site
    has that; and the page of the newest."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in newest_first(inputs.records):
        groups.setdefault(view.place_of(record).partition("#")[0], []).append(record)
    models, cards = ({one.slug for one in part} for part in (inputs.models, inputs.cards))
    for address, records in groups.items():
        yield _group_page(inputs, address, records, models, cards)
    yield _results(inputs)


def _group_page(inputs: Inputs, address: str, records: list[dict[str, Any]], models: set[str], cards: set[str]) -> Page:
    facts = view.record_facts(records[0])
    about = f"check/{facts['model']}/{facts['card']}/"
    what = " ".join(part for part in (facts["model"] or facts["runtime"] or "link rates", facts["tier"]) if part)
    many = f"{len(records)} record{'s' if len(records) > 1 else ''}"
    title = f"{what} on {facts['card_name'] or 'CPU'}"
    return made(
        inputs,
        address,
        "result.html",
        f"Measured: {title[:120]}, {many} ({address.removeprefix('results/').rstrip('/')})",
        f"{many} of {title[:120]}; the newest: {words.result_words(facts)[:200]}",
        document={
            "schema": LIST_SCHEMA,
            "address": address,
            "records": records,
            "about": about if facts["model"] in models and facts["card"] in cards else None,
        },
        preview=plain("Measured", title[:80], many, write(facts["seconds"], "seconds")),
        section="results/",
        crumbs=(Crumb("Results", "results/"), Crumb(title[:80], None)),
        picture=False,
        digests={"flags": inputs.engine},  # which the estimator raises: as the page is drawn, not for one that is kept
    )


def method_page(inputs: Inputs) -> Page:
    """How the numbers are made."""
    return made(
        inputs,
        "method/",
        "method.html",
        "Method: from a model’s tensors to a verdict",
        "How memory, time and the verdict are computed, what each word means, and how it is checked.",
        document={"schema": LIST_SCHEMA, "address": "method/", "sources": sources(), "words": words_of(inputs)},
        preview=plain("fitcheck", "Method", "from a model’s tensors to a verdict"),
        section="method/",
    )


def _results(inputs: Inputs) -> Page:
    records = newest_first(inputs.records)
    return made(
        inputs,
        "results/",
        "results.html",
        "Results: measurements that people sent",
        f"{len(records)} accepted measurements of models on cards, each with what is needed to repeat it.",
        document={
            "schema": LIST_SCHEMA,
            "address": "results/",
            "count": len(records),
            "records": [view.record_facts(one) for one in records[:MOST_LISTED]],
        },
        preview=plain("fitcheck", "Results", f"{len(records)} accepted measurements"),
        section="results/",
        facts=(_dataset(inputs, "results/", "Measurements of generative models on graphics cards"),),
    )


def accuracy_page(inputs: Inputs) -> Page:
    """What was predicted beside what was measured."""
    summaries = summarize(inputs.accuracy)
    tested = [one for one in summaries if not one.fitted]
    errors = [
        f"{one.quantity}, {one.origin}: median error {write(one.median, 'percent')} of {one.rows} rows"
        for one in tested
    ]
    blind = [row for row in inputs.accuracy if not row.fitted]
    covered = sum(row.covered for row in blind)
    return made(
        inputs,
        "accuracy/",
        "accuracy.html",
        "Accuracy: predicted against measured, misses as large as hits",
        f"{covered} of {len(blind)} measured quantities lay inside the predicted interval; every row, misses included.",
        document={
            "schema": "fitcheck.accuracy/2",
            "address": "accuracy/",
            "tested": len(blind),
            "covered": covered,
            "summary": [_summary(one) for one in summaries],
            "groups": _grouped(inputs),
            "figures": inputs.figures,
        },
        preview=plain("fitcheck", "Predicted against measured", *errors),
        section="accuracy/",
        facts=(_dataset(inputs, "accuracy/", "Predicted and measured memory and time of generative models"),),
    )


def _summary(one: AccuracySummary) -> dict[str, Any]:
    names = ("origin", "quantity", "rows", "median", "worst", "covered", "fitted", "part")
    return {name: getattr(one, name) for name in names}


def _grouped(inputs: Inputs) -> list[dict[str, Any]]:
    """Rows by who measured, runtime and quantity, those that are furthest off first."""
    groups: dict[tuple[str, str], list[AccuracyRow]] = {}
    places = {record["id"]: view.place_of(record) for record in inputs.records}
    for row in inputs.accuracy:
        groups.setdefault((row.origin, f"{row.runtime} {row.quantity}".strip()), []).append(row)
    return [
        {
            "origin": origin,
            "quantity": quantity,
            "count": len(rows),
            "rows": [
                {**accuracy_row(row), "place": places.get(row.source)}
                for row in sorted(rows, key=lambda row: -abs(row.error))[:MOST_ROWS]
            ],
        }
        for (origin, quantity), rows in groups.items()
    ]


# of one group; `fitcheck accuracy --json` prints all
MOST_ROWS = 4


def _dataset(inputs: Inputs, address: str, name: str) -> dict[str, Any]:
    """schema.org's Dataset, as search engines read it."""
    return {
        "@context": "https://schema.org",
        "@type": "Dataset",
        "name": f"fitcheck: {name}",
        "description": f"{name}: card memory, system memory and time, with what is needed to repeat each row.",
        "url": f"{inputs.base_url}{address}",
        "license": "https://www.apache.org/licenses/LICENSE-2.0",
        "creator": {"@type": "Organization", "name": "fitcheck contributors"},
        "isAccessibleForFree": True,
        "distribution": [
            {
                "@type": "DataDownload",
                "encodingFormat": "application/json",
                "contentUrl": f"{inputs.base_url}{address}index.json",
            }
        ],
    }


def contribute_page(inputs: Inputs, rows: SiteRows) -> Page:
    """How to measure, and what is most wanted."""
    found = _wanted_cells(inputs, rows)
    return made(
        inputs,
        "contribute/",
        "contribute.html",
        "Contribute a measurement of your card",
        "Three commands: measure, look at every byte, send. Nothing is sent unless you say so.",
        document={
            "schema": LIST_SCHEMA,
            "address": "contribute/",
            "wanted": [one.said(rows[one.model, one.card]) for one in found[:MOST_WANTED]],
            "open": len(found),
            "example": _example(inputs, rows, found),
        },
        preview=plain("fitcheck", "Contribute a measurement", "measure, look, send"),
        section="contribute/",
    )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A cell without a record: its model's place among the most wanted, from 1, and how wide its interval is."""

    model: str
    card: str
    verdict: str
    demand: int
    width: float
    score: float

    def said(self, row: Mapping[str, Any]) -> dict[str, Any]:
        named = {name: row[name] for name in ("address", "model_name", "name", "tier", "mode", "verdict")}
        return {**named, "demand": self.demand, "width": self.width, "score": self.score}


def _wanted_cells(inputs: Inputs, rows: SiteRows) -> list[_Wanted]:
    """Cells without a record: how many times as long the time may be as it may be short, weighed by the model's place
    among the most wanted, largest first."""
    found = []
    for place, model in enumerate(inputs.models):
        weight, facts = 1 - place / len(inputs.models), zip(inputs.cards, rows.verdicts[model.slug], strict=True)
        for (card, verdict), width in zip(facts, rows.facts(model.slug).widths, strict=True):
            if width is not None:
                found.append(_Wanted(model.slug, card.slug, verdict, place + 1, width, weight * width))
    return sorted(found, key=lambda one: (-one.score, f"check/{one.model}/{one.card}/"))


def _example(inputs: Inputs, rows: SiteRows, found: Iterable[_Wanted]) -> str:
    """The command for the most wanted cell that runs in a mode by name; without one the smallest published files of the
    first model in the mode that needs least of the card."""
    modes = {model.slug: registry.serving(model)[0].modes for model in inputs.models}
    for one in found:
        if one.verdict == "fits" and (row := rows[one.model, one.card])["mode"] in modes[one.model]:
            return _measuring(one.model, row["tier"], row["mode"])
    model = inputs.models[0]
    tier = min(model.tiers, key=lambda tier: (not tier.published, tier.disk_bytes))
    return _measuring(model.slug, tier.name, *[*modes[model.slug]][-1:])


def _measuring(slug: str, tier: str, *mode: str) -> str:
    return shlex.join(["fitcheck", "bench", "run", slug, "--tier", tier, *(("--mode", *mode) if mode else ())])


def words_of(inputs: Inputs) -> dict[str, dict[str, str]]:
    """What words mean, by subject: those that pages explain by themselves are left out, and modes of runtimes that
    none of the site's models is asked about."""
    served = {f"{MODES}{runtime.name}" for model in inputs.models for runtime in registry.serving(model)}
    own = {*words.MEANINGS, *words.EVIDENCE}
    found = {
        subject: {word: meaning for word, meaning in meanings.items() if word not in own}
        for subject, meanings in glossary().items()
        if subject in served or not subject.startswith(MODES)
    }
    return {subject: meanings for subject, meanings in found.items() if meanings}


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
    if isinstance(value, Mapping):
        if isinstance(value.get("source"), str):
            yield place.replace("_", " "), value["source"]
        for key, inner in value.items():
            yield from _stated(f"{place}, {key}", inner)

"""Every page of the site as a value: where it stands, what it is drawn from, and a key that changes when it must.

Pages over models and cards stand here; ``check_page``, ``card_pages``, ``compare_pages``, ``record_pages`` and
``whats_new`` have the others, and ``site_lists`` names them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.models.families import registry as families
from fitcheck.models.model import Model, Tier
from fitcheck.models.tier_quality import TierQuality
from fitcheck.pages import entry, wanted, words
from fitcheck.pages.digests import digest, digest_json
from fitcheck.pages.document import ASKED, card_facts
from fitcheck.pages.formats import VERDICTS
from fitcheck.pages.list_parts import MOST_CELLS, ListPart, parts_of
from fitcheck.pages.site_inputs import Inputs
from fitcheck.pages.view import Crumb
from fitcheck.units import GIB

# the card whose answers stand on the front page, where it has a page; no answer is chosen for what it says
SHOWN_CARD = "rtx-4070"
# how many of the first models' answers
POPULAR = 8
LIST_SCHEMA = "fitcheck.list/2"

Rows = Mapping[tuple[str, str], Mapping[str, Any]]
# by model, one a card
Verdicts = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Page:
    """One page. ``document`` is its JSON twin; ``wide`` what it is drawn from where the twin is a part of that.

    ``picture`` says that the page has a share picture of its own, drawn from ``preview``, and ``twin`` that its JSON
    twin is written for a site that is not published too; ``near`` is what a page says of other cards, which may change
    where nothing else on it does.
    """

    address: str
    template: str
    title: str
    description: str
    document: Mapping[str, Any]
    preview: Mapping[str, Any]
    key: str
    section: str | None = None
    crumbs: tuple[Crumb, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    wide: Mapping[str, Any] | None = None
    near: Sequence[Mapping[str, Any]] = ()
    picture: bool = True
    twin: bool = False
    feed: str = "results/feed.xml"
    facts: tuple[Mapping[str, Any], ...] = ()

    @property
    def depth(self) -> int:
        """Folders between the page and the site's root: how many "../" a relative link needs."""
        return self.address.count("/")

    def files(self, published: bool) -> tuple[str, ...]:
        """Paths of the page, its JSON twin and its picture under the site's folder."""
        there = {"index.html": True, "index.json": self.twin or published, "share.png": self.picture and published}
        return tuple(f"{self.address}{name}" for name, is_there in there.items() if is_there)


def made(
    inputs: Inputs,
    address: str,
    template: str,
    title: str,
    description: str,
    digests: Mapping[str, str] | None = None,
    **rest: Any,
) -> Page:
    """A page whose key is all that it says; ``digests`` are those of parts of its document that are known already."""
    document = {**rest["document"], **(digests or {})}
    extra = digest_json([rest.get("preview"), rest.get("values", {}), rest.get("facts", ())])
    key = digest([inputs.pages, inputs.base_url, title, description, digest_json(document), extra])
    return Page(address, template, title, description, key=key, **rest)


def plain(eyebrow: str, title: str, *lines: str) -> dict[str, Any]:
    """What a share picture without a verdict says."""
    return {"eyebrow": eyebrow, "title": title, "word": None, "verdict": None, "lines": lines}


_MODEL_ROW = (
    *("address", "card", "name", "vendor", "memory", "price", "verdict", "tier", "mode", "need", "host"),
    *("seconds", "pace", "evidence", "records", "way_out"),
)


def model_pages(inputs: Inputs, model: Model, rows: Sequence[Mapping[str, Any]]) -> Iterator[Page]:
    """The page of one model on every card, in parts where the cards are many; ``rows`` are its facts, one a card."""
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS}
    running = [row for row in rows if row["verdict"] == "fits" and row["published"] and row["price"]]
    shown = [{name: row[name] for name in _MODEL_ROW} for row in rows]
    demand = next((one for one in wanted.models() if one.slug == model.slug), None)
    address = f"check/{model.slug}/"
    document = {
        "schema": LIST_SCHEMA,
        "slug": model.slug,
        "name": model.name,
        "licence": model.licence,
        **{name: rows[0][name] for name in ASKED},
        "counts": counts,
        "best_value": _cheapest(running) if running else None,
        "vendors": sorted({row["vendor"] for row in rows}),
        "demand": None if demand is None else {"value": demand.demand, "source": demand.source},
        "tiers": [_tier_facts(model, tier) for tier in model.tiers],
        "quality_source": next((one.source for tier in model.tiers if (one := _quality(model, tier))), None),
        "requirements": [
            {"component": one.component, "minimum": one.minimum, "tested": one.tested, "source": one.source}
            for one in model.requirements
        ],
        "notes": list(model.notes),
    }
    fits = f"{counts['fits']} of {len(rows)} cards fit"
    fits += f", {counts['unknown']} unknown" if counts["unknown"] else ""
    speed = "tokens a second" if words.read_along(rows[0]["task"]) else f"time of {words.unit_of(rows[0]['task'])}"
    for part in parts_of(shown, address):
        yield made(
            inputs,
            part.address(address),
            "model.html",
            part.titled(f"{model.name}: which cards run it, in which files, how fast"),
            f"{fits}. Card memory, system memory, {speed} and launch price of {len(rows)} cards, with evidence.",
            document={**document, "address": part.address(address), "rows": part.rows},
            preview=plain("Which cards run it?", model.name, fits, f"card memory, system memory, {speed} and price"),
            section="check/",
            crumbs=(Crumb("Models", "check/"), *way_to(model.name, address, part)),
            values=part.values,
            picture=part.number == 1,
            feed=f"{address}feed.xml",
        )


def way_to(name: str, address: str, part: ListPart) -> tuple[Crumb, ...]:
    """The last steps of the way to a part of a list."""
    return (Crumb(name, None),) if part.number == 1 else (Crumb(name, address), Crumb(f"Part {part.number}", None))


def _cheapest(running: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row = min(running, key=lambda row: (row["price"], row["card"]))
    return {name: row[name] for name in ("address", "card", "name", "price", "tier", "mode")}


def _quality(model: Model, tier: Tier) -> TierQuality | None:
    return families.get(model.architecture.family).quality(model, tier)


def _tier_facts(model: Model, tier: Tier) -> dict[str, Any]:
    quality = _quality(model, tier)
    return {
        "name": tier.name,
        "quality": None if quality is None else quality.words,
        "disk": tier.disk_bytes,
        "published": tier.published,
        "repository": tier.repository,
        "file": tier.file,
        "source": tier.source,
    }


def _model_rows(inputs: Inputs, verdicts: Verdicts) -> list[dict[str, Any]]:
    return [
        {
            "slug": model.slug,
            "name": model.name,
            "task": str(model.tasks[0]),
            "fits": verdicts[model.slug].count("fits"),
            "unknown": verdicts[model.slug].count("unknown"),
        }
        for model in inputs.models
    ]


def shown_card(inputs: Inputs) -> Card:
    """The card whose answers stand on the front page."""
    return next((card for card in inputs.cards if card.slug == SHOWN_CARD), inputs.cards[0])


_POPULAR = ("address", "model_name", "verdict", "tier", "mode", "seconds", "pace", "evidence", "need", "way_out")


def home_page(inputs: Inputs, rows: Rows, verdicts: Verdicts) -> Page:
    """The front page: the field for a card, and what the first models say on one."""
    shown = shown_card(inputs)
    popular = [{name: rows[model.slug, shown.slug][name] for name in _POPULAR} for model in inputs.models[:POPULAR]]
    by_memory: dict[int, list[dict[str, Any]]] = {}
    for card in sorted(inputs.cards, key=lambda card: card.memory):
        row = {"slug": card.slug, "name": card.name}
        by_memory.setdefault(round(card.memory / GIB), []).append(row)
    home = {
        "schema": LIST_SCHEMA,
        "address": "",
        "models": _model_rows(inputs, verdicts),
        "cards": len(inputs.cards),
        "by_memory": [{"memory": size, "cards": cards} for size, cards in by_memory.items()],
        **entry.choices(),
        "shown": {"slug": shown.slug, "name": shown.name},
        "popular": popular,
    }
    return made(
        inputs,
        "",
        "home.html",
        "fitcheck: will this model run on this card?",
        "Your card, your memory, what you want to do: which models run, in which files, how fast, and how we know.",
        document=home,
        preview=plain("fitcheck", "Will it run on this card?", "Which files, which mode, how fast, how we know."),
    )


def table_page(inputs: Inputs, verdicts: Verdicts, asked: Iterable[Sequence[Any]]) -> Page:
    """A verdict for every pair; where one page cannot hold them all, every model with how many cards fit. ``asked`` are
    the questions (``ASKED``) of every model."""
    models = _model_rows(inputs, verdicts)
    whole = len(models) * len(inputs.cards) <= MOST_CELLS
    table = [
        {
            "card": card.slug,
            "name": card.name,
            "vendor": card.vendor,
            "memory": card.memory,
            "price": None if card.launch_price_usd is None else card.launch_price_usd.value,
            "verdicts": [verdicts[model.slug][place] for model in inputs.models],
        }
        for place, card in enumerate(inputs.cards if whole else ())
    ]
    return made(
        inputs,
        "check/",
        "models.html",
        "Every model on every card: what fits, what is tight, what does not run",
        f"{len(models)} models × {len(inputs.cards)} cards: one verdict each, which leads to the whole answer.",
        document={
            "schema": LIST_SCHEMA,
            "address": "check/",
            "asked": [dict(zip(ASKED, one, strict=True)) for one in dict.fromkeys(map(tuple, asked))],
            "vendors": sorted({card.vendor for card in inputs.cards}),
            "models": models,
            "cards": len(inputs.cards),
            "rows": table,
        },
        preview=plain("fitcheck", "Every model on every card", f"{len(models)} models × {len(inputs.cards)} cards"),
        section="check/",
    )


_CARD_ROW = (
    *("slug", "name", "vendor", "form", "released", "memory", "memory_bandwidth", "tensor_flops"),
    "launch_price_usd",
)


def cards_pages(inputs: Inputs, verdicts: Verdicts) -> Iterator[Page]:
    """The list of cards."""
    facts = [
        {
            **{name: value for name, value in card_facts(card).items() if name in _CARD_ROW},
            "fits": sum(verdicts[model.slug][place] == "fits" for model in inputs.models),
            "records": len(inputs.records_of(card.slug)),
        }
        for place, card in enumerate(inputs.cards)
    ]
    for part in parts_of(facts, "cards/"):
        yield made(
            inputs,
            part.address("cards/"),
            "cards.html",
            part.titled("Cards: memory, bandwidth, matrix rate, launch price and what runs on each"),
            f"{len(facts)} cards with sourced figures and how many of {len(inputs.models)} models fit on each.",
            document={
                "schema": LIST_SCHEMA,
                "address": part.address("cards/"),
                "vendors": sorted({card.vendor for card in inputs.cards}),
                "models": len(inputs.models),
                "cards": len(facts),
                "rows": part.rows,
            },
            preview=plain("fitcheck", "Cards", f"{len(facts)} cards and what runs on each"),
            section="cards/",
            crumbs=() if part.number == 1 else way_to("Cards", "cards/", part),
            values=part.values,
            picture=part.number == 1,
        )

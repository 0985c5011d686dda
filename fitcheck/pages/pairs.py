"""What lists know of a model on each card, kept beside the model's page as ``pairs.json``.

A row is the summary of the answer (``document.summary``), with the answers beside other amounts of system memory and
the rows on software. In the file, values stand in the order of their names, an interval as its three numbers, and a row
on software once however many cards it holds for: a site has a row for every page about one model on one card.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.models.model import Model
from fitcheck.pages.document import summary
from fitcheck.pages.formats import rounded

SCHEMA = "fitcheck.pairs/1"
_SPAN = ("low", "best", "high")
# known from the model and the card themselves
_GIVEN = ("address", "model", "model_name", "card", "name", "vendor", "memory", "price")
_APART = ("by_memory", "software")
_SOFTWARE = ("component", "minimum", "tested", "status", "words", "url")


@dataclass(frozen=True, slots=True)
class PairRow:
    """A model on a card: ``key`` is what its answer hangs on, ``row`` what lists say of it."""

    key: str
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeptPairs:
    """Pairs by card as a file has them; ``whole`` says that it has these in this order and no others."""

    rows: Mapping[str, PairRow] = field(default_factory=dict)
    whole: bool = False


def pair_of(key: str, document: Mapping[str, Any]) -> PairRow:
    """The pair of the whole document of a page."""
    software = [_software(row) for row in document["report"]["software"] if row["sources"]]
    found = {**summary(document), "by_memory": document["by_memory"], "software": software}
    return PairRow(key, rounded(found))


def _software(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: row[name] for name in _SOFTWARE[:-1]}, "url": row["sources"][0]["url"]}


def path_of(slug: str) -> str:
    """Where the pairs of a model are kept, under the site's folder."""
    return f"check/{slug}/pairs.json"


def given(model: Model, card: Card) -> dict[str, Any]:
    """The part of a row that the model and the card say themselves."""
    price = card.launch_price_usd
    return {
        "address": f"check/{model.slug}/{card.slug}/",
        "model": model.slug,
        "model_name": model.name,
        "card": card.slug,
        "name": card.name,
        "vendor": card.vendor,
        "memory": card.memory,
        "price": None if price is None else price.value,
    }


def encode(pairs: Mapping[str, PairRow]) -> bytes:
    """UTF-8 JSON of a model's pairs by card, a card a line."""
    first = next(iter(pairs.values())).row
    names = [name for name in first if name not in (*_GIVEN, *_APART)]
    memory = list(first["by_memory"][0]) if first["by_memory"] else []
    software: dict[tuple[Any, ...], int] = {}
    lines = []
    for slug, pair in pairs.items():
        row = pair.row
        rows = [software.setdefault(tuple(one.values()), len(software)) for one in row["software"]]
        beside = _shortened([[_flat(one[name]) for name in memory] for one in row["by_memory"]])
        lines.append(_line([slug, pair.key, [_flat(row[name]) for name in names], beside, rows]))
    head = {"schema": SCHEMA, "names": names, "memory": memory, "software": [list(one) for one in software]}
    rows_ = b",\n".join(lines)
    return _line(head)[:-1] + b',"cards":[\n' + rows_ + b"\n]}\n"


def decode(content: bytes, model: Model, cards: Sequence[Card]) -> KeptPairs:
    """The pairs of ``cards`` by slug. Raises ValueError, KeyError, TypeError or IndexError for what is no such file."""
    data = json.loads(content)
    if data["schema"] != SCHEMA:
        raise ValueError(data["schema"])
    by_slug = {card.slug: card for card in cards}
    software = [dict(zip(_SOFTWARE, one, strict=True)) for one in data["software"]]
    found = {}
    for slug, key, values, beside, rows in data["cards"]:
        if slug in by_slug:
            row = {name: _whole(value) for name, value in zip(data["names"], values, strict=True)}
            by_memory = [
                {name: _whole(value) for name, value in zip(data["memory"], one, strict=True)}
                for one in _lengthened(beside)
            ]
            mine = {"by_memory": by_memory, "software": [software[index] for index in rows]}
            found[slug] = PairRow(str(key), {**given(model, by_slug[slug]), **row, **mine})
    return KeptPairs(found, [one[0] for one in data["cards"]] == list(by_slug))


# task and amount: what tells the answers beside amounts of memory apart
_APART_BY = 2


def _shortened(rows: list[list[Any]]) -> list[list[Any]]:
    """Without what the row before says too: beside more memory the answer often stays."""
    return [
        row[:_APART_BY] if index and row[_APART_BY:] == rows[index - 1][_APART_BY:] else row
        for index, row in enumerate(rows)
    ]


def _lengthened(rows: list[list[Any]]) -> Iterator[list[Any]]:
    whole: list[Any] = []
    for row in rows:
        whole = row if len(row) > _APART_BY else [*row, *whole[_APART_BY:]]
        yield whole


def _flat(value: Any) -> Any:
    """An interval as a list; every other value as it is."""
    return [value[name] for name in _SPAN] if isinstance(value, Mapping) and tuple(value) == _SPAN else value


def _whole(value: Any) -> Any:
    return dict(zip(_SPAN, value, strict=True)) if isinstance(value, list) else value


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

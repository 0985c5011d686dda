"""What lists know of a model on each card, kept beside the model's page as ``pairs.json``.

A row is the summary of the answer (``document.summary``), with the answers beside other amounts of system memory and
the rows on software. In the file, values stand in the order of their names, an interval as its three numbers, and a row
on software once however many cards it holds for: a site has a row for every page about one model on one card.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from functools import cached_property
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.models.model import Model
from fitcheck.pages.digests import digest
from fitcheck.pages.document import ASKED, summary
from fitcheck.pages.formats import rounded

SCHEMA = "fitcheck.pairs/2"
# hex digits of the digest of a row
DIGITS = 16
_SPAN = ("low", "best", "high")
# known from the model and the card themselves
_GIVEN = ("address", "model", "model_name", "card", "name", "vendor", "memory", "price")
_APART = ("by_memory", "software")
_SOFTWARE = ("component", "minimum", "tested", "status", "words", "url")


@dataclass(frozen=True, slots=True)
class PairRow:
    """A model on a card: ``key`` is what its answer hangs on, ``row`` what lists say of it, ``page`` the key of its
    page and ``files`` the hashes of the page's files."""

    key: str
    row: Mapping[str, Any]
    page: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PairFacts:
    """What lists read of all cards of a model, in the order of the site's cards: the first letter of each verdict, how
    wide each interval is that a record would narrow (``record_pages``), digests of rows (``DIGITS`` each) one after
    another; and the different questions that were asked."""

    verdicts: str
    widths: list[float | None]
    asked: list[list[Any]]
    rows: str


def facts_of(rows: Sequence[Mapping[str, Any]], digests: str) -> PairFacts:
    """The facts of a model's rows."""
    verdicts = "".join(row["verdict"][0] for row in rows)
    asked = dict.fromkeys(tuple(row[name] for name in ASKED) for row in rows)
    return PairFacts(verdicts, [width_of(row) for row in rows], [list(one) for one in asked], digests)


def width_of(row: Mapping[str, Any]) -> float | None:
    """How many times as long the time of a pair may be as it may be short; ``None`` where it is measured, unknown or
    does not run."""
    span = row["pace"] or row["seconds"]
    if row["records"] or row["verdict"] == "no" or span is None or span["low"] <= 0:
        return None
    width: float = span["high"] / span["low"]
    return width


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


def encode(key: str, pairs: Mapping[str, PairRow]) -> bytes:
    """UTF-8 JSON of a model's pairs by card: a line of what they have in common and of what lists read of all of them,
    then a card a line. ``key`` is that of the model's part of the site."""
    first = next(iter(pairs.values())).row
    names = [name for name in first if name not in (*_GIVEN, *_APART)]
    memory = list(first["by_memory"][0]) if first["by_memory"] else []
    software: dict[tuple[Any, ...], int] = {}
    lines, digests = [], []
    for slug, pair in pairs.items():
        row = pair.row
        needs = [tuple(one.values()) for one in row["software"]]
        rows = [software.setdefault(one, len(software)) for one in needs]
        beside = _shortened([[_flat(one[name]) for name in memory] for one in row["by_memory"]])
        values = [_flat(row[name]) for name in names]
        lines.append(_line([slug, pair.key, pair.page, pair.files, values, beside, rows]))
        digests.append(digest([_line([values, beside, needs])])[:DIGITS])
    head = {
        "schema": SCHEMA,
        "key": key,
        "names": names,
        "memory": memory,
        "software": [list(one) for one in software],
        **asdict(facts_of([pair.row for pair in pairs.values()], "".join(digests))),
    }
    rows_ = b",\n".join(lines)
    return _line(head)[:-1] + b',"cards":[\n' + rows_ + b"\n]}\n"


class PairsFile:
    """A model's file: ``key`` and ``facts`` from its first line, the row of a card from the card's own line where one
    asks for it. Raises ValueError, KeyError, TypeError or IndexError for what is no such file.

    Args:
        head: the first line.
        rest: gives the other lines.
    """

    def __init__(self, model: Model, cards: Sequence[Card], head: bytes, rest: Callable[[], bytes]) -> None:
        self._head = json.loads(head + b"]}")
        if self._head["schema"] != SCHEMA:
            raise ValueError(self._head["schema"])
        self.key = str(self._head["key"])
        self.facts = PairFacts(**{one.name: self._head[one.name] for one in fields(PairFacts)})
        self._model, self._rest = model, rest
        self._cards = {card.slug: (place, card) for place, card in enumerate(cards)}
        self._software = [dict(zip(_SOFTWARE, one, strict=True)) for one in self._head["software"]]
        self._found: dict[str, PairRow] = {}

    @classmethod
    def of(cls, model: Model, cards: Sequence[Card], content: bytes) -> PairsFile:
        """The file of these bytes."""
        head, rest = content.split(b"\n", 1)
        return cls(model, cards, head, lambda: rest)

    def pair(self, card: str) -> PairRow:
        """The pair of a card, of a file that was written for the same cards in the same order."""
        if card not in self._found:
            slug, pair = self._decoded(self._lines[self._cards[card][0]])
            if slug != card:
                raise ValueError(slug)
            self._found[card] = pair
        return self._found[card]

    def pairs(self) -> dict[str, PairRow]:
        """The pairs of those of the cards that the file has, whatever it was written for."""
        return {slug: pair for slug, pair in map(self._decoded, self._lines) if slug in self._cards}

    @cached_property
    def _lines(self) -> list[bytes]:
        *lines, end, nothing = self._rest().split(b"\n")
        if (end, nothing) != (b"]}", b""):
            raise ValueError(end)
        return [line.removesuffix(b",") for line in lines]

    def _decoded(self, line: bytes) -> tuple[str, PairRow]:
        slug, key, page, files, values, beside, rows = json.loads(line)
        row = {name: _whole(value) for name, value in zip(self._head["names"], values, strict=True)}
        by_memory = [
            {name: _whole(value) for name, value in zip(self._head["memory"], one, strict=True)}
            for one in _lengthened(beside)
        ]
        mine = {"by_memory": by_memory, "software": [self._software[index] for index in rows]}
        known = given(self._model, self._cards[slug][1]) if slug in self._cards else {}
        return slug, PairRow(str(key), {**known, **row, **mine}, str(page), tuple(map(str, files)))


def without_hashes(content: bytes) -> bytes:
    """The bytes of a file without the hashes of pages' files; of what is no such file as they are."""
    try:
        head, *lines = content.split(b"\n")
        rows = [json.loads(line.removesuffix(b",")) for line in lines[:-2]]
        return b"\n".join([head, *(_line([*row[:3], *row[4:]]) for row in rows)])
    except (ValueError, TypeError, RecursionError):
        return content


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

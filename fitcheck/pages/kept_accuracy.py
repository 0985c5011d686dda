"""The rows of accuracy, kept beside the accuracy page: to ask again of every record what the estimator says of it takes
ten seconds for three hundred of them.

Rows stand by card, with the key of what they hang on: the estimator, the card's records, and those of other cards that
lend it something. A record of one card leaves the rows of unrelated cards as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fitcheck.errors import InputError
from fitcheck.hardware.catalog import find_card
from fitcheck.models import catalog
from fitcheck.pages.digests import digest
from fitcheck.pages.formats import rounded
from fitcheck.pages.site_folder import vouched
from fitcheck.records.run_index import Index
from fitcheck.verdict.accuracy import AccuracyRow, Leave, Part, indexed_rows, published_rows
from fitcheck.verdict.known_records import concerning

PATH = "accuracy/rows.json"
SCHEMA = "fitcheck.accuracy-rows/2"
_JOIN = ",\n"
_NAMES = tuple(one.name for one in fields(AccuracyRow))
_BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError, IndexError)

# where the rows of others' measurements stand
PUBLISHED = ""
# rows by card, with their key
Kept = Mapping[str, tuple[str, Sequence[AccuracyRow]]]


def rows_of(index: Index, engine: str, kept: Kept) -> dict[str, tuple[str, Sequence[AccuracyRow]]]:
    """What others published, and the rows of every card's records, with their key: those of ``kept`` where they hang on
    the same."""
    found: dict[str, tuple[str, Sequence[AccuracyRow]]] = {}
    said = kept.get(PUBLISHED)
    found[PUBLISHED] = said if said and said[0] == engine else (engine, tuple(map(_rounded, published_rows())))
    for slug in sorted({run.card for run in index.rows}):
        key = _key(index, slug, engine)
        there = kept.get(slug)
        found[slug] = (
            there if there and there[0] == key else (key, tuple(map(_rounded, indexed_rows(index, only=slug))))
        )
    return found


def _rounded(row: AccuracyRow) -> AccuracyRow:
    """To the digits of every twin, so that a row that was kept is the row that would be computed."""
    return replace(row, **rounded({name: getattr(row, name) for name in ("predicted", "low", "high", "published")}))


def _key(index: Index, slug: str, engine: str) -> str:
    """What the rows of a card hang on: every record that says anything of the models that were measured there."""
    own = index.of(slug)
    ids = {one.id for part in (own.rows, own.links) for one in part}
    with suppress(InputError):  # a card that the database does not have lends and borrows nothing
        card = find_card(slug)
        for model in sorted({run.cell.model for run in own.rows}):
            with suppress(InputError):
                lent = concerning(index, card, catalog.get(model))
                ids |= {one.id for part in (lent.rows, lent.links) for one in part}
    return digest([engine, slug, *sorted(ids)])


def encode(kept: Kept) -> bytes:
    """UTF-8 JSON, a row a line: what all rows of a card share stands before them, words stand once, and a row has
    ``[position]`` of each."""
    words: dict[str, int] = {}
    cards = []
    for slug, (key, rows) in kept.items():
        same = {name: getattr(rows[0], name) for name in _NAMES if len({getattr(row, name) for row in rows}) == 1}
        lines = [_line([_pointed(getattr(row, name), words) for name in _NAMES if name not in same]) for row in rows]
        cards.append(f"{_line([slug, key, same])[:-1]},[\n{_JOIN.join(lines)}\n]]")
    head = _line({"schema": SCHEMA, "names": _NAMES, "words": list(words)})
    return f'{head[:-1]},"cards":[\n{_JOIN.join(cards)}\n]}}\n'.encode()


def _pointed(value: Any, words: dict[str, int]) -> Any:
    return [words.setdefault(value, len(words))] if isinstance(value, str) else value


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def known(out: Path | None) -> Kept:
    """What a site has kept; nothing where its manifest does not vouch for it."""
    content = None if out is None else vouched(out, PATH)
    if content is None:
        return {}
    try:
        data = json.loads(content)
        if data["schema"] != SCHEMA or tuple(data["names"]) != _NAMES:
            return {}
        words = [str(word) for word in data["words"]]
        return {
            str(slug): (str(key), tuple(_row(same, values, words) for values in rows))
            for slug, key, same, rows in data["cards"]
        }
    except _BROKEN:
        return {}


def _row(same: Mapping[str, Any], values: Sequence[Any], words: Sequence[str]) -> AccuracyRow:
    said: list[Any] = [words[value[0]] if isinstance(value, list) else value for value in values]
    row = AccuracyRow(**same, **dict(zip((name for name in _NAMES if name not in same), said, strict=True)))
    return replace(row, part=Part(row.part), left_out=Leave(row.left_out))

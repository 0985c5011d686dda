"""What cards cost: the launch price of the database with its source, or a person's own list in a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from fitcheck.errors import FileError, InputError, OptionError
from fitcheck.hardware.card import Card, Sourced
from fitcheck.hardware.catalog import find_card

MOST_BYTES = 1 << 20
MOST_ROWS = 5_000
MOST_PRICE = 1e7


def read_prices(path: Path) -> dict[str, Sourced]:
    """Prices in US dollars by card slug, from a CSV file with the columns ``card`` and ``usd``, and ``date`` if wanted.

    A price in the file stands in for the launch price. Raises FileError for a file that cannot be read as one, naming
    the line.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as problem:
        raise FileError(f"--prices: {path} cannot be read ({problem.strerror or problem}); give a CSV file.") from None
    except UnicodeDecodeError:
        raise FileError(f"--prices: {path} is not in UTF-8; give a CSV file in that encoding.") from None
    if len(data) > MOST_BYTES:
        raise FileError(f"--prices: {path} is larger than 1 MiB; give one line a card.")
    try:
        return _read(path, csv.DictReader(io.StringIO(text)))
    except csv.Error as problem:
        raise FileError(f"--prices: {path} is no CSV file ({problem}); its head is card,usd,date.") from None


def _read(path: Path, rows: csv.DictReader[str]) -> dict[str, Sourced]:
    if not {"card", "usd"} <= set(rows.fieldnames or ()):
        raise FileError(f"--prices: {path} lacks a head with the columns card and usd, like: card,usd,date.")
    found: dict[str, Sourced] = {}
    for row in rows:
        where = f"--prices: {path}, line {rows.line_num}"
        if len(found) >= MOST_ROWS:
            raise FileError(f"{where}: more than {MOST_ROWS} cards; give those that you would buy.")
        try:
            slug = find_card(row["card"] or "").slug
        except InputError as problem:
            raise FileError(f"{where}: {str(problem).removeprefix('--gpu: ')}") from None
        found[slug] = Sourced(_price(row["usd"], where), str(path.name), _day(row.get("date"), where))
    return found


def _day(text: str | None, where: str) -> str:
    """A day as ``2026-11-01``; empty where none is given."""
    day = (text or "").strip()
    try:
        return date.fromisoformat(day).isoformat() if day else ""
    except ValueError:
        raise FileError(f"{where}: {day[:40]!r} is not a date; write it like 2026-11-01, or leave it out.") from None


def _price(text: str | None, where: str) -> float:
    try:
        value = float((text or "").strip().removeprefix("$").replace(",", ""))
    except ValueError:
        raise FileError(f"{where}: {text!r} is not a price; write US dollars, like 599.") from None
    if not (math.isfinite(value) and 0 < value <= MOST_PRICE):
        raise FileError(f"{where}: {text!r} is out of range; write US dollars, like 599.")
    return value


def priced(card: Card, prices: Mapping[str, Sourced]) -> Card:
    """The card with its price from ``prices`` where it stands there."""
    own = prices.get(card.slug)
    return card if own is None else replace(card, launch_price_usd=own)


def parse_dollars(text: str, what: str) -> float:
    """``"700USD"``, ``"$700"`` or ``"700"`` → 700.0. Raises OptionError naming ``what`` for what is no amount."""
    bare = text.strip().upper().removesuffix("USD").strip().removeprefix("$").replace(",", "")
    try:
        value = float(bare)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 < value <= MOST_PRICE):
        raise OptionError(f"{what}: {text!r} is not an amount; give US dollars, like 700USD.")
    return value

"""Every card fitcheck knows, and the one that a name means. Lookup is exact: a name means one card, several, or none.

A short name means the one card that a buyer means by it: "RTX 4070" is the desktop card although the database also
lists variants of it with another chip or memory type. Where variants differ in memory size ("RTX 4060 Ti", "A100"), the
name is ambiguous and the candidates are listed. Similar names are only ever suggested, never taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from fitcheck.errors import CardError
from fitcheck.hardware.card import Card
from fitcheck.hardware.card_names import VARIANT_STEP, Name, alternatives, is_variant, loosened, parse, without_variant
from fitcheck.hardware.database import Database, database, slug, slugs
from fitcheck.hardware.processors import processor_hint
from fitcheck.units import GIB, MIB

_COMMON = Path(__file__).parent / "data" / "common_cards.json"
_LONGEST_QUERY = 200  # a line of lspci
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+")
_SIZE = re.compile(r"-\d+gb$")
_GFX = re.compile(r"\bgfx\d{3,4}[a-f]?\b", re.IGNORECASE)
_MAKER = re.compile(r"^\s*(?:nvidia|amd|intel)\b")
_DIGITS = re.compile(r"\d+")
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9\n]+")


@cache
def all_cards() -> tuple[Card, ...]:
    """Every card, over 2,000, in the database's order."""
    source = database()
    return tuple(source.card(index) for index in range(len(source.rows)))


@cache
def common_cards() -> tuple[Card, ...]:
    """About 40 cards that someone would choose from today, cheapest line first (data/common_cards.json)."""
    wanted = json.loads(_COMMON.read_bytes())["slugs"]
    return tuple(find_card(name) for name in wanted)


@cache
def find_card(query: str) -> Card:
    """The card that ``query`` means: a name as sold, a driver's name, a slug or an alias.

    Raises InputError, listing the candidates, when the name fits several cards, and with the nearest names when it fits
    none.
    """
    source = database()
    text = query.strip()[:_LONGEST_QUERY]
    if not parse(text).stem:
        raise CardError(f"--gpu: {query[:120]!r} is not a card name; write it like 'RTX 4070'.")
    candidates = meant_by(query)
    if not candidates:
        if hint := processor_hint(text):
            raise CardError(f"--gpu: {text[:120]!r} {hint}")
        raise CardError(f"--gpu: no card is called {text[:120]!r}{_nearest(text, source)}")
    if len(candidates) > 1:
        listed = ", ".join(repr(label) for label in _labels(candidates, source))
        raise CardError(f"--gpu: {text[:120]!r} is ambiguous; choose one of {listed}.")
    return source.card(candidates[0])


@cache
def meant_by(query: str) -> tuple[int, ...]:
    """The positions in ``all_cards`` of those that ``query`` can mean: by its name, else by the compiler's name of its
    chip in a driver's words ("AMD Radeon Graphics (gfx1151)")."""
    source, text = database(), query.strip()[:_LONGEST_QUERY]
    found = _identifier(text, source) or _of_today(text, _printed(text, source), source)
    return tuple(found or _compiled_for(text))


def _compiled_for(text: str) -> list[int]:
    """The cards of the chip that AMD's compilers know by the name in ``text``."""
    found = _GFX.search(text)
    if found is None:
        return []
    from fitcheck.hardware.software import chips_of

    chips = chips_of(found[0].lower())
    return [index for index, card in enumerate(all_cards()) if card.vendor == "AMD" and card.chip in chips]


@cache
def match_detected(name: str, memory: int | None) -> Card | None:
    """The card that a driver's ``name`` means, ``memory`` in bytes telling variants apart; None if it is unknown."""
    source = database()
    found = _printed(name, source)
    if len(found) > 1 and memory is not None:
        # a driver reports a little less than the nominal size, never more than a rounding above it
        near = [index for index in found if 0.90 <= memory / max(1, source.card(index).memory) <= 1.02]
        found = near or found
    return source.card(found[0]) if len(found) == 1 else None


@cache
def find_resized(query: str) -> tuple[Card, int] | None:
    """The card that ``query`` means apart from a memory size that no such card is sold with, and that size in bytes.
    ``None`` where the name has no size, or does not mean one card without it."""
    source = database()
    names = [parse(one) for one in alternatives(query.strip()[:_LONGEST_QUERY])]
    if len(names) != 1 or names[0].memory is None or not names[0].stem:
        return None
    bare = replace(names[0], memory=None)
    found = _alias(bare, source) or _named(bare, source)
    return (source.card(found[0]), names[0].memory * MIB) if len(found) == 1 else None


def _of_today(text: str, found: list[int], source: Database) -> list[int]:
    """A bare number that means a card too small for any model ("7900", of 2006) means the Radeon RX cards of
    that number where there are any."""
    if not text.isdigit() or not found or any(source.card(index).memory >= GIB for index in found):
        return found
    grown = [
        index for index, row in enumerate(source.rows) if row[1].startswith(f"Radeon RX {text} ") and _desktop(index)
    ]
    return grown or found


def _desktop(index: int) -> bool:
    return database().card(index).form == "desktop" and not parse(database().rows[index][1]).markers


def _printed(text: str, source: Database) -> list[int]:
    """The cards of all names that a tool's line can mean."""
    found: dict[int, None] = {}
    for one in alternatives(text):
        name = parse(one)
        if name.stem:
            found |= dict.fromkeys(_alias(name, source) or _named(name, source))
    return list(found)


def _alias(name: Name, source: Database) -> list[int]:
    index = _alias_index().get(_key(name))
    return [] if index is None else [index]


def _identifier(text: str, source: Database) -> list[int]:
    """The card whose slug this is, or whose full name, letter for letter but for case, maker and what parts words."""
    if _SLUG.fullmatch(text) and (index := _slug_index().get(text)) is not None:
        return [index]
    exact = [index for index, row in enumerate(source.rows) if row[1] == text]
    wanted = _NOT_ALPHANUMERIC.sub("", _MAKER.sub("", text.lower()))
    return exact or [index for index, name in enumerate(_squashed()) if name == wanted]


@cache
def _slug_index() -> dict[str, int]:
    return {one: index for index, one in enumerate(slugs(database().names()))}


@cache
def _alias_index() -> dict[tuple[str, int | None, frozenset[str]], int]:
    source = database()
    position = {row[1]: index for index, row in enumerate(source.rows)}
    return {_key(parse(alias)): position[name] for name in source.overlay for alias in source.aliases(name)}


def _named(query: Name, source: Database) -> list[int]:
    """Rows that the query names at the strictest reading that names any, with the variants that differ in memory."""
    rows = [(index, parsed) for index, parsed in _plausible(query, source) if parsed.markers == query.markers]
    whole = [index for index, parsed in rows if _key(parsed) == _key(query)]
    if whole and (query.memory is not None or is_variant(query)):
        return whole
    readings: dict[int, list[int]] = {}
    for index, parsed in rows:
        for step, stem in loosened(parsed):
            if stem == query.stem and _memory_agrees(query, parsed, index, source):
                readings.setdefault(step, []).append(index)
                break
    if not readings:
        return []
    strictest = min(readings)
    last = max(strictest, VARIANT_STEP)
    found = [index for step in sorted(readings) if step <= last for index in readings[step]]
    return _as_bought(found, readings[strictest], source)


def _as_bought(found: list[int], strictest: list[int], source: Database) -> list[int]:
    """Of the rows that a name can mean, one for each product and memory size: what a buyer chooses by."""
    sold = [index for index in found if not source.rare(source.rows[index][1])] or found
    chosen: dict[tuple[str, float], int] = {}
    parsed_names = {index: parse(source.rows[index][1]) for index in sold}
    for index in sorted(sold, key=lambda index: (is_variant(parsed_names[index]), index not in strictest, index)):
        parsed = parsed_names[index]
        chosen.setdefault((without_variant(parsed), _gigabytes(index, source)), index)
    return list(chosen.values())


def _plausible(query: Name, source: Database) -> list[tuple[int, Name]]:
    """Rows that hold the query's longest number or first word: parsing all names would cost more than the lookup."""
    runs = [run for token in query.tokens for run in _DIGITS.findall(token)]
    wanted = max(runs, key=len) if runs else query.tokens[0]
    return [(index, parse(source.rows[index][1])) for index, name in enumerate(_squashed()) if wanted in name]


def _memory_agrees(query: Name, parsed: Name, index: int, source: Database) -> bool:
    if query.memory is None:
        return True
    memory = parsed.memory if parsed.memory is not None else round(_gigabytes(index, source) * 1024)
    return memory == query.memory


def _key(name: Name) -> tuple[str, int | None, frozenset[str]]:
    return name.stem, name.memory, name.markers


def _gigabytes(index: int, source: Database) -> float:
    return source.card(index).memory / GIB


def _labels(candidates: Sequence[int], source: Database) -> list[str]:
    """Names that find exactly these cards when typed: with the memory size where the database's name lacks it. First
    the one that was sold first, which people mean by the plain name: an RTX 3060 has 12 GB, 8 GB came two years later.
    """
    labels = []
    for index in sorted(candidates, key=lambda index: _age(index, source)):
        name = source.rows[index][1]
        shown, memory = name.removeprefix("GeForce "), source.card(index).memory
        labels.append(shown if parse(name).memory is not None or not memory else with_memory(shown, memory))
    return labels


def _age(index: int, source: Database) -> tuple[bool, str, float]:
    """Orders cards by the day they came out, unknown ones last, those of one day by their memory."""
    released = source.card(index).released
    return released is None, released or "", _gigabytes(index, source)


def with_memory(name: str, memory: int) -> str:
    """A card's name with its memory (bytes) behind it: "RTX 4060 Ti 16 GB", below 1 GiB in MB."""
    return f"{name} {memory / GIB:g} GB" if memory >= GIB else f"{name} {memory // MIB} MB"


def _nearest(text: str, source: Database) -> str:
    """Suggestions for a name that fits nothing: the same card in another size or form first, then similar spelling.
    For a laptop's name only laptop parts."""
    import difflib

    query = parse(text)
    if query.memory is not None:
        same = _named(replace(query, memory=None), source)
        if same:
            return "; it exists as " + ", ".join(repr(label) for label in _labels(same, source))
    known = _slug_index()
    wanted = slug(text)
    longer = [one for one in known if f"-{wanted}-" in f"-{one}-"]
    near = longer or _within(wanted) or difflib.get_close_matches(wanted, known, n=3, cutoff=0.6)
    if query.markers:
        near = [one for one in near if source.card(known[one]).form == "laptop"]
    near = near[:3]
    if not near:
        return "; look for it with `fitcheck cards`, like `fitcheck cards 4070`."
    return "; did you mean " + " or ".join(repr(source.rows[known[one]][1]) for one in near) + "?"


def _within(wanted: str) -> list[str]:
    """Slugs of the card whose name a longer one holds, as board makers' names do: "MSI RTX 4070 VENTUS 2X 12G"."""
    held = [(one, name) for one in _slug_index() if f"-{(name := _SIZE.sub('', one))}-" in f"-{wanted}-"]
    longest = max((len(name) for _, name in held), default=0)
    return [one for one, name in held if len(name) == longest]


@cache
def _squashed() -> list[str]:
    """The letters and digits of every name, read at once: one by one takes five times as long."""
    return _NOT_ALPHANUMERIC.sub("", "\n".join(database().names()).lower()).split("\n")

"""What changed since the last build: changed verdicts and new pages, kept in the manifest, and the newest records."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fitcheck.pages import view
from fitcheck.pages.formats import WORDS
from fitcheck.pages.site_inputs import Inputs, newest_first
from fitcheck.pages.site_plan import LIST_SCHEMA, Page, made, plain
from fitcheck.units import format_date

MOST = 200
_RECORDS = 30
# above so many of one kind on one day, a count says more than a list
_MOST_LISTED = 40

Verdicts = Mapping[str, str]


def today() -> str:
    """The day of the build: of ``SOURCE_DATE_EPOCH`` where that is set, else of the clock."""
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    return format_date(int(said) if said.isdecimal() and len(said) < 12 else time.time())


def verdicts_of(letters: Mapping[str, str], cards: Sequence[str]) -> dict[str, str]:
    """Verdicts by the address of their page, of the first letters of each model's on ``cards``."""
    return {
        f"check/{model}/{card}/": WORDS[letter]
        for model, own in letters.items()
        for card, letter in zip(cards, own, strict=True)
    }


def logged(before: Verdicts, after: Verdicts, log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """``log``, newest first, with what the verdicts by address say has changed since. The first build has no news."""
    if not before or before == after:
        return list(log)
    day = today()
    changed = [
        {"date": day, "kind": "verdict", "address": address, "from": before[address], "to": verdict}
        for address, verdict in sorted(after.items())
        if address in before and before[address] != verdict
    ]
    new = [
        {"date": day, "kind": "page", "address": address, "from": None, "to": after[address]}
        for address in sorted(set(after) - set(before))
    ]
    gone = len(set(before) - set(after))
    counts = [
        {"date": day, "kind": kind, "address": None, "from": None, "to": None, "count": count}
        for kind, count in (("verdicts", len(changed)), ("pages", len(new)), ("gone", gone))
        if count > (0 if kind == "gone" else _MOST_LISTED)
    ]
    listed = [part for part in (changed, new) if len(part) <= _MOST_LISTED]
    new_ones = (*counts, *(one for part in listed for one in part))
    # names in order, as the manifest gives them back
    return [*(dict(sorted(one.items())) for one in new_ones), *log][:MOST]


def names_of(inputs: Inputs, log: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Words for those addresses in the log that the site has."""
    models = {model.slug: model.name for model in inputs.models}
    cards = {card.slug: card.name for card in inputs.cards}
    found = {}
    for address in {one["address"] for one in log if one["address"]}:
        _, model, card, *_ = f"{address}///".split("/")
        if model in models and card in cards:
            found[address] = f"{models[model]} on {cards[card]}"
    return found


def changes_page(inputs: Inputs, log: Sequence[Mapping[str, Any]]) -> Page:
    """The page of what is new."""
    names = names_of(inputs, log)
    rows = [{**one, "name": names.get(one["address"] or "")} for one in log]
    records = [view.record_facts(one) for one in newest_first(inputs.records)[:_RECORDS]]
    return made(
        inputs,
        "changes/",
        "changes.html",
        "What is new: records, pages and verdicts that changed",
        "What changed since the site was last built, newest first, and the newest measurements.",
        document={"schema": LIST_SCHEMA, "address": "changes/", "log": rows, "records": records},
        preview=plain("fitcheck", "What is new", "records, pages and verdicts that changed"),
        section="changes/",
        feed="changes/feed.xml",
    )

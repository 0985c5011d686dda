"""The index behind the field for a card: every card of the database, and which of them have a page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import all_cards
from fitcheck.models.model import Model
from fitcheck.pages.other_sizes import MEMORY
from fitcheck.units import GIB
from fitcheck.verdict.purposes import purposes

PATH = "static/cards.json"
_SIZE = re.compile(r" \d+ GB\b.*")
_FORMS = ("desktop", "laptop", "workstation", "datacenter")


def index(paged: Sequence[Card], models: Sequence[Model]) -> bytes:
    """UTF-8 JSON: ``cards`` as [name, slug, memory in MiB, page], page 1 for those that have one, best known first
    and of one product the card that came out first; ``models`` as [name, slug]."""
    pages = {card.slug for card in paged}
    products: dict[str, str] = {}  # the day on which the first card of a product came out, whatever its size
    for card in all_cards():
        name, day = _SIZE.sub("", card.name), card.released or ""
        products[name] = min(day, products.get(name, day))

    def place(card: Card) -> tuple[object, ...]:
        form = _FORMS.index(card.form) if card.form in _FORMS else len(_FORMS)
        year = products.get(_SIZE.sub("", card.name), "")[:4] or "0"
        return card.slug not in pages, form, -int(year), _SIZE.sub("", card.name), card.released or "", card.memory

    found = sorted({card.slug: card for card in (*paged, *all_cards())}.values(), key=place)
    rows = [[card.name, card.slug, card.memory >> 20, int(card.slug in pages)] for card in found]
    named = [[model.name, model.slug] for model in models]
    return json.dumps({"cards": rows, "models": named}, ensure_ascii=False, separators=(",", ":")).encode()


def choices() -> dict[str, Any]:
    """What stands beside the field: amounts of system memory in GB as ``ram``, and what people want to make as
    ``purposes``."""
    return {
        "ram": [size // GIB for size in MEMORY],
        "purposes": [{"name": one.name, "makes": one.makes} for one in purposes()],
    }

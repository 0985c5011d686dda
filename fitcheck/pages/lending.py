"""Which records can say anything of a model on a card, worked out once for all cards and models that are alike in it.

Cards without records of their own are alike by vendor and architecture; models by the runtimes that run them, where
none of their own runs ran out of memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fitcheck.hardware.card import Card
from fitcheck.models.model import Model
from fitcheck.pages.digests import digest
from fitcheck.records import run_index
from fitcheck.records.run_index import Index
from fitcheck.verdict.known_records import concerning


class Lending:
    """What the records of a site lend to its pages."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        self._index = run_index.build(records)
        self._measured = {one.card for part in (self._index.rows, self._index.links) for one in part}
        self._short = {run.cell.model for run in self._index.rows if run.ran_short}
        self._lent: dict[tuple[Any, ...], tuple[Index, str]] = {}
        self._all: dict[tuple[Any, ...], str] = {}

    def to(self, card: Card, model: Model) -> tuple[Index, str]:
        """The records, and their digest."""
        own = card.slug if card.slug in self._measured else ""
        alike = own, card.vendor, card.compute_capability, card.architecture, *self._alike(model)
        if alike not in self._lent:
            index = concerning(self._index, card, model)
            ids = sorted(one.id for part in (index.rows, index.links) for one in part)
            self._lent[alike] = index, digest(ids)
        return self._lent[alike]

    def to_all(self, cards: Sequence[Card], model: Model) -> str:
        """The digest of what is lent to the model on each of the site's ``cards``."""
        alike = self._alike(model)
        if alike not in self._all:
            self._all[alike] = digest(self.to(card, model)[1] for card in cards)
        return self._all[alike]

    def _alike(self, model: Model) -> tuple[Any, ...]:
        return tuple(sorted(model.runtimes)), model.slug if model.slug in self._short else ""

"""What lists say of every model on every card, read where a list asks for it; and digests of it, known without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from fitcheck.pages.digests import digest
from fitcheck.pages.formats import WORDS
from fitcheck.pages.pairs import DIGITS, PairFacts, PairsFile
from fitcheck.pages.site_inputs import Inputs


class SiteRows(Mapping[tuple[str, str], Mapping[str, Any]]):
    """Rows by model and card, in the order of the site."""

    def __init__(self, inputs: Inputs, files: Mapping[str, PairsFile]) -> None:
        self._files = files
        self._models = [model.slug for model in inputs.models]
        self._places = {card.slug: place for place, card in enumerate(inputs.cards)}

    def __getitem__(self, place: tuple[str, str]) -> Mapping[str, Any]:
        model, card = place
        return self._files[model].pair(card).row

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((model, card) for model in self._models for card in self._places)

    def __len__(self) -> int:
        return len(self._models) * len(self._places)

    def facts(self, model: str) -> PairFacts:
        """What is known of all cards of a model."""
        return self._files[model].facts

    @cached_property
    def verdicts(self) -> dict[str, list[str]]:
        """By model the verdict on each card."""
        return {model: [WORDS[letter] for letter in self.facts(model).verdicts] for model in self._models}

    @property
    def letters(self) -> dict[str, str]:
        """By model the first letter of each verdict."""
        return {model: self.facts(model).verdicts for model in self._models}

    def of_model(self, model: str) -> list[Mapping[str, Any]]:
        """The rows of a model, one a card."""
        return [self[model, card] for card in self._places]

    def digest_of(self, model: str, card: str) -> str:
        """The digest of one row."""
        place = self._places[card] * DIGITS
        return self.facts(model).rows[place : place + DIGITS]

    def column(self, card: str) -> str:
        """The digest of a card's rows."""
        return digest(["".join(self.digest_of(model, card) for model in self._models)])

    @cached_property
    def whole(self) -> str:
        """The digest of all rows."""
        return digest(self.facts(model).rows for model in self._models)

"""What people call a model or a card, as the slug that records have."""

from __future__ import annotations

from fitcheck.errors import InputError


def model_slug(model: str | None) -> str | None:
    """A model's slug by any name of it; what the catalog does not know may still be a record's own slug. Raises
    ModelError for a name of several models."""
    from fitcheck.models.find import slug_of

    return None if model is None else slug_of(model)


def card_slug(card: str | None) -> str | None:
    """A card's slug by any name of it; what the database does not know may still be a record's own slug."""
    from fitcheck.hardware.catalog import find_card

    try:
        return None if card is None else find_card(card).slug
    except InputError:
        return card

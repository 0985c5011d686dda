"""The models fitcheck knows by name, over all families."""

from __future__ import annotations

from functools import cache

from fitcheck.errors import ModelError
from fitcheck.models.families import registry
from fitcheck.models.families.base import Listing
from fitcheck.models.model import Model


def slugs() -> tuple[str, ...]:
    """Every name, family by family."""
    return tuple(slug for family in registry.every() for slug in family.slugs())


def has(slug: str) -> bool:
    """Whether that is the name of a model, in any case."""
    return any(slug.lower() in family.slugs() for family in registry.each())


def is_slug(text: str) -> bool:
    """Whether that is a name to the letter."""
    return any(text in family.slugs() for family in registry.each())


def published() -> tuple[str, ...]:
    """Names of the models whose tiers are published files one by one: those that pages are made of."""
    return tuple(slug for family in registry.every() if not family.by_rule for slug in family.slugs())


def listed() -> tuple[Listing, ...]:
    """Every model as a list shows it, family by family."""
    return _listed(tuple(registry.MODULES))


@cache
def _listed(families: tuple[str, ...]) -> tuple[Listing, ...]:
    return tuple(one for name in families for one in registry.get(name).listed())


def known(slug: str) -> Model | None:
    """The catalog model of that slug; ``None`` where there is none."""
    name = slug.lower()
    listed = registry.of_slug(name)
    if listed is not None:
        return listed.get(name)
    return next((family.get(name) for family in registry.unlisted() if name in family.slugs()), None)


@cache
def get(slug: str) -> Model:
    """The catalog model of that slug. Raises ModelError naming the nearest slugs."""
    found = known(slug)
    if found is not None:
        return found
    near = [name for family in registry.every() for name in family.near(slug)][:3]
    meant = f"; did you mean {', '.join(near)}?" if near else ";"
    raise ModelError(f"model: {slug!r} is not in the catalog{meant} `fitcheck models` lists all.")

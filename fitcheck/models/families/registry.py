"""Every family by name, in the order in which they are asked whether they know a model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module

from fitcheck.data_files import load
from fitcheck.models.families.base import Family

# name → module that holds it as FAMILY; the last one takes whatever nobody knows
MODULES = {
    "sensenova-u1": "fitcheck.models.families.sensenova.family",
    "pipeline": "fitcheck.models.families.pipeline.family",
    "language": "fitcheck.models.families.language.family",
    "unknown": "fitcheck.models.families.unknown",
}


def register(name: str, module: str) -> None:
    """Add a family before the last one: ``module`` holds it as ``FAMILY``."""
    last = list(MODULES.items())[-1]
    del MODULES[last[0]]
    MODULES[name] = module
    MODULES[last[0]] = last[1]
    get.cache_clear()


@cache
def get(name: str) -> Family:
    """The family of that name."""
    family: Family = import_module(MODULES[name]).FAMILY
    return family


def of_slug(slug: str) -> Family | None:
    """The family that has the slug by ``data/slugs.json``, so that no other is imported to be asked; ``None`` where the
    list does not have it. A test holds the list to the families."""
    return next((get(name) for name, slugs in load("models.families", "slugs").items() if slug in slugs), None)


def unlisted() -> Iterator[Family]:
    """Those of which that list does not speak, each imported when its turn comes."""
    return (get(name) for name in MODULES if name not in load("models.families", "slugs"))


def each() -> Iterator[Family]:
    """One after the other, each imported when its turn comes: whoever stops at the first that knows a model pays for no
    other."""
    return (get(name) for name in MODULES)


def every() -> tuple[Family, ...]:
    """All of them, imported, in order."""
    return tuple(each())

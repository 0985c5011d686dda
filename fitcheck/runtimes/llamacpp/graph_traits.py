"""In what architectures' graphs differ where no tensor tells it: ``data/graph_traits.json``."""

from __future__ import annotations

from functools import cache

from fitcheck.data_files import load
from fitcheck.models.families.language.architecture import LanguageArchitecture

SPARSE_LAYERS = 10  # the first ones, where the data file says so under leading_sparse


def has_trait(architecture: LanguageArchitecture, trait: str) -> bool:
    """Whether the data file names the architecture under ``trait``. Raises KeyError for a trait that it lacks."""
    return architecture.name in _named(trait)


@cache
def _named(trait: str) -> frozenset[str]:
    return frozenset(load("runtimes.llamacpp", "graph_traits")[trait]["architectures"])

"""Shapes of well-known language models, for when there is no file to read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fitcheck.data_files import load
from fitcheck.errors import InputError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.metadata import architecture_from_gguf


def _data() -> dict[str, Any]:
    return load("models.families.language", "language_models")


def known_language_models() -> tuple[str, ...]:
    return tuple(_data()["models"])


def known_language_model(name: str) -> LanguageArchitecture:
    """The architecture of a model by its short name. Raises InputError with the names there are."""
    entry = _data()["models"].get(name)
    if entry is None:
        raise InputError(
            f"language model {name!r} is not in the catalog; known are {', '.join(known_language_models())}."
        )
    architecture = architecture_from_gguf(entry["metadata"])
    if "tied_embeddings" in entry:
        return replace(architecture, tied_embeddings=bool(entry["tied_embeddings"]))
    return architecture

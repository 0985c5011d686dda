"""Language models known by name, for when there is no file to read: ``data/language_models.json``.

Every entry is a published ``config.json`` in GGUF's own key names, with where it was read and when. An entry may be
``like`` another one: the same shape under another name, with the keys that differ.
"""

from __future__ import annotations

from dataclasses import field, replace
from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import ModelError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.metadata import architecture_from_gguf


@dataclass(frozen=True)
class LanguageEntry:
    """One model of the catalog.

    ``repository`` holds the original weights and ``gguf`` a repository of GGUF files (None where none was found);
    ``parameters`` is the hub's own count of the language model (of its text-only sibling where the repository holds a
    vision tower or prediction layers too), ``projector`` says that an mmproj file goes with it for images or sound.
    """

    slug: str
    name: str
    metadata: dict[str, Any]
    tied_embeddings: bool | None = None
    repository: str | None = None
    gguf: str | None = None
    licence: str = "unknown"
    released: str | None = None
    source: str = ""
    looked_up: str = ""
    parameters: int | None = None
    projector: bool = False
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, as ``general.architecture`` of its GGUF files holds it."""
        return str(self.metadata["general.architecture"])

    @property
    def embeds(self) -> bool:
        """Whether it turns texts into vectors or scores: its files name the way in which they pool."""
        return bool(self.metadata.get(f"{self.architecture}.pooling_type"))


def _data() -> dict[str, Any]:
    return load("models.families.language", "language_models")


def known_language_models() -> tuple[str, ...]:
    """Slugs of the language models known by name, in the data file's order."""
    return tuple(_data()["models"])


@cache
def first_released(architecture: str) -> str | None:
    """The day (ISO) on which the first model of such an architecture came out that is known; ``None`` where none is."""
    entries = (language_entry(slug) for slug in known_language_models())
    return min((one.released for one in entries if one.architecture == architecture and one.released), default=None)


def takes_projector(slug: str) -> bool:
    """Whether an mmproj file goes with the catalog's model of that short name; ``False`` for what it does not hold."""
    return slug in _data()["models"] and language_entry(slug).projector


@cache
def language_entry(slug: str) -> LanguageEntry:
    """The catalog's entry of exactly that short name. Raises InputError with the names there are."""
    row = _data()["models"].get(slug)
    if row is None:
        raise ModelError(
            f"language model {slug!r} is not in the catalog; known are {', '.join(known_language_models())}."
        )
    own = {key: value for key, value in row.items() if key not in ("like", "metadata")}
    metadata = row["metadata"]
    if "like" in row:
        base = language_entry(row["like"])
        metadata = {**base.metadata, **metadata}
        own.setdefault("tied_embeddings", base.tied_embeddings)
        own.setdefault("projector", base.projector)
    own |= {key: tuple(own[key]) for key in ("aliases", "notes") if key in own}
    return LanguageEntry(slug=slug, metadata=metadata, **own)


@cache
def known_language_model(name: str) -> LanguageArchitecture:
    """The architecture of a model by its short name, one and the same of models that share it: what follows from one is
    looked up again and again. Raises InputError with the names there are."""
    entry = language_entry(name)
    architecture = architecture_from_gguf(entry.metadata)
    if entry.tied_embeddings is not None:
        architecture = replace(architecture, tied_embeddings=entry.tied_embeddings)
    return _shared.setdefault(architecture, architecture)


_shared: dict[LanguageArchitecture, LanguageArchitecture] = {}

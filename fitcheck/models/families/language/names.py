"""Which language model a person means: names as they are typed, from ``qwen3 30b`` to ``gemma3:27b``.

A name is a set of words. The words of the question must all be among those of a model; a model that has nothing
beside them, or nothing but its size, is meant. Several that fit are listed, never chosen among.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache

from fitcheck.data_files import load
from fitcheck.errors import ModelError
from fitcheck.models.families.language.known_models import LanguageEntry, known_language_models, language_entry

LONGEST_NAME = 200
LISTED = 10
_SPLIT = re.compile(r"[\s\-_:/,()]+")
_GLUED = re.compile(r"([a-z]{3,})(\d.*)")
_SIZE = re.compile(r"(\d+x)?\d+(\.\d+)?[mbt]|[ae]\d+(\.\d+)?b|\d+e")
# words that say how a model was tuned or stored, which its shape does not depend on
_NOISE = frozenset({"instruct", "it", "chat", "hf", "gguf", "bf16", "fp16", "pt", "latest", "model", "meta"})


class AmbiguousNameError(ModelError):
    """A name that could mean several models."""


class NoEntryError(ModelError):
    """A name of a model that is known, and why the catalog cannot have it."""


def find_language_model(text: str) -> LanguageEntry:
    """The model that ``text`` names. Raises InputError listing the candidates of an ambiguous name, saying why there
    is none, else near names."""
    words = _words(text)
    if not words:
        raise ModelError("the language model is not named; give a name like qwen3-30b-a3b.")
    exact = [slug for slug, names in _names().items() if words in names]
    if exact:
        return language_entry(exact[0])
    found = {slug: _beyond(words, names) for slug, names in _names().items() if any(words <= name for name in names)}
    if not found:
        _refuse_without_entry(text, words)
        near = _near(text)
        raise ModelError(f"language model {text.strip()!r} is not in the catalog; near it are {', '.join(near)}.")
    plain = [slug for slug, rest in found.items() if all(_SIZE.fullmatch(word) for word in rest)]
    meant = plain if len(plain) == 1 else list(found)
    if len(meant) == 1:
        return language_entry(meant[0])
    listed = sorted(meant, key=lambda slug: (len(found[slug]), slug))
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    raise AmbiguousNameError(f"{text.strip()!r} could be {', '.join(listed[:LISTED])}{more}; name one of them.")


def _refuse_without_entry(text: str, words: frozenset[str]) -> None:
    """Raises NoEntryError for a model that people ask for and no answer can be given of."""
    for row in load("models.families.language", "architectures")["no_entry"]:
        rest = words - _words(row["words"])
        if len(words) - len(rest) == len(_words(row["words"])):
            raise NoEntryError(f"{text.strip()!r}: {row['name']} is not in the catalog, because {row['why']}.")


def _beyond(words: frozenset[str], names: Iterable[frozenset[str]]) -> frozenset[str]:
    """What the closest of a model's names says beside ``words``."""
    return min((name - words for name in names if words <= name), key=len)


@cache
def _names() -> dict[str, tuple[frozenset[str], ...]]:
    owners: dict[str | None, str] = {}
    for slug in known_language_models():
        owners.setdefault(language_entry(slug).repository, slug)
    return {slug: tuple(_names_of(language_entry(slug), owners)) for slug in known_language_models()}


def _names_of(entry: LanguageEntry, owners: Mapping[str | None, str]) -> Iterable[frozenset[str]]:
    """A repository's name stands for the first entry it has, not for its variants."""
    yield _words(entry.slug)
    for alias in entry.aliases:
        yield _words(alias)
    yield _words(entry.name)
    if entry.repository and owners[entry.repository] == entry.slug:
        yield _words(entry.repository)


@cache
def _words(text: str) -> frozenset[str]:
    """The words of a name: ``Qwen/Qwen3-30B-A3B`` is qwen, 3, 30b and a3b. The owner before a slash is left out."""
    if len(text) > LONGEST_NAME:
        raise ModelError(f"the model's name has {len(text)} characters; give at most {LONGEST_NAME}.")
    found: list[str] = []
    for word in _SPLIT.split(text.lower().rpartition("/")[2]):
        glued = _GLUED.fullmatch(word)
        found += glued.groups() if glued else [word]
    return frozenset(word.removesuffix(".0") for word in found if word and word not in _NOISE)


def _near(text: str) -> list[str]:
    wanted = text.strip().lower().rpartition("/")[2]
    near = difflib.get_close_matches(wanted, known_language_models(), n=5, cutoff=0.5)
    return near or difflib.get_close_matches(wanted, known_language_models(), n=5, cutoff=0.0)

"""Which pipeline a person means: ``flux dev``, ``wan 14b``, ``sdxl``, ``qwen image edit``.

A name is a set of words. One that is a name or alias of one model means it. Otherwise all words of a family ("flux";
"qwen image") must be among those of the question, and all words of the question among those of one of a model's names:
what fits one model alone is meant, several are listed and never chosen among.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from fitcheck.errors import ModelError
from fitcheck.models.families.pipeline import catalog

LISTED = 12
_LONGEST = 200
_SPLIT = re.compile(r"[\s\-_:/,()\[\]]+")
_GLUED = re.compile(r"([a-z]{2,})\.?(\d.*)")
# words that say how weights are stored or that a name is one of a model, which the model does not depend on
_NOISE = frozenset({"model", "diffusers", "gguf", "bf16", "fp16", "fp8", "hf"})


def find_pipeline(text: str) -> str | None:
    """The slug that ``text`` means, ``None`` when it means none. Raises ModelError listing the candidates of a name
    that could be several."""
    if len(text) > _LONGEST:
        return None
    words = _words(text)
    exact = [slug for slug in catalog.slugs() if words in _names(slug)]
    if len(exact) == 1:
        return exact[0]
    meant = exact or [slug for slug in catalog.slugs() if _is_family(words, slug) and _fits(words, slug)]
    if len(meant) > 1:
        more = f" and {len(meant) - LISTED} more" if len(meant) > LISTED else ""
        raise ModelError(f"{text.strip()!r} could be {', '.join(meant[:LISTED])}{more}; name one of them.")
    return meant[0] if meant else None


def _fits(words: frozenset[str], slug: str) -> bool:
    return any(words <= name for name in _names(slug))


def _is_family(words: frozenset[str], slug: str) -> bool:
    return any(_words(family) <= words for family in catalog.entry_of(slug)["family"].split("|"))


@cache
def _names(slug: str) -> tuple[frozenset[str], ...]:
    return tuple(dict.fromkeys(map(_words, _texts(slug))))


def _texts(slug: str) -> Iterable[str]:
    entry = catalog.entry_of(slug)
    yield slug
    yield entry["name"]
    yield entry["repository"].rpartition("/")[2]
    yield from entry.get("aliases", ())


@cache
def _words(text: str) -> frozenset[str]:
    """``FLUX.1-dev`` is flux, 1 and dev; ``wan2.2`` is wan and 2.2; ``sd3.5`` is sd and 3.5."""
    found: list[str] = []
    for word in _SPLIT.split(text.strip().lower()):
        glued = _GLUED.fullmatch(word)
        found += glued.groups() if glued else [word]
    return frozenset(word.strip(".") for word in found if word.strip(".") and word not in _NOISE)

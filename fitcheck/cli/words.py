"""``fitcheck explain --words``: the words of an answer, one line each."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

SCHEMA = "fitcheck.words/1"


def tell(found: Mapping[str, Mapping[str, str]]) -> None:
    """Print it, subject by subject, in the width of the terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
    for line in lines(found, width):
        print(line)


def lines(found: Mapping[str, Mapping[str, str]], width: int) -> Iterator[str]:
    """``word  meaning`` under the name of its subject; a meaning goes on beside its word."""
    for subject, words in found.items():
        yield subject
        column = max(map(len, words)) + 4
        for word, meaning in words.items():
            first, *rest = textwrap.wrap(meaning, max(width - column, 20))
            yield f"  {word:{column - 2}}{first}"
            yield from (" " * column + more for more in rest)


def to_json(found: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The same as a document."""
    return {"schema": SCHEMA, "words": {subject: dict(words) for subject, words in found.items()}}

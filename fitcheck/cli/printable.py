"""Text of strangers on this terminal: no escape codes, no marks that turn or hide text, no second line."""

from __future__ import annotations

import json


def one_line(text: str) -> str:
    """``text`` on one line, with ? for what a terminal would act on rather than show."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def printable(text: str) -> str:
    """``text`` with its line breaks and spaces, and ? for what a terminal would act on rather than show."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def json_text(value: object) -> str:
    """``value`` as indented JSON that reads back the same, with what is not printable written as ``\\uXXXX``."""
    text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
    return "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)

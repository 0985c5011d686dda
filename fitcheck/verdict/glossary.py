"""The words of an answer and what they mean, for who reads one: on a terminal and on a page."""

from __future__ import annotations

from fitcheck.data_files import load
from fitcheck.runtimes import registry

MODES = "modes of "  # what stands before a runtime's name


def glossary() -> dict[str, dict[str, str]]:
    """Word → meaning, by subject: the words of every answer, then each runtime's modes."""
    found: dict[str, dict[str, str]] = {name: dict(words) for name, words in load("verdict", "words")["words"].items()}
    for name in registry.names():
        if modes := registry.get(name).modes:
            found[f"{MODES}{name}"] = dict(modes)
    return found

"""Lengths of upstream's prompts, templates and images in tokens, from ``data/tokens.json``."""

from __future__ import annotations

from fitcheck.data_files import load


def tokens(name: str) -> int:
    """The token count of that name, like ``"t2i_prompt"`` or ``"reference_maximum"``."""
    return int(load("runtimes.sensenova", "tokens")["tokens"][name]["value"])

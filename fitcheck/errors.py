"""Errors a user can act on. The command line prints them as one sentence and exits with code 2."""

from __future__ import annotations


class InputError(Exception):
    """What was typed or handed in cannot be used.

    The message is one sentence that says what is wrong, where, and what to do; it never holds a secret.
    """


def extra(name: str) -> str:
    """How to get one of fitcheck's extras: from its own folder, because the package index may hold another project by
    that name."""
    return f"install fitcheck's extra {name!r}: in its folder, pip install '.[{name}]'"

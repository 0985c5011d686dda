"""Errors a user can act on. The command line prints them as one sentence and exits with code 2."""

from __future__ import annotations


class InputError(Exception):
    """What was typed or handed in cannot be used.

    The message is one sentence that says what is wrong, where, and what to do; it never holds a secret.
    """

"""Errors that a person can act on, as a tree that a library user can catch by kind.

The command line prints any of them as one sentence and exits with code 2. Each message says what is wrong, where, and
what to do; it never holds a secret.
"""

from __future__ import annotations


class FitcheckError(Exception):
    """The root: whatever fitcheck itself refuses."""


class InputError(FitcheckError):
    """What was typed or handed in cannot be used."""


class OptionError(InputError):
    """An option that nothing in play has, or a value that it cannot take."""


class CardError(InputError):
    """A card or machine that is unknown, ambiguous, or of which too little is known."""


class ModelError(InputError):
    """A model, tier or task that does not exist, or that nothing here runs."""


class NotModelledError(ModelError):
    """A model whose run cannot be modelled; only its weights can be judged."""


class FileError(InputError):
    """A model file or folder that is missing, damaged or of another kind."""


class NetworkError(InputError):
    """A hub or server that does not answer, refuses, or answers with something else."""


class RecordError(InputError):
    """A record or results folder that cannot be used."""


class MeasurementError(InputError):
    """A measurement that cannot be made here."""


class MissingExtraError(InputError):
    """A part of fitcheck that is not installed."""


def extra(name: str) -> str:
    """How to get one of fitcheck's extras: from its own folder, because the package index may hold another project by
    that name."""
    return f"install fitcheck's extra {name!r}: in its folder, pip install '.[{name}]'"

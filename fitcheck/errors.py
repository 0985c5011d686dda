"""Errors that a person can act on, as a tree that a library user can catch by kind.

The command line prints any of them as one sentence and exits with code 2. Each message says what is wrong, where, and
what to do; it never holds a secret.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# the name in the package index, where another project holds "fitcheck"; pyproject.toml says the same
DISTRIBUTION = "fitcheck-vram"


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
    """How to get one of fitcheck's extras, in a clause: by the libraries that it stands for, which works for whoever
    installed a wheel as well, because a package index may hold another project by this name."""
    wanted = " ".join(f"'{one}'" for one in _libraries(name))
    if not wanted:
        return f"install fitcheck's extra {name!r}: in its folder, pip install '.[{name}]'"
    how = f"pipx inject {DISTRIBUTION}" if "pipx" in Path(sys.prefix).parts else "pip install"
    return f"install fitcheck's extra {name!r}: {how} {wanted}"


def _libraries(name: str) -> list[str]:
    """The requirements of an extra, as the installed distribution states them; none where there is no such."""
    from importlib import metadata  # takes longer than an answer; wanted where something is missing alone

    try:
        stated = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in stated:
        library, _, condition = line.partition(";")
        if re.search(rf"extra\s*==\s*['\"]{re.escape(name)}['\"]", condition):
            inner = re.fullmatch(rf"{DISTRIBUTION}\[(.*)\]", library.strip())
            found += [one for part in inner[1].split(",") for one in _libraries(part)] if inner else [library.strip()]
    return found

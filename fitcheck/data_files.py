"""Data files of a room: facts and fitted constants, each with its source or the rows it was fitted on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent


def path_of(room: str, name: str) -> Path:
    """Where ``fitcheck/<room>/data/<name>`` lies; ``room`` is dotted, like ``"runtimes.llamacpp"``."""
    return _PACKAGE.joinpath(*room.split("."), "data", name)


def read_text(room: str, name: str) -> str:
    """The text of ``fitcheck/<room>/data/<name>``."""
    return path_of(room, name).read_text("utf-8")


@cache
def load(room: str, name: str) -> dict[str, Any]:
    """The parsed file ``fitcheck/<room>/data/<name>.json``, read once."""
    data: dict[str, Any] = json.loads(read_text(room, f"{name}.json"))
    return data

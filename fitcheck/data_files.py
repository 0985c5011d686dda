"""Data files of a room: facts and fitted constants, each with its source or the rows it was fitted on."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


def read_text(room: str, name: str) -> str:
    """The text of ``fitcheck/<room>/data/<name>``; ``room`` is dotted, like ``"runtimes.llamacpp"``."""
    return resources.files(f"fitcheck.{room}").joinpath(f"data/{name}").read_text("utf-8")


@cache
def load(room: str, name: str) -> dict[str, Any]:
    """The parsed file ``fitcheck/<room>/data/<name>.json``, read once."""
    data: dict[str, Any] = json.loads(read_text(room, f"{name}.json"))
    return data

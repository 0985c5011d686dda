"""The data files of this room: facts and fitted constants, each with its source or the rows it was fitted on."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """The parsed data file ``fitcheck/memory/data/<name>.json``."""
    text = resources.files("fitcheck.memory").joinpath(f"data/{name}.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def tokens(name: str) -> int:
    return int(load("sensenova")["tokens"][name]["value"])


def cublas_workspace(compute_capability: tuple[int, int] | None) -> int:
    """Bytes that PyTorch keeps for cuBLAS on a card of that compute capability."""
    table = load("sensenova")["cublas_workspace"]
    key = "default" if compute_capability is None else f"{compute_capability[0]}.{compute_capability[1]}"
    return int(table.get(key, table["default"])["bytes"])


@cache
def measured_capability(compute_capability: tuple[int, int] | None) -> tuple[int, int] | None:
    """The compute capability where some constant here depends on it, else ``None``: such cards share estimates."""
    if compute_capability is None:
        return None
    key = f"{compute_capability[0]}.{compute_capability[1]}"
    known = key in load("sensenova")["cublas_workspace"] or key in load("allocator")["context"]["measured"]
    return compute_capability if known else None

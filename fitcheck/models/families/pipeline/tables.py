"""Tensor tables of components, from runs of equal blocks: ``data/tables.json``, made by scripts/pack_pipelines.py."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from fitcheck.data_files import load

ROOM = "models.families.pipeline"
LINEAR, CONVOLUTION, EMBEDDING, NORM, PARAMETER = "linear", "convolution", "embedding", "norm", "parameter"
_ROLES = {"l": LINEAR, "c": CONVOLUTION, "t": CONVOLUTION, "e": EMBEDDING, "n": NORM, "p": PARAMETER}
# a transposed convolution's weight has its inputs first
_TRANSPOSED = "t"


class Entry(NamedTuple):
    """A parameter of a module: its name, shape (as torch prints it), the kind of module that holds it, its block.

    ``role`` is "linear", "convolution" or "embedding" for the leaves that diffusers' hooks know, "norm" or "parameter"
    for what lies in other modules."""

    name: str
    shape: tuple[int, ...]
    role: str
    layer: int | None


def data() -> dict[str, Any]:
    """The parsed file."""
    return load(ROOM, "tables")


@cache
def entries(key: str) -> tuple[Entry, ...]:
    """Every parameter and stored buffer of a component, in the order of its state dict. Raises KeyError."""
    return tuple(_unpacked(data()[key]["tensors"], "", None))


def parameters(key: str) -> int:
    """Parameters of the component, tied ones counted once. Raises KeyError."""
    return int(data()[key]["parameters"])


def _unpacked(items: list[Any], prefix: str, layer: int | None) -> Iterator[Entry]:
    for name, second, third in items:
        if isinstance(third, list):
            first, count = second
            for index in range(first, first + count):
                yield from _unpacked(third, f"{prefix}{name}.{index}.", index if layer is None else layer)
            continue
        role, shape = _ROLES[third[0]], tuple(second)
        if role in (NORM, PARAMETER):
            yield Entry(prefix + name, shape, role, layer)
            continue
        yield Entry(f"{prefix}{name}.weight", shape, role, layer)
        if third.endswith("b"):
            outputs = shape[1:2] if third[0] == _TRANSPOSED else shape[:1]
            yield Entry(f"{prefix}{name}.bias", outputs, role, layer)

"""Temporaries of a GGUF linear: diffusers dequantizes the whole weight at each forward.

Bytes per element come from ``data/dequantization.json``, counted by running diffusers' functions under a dispatch mode
(``scripts/trace_dequantization.py``); nothing here is fitted to a measurement.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.models.quant import TYPES


@dataclass(frozen=True, slots=True)
class Linear:
    """The largest matrix of one kind in a branch: what a GGUF linear dequantizes at once."""

    elements: int
    type: str
    out_features: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Per weight element: ``peak_bytes`` live at once, ``linear_bytes`` during the product, ``traffic_bytes`` moved."""

    peak_bytes: float
    linear_bytes: float
    traffic_bytes: float
    kernels: int


_NOTHING = Cost(0.0, 0.0, 0.0, 0)


@cache
def cost(type_name: str) -> Cost:
    """Cost of dequantizing a weight of that type; zero for unquantized types.

    An untraced block type takes the dearest traced one, so that memory is never understated.
    """
    if not TYPES[type_name].quantized:
        return _NOTHING
    row = _row(type_name)
    return Cost(row["peak_bytes"], row["linear_bytes"], row["traffic_bytes"], row["kernels"])


@cache
def steps(type_name: str) -> tuple[float, ...]:
    """Temporaries in the order in which they come and go: a positive number makes one of so many bytes per element,
    ``-n`` drops the n-th made."""
    return tuple(_row(type_name)["steps"]) if TYPES[type_name].quantized else ()


def _row(type_name: str) -> dict[str, Any]:
    table: dict[str, dict[str, Any]] = load("memory", "dequantization")["types"]
    return table.get(type_name) or max(table.values(), key=lambda row: row["peak_bytes"])


def is_traced(type_name: str) -> bool:
    """Whether the costs of this type are known: it was traced, or is plain and needs no dequantization."""
    return not TYPES[type_name].quantized or type_name in load("memory", "dequantization")["types"]


def before_product(linear: Linear | None) -> int:
    """Most bytes live while the weight of ``linear`` is dequantized."""
    return 0 if linear is None else round(cost(linear.type).peak_bytes * linear.elements)


def during_product(linear: Linear | None) -> int:
    """Bytes of the dequantized weight while the product runs."""
    return 0 if linear is None else round(cost(linear.type).linear_bytes * linear.elements)

"""Temporaries of a GGUF linear: diffusers dequantizes the whole weight at each forward.

Bytes per element come from ``data/dequantization.json``, counted by running diffusers' functions under a dispatch mode
(``scripts/trace_dequantization.py``); nothing here is fitted to a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fitcheck.memory.constants import load
from fitcheck.memory.weights import Linear
from fitcheck.models.quant import TYPES


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
    table = load("dequantization")["types"]
    row = table.get(type_name) or max(table.values(), key=lambda row: row["peak_bytes"])
    return Cost(**row)


def is_traced(type_name: str) -> bool:
    return not TYPES[type_name].quantized or type_name in load("dequantization")["types"]


def before_product(linear: Linear | None) -> int:
    """Most bytes live while the weight of ``linear`` is dequantized."""
    return 0 if linear is None else round(cost(linear.type).peak_bytes * linear.elements)


def during_product(linear: Linear | None) -> int:
    """Bytes of the dequantized weight while the product runs."""
    return 0 if linear is None else round(cost(linear.type).linear_bytes * linear.elements)

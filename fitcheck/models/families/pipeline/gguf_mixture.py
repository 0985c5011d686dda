"""Which GGML type the usual converters give a denoiser's tensor: ``data/gguf.json``.

Only two-dimensional weights of linear layers are quantized. Small and one-dimensional tensors stay F32, the embedders
and output heads that a class lists stay in 16 bit, and a few kinds get a better type than the file's name says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.pipeline.tables import LINEAR, ROOM, Entry, entries
from fitcheck.models.quant import TYPES

# tensors up to this many elements stay F32 (QUANTIZATION_THRESHOLD of convert.py)
_SMALL = 1024
# keys_hiprec of convert.py, as diffusers names them
_PRECISE = ("scale_shift_table", ".ff_i.gate.weight")
_BETTER = ("value", "fused", "down")


@dataclass(frozen=True)
class MixtureRules:
    """How one denoiser class is quantized: patterns of names. ``assumed`` says that no converter's list was read."""

    keep: str
    value: str | None = None
    fused: str | None = None
    down: str | None = None
    assumed: bool = False


def _data() -> dict[str, Any]:
    return load(ROOM, "gguf")


def tier_names(cls: str) -> tuple[str, ...]:
    """The GGUF tiers of a denoiser class, largest first; none where no converter makes them. Where the rule is
    assumed, those without a mixture are left."""
    rules = rules_of(cls)
    if rules is None:
        return ()
    return tuple(name for name in _data()["types"] if not rules.assumed or not name.endswith(("_M", "_L")))


@cache
def rules_of(cls: str) -> MixtureRules | None:
    """The rules of a denoiser class; ``None`` where none are known."""
    row = _data()["classes"].get(cls)
    return None if row is None else MixtureRules(**row)


@cache
def types_of(key: str, cls: str, tier: str) -> dict[str, str]:
    """The type of every tensor of the component whose table stands under ``key``. Raises KeyError."""
    rules, data = rules_of(cls), _data()
    if rules is None:
        raise KeyError(cls)
    better = {kind: _matcher(getattr(rules, kind)) for kind in _BETTER}
    first, first_type = data["first_values"].get(tier, (0, ""))
    base, keep = data["types"][tier], re.compile(rules.keep)
    types, values = {}, 0
    for entry in entries(key):
        chosen = _unquantized(entry, keep)
        if chosen is None:
            kind = next((kind for kind in _BETTER if better[kind](entry.name)), None)
            chosen = data[kind].get(tier, base) if kind else base
            if kind == "value":
                values += 1
                chosen = first_type if values <= first else chosen
            if entry.shape[-1] % TYPES[chosen].block:
                chosen = "F16"
        types[entry.name] = chosen
    return types


def _unquantized(entry: Entry, keep: re.Pattern[str]) -> str | None:
    """The plain type of a tensor that is not quantized, ``None`` for one that is."""
    if len(entry.shape) == 1 or prod(entry.shape) <= _SMALL or entry.name.endswith(_PRECISE):
        return "F32"
    if entry.role != LINEAR or len(entry.shape) != 2 or keep.search(entry.name):
        return "BF16"
    return None


def _matcher(pattern: str | None) -> Callable[[str], bool]:
    if pattern is None:
        return lambda name: False
    compiled = re.compile(pattern)
    return lambda name: compiled.search(name) is not None

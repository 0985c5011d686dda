"""How long attention takes beside that of heads of 128 features without a mask: by the kernel that a call gets.

PyTorch takes cuDNN's kernel on a card, which is made for heads of 64 and 128 features; narrower ones are padded. A mask
costs what it takes to read a value for each key, or for each pair of a query and a key. One head of several hundred
features, as autoencoders have, goes to the memory-efficient kernel. ``data/attention.json`` says how the catalog's
denoisers attend (``scripts/survey_attention.py``), ``data/seconds.json`` what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.models.families.pipeline.architecture import VAE, Component
from fitcheck.runtimes.diffusers.attention_flops import head_features
from fitcheck.runtimes.diffusers.tiling import ROOM

_ROW, _TABLE = "row", "table"


def attention_factor(component: Component, sizes: Mapping[str, int]) -> float:
    """Seconds of an operation of the component's attention over those of one with heads of 128 features and no mask."""
    return _factor(component, sizes.get("tokens", 0) + sizes.get("text", 0))


@lru_cache(maxsize=1024)
def _factor(component: Component, keys: int) -> float:
    """The same by the keys that a query reads, once for all tiers and modes."""
    table = load(ROOM, "seconds")["attention"]
    if component.role == VAE:
        return float(table["one_head"]["factor"][component.dtype])
    calls = [(share, _padded(features, table) * _masked(mask, keys, table)) for features, mask, share in _of(component)]
    if not calls:
        return 1.0
    return float(sum(share * factor for share, factor in calls) / sum(share for share, _ in calls))


def _of(component: Component) -> list[tuple[int, str, float]]:
    """(features of a head, mask, share of the operations); without a survey all is as the configuration says."""
    known = load(ROOM, "attention")["calls"].get(component.trace or "")
    if known is not None:
        return [(features, mask, share) for features, mask, share in known]
    features = head_features(component)
    return [] if features is None else [(features, "none", 1.0)]


def _padded(features: int, table: Mapping[str, Any]) -> float:
    """Features of the kernel over those of the head, and how much slower the kernel is."""
    for width, factor in table["kernels"]["factors"]:
        if features <= width:
            return float(factor * width / features)
    return 1.0


def _masked(mask: str, keys: int, table: Mapping[str, Any]) -> float:
    """What reading a mask costs; rows of a table that begin at no multiple of 16 bytes are read value by value."""
    masks = table["masks"]
    if mask == _TABLE:
        return float(masks["table" if keys % masks["aligned"] == 0 else "table_unaligned"])
    return float(masks["row"]) if mask == _ROW else 1.0

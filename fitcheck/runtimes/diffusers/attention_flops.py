"""Operations of attention, which traces on fake CPU tensors do not count: from the shapes of the query projections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from fitcheck.models.families.pipeline.architecture import VAE, Component
from fitcheck.models.families.pipeline.tables import entries

_QUERY = re.compile(r"(.*)\.(to_q|q|q_proj|to_qkv|qkv)\.weight")
_CROSS, _FUSED = "attn2", ("to_qkv", "qkv")
_LEVEL = re.compile(r"(down|up)_blocks\.(\d+)|mid_block")


@cache
def _queries(key: str) -> tuple[tuple[str, int], ...]:
    """(module path, features) of every query projection of a component of the catalog."""
    found = []
    for entry in entries(key):
        if (match := _QUERY.fullmatch(entry.name)) is not None and len(entry.shape) > 1:
            found.append((match.group(1), entry.shape[0] // (3 if match.group(2) in _FUSED else 1)))
    return tuple(found)


def attention_flops(component: Component, sizes: Mapping[str, int], child: str = "") -> int:
    """4 × batch × queries × keys × features of every attention that the call runs (scores and their product with the
    values); 0 for a component that is in no catalog."""
    if component.trace is None:
        return 0
    queries = [one for one in _queries(component.trace) if one[0].startswith(child)]
    crossed = any(_CROSS in path for path, _ in queries)
    total = 0
    for path, features in queries:
        own = _sequence(component, path, sizes)
        joint = own if crossed or "tokens" not in sizes else own + sizes.get("text", 0)
        keys = sizes.get("text", 0) if _CROSS in path else joint
        total += 4 * (own if _CROSS in path else joint) * keys * features
    return total * sizes.get("batch", 1) * (sizes.get("frames", 1) if component.role == VAE else 1)


def _sequence(component: Component, path: str, sizes: Mapping[str, int]) -> int:
    """Queries at a module: tokens of a transformer, cells of a U-Net at its level, of a latent in an autoencoder's
    middle, words of a text encoder."""
    if component.role != VAE and levels_of(component) and (match := _LEVEL.search(path)) is not None:
        levels = levels_of(component) - 1
        level = {"down": int(match.group(2) or 0), "up": levels - int(match.group(2) or 0)}.get(match.group(1), levels)
        return int(sizes["height"] * sizes["width"] // 4**level)
    if component.role == VAE:
        return sizes["height"] * sizes["width"]
    return sizes.get("tokens", sizes.get("text", 0))


def levels_of(component: Component) -> int:
    """Levels of a U-Net; 0 for a transformer, and where a folder's own configuration lists none."""
    blocks = component.config.get("down_block_types")
    return len(blocks) if isinstance(blocks, list | tuple) else 0

"""Work of a call that its operations do not tell: layouts that convolutions copy, statistics of few large groups."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fitcheck.models.families.pipeline.architecture import VAE, Component
from fitcheck.runtimes.diffusers.attention_flops import levels_of
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, LEAVE, WORKSPACE, Event

_GROUP_NORM = re.compile(r"(.*\.)?(norm\d?|group_norm|norm_layer|conv_norm_out|norm_out)")
_LAYER_NORMS = "transformer_blocks."


def copied_bytes(events: Iterable[Event]) -> int:
    """Bytes of inputs, weights and outputs that convolutions copy into another order."""
    return sum(event.value for event in events if event.kind == WORKSPACE)


def groups_of(component: Component) -> int:
    """Groups of a U-Net's or an autoencoder's GroupNorms; 0 for a component without any."""
    groups = component.config.get("norm_num_groups")
    convolves = component.role == VAE or levels_of(component) > 0
    return groups if convolves and isinstance(groups, int) and groups > 0 else 0


def grouped_bytes(events: Iterable[Event]) -> int:
    """Bytes that GroupNorms read for their statistics: as many as their results have, the first that each makes."""
    total = 0
    # (path, bytes of the first tensor, whether a module lies inside)
    stack: list[tuple[str, int, bool]] = []
    for event in events:
        if event.kind == ENTER:
            if stack:
                stack[-1] = (*stack[-1][:2], True)
            stack.append((event.path, 0, False))
        elif event.kind == ALLOCATE and stack and not stack[-1][1]:
            stack[-1] = (stack[-1][0], event.value, stack[-1][2])
        elif event.kind == LEAVE and stack:
            path, first, has_parts = stack.pop()
            total += first if not has_parts and _is_group_norm(path) else 0
    return total


def _is_group_norm(path: str) -> bool:
    return _LAYER_NORMS not in path and _GROUP_NORM.fullmatch(path) is not None

"""Weights that a forward computes and leaves on the card, where nothing that moves weights knows of them.

``torch.nn.utils.weight_norm`` keeps a direction and a length as parameters, and the product of both in a plain
attribute, which is neither parameter nor buffer (torch 2.11, nn/utils/weight_norm.py): ``Module.to`` and hooks pass it
by, so that it lies where it was computed until the module's next forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import prod

from fitcheck.memory.allocator_blocks import device_block
from fitcheck.models.families.pipeline.architecture import AUDIO, Component
from fitcheck.models.families.pipeline.tables import entries
from fitcheck.runtimes.diffusers.activations import WIDTH
from fitcheck.runtimes.diffusers.stages import Stages

_DIRECTION = ".weight_v"


@lru_cache(maxsize=256)
def computed_bytes(component: Component, child: str) -> int:
    """Bytes on the card that the computed weights of a component's ``child`` take, of all of it where that is empty;
    of audio models, the only ones of the catalog that are made so."""
    if component.role != AUDIO or component.trace is None:
        return 0
    width = WIDTH[component.dtype]
    found = (one for one in entries(component.trace) if one.name.endswith(_DIRECTION))
    inside = (one for one in found if not child or one.name.startswith(f"{child}."))
    return sum(device_block(width * prod(one.shape)) for one in inside)


def left_by_calls(stages: Stages, *, later: bool) -> Iterator[int]:
    """Bytes of computed weights that lie beside each stage; in ``later`` pictures of a process those of the picture
    before as well. A call computes its own anew, one by one in the place of the last, and has them in its trace."""
    made = {
        (one.component.name, one.child): nbytes
        for one in stages
        if (nbytes := computed_bytes(one.component, one.child))
    }
    there = dict(made) if later else {}
    for stage in stages:
        own = (stage.component.name, stage.child)
        yield sum(nbytes for name, nbytes in there.items() if name != own)
        if own in made:
            there[own] = made[own]

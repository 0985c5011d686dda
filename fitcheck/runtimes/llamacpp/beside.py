"""What files beside the model's own take on each device: the projector, adapters, control vectors."""

from __future__ import annotations

import re
from functools import cache

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.models.companions import DRAFT, Companion
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.weight_placement import HOST, Devices
from fitcheck.units import format_gib

PROJECTOR = "projector"
_LAYER = re.compile(r"(?:blk|direction)\.(\d{1,4})(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Beside:
    """Bytes a card and on the host, how far the cards' may be off, and what to say of it."""

    cards: tuple[int, ...]
    host: int
    slack: tuple[int, ...]
    said: tuple[str, ...]


def beside_model(companions: tuple[Companion, ...], options: LlamaOptions, devices: Devices) -> Beside:
    """A projector lies on the first card whatever lies elsewhere, unless it is kept off cards, an adapter beside the
    layers that it changes."""
    if not companions:
        return _nothing(devices.cards)
    cards, slack, said = [0] * devices.cards, [0] * devices.cards, []
    host = 0
    for companion in companions:
        if companion.role == DRAFT:  # a model of its own, see drafting.py
            continue
        if companion.role != PROJECTOR:
            for tensor in companion.tensors:
                device = _device(tensor.name, devices)
                if device == HOST:
                    host += tensor.nbytes
                else:
                    cards[device] += tensor.nbytes
            continue
        if not options.projector:
            continue
        from fitcheck.runtimes.llamacpp.projector import projector_memory

        memory = projector_memory(companion, flash=options.flash)
        taken = memory.weights + (memory.compute or 0)
        first = options.main_gpu if options.split_mode == "none" else min(len(options.workers), len(cards) - 1)
        if cards and not options.projector_on_host:
            cards[first] += taken
            slack[first] += round((memory.compute or 0) * _slack(companion.kind))
        else:
            host += taken
        unknown = "" if memory.compute is not None else ", its compute buffer not counted"
        said.append(f"with the projector beside the model ({format_gib(taken)}{unknown}); --no-mmproj leaves it out")
    return Beside(tuple(cards), host, tuple(slack), tuple(said))


@cache
def _nothing(cards: int) -> Beside:
    return Beside((0,) * cards, 0, (0,) * cards, ())


def _device(name: str, devices: Devices) -> int:
    """Where the layer of an adapter's tensor lies; the output's device for what belongs to none."""
    found = _LAYER.search(name)
    layer = int(found[1]) if found is not None else len(devices.layers)
    return devices.layers[layer] if layer < len(devices.layers) else devices.output


def _slack(kind: str) -> float:
    from fitcheck.runtimes.llamacpp.projector import kind_of

    share: float = load("runtimes.llamacpp", "llamacpp_overhead")[
        "compute_slack" if kind_of(kind).held else "compute_slack_unknown"
    ]
    return share

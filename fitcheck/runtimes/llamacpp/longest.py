"""The longest context that fits a machine, and the type of the cache for it."""

from __future__ import annotations

from fitcheck.memory.weighing import Verdict
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.flash import CacheTypes, readable
from fitcheck.runtimes.llamacpp.options import LEAST_CONTEXT
from fitcheck.runtimes.llamacpp.proposals import PlacementSearch, Proposal

LONG_CACHE_TYPES: tuple[CacheTypes, ...] = (("f16", "f16"), ("q8_0", "q8_0"), ("q4_0", "q4_0"))
CONTEXT_STEP = 1024
MOST_UNTRAINED = 1 << 17  # where the model does not say what it was trained on


def longest(search: PlacementSearch) -> list[Proposal]:
    """For each type of the cache the longest context that fits, the model's own at most: all on the cards where that
    is possible at all. A type is left out where one that loses less reaches as far."""
    asked = search.asked.cache_types
    types = (asked,) if asked else readable(LONG_CACHE_TYPES, flash=search.wanted.flash)
    found: list[Proposal] = []
    for keys, values in types[:1] if search.architecture.encoder else types:
        reached = _longest_of(search, search.wanted.with_(cache_type_k=keys, cache_type_v=values))
        if reached is not None and all(reached.options.context > one.options.context for one in found):
            found.append(reached)
            if reached.options.context >= _most_steps(search) * CONTEXT_STEP:
                break  # no type reaches further
    return found


def _most_steps(search: PlacementSearch) -> int:
    """The longest context that is looked at, in steps."""
    return max((search.architecture.context_length or MOST_UNTRAINED) // CONTEXT_STEP, 1)


def _longest_of(search: PlacementSearch, options: LlamaOptions) -> Proposal | None:
    """The longest context with these options, in steps; ``None`` where not even the shortest fits."""
    most = _most_steps(search)
    best = _fitting(search, options.with_(context=min(LEAST_CONTEXT, most * CONTEXT_STEP)))
    if best is None:
        return None
    layers = best.options.gpu_layers
    if layers is not None and layers > search.architecture.layers and not best.options.cpu_moe_layers:
        options = options.with_(gpu_layers=layers)
    longest_of_all = _fitting(search, options.with_(context=most * CONTEXT_STEP))
    if longest_of_all is not None:  # beside much system memory that is the usual case
        return longest_of_all
    low, high = best.options.context // CONTEXT_STEP, most
    while high - low > 1:
        middle = (low + high) // 2
        proposal = _fitting(search, options.with_(context=middle * CONTEXT_STEP))
        if proposal is None:
            high = middle
        else:
            low, best = middle, proposal
    return best


def _fitting(search: PlacementSearch, options: LlamaOptions) -> Proposal | None:
    """The best placement of exactly these options that fits: on the cards, or as asked."""
    best = search.best_with(options, ((options.cache_type_k, options.cache_type_v),))
    return best if best.level.verdict is Verdict.FITS else None

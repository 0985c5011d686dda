"""Layers that come with a module's forward and go after it, among what the call makes: from the trace, event by event.

The widest layer need not be there in the widest moment of a call, and copying streams keep segments of their own:
``apply_group_offloading`` makes a stream for each component (diffusers 0.42.1, hooks/group_offloading.py), and torch's
allocator hands what one stream gave back to that stream alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

from fitcheck.dataclass_later import dataclass
from fitcheck.memory import dequantization
from fitcheck.memory.caching_allocator import CachedBlock, CachingAllocator
from fitcheck.models.families.pipeline.architecture import Component
from fitcheck.runtimes.diffusers import packed
from fitcheck.runtimes.diffusers.activations import has_call
from fitcheck.runtimes.diffusers.lora import component_trace
from fitcheck.runtimes.diffusers.offloading import LEAF, Offload
from fitcheck.runtimes.diffusers.residency import Held, learns
from fitcheck.runtimes.diffusers.stages import is_upcast
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, WORKSPACE, Event, rounded
from fitcheck.runtimes.diffusers.weights import ModuleWeights

Sizes = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class LayersMoved:
    """Most bytes alive of a call's tensors and of the layers that are there with them, how far ``copies`` of
    convolutions rise above that, and bytes of the copying stream's segments (``pool``)."""

    peak: int
    copies: int
    pool: int


@dataclass(frozen=True, slots=True)
class Forwards:
    """A component's ``first`` forward, which brings each layer as it is entered, and the ``later`` ones, which bring
    the next ahead."""

    first: LayersMoved
    later: LayersMoved

    @property
    def widest(self) -> LayersMoved:
        """Of a first forward and those that follow."""
        return self.first if self.first.peak > self.later.peak else self.later

    @property
    def values(self) -> tuple[int, ...]:
        """As a pack has it."""
        return tuple(getattr(one, name) for one in (self.first, self.later) for name in LayersMoved.__slots__)


@lru_cache(maxsize=2048)
def forwards(component: Component, call: str, sizes: Sizes, weights: ModuleWeights) -> Forwards | None:
    """Both, packed where they are; ``None`` for a call that was not traced."""
    known = packed.moved(component, call, sizes, weights.scheme)
    if known is not None:
        return Forwards(LayersMoved(*known[:3]), LayersMoved(*known[3:]))
    return live_forwards(component, call, sizes, weights)


def live_forwards(component: Component, call: str, sizes: Sizes, weights: ModuleWeights) -> Forwards | None:
    """The same worked out from the trace."""
    found, given = component_trace(component), dict(sizes)
    if found is None or not has_call(found, call):
        return None
    events = list(found.call(call, given).events(given))
    width = 2 if is_upcast(component, call) else 1
    layers = {leaf.path: tuple(width * size for size in leaf.sizes) for leaf in weights.leaves}
    entered = [event.path for event in events if event.kind == ENTER and event.path in layers]
    watch = _Watch(layers, weights.linears)
    first = watch.forward(events, {})
    return Forwards(first, watch.forward(events, dict(pairwise(entered))))


def layers_moved(
    offload: Offload, found: Sequence[tuple[Held, ModuleWeights]]
) -> Iterator[tuple[LayersMoved | None, LayersMoved | None]]:
    """Of each stage its call with the layers that come and go one by one, in the first picture of a process and in
    later ones; ``None`` where that is not how weights move, or the call was not traced."""
    seen: set[str] = set()
    for held, weights in found:
        stage = held.stage
        both = None
        if (offload.level == LEAF or offload.empties) and not held.stays:
            both = forwards(stage.component, stage.call, tuple(sorted(stage.sizes.items())), weights)
        if both is None:
            yield None, None
            continue
        learned = both.widest if learns(offload, stage) else both.first
        knows = stage.count > 1 or stage.component.name in seen
        seen.add(stage.component.name)
        yield learned if knows else both.first, learned


class _Watch:
    """Forwards of one component, one after the other in one pool."""

    def __init__(self, layers: Mapping[str, Sequence[int]], linears: Mapping[str, tuple[str, int]]) -> None:
        self._layers, self._linears = layers, linears
        self._pool = CachingAllocator()
        self._there: dict[str, list[CachedBlock]] = {}

    def forward(self, events: Iterable[Event], ahead: Mapping[str, str]) -> LayersMoved:
        """One forward; of each layer the one that is brought ``ahead``."""
        alive: list[int] = []
        dense: dict[str, int] = {}
        live = top = highest = 0
        for event in events:
            if event.kind == ALLOCATE:
                alive.append(rounded(event.value))
                live += alive[-1]
            elif event.kind == FREE:
                live -= alive[event.value]
                continue
            elif event.kind == WORKSPACE:
                highest = max(highest, live + self._pool.allocated + rounded(event.value))
            elif event.kind == ENTER:
                self._bring(event.path)
                self._bring(ahead.get(event.path, ""))
                if event.path in self._linears:
                    kind, elements = self._linears[event.path]
                    cost = dequantization.cost(kind)
                    top = max(top, live + self._pool.allocated + round(cost.peak_bytes * elements))
                    dense[event.path] = rounded(round(cost.linear_bytes * elements))
                    live += dense[event.path]
            else:
                live -= dense.pop(event.path, 0)
                self._drop(event.path)
                continue
            top = max(top, live + self._pool.allocated)
        return LayersMoved(top, max(highest - top, 0), self._pool.peak_reserved)

    def _bring(self, path: str) -> None:
        if path in self._layers and path not in self._there:
            self._there[path] = [self._pool.allocate(size) for size in self._layers[path]]

    def _drop(self, path: str) -> None:
        for block in self._there.pop(path, ()):
            self._pool.release(block)

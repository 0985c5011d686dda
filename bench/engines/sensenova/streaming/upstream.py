"""Upstream's streaming: layers copied through torch's caching allocator, evicted by pointing back at the pinned copy.

Follows the behaviour of upstream's layer_offload.py: with ``prefetch`` 0 a layer is copied on the compute stream before
it runs; otherwise the next layers (wrapping around) are copied on a second stream, compute waits for each layer's event
and ``record_stream`` keeps freed blocks from being reused too early.
"""

from __future__ import annotations

from typing import Any

from bench.engines.sensenova.streaming.device import Accelerator, MemoryState
from bench.engines.sensenova.streaming.policy import (
    MovesPrefixWeights,
    StreamedLayer,
    StreamedTensor,
    StreamTraffic,
)
from fitcheck.models.families.sensenova.architecture import GENERATION, SHARED, UNDERSTANDING
from fitcheck.runtimes.sensenova.streaming import (
    FAST_HEADROOM,
    FAST_RESERVE,
    Stream,
    Streaming,
    fast_limit,
)

Groups = frozenset[str]
_ALL: Groups = frozenset((SHARED, UNDERSTANDING, GENERATION))


def may_stay(memory: MemoryState) -> bool:
    """Upstream's rule, asked after each layer: the activations still to come must fit under the limit and be free."""
    reclaimable = max(memory.reserved - memory.allocated, 0)
    enough_free = memory.free + reclaimable >= FAST_HEADROOM + FAST_RESERVE
    return memory.allocated + FAST_RESERVE <= fast_limit(memory.total) and enough_free


class UpstreamPolicy(MovesPrefixWeights):
    """Streams layers tensor by tensor, ``prefetch`` of them ahead; ``fast`` keeps generation layers while upstream's
    rule lets them stay. ``most_in_flight`` is the largest number of layers on the card at once."""

    def __init__(
        self,
        placement: Streaming,
        accelerator: Accelerator,
        layers: list[StreamedLayer],
        prefix_tensors: dict[str, StreamedTensor],
    ) -> None:
        self.traffic = StreamTraffic(accelerator)
        self._placement, self._accelerator, self._layers = placement, accelerator, layers
        self._prefetch = min(placement.prefetch, len(layers) - 1)
        self._side = accelerator.stream() if self._prefetch else None
        self._events: dict[int, Any] = {}
        self._on_device: list[set[str]] = [set() for _ in layers]
        self._active: Groups | None = None
        self._kept: set[int] = set()
        self._take_prefix(prefix_tensors)
        self.most_in_flight = 0

    @property
    def resident_layers(self) -> int:
        """Those that the rule let stay when it was last asked."""
        return len(self._kept)

    def _groups(self, branch: str) -> Groups:
        return _ALL if self._placement.stream is Stream.LAYER else frozenset((SHARED, branch))

    def before_layer(self, index: int, branch: str) -> None:
        """Copies the layer, or waits for its prefetched copy and queues the next ones, wrapping around."""
        groups = self._groups(branch)
        compute = self._accelerator.compute_stream()
        if not self._prefetch:
            with self.traffic.blocking(compute):
                self._move_in(index, groups, non_blocking=True)
            self._count_in_flight()
            return
        self._switch(groups)
        event = self._events.pop(index, None)
        if event is not None:
            with self.traffic.waiting(compute):
                compute.wait_event(event)
        if not groups <= self._on_device[index]:
            with self.traffic.blocking(compute):
                self._move_in(index, groups, non_blocking=False)
        for group in groups:
            for streamed in self._layers[index].groups[group]:
                if streamed.device is not None:
                    self._accelerator.record_stream(streamed.device)
        for ahead in range(1, self._prefetch + 1):
            self._prefetch_layer((index + ahead) % len(self._layers), groups)
        self._count_in_flight()

    def after_layer(self, index: int, branch: str) -> None:
        """Points the layer back at its host copies; generation layers stay while ``may_stay`` says so."""
        groups = self._groups(branch)
        if self._placement.keep_generation and GENERATION in groups:
            if may_stay(self._accelerator.memory()):
                self._kept.add(index)
                groups = groups - {GENERATION}
            else:
                self._kept.discard(index)
        self._evict(index, groups)

    def _move_in(self, index: int, groups: Groups, non_blocking: bool) -> None:
        layer = self._layers[index]
        for group in groups - self._on_device[index]:
            for streamed in layer.groups[group]:
                streamed.on_device(self._accelerator.upload(streamed.host, non_blocking))
                self.traffic.add(streamed.nbytes)
            self._on_device[index].add(group)

    def _prefetch_layer(self, index: int, groups: Groups) -> None:
        if groups <= self._on_device[index] or index in self._events:
            return
        with self._accelerator.on(self._side):
            with self.traffic.copying(self._side):
                self._move_in(index, groups, non_blocking=True)
            event = self._accelerator.event()
            event.record(self._side)
        self._events[index] = event

    def _evict(self, index: int, groups: Groups) -> None:
        for group in groups & self._on_device[index]:
            for streamed in self._layers[index].groups[group]:
                streamed.on_host()
        self._on_device[index] -= groups

    def _evict_all(self) -> None:
        self._accelerator.synchronize()
        self._events.clear()
        for index in range(len(self._layers)):
            self._evict(index, _ALL)
        self._kept.clear()

    def _switch(self, groups: Groups) -> None:
        """A change of branch drains the second stream and evicts everything."""
        if self._active is not None and self._active != groups:
            self._evict_all()
        self._active = groups

    def _count_in_flight(self) -> None:
        held = sum(1 for index, groups in enumerate(self._on_device) if groups - {SHARED} and index not in self._kept)
        self.most_in_flight = max(self.most_in_flight, held)

    def close(self) -> None:
        """Evicts all layers, embedding and head, and lets the side stream go."""
        self._evict_all()
        self._prefix.all_out()
        self._side = None

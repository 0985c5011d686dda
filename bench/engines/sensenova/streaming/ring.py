"""Our streaming: a ring of preallocated device slots, each written by one large copy and reused in turn.

One host buffer holds a whole streamed unit (one branch of a layer, or the layer), so a unit is one memcpy; device
memory for weights is fixed up front, so torch reserves what it allocates. A slot is rewritten only after the work that
reads it: the copy stream waits for an event that the compute stream records after the layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.engines.sensenova.streaming.device import Accelerator
from bench.engines.sensenova.streaming.policy import MovesPrefixWeights, StreamedTensor, StreamTraffic
from fitcheck.models.families.sensenova.architecture import GENERATION
from fitcheck.runtimes.sensenova.streaming import (
    FAST_HEADROOM,
    FAST_RESERVE,
    Stream,
    Streaming,
    fast_limit,
)

ALIGNMENT = 512
Unit = tuple[int, str]


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where one tensor lies in its unit's buffer."""

    offset: int
    nbytes: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def of(self, buffer: Tensor) -> Tensor:
        """A view of the tensor's bytes in ``buffer`` (uint8), with its dtype and shape."""
        return buffer[self.offset : self.offset + self.nbytes].view(self.dtype).view(self.shape)


@dataclass(slots=True)
class StreamedUnit:
    """What is copied at once: a host buffer and the tensors that lie in it, pointed at it or at a slot."""

    host: Tensor
    tensors: list[Tensor]
    layout: tuple[TensorPlace, ...]
    at: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the host buffer, which one copy moves."""
        return self.host.numel()

    def attach(self, slot: Slot) -> None:
        """Point the tensors at ``slot``. A unit mostly comes back to its last slot, and then nothing is to be done: new
        views and pointers cost the host microseconds each, and with quantized tiers the card waits for the host."""
        if self.at is not slot.buffer:
            self.at = slot.buffer
            for tensor, view in zip(self.tensors, slot.views_of(self.layout), strict=True):
                tensor.data = view

    def detach(self) -> None:
        """Point the tensors at the host buffer, so that nothing but its owner holds a slot's memory."""
        if self.at is not None:
            self.at = None
            for tensor, place in zip(self.tensors, self.layout, strict=True):
                tensor.data = place.of(self.host)


@dataclass(slots=True)
class Slot:
    """Device memory for one unit at a time. ``ready`` is recorded when its bytes have come, ``free`` when they were
    read."""

    buffer: Tensor
    ready: Any
    free: Any
    unit: Unit | None = None
    views: dict[tuple[TensorPlace, ...], list[Tensor]] = field(default_factory=dict)

    def views_of(self, layout: tuple[TensorPlace, ...]) -> list[Tensor]:
        """The slot's bytes as the tensors of ``layout``, made once for each layout."""
        if layout not in self.views:
            self.views[layout] = [place.of(self.buffer) for place in layout]
        return self.views[layout]


def resident_count(allocated: int, free: int, total: int, unit_bytes: int, layers: int) -> int:
    """How many generation layers of ``unit_bytes`` may stay by upstream's rule for ``fast``, decided up front.

    ``free`` counts what the driver has and what torch could give back; bytes throughout.
    """
    under_limit = fast_limit(total) - FAST_RESERVE - allocated
    spare = free - FAST_HEADROOM - FAST_RESERVE
    return max(0, min(layers, under_limit // unit_bytes, spare // unit_bytes))


def spread(layers: int, streamed: int) -> list[int]:
    """``streamed`` of ``layers`` indices, evenly apart, so that copies overlap the work of the layers between them."""
    return [index * layers // streamed for index in range(streamed)]


class RingPolicy(MovesPrefixWeights):
    """Streams units through ``prefetch`` + 1 slots of the largest unit's size; ``fast`` keeps some layers in slots of
    their own. ``most_in_flight`` is the largest number of slots that were filled at once."""

    def __init__(
        self,
        placement: Streaming,
        accelerator: Accelerator,
        units: dict[Unit, StreamedUnit],
        layers: int,
        prefix_tensors: dict[str, StreamedTensor],
    ) -> None:
        self.traffic = StreamTraffic(accelerator)
        self._placement, self._accelerator, self._units, self._layers = placement, accelerator, units, layers
        self._prefetch = min(placement.prefetch, layers - 1)
        self._side = accelerator.stream() if self._prefetch else accelerator.compute_stream()
        self._slot_bytes = max(unit.nbytes for unit in units.values())
        self._slots: list[Slot] = []
        self._make_slots()
        self._where: dict[Unit, Slot] = {}
        self._resident: dict[Unit, Slot] = {}
        self._branch: str | None = None
        self._order: list[int] = list(range(layers))
        self._take_prefix(prefix_tensors)
        self.most_in_flight = 0

    def _make_slots(self) -> None:
        if not self._slots:
            self._slots = [self._new_slot(self._slot_bytes) for _ in range(self._prefetch + 1)]
            self._next_slot = 0

    def _drop_slots(self) -> None:
        for unit in self._units.values():
            unit.detach()
        self._slots.clear()

    def _new_slot(self, nbytes: int) -> Slot:
        buffer = torch.empty(nbytes, dtype=torch.uint8, device=self._accelerator.device)
        slot = Slot(buffer, self._accelerator.event(), self._accelerator.event())
        # the block may still be read by work queued before it was freed and handed to us
        slot.free.record(self._accelerator.compute_stream())
        return slot

    @property
    def resident_layers(self) -> int:
        """Chosen when denoising begins; 0 before it and after the next prefix began."""
        return len(self._resident)

    def phase(self, name: str) -> None:
        """A new prefix frees the layers kept for the last image."""
        if name == "prefix":  # a next image: what was kept for the last one leaves before embedding and head come
            self._release_residents()
        super().phase(name)

    def _unit(self, index: int, branch: str) -> Unit:
        return (index, "layer" if self._placement.stream is Stream.LAYER else branch)

    def before_layer(self, index: int, branch: str) -> None:
        """Computation waits for the unit's copy, and copies of the next ones are queued. Raises RuntimeError when a
        slot would be overwritten before its unit ran."""
        if branch != self._branch:
            self._switch(branch)
        unit = self._unit(index, branch)
        slot = self._where.get(unit) or self._load(unit)
        compute = self._accelerator.compute_stream()
        with self.traffic.waiting(compute):
            compute.wait_event(slot.ready)
        self._units[unit].attach(slot)
        for ahead in self._upcoming(index):
            if self._unit(ahead, branch) not in self._where:
                self._load(self._unit(ahead, branch))
        self.most_in_flight = max(self.most_in_flight, sum(slot.unit is not None for slot in self._slots))

    def after_layer(self, index: int, branch: str) -> None:
        """Hands the slot back once the work queued so far is done; residents keep theirs."""
        unit = self._unit(index, branch)
        if unit in self._resident:
            return
        slot = self._where.pop(unit)
        slot.free.record(self._accelerator.compute_stream())
        slot.unit = None

    def _upcoming(self, index: int) -> list[int]:
        """Layers whose weights have to be on their way while ``index`` runs: residents once, streamed ones in turn."""
        if not self._prefetch:
            return []
        near = [(index + ahead) % self._layers for ahead in range(1, self._prefetch + 1)]
        residents = [layer for layer in near if self._unit(layer, GENERATION) in self._resident]
        count, own = len(self._order), int(index in self._order)
        start = next((at for at, layer in enumerate(self._order) if layer > index), 0)
        room = min(len(self._slots), count) - own
        return residents + [self._order[(start + at) % count] for at in range(room)]

    def _load(self, unit: Unit) -> Slot:
        slot = self._resident.get(unit)
        if slot is None:
            slot = self._slots[self._next_slot]
            self._next_slot = (self._next_slot + 1) % len(self._slots)
        if slot.unit is not None:
            raise RuntimeError(f"ring: {unit} would overwrite {slot.unit}, which has not run yet")
        streamed = self._units[unit]
        timed = self.traffic.copying if self._prefetch else self.traffic.blocking
        with self._accelerator.on(self._side):
            self._side.wait_event(slot.free)
            with timed(self._side):
                self._accelerator.copy(slot.buffer[: streamed.nbytes], streamed.host)
            slot.ready.record(self._side)
        slot.unit = unit
        self._where[unit] = slot
        self.traffic.add(streamed.nbytes)
        return slot

    def _switch(self, branch: str) -> None:
        """Forget weights prefetched for the other branch; the copy stream's own order protects their slots."""
        if self._placement.stream is Stream.BRANCH:
            for unit in list(self._where):
                self._where.pop(unit).unit = None
            self._release_residents()
            if branch == GENERATION and self._placement.keep_generation:
                self._choose_residents()
        self._branch = branch

    def _choose_residents(self) -> None:
        self._accelerator.synchronize()
        memory = self._accelerator.memory()
        slots, free = len(self._slots) * self._slot_bytes, memory.free + max(memory.reserved - memory.allocated, 0)

        def fitting(given_up: int) -> int:
            allocated = memory.allocated - given_up
            return resident_count(allocated, free + given_up, memory.total, self._slot_bytes, self._layers)

        if fitting(slots) == self._layers:  # nothing is left to stream, so the ring's own memory is not needed
            self._order = []
            self._drop_slots()
        else:
            self._order = spread(self._layers, self._layers - fitting(0))
        for index in sorted(set(range(self._layers)) - set(self._order)):
            unit = (index, GENERATION)
            self._resident[unit] = self._new_slot(self._units[unit].nbytes)

    def _release_residents(self) -> None:
        if self._resident:
            self._accelerator.synchronize()
            for unit in self._resident:
                self._where.pop(unit, None)
        for unit in self._resident:
            self._units[unit].detach()
        self._resident.clear()
        self._order = list(range(self._layers))
        self._make_slots()

    def close(self) -> None:
        """Waits for the device, then frees residents and ring; embedding and head go back to the host."""
        self._accelerator.synchronize()
        self._where.clear()
        self._release_residents()
        self._prefix.all_out()
        self._drop_slots()

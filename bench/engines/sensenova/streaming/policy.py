"""What the model asks of a streaming policy, the tensors a policy moves, and the policy that moves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from bench.engines.sensenova.streaming.device import Accelerator
from fitcheck.models.families.sensenova.architecture import GENERATION, SHARED, UNDERSTANDING
from fitcheck.runtimes.sensenova.streaming import PrefixWeights, Streaming


class StreamTraffic:
    """Weight bytes copied from host to device, the number of copies, and their time.

    ``copy_seconds`` is how long copies ran, the gaps between the tensors of one layer included; ``wait_seconds`` how
    long queued work stood still for them. Both count what ``settle`` has seen, and stay 0 while ``timed`` is off.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self._accelerator = accelerator
        self.timed = False
        self.streamed_bytes = 0
        self.copies = 0
        self.copy_seconds = 0.0
        self.wait_seconds = 0.0
        self._copying: list[tuple[Any, Any]] = []
        self._waiting: list[tuple[Any, Any]] = []

    def add(self, count: int) -> None:
        """Counts one copy of ``count`` bytes."""
        self.streamed_bytes += count
        self.copies += 1

    def copying(self, stream: Any) -> AbstractContextManager[None]:
        """Around copies queued on ``stream`` beside the computation."""
        return self._span(stream, self._copying)

    def waiting(self, stream: Any) -> AbstractContextManager[None]:
        """Around the wait of the computation on ``stream`` for weights that are on their way."""
        return self._span(stream, self._waiting)

    def blocking(self, stream: Any) -> AbstractContextManager[None]:
        """Around copies queued on the computation's own ``stream``: they run and hold it up at once."""
        return self._span(stream, self._copying, self._waiting)

    def _span(self, stream: Any, *spans: list[tuple[Any, Any]]) -> AbstractContextManager[None]:
        return self._timed_span(stream, spans) if self.timed else nullcontext()

    @contextmanager
    def _timed_span(self, stream: Any, spans: tuple[list[tuple[Any, Any]], ...]) -> Iterator[None]:
        assert self._accelerator is not None
        begin, end = self._accelerator.timer(), self._accelerator.timer()
        begin.record(stream)
        yield
        end.record(stream)
        for kept in spans:
            kept.append((begin, end))

    def settle(self) -> None:
        """Add up what was timed since the last call. The device must be idle."""
        self.copy_seconds += _seconds(self._copying)
        self.wait_seconds += _seconds(self._waiting)
        self._copying.clear()
        self._waiting.clear()


def _seconds(spans: list[tuple[Any, Any]]) -> float:
    return float(sum(begin.elapsed_time(end) for begin, end in spans)) / 1000


class Policy(Protocol):
    """When weights come and go. The model calls it around each layer, embedding and head, in the order of the pass."""

    traffic: StreamTraffic

    @property
    def resident_layers(self) -> int:
        """Generation layers that stay on the card (mode ``fast``)."""

    def before_layer(self, index: int, branch: str) -> None:
        """On return the layer's weights of ``branch`` are usable by work queued from now on."""

    def after_layer(self, index: int, branch: str) -> None:
        """The layer's work has been queued; its weights may leave once that work is done."""

    def prefix_weights(self, name: str) -> AbstractContextManager[None]:
        """Around the forward of ``embed_tokens`` or ``lm_head``."""

    def phase(self, name: str) -> None:
        """ "prefix" or "denoise", announced by the tasks whose upstream code announces it."""

    def close(self) -> None:
        """Gives back the device memory that the policy holds; it cannot run again."""


class AlwaysResident:
    """Everything is on the card: mode ``full``."""

    def __init__(self) -> None:
        self.traffic = StreamTraffic()
        self.resident_layers = 0

    def before_layer(self, index: int, branch: str) -> None:
        """Nothing to bring: the weights are on the card."""

    def after_layer(self, index: int, branch: str) -> None:
        """Nothing to take away."""

    def prefix_weights(self, name: str) -> AbstractContextManager[None]:
        """A block that changes nothing: embedding and head are on the card."""
        return nullcontext()

    def phase(self, name: str) -> None:
        """Nothing changes between phases."""

    def close(self) -> None:
        """Nothing to give back: the weights go with the model."""


@dataclass(slots=True)
class StreamedTensor:
    """A parameter or buffer of a layer with its copy in host memory, and in device memory while it is there."""

    tensor: Tensor
    host: Tensor
    device: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the host copy, which are what a copy to the card moves."""
        return self.host.numel() * self.host.element_size()

    def on_host(self) -> None:
        """Point at the host copy and let the device memory go."""
        self.tensor.data = self.host
        self.device = None

    def on_device(self, data: Tensor) -> None:
        """Point at ``data``, device memory with the same bytes."""
        self.tensor.data = data
        self.device = data


@dataclass(slots=True)
class StreamedLayer:
    """One decoder layer's tensors by group: "understanding", "generation" and what both share (rotary frequencies)."""

    groups: dict[str, list[StreamedTensor]] = field(
        default_factory=lambda: {UNDERSTANDING: [], GENERATION: [], SHARED: []}
    )


class PrefixStore:
    """``embed_tokens`` and ``lm_head`` with pinned host copies, moved in and out as a whole. Empty when they stay."""

    def __init__(self, accelerator: Accelerator, traffic: StreamTraffic) -> None:
        self._accelerator, self._traffic = accelerator, traffic
        self._tensors: dict[str, StreamedTensor] = {}
        self._inside: set[str] = set()

    def add(self, name: str, tensor: StreamedTensor) -> None:
        """Take over the tensor, to be moved under ``name``."""
        self._tensors[name] = tensor

    def move_in(self, name: str) -> None:
        """Copies the tensor to the card on the compute stream; nothing where it is there already."""
        streamed = self._tensors[name]
        if name in self._inside:
            return
        with self._traffic.blocking(self._accelerator.compute_stream()):
            streamed.on_device(self._accelerator.upload(streamed.host, True))
        self._traffic.add(streamed.nbytes)
        self._inside.add(name)

    def move_out(self, name: str) -> None:
        """Points the tensor back at its host copy, whether or not it was on the card."""
        self._tensors[name].on_host()
        self._inside.discard(name)

    def all_in(self) -> None:
        """Copies what is not on the card yet."""
        for name in self._tensors:
            self.move_in(name)

    def all_out(self) -> None:
        """Waits for the device first, so that no work still reads what leaves."""
        if self._tensors:
            self._accelerator.synchronize()
        for name in self._tensors:
            self.move_out(name)


@contextmanager
def moved_in(store: PrefixStore, name: str) -> Iterator[None]:
    """The tensor is on the card inside the block and nowhere else."""
    store.move_in(name)
    try:
        yield
    finally:
        store.move_out(name)


class MovesPrefixWeights:
    """When embedding and head come and go is the same under every streaming policy: the placement says it."""

    traffic: StreamTraffic
    _placement: Streaming
    _accelerator: Accelerator
    _prefix: PrefixStore

    def _take_prefix(self, tensors: dict[str, StreamedTensor]) -> None:
        """Embedding and head for the placement to move; they start on the card where only the prefix needs them."""
        self._prefix = PrefixStore(self._accelerator, self.traffic)
        for name, tensor in tensors.items():
            self._prefix.add(name, tensor)
        if self._placement.prefix_weights is PrefixWeights.PREFIX_PHASE:
            self._prefix.all_in()

    def prefix_weights(self, name: str) -> AbstractContextManager[None]:
        """Moves the tensor in for the block alone where the placement says ``OWN_FORWARD``."""
        if self._placement.prefix_weights is PrefixWeights.OWN_FORWARD:
            return moved_in(self._prefix, name)
        return nullcontext()

    def phase(self, name: str) -> None:
        """Both are on the card for "prefix" and off it for "denoise" where the placement says ``PREFIX_PHASE``."""
        if self._placement.prefix_weights is PrefixWeights.PREFIX_PHASE:
            if name == "prefix":
                self._prefix.all_in()
            else:
                self._prefix.all_out()

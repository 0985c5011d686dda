"""A card whose streams run as late as their waits allow: what a missing event would break, breaks here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.engines.sensenova.streaming.device import MemoryState

POISON = 255


@dataclass(eq=False)
class Stream:
    name: str
    card: LazyCard
    queued: list[tuple[str, Any]] = field(default_factory=list)
    done: int = 0

    def wait_event(self, event: Event) -> None:
        if event.marks:
            self.queued.append(("wait", event.marks[-1]))


class Event:
    def __init__(self, card: LazyCard) -> None:
        self.card = card
        self.marks: list[tuple[Stream, int]] = []

    def record(self, stream: Stream | None = None) -> None:
        where = stream or self.card.current
        self.marks.append((where, len(where.queued)))

    def elapsed_time(self, end: Event) -> float:
        return 0.0


class LazyCard:
    """An Accelerator whose copies are only queued. ``run`` works the queues off, the stream ``first`` as far as it may
    go before the others; ``reads`` that saw other bytes than they should are counted in ``wrong``."""

    device = torch.device("cpu")

    def __init__(self, first: str) -> None:
        self.streams: list[Stream] = []
        self.compute = self._stream("compute")
        self.current = self.compute
        self.first = first
        self.log: list[tuple[str, ...]] = []
        self.recorded: set[int] = set()
        self.uploaded: dict[int, str] = {}
        self.kept: list[Tensor] = []
        self.synchronized = 0
        self.wrong: list[str] = []
        self.answer = MemoryState(0, 0, 1 << 40, 1 << 40)

    def _stream(self, name: str) -> Stream:
        self.streams.append(Stream(name, self))
        return self.streams[-1]

    def stream(self) -> Stream:
        return self._stream("side")

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def event(self) -> Event:
        return Event(self)

    timer = event

    def compute_stream(self) -> Stream:
        return self.current

    def upload(self, host: Tensor, non_blocking: bool) -> Tensor:
        new = torch.full_like(host, POISON)
        self.kept.append(new)  # no address is used twice, so that an address names one upload
        self.uploaded[new.data_ptr()] = self.current.name
        self.log.append(("upload", self.current.name, "queued" if non_blocking else "waits"))
        self.copy(new, host)
        return new

    def copy(self, destination: Tensor, host: Tensor) -> None:
        self.current.queued.append(("run", lambda: destination.copy_(host)))

    def read(self, tensor: Tensor, expected: int, what: str) -> None:
        """Queues a computation that reads ``tensor`` where it lies now."""
        seen = tensor.data

        def look() -> None:
            if seen.tolist() != [expected] * seen.numel():
                self.wrong.append(f"{what}: {seen.tolist()[0]} instead of {expected}")

        self.compute.queued.append(("run", look))

    def record_stream(self, tensor: Tensor) -> None:
        self.recorded.add(tensor.data_ptr())

    def synchronize(self) -> None:
        self.synchronized += 1
        self.run()

    def run(self) -> None:
        order = sorted(self.streams, key=lambda stream: stream.name != self.first)
        while any(_step(stream) for stream in order):
            pass
        assert all(stream.done == len(stream.queued) for stream in self.streams), "a wait that nothing ends"

    def pinned(self, nbytes: int) -> Tensor:
        raise NotImplementedError

    host_buffer = pinned

    def register(self, buffer: Tensor) -> None: ...

    unregister = register

    def memory(self) -> MemoryState:
        return self.answer


def _step(stream: Stream) -> bool:
    if stream.done == len(stream.queued):
        return False
    kind, what = stream.queued[stream.done]
    if kind == "wait":
        other, mark = what
        if other.done < mark:
            return False
    else:
        work: Callable[[], object] = what
        work()
    stream.done += 1
    return True

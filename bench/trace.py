"""Live device bytes of a run on meta tensors, by phase: the peak without the memory and without a card.

Every new storage is counted until it dies, rounded as torch's CUDA allocator rounds. What no operator hands out is not
seen: workspaces of cuDNN and, apart from a constant, of cuBLAS.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# torch's CUDA caching allocator hands out multiples of 512 bytes (c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize)
_BLOCK = 512


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts bytes of live meta storages that operators make; ``peaks`` keeps each phase's highest count."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peaks: dict[str, int] = {}
        self._open: list[str] = []
        self._storages: dict[int, weakref.ref[Any]] = {}
        self._host: list[torch.Tensor] = []
        self._ignored: set[int] = set()
        self._counting = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "meta":
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if not self._counting or key in self._storages or key in self._ignored:
            return
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK

        def died(_: object) -> None:
            self.live -= size
            del self._storages[key]

        self._storages[key] = weakref.ref(storage, died)
        self.live += size
        for name in self._open:
            self.peaks[name] = max(self.peaks[name], self.live)

    def host(self, nbytes: int) -> torch.Tensor:
        """Memory that stands for the host: it is never counted."""
        self._counting = False
        tensor = torch.empty(nbytes, dtype=torch.uint8, device="meta")
        self._counting = True
        self._ignored.add(tensor.untyped_storage()._cdata)
        self._host.append(tensor)  # kept, or its storage's address could come back as a counted one
        return tensor

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Around one phase: what lives when it begins counts, and a phase entered again keeps the higher peak."""
        self.peaks[name] = max(self.peaks.get(name, 0), self.live)
        self._open.append(name)
        try:
            yield
        finally:
            self._open.remove(name)

    def step(self, seconds: float) -> None:
        """Nothing to note: no time passes on meta tensors."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

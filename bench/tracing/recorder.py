"""Every allocation and free of a forward on fake tensors, with the modules around them, its FLOPs and bytes moved.

Fake tensors on a fake CPU take the operators that a CPU would, which allocate as the CUDA operators do except for
workspaces (cuDNN's, cuBLAS's) and what fused attention keeps beside its output.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from bench.tracing.values import Values

ALLOCATE, FREE, ENTER, LEAVE, WORKSPACE = "+", "-", "in", "out", "w"
_CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten.cudnn_convolution, torch.ops.aten.mkldnn_convolution)


@dataclass(slots=True)
class Recording:
    """``events``: (``+``, bytes), (``-``, number of the allocation), (``in`` or ``out``, module path), in order; and
    (``w``, bytes), what a convolution needs for a moment beside what is there.

    ``flops`` and ``moved`` (bytes read and written) by position in ``events``: work done just before that event.
    ``inputs`` are bytes handed in, ``outputs`` those of the results, ``kept`` the numbers of allocations that are there
    at the end and no results.
    """

    events: list[tuple[str, Any]] = field(default_factory=list)
    work: list[tuple[int, int, int]] = field(default_factory=list)
    inputs: int = 0
    outputs: int = 0
    kept: tuple[int, ...] = ()

    @property
    def flops(self) -> int:
        """Floating point operations of everything recorded."""
        return sum(flops for _, flops, _ in self.work)

    @property
    def moved(self) -> int:
        """Bytes read and written by everything recorded."""
        return sum(moved for _, _, moved in self.work)

    def peak(self) -> int:
        """Most bytes alive at once of what was allocated here, workspaces apart."""
        sizes: list[int] = []
        live = top = 0
        for kind, value in self.events:
            if kind == ALLOCATE:
                sizes.append(value)
                live += value
                top = max(top, live)
            elif kind == FREE:
                live -= sizes[value]
        return top


class Recorder(TorchDispatchMode):
    """Records what runs inside. ``known`` are tensors that were there before: weights, buffers and inputs; ``values``
    the small ones of them that Python may ask about, with their contents."""

    def __init__(self, known: Iterable[torch.Tensor], values: Iterable[tuple[torch.Tensor, torch.Tensor]] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recording = Recording()
        self._numbers: dict[int, weakref.ref[Any]] = {}
        self._alive: dict[int, int] = {}
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._open, self._made = True, 0
        self.values = Values()
        for fake, real in values:
            self.values.note(fake, real)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.values.masked(func, args):
            with self:
                args = self.values.numbered(args)
        if self.values.answers(func):
            result = self.values.asked(func, args, kwargs)
        else:
            result = func(*args, **kwargs)
            self.values.follow(func, args, kwargs, result)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        self._count(func, args, kwargs, result, inputs, outputs)
        for leaf in outputs:
            self._see(leaf)
        if func._overloadpacket is torch.ops.aten._safe_softmax:
            self._mask(outputs[0])
        if func._overloadpacket in _CONVOLUTIONS:
            self._workspace(inputs[0], inputs[1], outputs[0])
        return result

    def _workspace(self, *tensors: torch.Tensor) -> None:
        """cuDNN computes with channels last: input, weight and output of another order are copied. On an H100 the
        decoders of FLUX.1 (bf16) and SDXL (fp32) held to 0.3 % what this says, at 1024² and at twice and 1.5 times the
        side."""
        self.recording.events.append((WORKSPACE, sum(one.numel() * one.element_size() for one in tensors)))

    def _mask(self, scores: torch.Tensor) -> None:
        """The kernel looks for rows of minus infinity: a byte for each score while the result is there."""
        self.recording.events += [(ALLOCATE, scores.numel()), (FREE, self._made)]
        self._made += 1

    def _count(self, func: Any, args: Any, kwargs: Any, result: Any, inputs: list[Any], outputs: list[Any]) -> None:
        packet = func._overloadpacket
        flops = int(flop_registry[packet](*args, **kwargs, out_val=result)) if packet in flop_registry else 0
        shared = {leaf.untyped_storage()._cdata for leaf in inputs}
        views = all(leaf.untyped_storage()._cdata in shared for leaf in outputs) and not func._schema.is_mutable
        moved = 0 if views else sum(leaf.numel() * leaf.element_size() for leaf in inputs + outputs)
        if flops or moved:
            self.recording.work.append((len(self.recording.events), flops, moved))

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._numbers or key in self._known or not isinstance(tensor, FakeTensor):
            return
        number, self._made = self._made, self._made + 1
        self._numbers[key] = weakref.ref(storage, lambda _: self._died(key, number))
        self._alive[key] = number
        self.recording.events.append((ALLOCATE, storage.nbytes()))

    def _died(self, key: int, number: int) -> None:
        del self._numbers[key]
        if self._open:
            del self._alive[key]
        self.values.spoiled.discard(key)
        if self._open:
            self.recording.events.append((FREE, number))

    def close(self, results: Iterable[torch.Tensor] = ()) -> None:
        """What dies from now on is no part of the recording; what lives and is none of ``results`` was kept."""
        self._open = False
        handed = {one.untyped_storage()._cdata for one in results}
        self.recording.kept = tuple(sorted(number for key, number in self._alive.items() if key not in handed))

    @contextmanager
    def modules(self, root: nn.Module, name: str = "") -> Iterator[None]:
        """Enter and leave events of every module below ``root``, with its path; a module that shares an earlier one's
        parameter goes by that one's path, under which tables of tensors have it."""
        handles = []
        events = self.recording.events
        owners: dict[int, str] = {}
        for own, module in root.named_modules(prefix=name):
            path = own
            for parameter in module._parameters.values():
                path = owners.setdefault(id(parameter), own) if parameter is not None else path
            if not own:
                continue
            handles.append(module.register_forward_pre_hook(lambda *_, path=path: events.append((ENTER, path))))
            handles.append(module.register_forward_hook(lambda *_, path=path: events.append((LEAVE, path))))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

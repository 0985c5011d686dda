"""Values of small fake tensors, so that what a module decides by them runs on fake tensors too.

Masks, ids and positions are small: operators on known values are computed beside the fake ones, and what Python asks of
them (``item``, ``nonzero``, a mask as an index) is answered.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

# more would take time; hidden states that a module makes are no question's subject
_MOST, _MOST_FLOATS = 1 << 20, 1 << 12
_VALUE = "_known_value"
aten = torch.ops.aten
# operators whose result is a number, and those that its shape hangs on
_ASKED = (aten._local_scalar_dense, aten.equal, aten.is_nonzero)
_SHAPED = (aten.nonzero, aten.masked_select, aten.unique_consecutive, aten.unique_dim, aten._unique2, aten.bincount,
           aten.repeat_interleave)  # fmt: skip
_INDEXED = (aten.index, aten.index_put, aten.index_put_)
_NOT_COMPUTED = ("rand", "empty", "normal", "bernoulli", "attention")


class Numbers(TorchFunctionMode):
    """``torch.tensor`` of a list with known fake tensors in it, and ``numpy`` of a known one: torch would look for
    their storages."""

    def __init__(self, values: Values) -> None:
        super().__init__()
        self._values = values

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.tensor and args and isinstance(args[0], list):
            args = (tree_map(self._number, args[0]), *args[1:])
        if func is torch.Tensor.numpy and isinstance(args[0], FakeTensor):
            value = self._values.of(args[0])
            return args[0].numpy() if value is None else value.numpy()
        return func(*args, **(kwargs or {}))

    def _number(self, leaf: Any) -> Any:
        value = self._values.of(leaf) if isinstance(leaf, FakeTensor) else None
        return leaf if value is None else value.tolist()


class UnknownValue(Exception):
    """Asked for a value that was not followed."""


class Values:
    """Real values of fake tensors, kept on these; ``spoiled`` are storages into which something unknown was written."""

    def __init__(self) -> None:
        self.spoiled: set[int] = set()

    def note(self, fake: Any, real: torch.Tensor) -> None:
        """Remembers a value, if it is small enough to compute with."""
        if isinstance(fake, FakeTensor) and real.numel() <= _MOST:
            setattr(fake, _VALUE, real)

    def number(self, fake: torch.Tensor, below: int) -> None:
        """Takes the values to be 0, 1, … below that and over again."""
        with _disable_current_modes():
            self.note(fake, (torch.arange(fake.numel()) % below).reshape(fake.shape))

    def of(self, leaf: torch.Tensor) -> torch.Tensor | None:
        """The value of a tensor; ``None`` for an unknown one."""
        if not isinstance(leaf, FakeTensor):
            return leaf if _small(leaf) else None
        return None if leaf.untyped_storage()._cdata in self.spoiled else getattr(leaf, _VALUE, None)

    @staticmethod
    def answers(func: Any) -> bool:
        """Whether the operator's result depends on values."""
        return func._overloadpacket in _ASKED or func._overloadpacket in _SHAPED

    def asked(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of an operator that depends on values: a number, or fake tensors of the right shape. Raises
        UnknownValue."""
        real = self._computed(func, args, kwargs)
        if real is None:
            raise UnknownValue(f"{func} of a value that is not known")
        return tree_map(self._fake, real)

    @staticmethod
    def masked(func: Any, args: Any) -> bool:
        """Whether an index has masks in it."""
        return func._overloadpacket in _INDEXED and any(_is_mask(one) for one in args[1])

    @staticmethod
    def numbered(args: Any) -> Any:
        """Arguments of an index by masks as an index by numbers, which is what a card makes of it."""
        indices: list[Any] = []
        for one in args[1]:
            indices += list(aten.nonzero(one).unbind(1)) if _is_mask(one) else [one]
        return (args[0], indices, *args[2:])

    def follow(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Notes the values of an operator's results where those of its arguments are known."""
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        fits = all(_small(leaf) for leaf in outputs) and bool(outputs)
        real = self._computed(func, args, kwargs) if fits else None
        if real is None:
            if func._schema.is_mutable:
                written = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, FakeTensor)][:1]
                self.spoiled |= {leaf.untyped_storage()._cdata for leaf in written}
            return
        values = [leaf for leaf in tree_leaves(real) if isinstance(leaf, torch.Tensor)]
        for fake, value in zip(outputs, values, strict=True):
            self.note(fake, value)

    def _computed(self, func: Any, args: Any, kwargs: Any) -> Any:
        if any(word in func._schema.name for word in _NOT_COMPUTED):
            return None
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if any(self.of(one) is None for one in tensors):
            return None
        with _disable_current_modes():
            return func(*tree_map(self._real, args), **tree_map(self._real, kwargs))

    def _real(self, leaf: Any) -> Any:
        return self.of(leaf) if isinstance(leaf, torch.Tensor) else leaf

    def _fake(self, leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        fake = torch.empty(leaf.shape, dtype=leaf.dtype, device="cpu")
        self.note(fake, leaf)
        return fake


def _small(tensor: torch.Tensor) -> bool:
    return tensor.numel() <= (_MOST_FLOATS if tensor.is_floating_point() or tensor.is_complex() else _MOST)


def _is_mask(index: torch.Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)

"""Synthetic weights: templates of about N(0, 0.02), norms about 1, ggml blocks that dequantize to the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.engines.sensenova.weight_sources import block_template
from fitcheck.models.quant import TYPES

_ELEMENTS = 1 << 24
_BLOCKS = 1 << 17
_CHUNK = 1 << 28
_STD = 0.02


class Synthetic:
    """Makes tensors now and their contents in threads when ``finish`` is called."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generator = torch.Generator().manual_seed(seed)
        self._templates: dict[str, np.ndarray[Any, Any]] = {}
        self._waiting: list[Callable[[], None]] = []

    def dense(self, name: str, parameter: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """A tensor of that shape and dtype; a vector called weight is a norm's."""
        made = torch.empty(parameter.shape, dtype=dtype)
        norm = parameter.dim() == 1 and name.endswith("weight")
        key = f"{dtype}{'norm' if norm else ''}"
        if key not in self._templates:
            values = torch.randn(_ELEMENTS, generator=self._generator) * _STD + (1.0 if norm else 0.0)
            self._templates[key] = values.to(dtype).view(torch.uint8).numpy()
        self._later(name, made, self._templates[key], dtype.itemsize)
        return made

    def blocks(self, name: str, shape: tuple[int, ...], kind: str) -> torch.Tensor:
        """uint8 rows of ggml blocks for a matrix of ``shape``. Raises InputError for a type without a template."""
        quant = TYPES[kind]
        made = torch.empty((*shape[:-1], shape[-1] // quant.block * quant.block_bytes), dtype=torch.uint8)
        if kind not in self._templates:
            self._templates[kind] = block_template(kind, _BLOCKS, self._generator)
        self._later(name, made, self._templates[kind], quant.block_bytes)
        return made

    def _later(self, name: str, made: torch.Tensor, template: Any, step: int) -> None:
        target = made.view(-1).view(torch.uint8).numpy() if made.dim() else made.view(1).view(torch.uint8).numpy()
        digest = hashlib.sha256(f"{self._seed}\t{name}".encode()).digest()
        start = int.from_bytes(digest[:8], "big") % (template.size // step) * step
        for at in range(0, target.size, _CHUNK):
            part, first = target[at : at + _CHUNK], (start + at) % template.size
            self._waiting.append(lambda part=part, first=first: _copy(part, template, first))  # type: ignore[misc]

    def finish(self) -> None:
        """Writes everything that is waiting; re-raises a failure."""
        waiting, self._waiting = self._waiting, []
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for future in [pool.submit(job) for job in waiting]:
                future.result()


def _copy(target: Any, template: Any, start: int) -> None:
    done = 0
    while done < target.size:
        part = min(template.size - start, target.size - done)
        target[done : done + part] = template[start : start + part]
        done, start = done + part, 0


def quantize(module: nn.Module, types: dict[str, str], source: Synthetic, prefix: str, dtype: torch.dtype) -> None:
    """Replaces linears whose weight ``types`` names by diffusers' GGUFLinear with synthetic blocks."""
    import gguf
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter

    for name, kind in types.items():
        owner_name, _, leaf = name.removesuffix(".weight").rpartition(".")
        owner = module.get_submodule(owner_name)
        old = owner.get_submodule(leaf)
        if not isinstance(old, nn.Linear):
            raise TypeError(f"{name} is quantized and no linear layer's matrix")
        new = GGUFLinear(old.in_features, old.out_features, old.bias is not None, compute_dtype=dtype, device="meta")
        data = source.blocks(prefix + name, (old.out_features, old.in_features), kind)
        new.weight = GGUFParameter(data, quant_type=gguf.GGMLQuantizationType[kind])  # type: ignore[no-untyped-call]
        if old.bias is not None:
            new.bias = old.bias
        new.requires_grad_(False)
        owner.add_module(leaf, new)

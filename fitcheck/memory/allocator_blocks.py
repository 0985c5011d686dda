"""Bytes that torch really takes for one tensor: as stored on the card, in allocator blocks, pinned on the host."""

from __future__ import annotations

from functools import lru_cache
from math import prod

from fitcheck.models.quant import TYPES, tensor_bytes
from fitcheck.models.tensors import Tensor


def runtime_bytes(tensor: Tensor) -> int:
    """Bytes on the device: quantized blocks as stored, everything else as bfloat16.

    Upstream casts the loaded model to the compute dtype, which turns the F32 norms and convolutions of a GGUF file into
    bfloat16 and leaves packed blocks alone.
    """
    return _held(tensor.shape, tensor.type)


@lru_cache(maxsize=4096)
def _held(shape: tuple[int, ...], stored: str) -> int:
    """Thousands of tensors of a model have a few shapes."""
    kind = TYPES[stored]
    return tensor_bytes(shape, kind) if kind.quantized else 2 * prod(shape)


_SMALL, _LARGE, _SEGMENT = 1 << 20, 10 << 20, 2 << 20


def device_block(size: int) -> int:
    """Bytes that torch's caching allocator counts as allocated for one tensor of ``size`` bytes.

    Blocks are multiples of 512 bytes. From 10 MiB on a tensor gets a segment of its own, rounded up to 2 MiB, and what
    is left of it is split off only when that is more than 1 MiB (c10/cuda/CUDACachingAllocator.cpp: kMinLargeAlloc,
    kRoundLarge, should_split). A 13.1 MiB matrix so takes 14 MiB, which adds up over the hundreds of a GGUF file.
    """
    exact = -(-size // 512) * 512
    if size < _LARGE:
        return exact
    segment = -(-size // _SEGMENT) * _SEGMENT
    return segment if segment - exact <= _SMALL else exact


def pinned_block(size: int) -> int:
    """torch's pinned allocator rounds each block up to a power of two (CachingHostAllocator)."""
    return 1 << (size - 1).bit_length() if size > 1 else size

"""Every tensor's bytes, real or synthetic, written straight to where a policy keeps them.

Both sources hand out a tensor in the form that the runtime holds: ggml blocks for quantized matrices, bf16 for the rest
(upstream casts whatever a GGUF file stores as F32 or F16). Memory and time depend on shapes and types only, never on
the source.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fitcheck.errors import FileError, MeasurementError
from fitcheck.models.quant import TYPES
from fitcheck.models.tensors import Tensor, TensorTable

Bytes = NDArray[np.uint8]
_STD = 0.02
_TEMPLATE_ELEMENTS = 1 << 24
_TEMPLATE_BLOCKS = 1 << 17


@dataclass(frozen=True, slots=True)
class Blocks:
    """Where a ggml block keeps its f16 scale and, if it has one, its f16 offset; ``offset_ratio`` is offset / scale
    that centres uniformly random quants on zero."""

    scale_at: int
    offset_at: int | None = None
    offset_ratio: float = 0.0


# positions of d and dmin (or m) inside a block: ggml/src/ggml-common.h
SYNTHETIC_BLOCKS = {
    "Q4_0": Blocks(0),
    "Q5_0": Blocks(0),
    "Q8_0": Blocks(0),
    "Q4_1": Blocks(0, 2, -7.5),
    "Q5_1": Blocks(0, 2, -15.5),
    "Q2_K": Blocks(80, 82, 1.5),
    "Q4_K": Blocks(0, 2, 7.5),
    "Q5_K": Blocks(0, 2, 15.5),
    "Q6_K": Blocks(208),
}


def runtime_shape(tensor: Tensor) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and dtype in which the runtime holds a tensor: byte rows for quantized matrices, bf16 otherwise."""
    quant = tensor.quant
    if quant.quantized:
        return (*tensor.shape[:-1], tensor.shape[-1] // quant.block * quant.block_bytes), torch.uint8
    return tensor.shape, torch.bfloat16


def runtime_bytes(tensor: Tensor) -> int:
    """Bytes as the runtime holds the tensor: its blocks when quantized, else bf16."""
    return tensor.nbytes if tensor.quant.quantized else 2 * tensor.elements


class WeightSource(Protocol):
    """Where the bytes of weights come from; ``kind`` is what records call it: "real" or "synthetic"."""

    kind: str

    def read(self, tensor: Tensor, into: torch.Tensor) -> None:
        """Write the tensor's runtime bytes into uint8 host memory. Called from several threads."""


class SyntheticSource:
    """Random weights of about N(0, 0.02), norms about 1: a template a type, read from a start that the name decides."""

    kind = "synthetic"

    def __init__(self, table: Iterable[Tensor], seed: int) -> None:
        self.seed = seed
        generator = torch.Generator().manual_seed(seed)
        count = min(_TEMPLATE_ELEMENTS, max(tensor.elements for tensor in table))
        normal = torch.randn(count, generator=generator)
        self._templates = {
            "normal": _bytes_of((normal * _STD).bfloat16()),
            "norm": _bytes_of((normal * _STD + 1).bfloat16()),
        }
        for name in sorted({tensor.type for tensor in table if tensor.quant.quantized}):
            most = max(tensor.nbytes // tensor.quant.block_bytes for tensor in table if tensor.type == name)
            self._templates[name] = block_template(name, min(_TEMPLATE_BLOCKS, most), generator)

    def read(self, tensor: Tensor, into: torch.Tensor) -> None:
        """The same bytes for the same seed, name and type in every run."""
        target: Bytes = into.numpy()
        if tensor.quant.quantized:
            template, step = self._templates[tensor.type], tensor.quant.block_bytes
        else:
            template, step = self._templates["norm" if tensor.role == "norm" else "normal"], 2
        digest = hashlib.sha256(f"{self.seed}\t{tensor.name}".encode()).digest()
        start = int.from_bytes(digest[:8], "big") % (template.size // step) * step
        done = 0
        while done < target.size:
            part = min(template.size - start, target.size - done)
            target[done : done + part] = template[start : start + part]
            done, start = done + part, 0


def _bytes_of(values: torch.Tensor) -> Bytes:
    array: Bytes = values.contiguous().view(torch.uint8).numpy()
    return array


def block_template(name: str, count: int, generator: torch.Generator) -> Bytes:
    """``count`` random valid blocks of one type, scaled to a standard deviation of 0.02 once dequantized."""
    import gguf

    layout = SYNTHETIC_BLOCKS.get(name)
    if layout is None:
        raise MeasurementError(f"tier: no synthetic weights for the type {name}; give a real file with --gguf.")
    blocks = torch.randint(0, 256, (count, TYPES[name].block_bytes), dtype=torch.uint8, generator=generator).numpy()
    probe = 2.0**-6
    _set_scales(blocks, layout, probe)
    values = gguf.quants.dequantize(blocks[:2048], gguf.GGMLQuantizationType[name])
    _set_scales(blocks, layout, probe * _STD / float(values.std()))
    return blocks.reshape(-1)


def _set_scales(blocks: Bytes, layout: Blocks, scale: float) -> None:
    blocks[:, layout.scale_at : layout.scale_at + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    if layout.offset_at is not None:
        offset = np.float16(scale * layout.offset_ratio)
        blocks[:, layout.offset_at : layout.offset_at + 2] = np.frombuffer(offset.tobytes(), np.uint8)


class GgufSource:
    """A real file: tensors are read by position, a chunk at a time, so memory stays bounded."""

    kind = "real"
    _CHUNK = 1 << 24

    def __init__(self, path: Path, expected: TensorTable) -> None:
        import gguf

        from fitcheck.models.gguf import read_gguf

        # our reader judges the file first: the gguf package trusts what it reads
        header = read_gguf(path)
        if len(header.shards) > 1:
            raise FileError(f"{path}: the file is one of {len(header.shards)} shards; join them with gguf-split.")
        stored = {entry.name: entry for entry in header.tensors}
        missing = next((tensor.name for tensor in expected if tensor.name not in stored), None)
        if missing is not None:
            raise FileError(f"{path}: not this model's weights, it has no tensor {missing}; choose the right model.")
        for tensor in expected:
            if stored[tensor.name].shape != tensor.shape:
                raise FileError(
                    f"{path}: {tensor.name} has the shape {stored[tensor.name].shape} and this model needs "
                    f"{tensor.shape}; choose the model the file was made from."
                )
        self.table = TensorTable(
            Tensor(t.name, t.shape, stored[t.name].type, t.role, t.layer, t.branch) for t in expected
        )
        self._offsets = {str(entry.name): int(entry.data_offset) for entry in gguf.GGUFReader(path).tensors}
        self._file = os.open(path, os.O_RDONLY)
        self._path = path

    def close(self) -> None:
        """Closes the file; ``read`` fails after it."""
        os.close(self._file)

    def read(self, tensor: Tensor, into: torch.Tensor) -> None:
        """Blocks and bf16 as stored, F16, F32 and F64 cast to bf16. Raises FileError for other types."""
        offset = self._offsets[tensor.name]
        if tensor.quant.quantized or tensor.type == "BF16":
            self._fill(into.numpy(), offset)
            return
        source = {"F32": torch.float32, "F16": torch.float16, "F64": torch.float64}.get(tensor.type)
        if source is None:
            raise FileError(f"{self._path}: {tensor.name} is stored as {tensor.type}, which the runtime cannot load.")
        target = into.view(torch.bfloat16)
        width = source.itemsize
        step = self._CHUNK // width
        for start in range(0, tensor.elements, step):
            count = min(step, tensor.elements - start)
            chunk = np.empty(count * width, np.uint8)
            self._fill(chunk, offset + start * width)
            target[start : start + count] = torch.from_numpy(chunk).view(source)

    def _fill(self, into: Bytes, offset: int) -> None:
        view, done = memoryview(into.data), 0
        while done < len(view):
            count = os.preadv(self._file, [view[done : done + self._CHUNK]], offset + done)
            if count == 0:
                raise FileError(f"{self._path}: the file ends inside a tensor; download it again.")
            done += count


def fill(jobs: Iterable[Callable[[], None]], threads: int | None = None) -> None:
    """Run independent copies in threads; numpy and file reads release the interpreter lock. Re-raises a failure."""
    with ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1)) as pool:
        for future in [pool.submit(job) for job in jobs]:
            future.result()


def plain_linear(features: int, outputs: int) -> nn.Module:
    """A bias-free linear on the current default device; ``quantize_linears`` replaces those stored as blocks."""
    return nn.Linear(features, outputs, bias=False)


def quantize_linears(model: nn.Module, table: Iterable[Tensor]) -> int:
    """Replace linears with quantized weights by diffusers' GGUFLinear, as upstream's loader does; their number."""
    quantized = {tensor.name: tensor for tensor in table if tensor.quant.quantized}
    if not quantized:
        return 0
    import gguf
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter

    for name, tensor in quantized.items():
        owner_name, _, leaf = name.removesuffix(".weight").rpartition(".")
        owner = model.get_submodule(owner_name)
        old = owner.get_submodule(leaf)
        if not isinstance(old, nn.Linear):
            raise MeasurementError(
                f"tier: {name} is quantized and no linear layer's matrix, which the runtime cannot load."
            )
        sizes = (old.in_features, old.out_features, old.bias is not None)
        new = GGUFLinear(*sizes, compute_dtype=torch.bfloat16, device="meta")
        shape, dtype = runtime_shape(tensor)
        placeholder = torch.empty(shape, dtype=dtype, device="meta")
        kind = gguf.GGMLQuantizationType[tensor.type]
        new.weight = GGUFParameter(placeholder, quant_type=kind)  # type: ignore[no-untyped-call]
        new.requires_grad_(False)
        owner.add_module(leaf, new)
    return len(quantized)

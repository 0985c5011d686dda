"""Weights that llama.cpp lays out anew for the processor's matrix instructions, in buffers of their own.

Without a card, matrices of some types are copied when the file is loaded (llama.cpp's ``CPU_REPACK`` and ``AMX`` model
buffers; src/llama-model.cpp make_cpu_buft_list). Beside a card of CUDA's kind the pinned buffers come first in that
list, and nothing is copied. What is copied is never read from the file again: its pages stay in memory only as long as
nothing else wants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.compute import HOST_ALIGNMENT
from fitcheck.runtimes.llamacpp.remembered import remembered
from fitcheck.runtimes.llamacpp.weight_placement import WeightBuffers, tied_copy
from fitcheck.units import format_gib

# only looked up by row, never multiplied (src/llama-arch.cpp, GGML_OP_GET_ROWS)
_LOOKED_UP = ("token_embd.weight", "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight")


@dataclass(frozen=True, slots=True)
class Repacked:
    """Bytes with one instruction set: ``tiles`` is the AMX buffer, ``rows`` the CPU_REPACK one; ``again`` is what the
    copied tensors take in the file, ``span`` is the file from the first tensor that is not copied to the last."""

    name: str
    tiles: int
    rows: int
    again: int
    span: int

    @property
    def buffers(self) -> int:
        """Bytes of both buffers."""
        return self.tiles + self.rows


def repacked(architecture: LanguageArchitecture, tensors: TensorTable, predicts: bool) -> tuple[Repacked, ...]:
    """What each instruction set has copied of a file that lies on the host whole, the usual set first. ``predicts``
    says whether layers for multi-token prediction are loaded."""
    known = _known(tensors)
    if predicts not in known:
        loaded = _loaded(tensors, frozenset() if predicts else architecture.predicting)
        tied = tied_copy(architecture, tensors)
        known[predicts] = tuple(_with(name, loaded, tied) for name in _sets())
    return known[predicts]


def _loaded(tensors: TensorTable, left_out: frozenset[int]) -> list[tuple[Tensor, ...]]:
    """The tensors in the file's order but for layers ``left_out``, in parts; layers alike are the same part."""
    layered = tensors.layered
    if layered is None:
        return [tuple(tensor for tensor in tensors if tensor.layer not in left_out)]
    within = [one.tensors for index, one in enumerate(layered.layers) if index not in left_out]
    return [layered.outside, *within]


@remembered
def _known(tensors: TensorTable) -> dict[bool, tuple[Repacked, ...]]:
    """By whether prediction layers are loaded; a table is of one architecture."""
    return {}


@cache
def _data() -> dict[str, Any]:
    found: dict[str, Any] = load("runtimes.llamacpp", "repacked_types")
    return found


def _sets() -> list[str]:
    usual = _data()["usual"]
    return [usual, *(name for name in _data()["sets"] if name != usual)]


def _with(name: str, loaded: Sequence[tuple[Tensor, ...]], tied: Tensor | None) -> Repacked:
    tiles = rows = again = offset = 0
    left: list[int] = []
    alike: dict[int, _Part] = {}
    for part in loaded:
        if id(part) not in alike:
            alike[id(part)] = _part(name, part)
        in_tiles, in_rows, read_again, size, kept = alike[id(part)]
        tiles, rows, again = tiles + in_tiles, rows + in_rows, again + read_again
        left += [offset + one for one in kept]
        offset += size
    if tied is not None:
        in_tiles, in_rows = _copied(name, tied)
        tiles, rows = tiles + in_tiles, rows + in_rows
    return Repacked(name, tiles, rows, again, max(left) - min(left) if left else 0)


# bytes of tensors in a row: in tiles, in rows, of what is copied in the file and of all in the file; then where what is
# not copied begins and ends, where there is something
_Part = tuple[int, int, int, int, tuple[int, ...]]


def _part(name: str, tensors: Iterable[Tensor]) -> _Part:
    tiles = rows = again = offset = 0
    left: list[int] = []
    for tensor in tensors:
        size = -(-tensor.nbytes // HOST_ALIGNMENT) * HOST_ALIGNMENT
        in_tiles, in_rows = (0, 0) if tensor.name in _LOOKED_UP else _copied(name, tensor)
        tiles, rows = tiles + in_tiles, rows + in_rows
        if in_tiles or in_rows:
            again += size
        else:
            left += [offset, offset + size]
        offset += size
    return tiles, rows, again, offset, (left[0], left[-1]) if left else ()


def _copied(name: str, tensor: Tensor) -> tuple[int, int]:
    """(bytes in the AMX buffer, bytes in the CPU_REPACK one) of a tensor, at most one of which is not nothing."""
    kinds = _data()["sets"][name]
    if len(tensor.shape) < 2 or not tensor.name.endswith(".weight"):
        return 0, 0
    height, width = tensor.shape[-2:]
    column = kinds.get("tiles", {}).get(tensor.type)
    if column and len(tensor.shape) == 2 and height % _data()["tile_rows"] == 0 and width % column == 0:
        extra = tensor.elements // tensor.quant.block * _data()["tile_extra"].get(tensor.type, 0)
        return -(-(tensor.nbytes + extra) // HOST_ALIGNMENT) * HOST_ALIGNMENT, 0
    multiple = kinds["repack"].get(tensor.type)
    multiplied = len(tensor.shape) == 2 or tensor.role == "expert"
    if multiple is None or not multiplied or height % multiple:
        return 0, 0
    return 0, -(-tensor.nbytes // HOST_ALIGNMENT) * HOST_ALIGNMENT


def host_weights(copied: tuple[Repacked, ...], weights: WeightBuffers, options: LlamaOptions) -> int:
    """Bytes of the host's model buffers as they are printed, with the usual instruction set where some are copied."""
    if not copied:
        return weights.host
    usual = copied[0]
    return usual.buffers + (usual.span if options.mmap else weights.host_used - usual.again)


def repacked_said(copied: tuple[Repacked, ...], options: LlamaOptions) -> tuple[str, ...]:
    """What to say of the copies, in a sentence; nothing where no instruction set has any."""
    if not any(one.buffers for one in copied):
        return ()
    amounts = sorted({format_gib(one.buffers): one.buffers for one in copied}.items(), key=lambda one: one[1])
    span = amounts[0][0] if len(amounts) == 1 else f"{amounts[0][0]} to {amounts[-1][0]}"
    beside = "" if not options.mmap else "; the file's own pages stay beside them until memory is short"
    usual = f"by instruction set, {copied[0].name} assumed" if len(amounts) > 1 else "whatever the instruction set"
    return (f"the processor's own copy of weights (CPU_REPACK, AMX) takes {span}, {usual}{beside}",)

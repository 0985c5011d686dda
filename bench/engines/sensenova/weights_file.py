"""A real GGUF file as a cell's weights: is it this model's, which tier is it, what are its types. Header only."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bench.engines.sensenova.scaled_down import tensor_table_of
from bench.job import Job
from fitcheck.errors import FileError
from fitcheck.models.gguf import read_gguf
from fitcheck.models.model import Model
from fitcheck.models.tensors import Tensor, TensorTable

# a file of the same recipe differs from the catalog's table in a few small tensors that its maker kept in F32 or F16
SAME_TIER = 0.005


@cache
def file_types(path: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor of a file, by name. Raises InputError when it is no GGUF file."""
    if not Path(path).is_file():
        raise FileError(f"--gguf: {path} is not a file; give the path of a GGUF file.")
    return {tensor.name: (tensor.shape, tensor.type) for tensor in read_gguf(path).tensors}


def table_of_file(path: str, expected: TensorTable) -> TensorTable:
    """``expected`` with the types of the file. Raises InputError when the file lacks a tensor or has another shape."""
    stored = file_types(path)
    tensors = []
    for tensor in expected:
        if tensor.name not in stored:
            raise FileError(f"--gguf: {path} is not this model's file, it has no tensor {tensor.name}; check MODEL.")
        shape, kind = stored[tensor.name]
        if shape != tensor.shape:
            raise FileError(
                f"--gguf: {path} is another model's file: {tensor.name} is {shape}, not {tensor.shape}; check MODEL."
            )
        tensors.append(Tensor(tensor.name, shape, kind, tensor.role, tensor.layer, tensor.branch))
    return TensorTable(tensors)


def table_of(cell: Job) -> TensorTable:
    """The tensor table that ``cell`` runs with: the file's when there is one, else the tier's."""
    expected = tensor_table_of(cell)
    return expected if cell.gguf is None else table_of_file(cell.gguf, expected)


def tier_of_file(path: str, model: Model) -> str:
    """The catalog tier that a file is, by its tensor table and never by its name.

    Raises InputError when it is another model's file or none of the tiers.
    """
    table = table_of_file(path, model.tiers[0].tensors)
    nearest = min(model.tiers, key=lambda tier: abs(tier.tensors.nbytes - table.nbytes))
    if abs(nearest.tensors.nbytes - table.nbytes) > SAME_TIER * table.nbytes:
        raise FileError(
            f"--gguf: {path} ({table.nbytes / 1e9:.2f} GB of tensors) is none of {model.slug}'s tiers; "
            f"say which one to count it as with --tier, the nearest is {nearest.name}."
        )
    return nearest.name

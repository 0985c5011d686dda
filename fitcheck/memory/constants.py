"""What torch and CUDA take on a card of some compute capability: facts and measurements in this room's data files."""

from __future__ import annotations

from functools import cache

from fitcheck.data_files import load


@cache
def cublas_workspace(compute_capability: tuple[int, int] | None) -> int:
    """Bytes that PyTorch keeps for cuBLAS on a card of that compute capability."""
    table = load("memory", "cublas")["workspace"]
    key = "default" if compute_capability is None else f"{compute_capability[0]}.{compute_capability[1]}"
    return int(table.get(key, table["default"])["bytes"])


@cache
def measured_capability(compute_capability: tuple[int, int] | None) -> tuple[int, int] | None:
    """The compute capability where some constant here depends on it, else ``None``: such cards share estimates."""
    if compute_capability is None:
        return None
    key = f"{compute_capability[0]}.{compute_capability[1]}"
    known = key in load("memory", "cublas")["workspace"] or key in load("memory", "allocator")["context"]["measured"]
    return compute_capability if known else None

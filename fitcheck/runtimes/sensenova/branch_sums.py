"""Sums over one branch of a tensor table that the work of a pass needs."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.allocator_blocks import runtime_bytes
from fitcheck.memory.dequantization import cost
from fitcheck.models.tensors import TensorTable


@dataclass(frozen=True, slots=True)
class BranchWeights:
    """Layer weights of a branch: elements and run-time bytes of attention and MLP, what dequantizing them
    moves, and how many tensors they are."""

    attention_elements: float
    attention_bytes: float
    mlp_elements: float
    mlp_bytes: float
    dequantization_bytes: float
    dequantization_kernels: int
    tensors: int

    @property
    def streamed_bytes(self) -> float:
        """Run-time bytes of all layers of the branch, which travel once a pass when none stays."""
        return self.attention_bytes + self.mlp_bytes


@lru_cache(maxsize=128)
def branch_weights(table: TensorTable, branch: str) -> BranchWeights:
    """Sums over the layers of ``branch``; cached by table identity."""
    elements = {"attention": 0.0, "mlp": 0.0}
    held = {"attention": 0.0, "mlp": 0.0}
    stored: Counter[str] = Counter()  # elements by type: the same sums however the table counts its tensors
    kernels = tensors = 0
    for tensor, count in table.counted:
        if tensor.layer is None or tensor.branch != branch:
            continue
        part = "mlp" if tensor.role in ("mlp", "expert", "router") else "attention"
        elements[part] += tensor.elements * count
        held[part] += runtime_bytes(tensor) * count
        tensors += count
        stored[tensor.type] += tensor.elements * count
        kernels += cost(tensor.type).kernels * count
    moved = sum(cost(name).traffic_bytes * amount for name, amount in sorted(stored.items()))
    return BranchWeights(
        elements["attention"], held["attention"], elements["mlp"], held["mlp"], moved, kernels, tensors
    )


@lru_cache(maxsize=256)
def role_bytes(table: TensorTable, role: str) -> int:
    """Run-time bytes of all tensors of a role, such as ``embedding`` or ``head``; cached by table identity."""
    return sum(runtime_bytes(tensor) * count for tensor, count in table.counted if tensor.role == role)

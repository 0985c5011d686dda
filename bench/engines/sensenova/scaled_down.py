"""The shape and the tensors that a job runs with: the model's own, or those of a scaled-down member of the family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.job import Job
from fitcheck.errors import ModelError
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.families.sensenova.catalog import recipe_table
from fitcheck.models.tensors import TensorTable

# A scaled-down member of the family for machines without a card: the same code, rows that every quant type can hold.
_TINY = {
    "hidden_size": 256,
    "layers": 4,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 64,
    "vocab_size": 1024,
    "vision_hidden_size": 64,
    "head_hidden": 256,
    "max_vision_positions": 256,
}
_TINY_DENSE = {"intermediate_size": 512}
_TINY_SPARSE = {"experts": 8, "generation_experts": 4, "experts_per_token": 2, "expert_intermediate_size": 256}


def architecture_of(cell: Job) -> SenseNovaArchitecture:
    """The numbers that size the model. Raises InputError for a model of another family."""
    architecture = catalog.get(cell.model).architecture
    if not isinstance(architecture, SenseNovaArchitecture):
        raise ModelError(
            f"model: {cell.model!r} is no SenseNova-U1 model, the only family the bench runs; choose one of those."
        )
    if not cell.tiny:
        return architecture
    changes: dict[str, Any] = _TINY | (_TINY_SPARSE if architecture.experts else _TINY_DENSE)
    return replace(architecture, **changes)


def tensor_table_of(cell: Job) -> TensorTable:
    """The tensor table of the cell's tier. Raises InputError when the model has no such tier."""
    model = catalog.get(cell.model)
    tier = model.tier(cell.tier)
    if tier is None:
        names = ", ".join(tier.name for tier in model.tiers)
        raise ModelError(f"tier: {cell.model} has no tier {cell.tier!r}; choose from {names}.")
    return recipe_table(tier.name, architecture_of(cell)) if cell.tiny else tier.tensors

"""A cell: everything a fresh process needs to run one configuration. No torch here: the parent builds cells."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from fitcheck.errors import InputError
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.streaming import Streaming, PrefixWeights, Stream

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


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration of model, tier, placement and workload on one device.

    ``gguf`` is a real weights file, otherwise weights are synthetic; ``tiny`` scales the architecture down so that the
    same code runs in seconds on a CPU and says nothing about a card.
    """

    model: str
    tier: str
    placement: Streaming
    workload: Workload
    device: str = "cuda"
    gguf: str | None = None
    seed: int = 0
    tiny: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Raises InputError when ``text`` is not a cell."""
        try:
            data: dict[str, Any] = json.loads(text)
            placement, workload = data.pop("placement"), data.pop("workload")
            placement["stream"] = Stream(placement["stream"])
            placement["prefix_weights"] = PrefixWeights(placement["prefix_weights"])
            workload["task"] = Task(workload["task"])
            workload["references"] = tuple((int(width), int(height)) for width, height in workload["references"])
            return cls(placement=Streaming(**placement), workload=Workload(**workload), **data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"cell: not a cell's JSON ({error}); write it with Job.to_json.") from error


def architecture_of(cell: Job) -> SenseNovaArchitecture:
    """The numbers that size the model. Raises InputError for a model of another family."""
    architecture = catalog.get(cell.model).architecture
    if not isinstance(architecture, SenseNovaArchitecture):
        raise InputError(
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
        raise InputError(f"tier: {cell.model} has no tier {cell.tier!r}; choose from {names}.")
    return catalog.recipe_table(tier.name, architecture_of(cell)) if cell.tiny else tier.tensors

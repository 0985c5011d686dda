"""A model as fitcheck sees it: tiers with real tensor tables, an architecture, requirements and where to get it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from fitcheck.models.quant import TYPES
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task


class Architecture(Protocol):
    """Numbers that size activations and caches; each family has its own frozen dataclass."""

    @property
    def family(self) -> str: ...


@dataclass(frozen=True)
class Tier:
    """A quant tier: a concrete file (or set of shards) with its tensor table.

    ``disk_bytes`` is what the download takes; ``published_bytes`` what the repository states, when it does, to the
    precision in ``source``. ``published`` says whether someone can get these weights. ``distilled_steps`` is set when
    the weights are distilled to that many sampling steps.
    """

    name: str
    tensors: TensorTable
    format: str
    file: str | None = None
    repository: str | None = None
    disk_bytes: int = 0
    published_bytes: int | None = None
    source: str = ""
    local_path: str | None = None
    published: bool = True
    distilled_steps: int | None = None

    def __hash__(self) -> int:
        # The table is compared by identity, so its hash says all; one over every field
        # would cost a sweep over cards a fifth of its time.
        return hash(self.tensors)

    @cached_property
    def quantized(self) -> bool:
        return any(TYPES[name].quantized for name in self.tensors.bytes_by_type)


@dataclass(frozen=True)
class Requirement:
    """One row of what a runtime needs: component, minimum, what was tested, source."""

    component: str
    minimum: str
    tested: str = ""
    source: str = ""


@dataclass(frozen=True)
class Model:
    slug: str
    name: str
    architecture: Architecture
    tiers: tuple[Tier, ...]
    tasks: tuple[Task, ...]
    runtimes: tuple[str, ...]
    repository: str | None = None
    licence: str = "unknown"
    requirements: tuple[Requirement, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = field(default=())

    def __hash__(self) -> int:
        return hash(self.slug)

    def tier(self, name: str) -> Tier | None:
        return next((tier for tier in self.tiers if tier.name.lower() == name.lower()), None)

"""Tiers of a pipeline: how the denoiser's weights are stored, and what every tensor takes for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from fitcheck.models.families.pipeline import tables
from fitcheck.models.families.pipeline.architecture import DENOISER, Component, PipelineArchitecture
from fitcheck.models.families.pipeline.schemes import Scheme, scheme
from fitcheck.models.model import Tier
from fitcheck.models.tensors import Tensor, TensorTable

NAMES = ("bf16",)


class PipelineTable(TensorTable):
    """The tensors of all components, each named ``component.tensor`` with the component as its branch. They are made
    when somebody asks for them; the sizes come without."""

    def __init__(self, parts: tuple[tuple[Component, Scheme], ...]) -> None:
        self.parts = parts
        sizes = {component.name: component_bytes(component, how) for component, how in parts}
        self.nbytes = sum(sizes.values())
        self.bytes_by_branch = dict(sorted(sizes.items(), key=lambda item: -item[1]))

    def __getattr__(self, name: str) -> tuple[Tensor, ...]:
        """Called for what is not there yet: the tensors, the first time."""
        if name != "tensors":
            raise AttributeError(name)
        self.tensors = tuple(tensor for component, how in self.parts for tensor in component_table(component, how))
        return self.tensors

    def of(self, component: str) -> TensorTable:
        """The tensors of one component. Raises KeyError."""
        for one, how in self.parts:
            if one.name == component:
                return component_table(one, how)
        raise KeyError(component)


@cache
def component_table(component: Component, how: Scheme) -> TensorTable:
    """The tensors of a component as ``how`` stores them. Raises KeyError for one whose shapes are in no catalog."""
    return TensorTable(
        Tensor(f"{component.name}.{name}", shape, type_, entry.role, entry.layer, component.name)
        for entry, name, shape, type_ in _stored(component, how)
    )


@cache
def component_bytes(component: Component, how: Scheme) -> int:
    """Bytes of ``component_table`` without making it."""
    return component_table(component, how).nbytes


def _stored(component: Component, how: Scheme) -> Iterator[tuple[tables.Entry, str, tuple[int, ...], str]]:
    if component.trace is None:
        raise KeyError(component.cls)
    for entry in tables.entries(component.trace):
        for name, shape, type_ in how.stored(component, entry):
            yield entry, name, shape, type_


def tiers_of(architecture: PipelineArchitecture, entry: Mapping[str, Any]) -> tuple[Tier, ...]:
    """Every tier of a catalog pipeline, largest first."""
    return tuple(_tier(architecture, name, entry) for name in NAMES)


def _tier(architecture: PipelineArchitecture, name: str, entry: Mapping[str, Any]) -> Tier:
    table = table_of(architecture, name)
    return Tier(
        name=name,
        tensors=table,
        format=scheme(name).format,
        repository=entry["repository"],
        disk_bytes=table.nbytes,
        source=scheme(name).source,
        components=tuple(component.name for component in architecture.components),
    )


def table_of(architecture: PipelineArchitecture, name: str) -> PipelineTable:
    """The table of a tier: its scheme for the denoisers, 16 or 32 bit for the rest."""
    how = scheme(name)
    return PipelineTable(
        tuple((one, how if one.role == DENOISER else scheme(one.dtype)) for one in architecture.components)
    )

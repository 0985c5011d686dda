"""Pipelines: recognized by model_index.json with its configs, or by the tensors of a single denoiser file."""

from __future__ import annotations

from fitcheck.models.families.base import Family, Found, Recognized
from fitcheck.models.families.pipeline import catalog
from fitcheck.models.model import Model
from fitcheck.models.workload import Task


class Pipeline(Family):
    """See ``fitcheck.models.families.base.Family``."""

    name = "pipeline"
    tasks = (Task.T2I, Task.EDITING, Task.T2V, Task.I2V)
    by_rule = True

    def slugs(self) -> tuple[str, ...]:
        return catalog.slugs()

    def get(self, slug: str) -> Model:
        return catalog.get(slug)

    def recognize(self, found: Found) -> Recognized | None:
        return None


FAMILY = Pipeline()

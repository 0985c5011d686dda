"""What the bench can put beside a denoiser: ControlNets in the shapes that are published, and LoRAs. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from bench.engines.diffusers.recipes import Recipe, part_of
from fitcheck.errors import MeasurementError
from fitcheck.models.families.pipeline import catalog
from fitcheck.models.families.pipeline.architecture import ControlNet


def require_peft() -> None:
    """Raises MeasurementError where LoRAs cannot be loaded: diffusers leaves that to peft."""
    if find_spec("peft") is None:
        raise MeasurementError("--load-lora-weights: diffusers needs peft for it; get it with: pip install peft")


def controlnet_of(recipe: Recipe) -> ControlNet:
    """The ControlNet of a pipeline. Raises MeasurementError for a pipeline that the catalog has none for."""
    if recipe.architecture.controlnet is None:
        known = ", ".join(filter(has_controlnet, catalog.slugs()))
        raise MeasurementError(f"--controlnet: the bench has none for {recipe.pipeline}, only for {known}.")
    return recipe.architecture.controlnet


def has_controlnet(slug: str) -> bool:
    """Whether a pipeline of the catalog has one."""
    return catalog.architecture_of(slug).controlnet is not None


def _as_in(recipe: Recipe, config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a ControlNet shares with its denoiser, as they are in a recipe that may be scaled down."""
    name = recipe.denoisers[0]
    published, here = recipe.architecture.component(name).config, recipe.parts[name].config
    return {key: here[key] for key, value in config.items() if key in here and published.get(key) == value}


def with_controlnet(recipe: Recipe) -> Recipe:
    """The pipeline's class that takes a ControlNet, with one in the denoiser's dtype. Raises MeasurementError for a
    pipeline that the catalog has none for."""
    found = controlnet_of(recipe)
    architecture = recipe.architecture.controlled()
    own = part_of(found.component, _as_in(recipe, found.component.config))
    parts = {one.name: recipe.parts.get(one.name, own) for one in architecture.components}
    return replace(recipe, pipeline=found.pipeline, parts=parts, architecture=architecture, guide=found.picture)

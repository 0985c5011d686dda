"""What the bench can put beside a denoiser: ControlNets in the shapes that are published, and LoRAs. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from bench.engines.diffusers.recipes import ComponentRecipe, Recipe
from fitcheck.errors import MeasurementError

CONTROLNET = "controlnet"


@dataclass(frozen=True, slots=True)
class ControlNetKind:
    """The class of a ControlNet and of the pipeline that runs one; ``config`` departs from the denoiser's, ``picture``
    is the argument that takes the picture that guides, ``source`` whose shape it is."""

    pipeline: str
    cls: str
    config: Mapping[str, Any]
    picture: str
    source: str


# by the pipeline class without one
KINDS: Mapping[str, ControlNetKind] = {
    "StableDiffusionPipeline": ControlNetKind(
        "StableDiffusionControlNetPipeline", "ControlNetModel", {}, "image",
        "lllyasviel/control_v11p_sd15_canny: the U-Net's way down and middle (ControlNetModel.from_unet)",
    ),
    "StableDiffusionXLPipeline": ControlNetKind(
        "StableDiffusionXLControlNetPipeline", "ControlNetModel", {}, "image",
        "diffusers/controlnet-canny-sdxl-1.0: the U-Net's way down and middle (ControlNetModel.from_unet)",
    ),
    "FluxPipeline": ControlNetKind(
        "FluxControlNetPipeline", "FluxControlNetModel", {"num_layers": 6, "num_single_layers": 0}, "control_image",
        "Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0, README.md and config.json (of a copy), 2026-11-28: "
        "6 double blocks and no single one",
    ),
}  # fmt: skip


def require_peft() -> None:
    """Raises MeasurementError where LoRAs cannot be loaded: diffusers leaves that to peft."""
    if find_spec("peft") is None:
        raise MeasurementError("--load-lora-weights: diffusers needs peft for it; get it with: pip install peft")


def kind_of(recipe: Recipe) -> ControlNetKind:
    """The ControlNet of a pipeline. Raises MeasurementError for a pipeline that the bench has none for."""
    found = KINDS.get(recipe.pipeline)
    if found is None:
        known = ", ".join(sorted(KINDS))
        raise MeasurementError(f"--controlnet: the bench has none for {recipe.pipeline}, only for {known}.")
    return found


def with_controlnet(recipe: Recipe) -> Recipe:
    """The pipeline's class that takes a ControlNet, with one in the denoiser's dtype. Raises MeasurementError for a
    pipeline that the bench has none for."""
    kind = kind_of(recipe)
    denoiser = recipe.parts[recipe.denoisers[0]]
    config = {**denoiser.config, **kind.config}
    part = ComponentRecipe("diffusers", kind.cls, "", config, denoiser.dtype, denoiser.computes)
    return replace(recipe, pipeline=kind.pipeline, parts={**recipe.parts, CONTROLNET: part})

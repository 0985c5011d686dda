"""Pipelines: recognized by model_index.json with its configs, or by the tensors of a single denoiser file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fitcheck.errors import ModelError
from fitcheck.models.candidates import Candidate, WeightSet
from fitcheck.models.companions import LORA, Companion
from fitcheck.models.families.base import Family, Found, Listing, ReadTier, Recognized
from fitcheck.models.families.pipeline import catalog, names, pipeline_folder, single_file
from fitcheck.models.gguf import GgufHeader, read_gguf
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task

if TYPE_CHECKING:
    from fitcheck.models.families.base import Header


class Pipeline(Family):
    """See ``fitcheck.models.families.base.Family``."""

    name = "pipeline"
    tasks = (Task.T2I, Task.EDITING, Task.T2V, Task.I2V)
    by_rule = True

    def listed(self) -> list[Listing]:
        """From the catalog's rows: every tier has the same parameters."""
        return [catalog.listing_of(slug) for slug in self.slugs()]

    def slugs(self) -> tuple[str, ...]:
        """The slugs of ``data/pipelines.json``, by demand."""
        return catalog.slugs()

    def first_seen(self, slug: str) -> str | None:
        """As ``data/first_seen.json`` has it, with where that is from."""
        return catalog.first_seen(slug)

    def get(self, slug: str) -> Model:
        """The pipeline with every tier. Raises KeyError for a slug that the catalog lacks."""
        return catalog.get(slug)

    def named(self, text: str) -> Model | None:
        """By a name, an alias, or words that fit one pipeline alone. Raises ModelError listing several."""
        slug = names.find_pipeline(text)
        return None if slug is None else catalog.get(slug)

    def recognize(self, found: Found) -> Recognized | None:
        """A folder by model_index.json and shapes, a file by the number of its weights. Raises InputError for a folder
        that diffusers could not load."""
        return pipeline_folder.recognize(found) if found.pipeline is not None else single_file.recognize(found)

    def refuses(self, one: ReadTier) -> str | None:
        """A safetensors file of low-rank pairs."""
        if isinstance(one.header, GgufHeader) or one.candidate.components or not single_file.lora(one.tier.tensors):
            return None
        return "this is a LoRA, which is loaded beside a model; check the model"

    def companion(self, header: Header, path: str | None) -> Companion | None:
        """A LoRA of a denoiser, in a safetensors file."""
        if isinstance(header, GgufHeader) or not single_file.lora(header.tensors):
            return None
        return Companion(LORA, header.name, header.tensors, path=path)

    def tier_of_file(self, model: Model, path: str | Path) -> Tier:
        """A local GGUF file as a tier of ``model``. Raises InputError when it cannot be read or is of another model."""
        header, name = read_gguf(path), Path(path).name
        size = header.file_bytes or header.tensors.nbytes
        tier = Tier(name, header.tensors, "gguf", file=name, disk_bytes=size, local_path=str(path))
        one = ReadTier(Candidate(name, "gguf", (WeightSet((name,)),), size), header, tier)
        fits = single_file.pipelines_of(one)
        if model.slug not in fits:
            meant = f"it has the shape of {', '.join(fits[:3])}" if fits else "no denoiser of the catalog has its shape"
            raise ModelError(f"--gguf: {name} is not a file of {model.name}: {meant}.")
        return single_file.tier_of(model, one)


FAMILY = Pipeline()

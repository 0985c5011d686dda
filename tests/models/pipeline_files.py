"""Diffusers folders and denoiser files for tests: real names and shapes from the catalog, data that is only a size."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

from gguf_files import STRING, Head, gguf, pair

from fitcheck.models.families.pipeline import catalog, tables
from fitcheck.models.families.pipeline.architecture import DENOISER, Component
from fitcheck.models.families.pipeline.tiers import component_table, table_of
from fitcheck.models.quant import TYPES
from fitcheck.models.tensors import Tensor

Row = tuple[str, tuple[int, ...], str]


def safetensors(rows: Iterable[Row]) -> Head:
    """A sound safetensors file of these (name, shape, type) tensors; its data are zeros that take no disk."""
    header: dict[str, Any] = {}
    offset = 0
    for name, shape, kind in rows:
        size = prod(shape) // TYPES[kind].block * TYPES[kind].block_bytes
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    return Head(struct.pack("<Q", len(text)) + text, 8 + len(text) + offset)


def rows_of(component: Component, kind: str = "BF16") -> list[Row]:
    """The tensors of a catalog component as its checkpoint names them."""
    return [(entry.name, entry.shape, kind) for entry in tables.entries(str(component.trace))]


def write_folder(
    folder: Path, slug: str, *, without: Iterable[str] = (), index: Mapping[str, Any] | None = None
) -> Path:
    """The pipeline's folder as save_pretrained leaves it. ``index`` replaces entries of model_index.json, ``without``
    names components whose weights are left out."""
    architecture = catalog.architecture_of(slug)
    listed: dict[str, Any] = {"_class_name": architecture.pipeline, "_diffusers_version": "0.42.1"}
    listed |= {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "image_encoder": [None, None]}
    listed |= {"tokenizer": ["transformers", "CLIPTokenizer"]}
    for component in architecture.components:
        listed[component.name] = [component.library, component.cls]
        place = folder / component.name
        place.mkdir(parents=True)
        config = {"_class_name": component.cls, **dict(component.config)}
        (place / "config.json").write_text(json.dumps(config))
        if component.name not in without:
            is_diffusers = component.library == "diffusers"
            name = "diffusion_pytorch_model.safetensors" if is_diffusers else "model.safetensors"
            safetensors(rows_of(component)).write(place / name)
    (folder / "model_index.json").write_text(json.dumps({**listed, **(index or {})}))
    return folder


def write_untraced(folder: Path) -> Path:
    """A folder whose denoiser has shapes that no trace knows."""
    write_folder(folder, "lumina-2")
    rows = [(name, (shape[0] + 8, *shape[1:]), kind) for name, shape, kind in rows_of(denoiser_of("lumina-2"))]
    safetensors(rows).write(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    return folder


def denoiser_of(slug: str) -> Component:
    """The first denoiser of a catalog pipeline."""
    return catalog.architecture_of(slug).of_role_or_name(DENOISER)[0]


def write_gguf(path: Path, slug: str, tier: str, *, architecture: str = "flux") -> Path:
    """The pipeline's denoiser as a GGUF file of that tier, under diffusers' names."""
    name = denoiser_of(slug).name
    table = table_of(catalog.architecture_of(slug), tier).of(name)
    rows = [(tensor.name.removeprefix(f"{name}."), tensor.shape or (1,), tensor.type) for tensor in table]
    return gguf([pair("general.architecture", STRING, architecture)], rows).write(path)


def tensors_of(slug: str, component: str) -> list[Tensor]:
    """The unquantized tensors of one of a pipeline's components."""
    from fitcheck.models.families.pipeline.schemes import scheme

    return list(component_table(catalog.architecture_of(slug).component(component), scheme("plain")))

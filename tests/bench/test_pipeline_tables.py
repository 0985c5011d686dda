"""The packed tables of pipelines against the classes of the installed diffusers and transformers: fails loudly when a
shape, a list of blocks, or an attribute that the hooks read changes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import diffusers
from diffusers.hooks import layerwise_casting
from pack_pipelines import build, classes, table

from fitcheck.data_files import load
from fitcheck.models.families.pipeline import catalog, schemes, tables

# one of each kind, small enough to build in a second
KEYS = (
    "flux2-klein-4b-transformer",
    "wan-1.3b-transformer",
    "lumina2-transformer",
    "pixart-sigma-transformer",
    "sd15-unet",
    "autoencoder-kl-16",
    "autoencoder-kl-wan",
    "autoencoder-kl-flux2",
    "clip-l-text",
    "qwen3-4b-model",
)


def as_json(value: Any) -> Any:
    """Tuples as the lists that JSON makes of them."""
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    return [as_json(inner) for inner in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("key", KEYS)
def test_a_packed_table_is_what_the_class_has(key: str) -> None:
    assert as_json(table(key, load(tables.ROOM, "components")[key])) == tables.data()[key]


@pytest.mark.parametrize("key", KEYS[:4])
def test_a_config_builds_the_module_again(key: str) -> None:
    """What the catalog gives as a component's config is enough for the bench."""
    component = next(
        one for slug in catalog.slugs() for one in catalog.architecture_of(slug).components if one.trace == key
    )
    entry = {"library": component.library, "class": component.cls, "config": dict(component.config)}
    assert sum(value.numel() for value in build(entry).parameters()) == tables.parameters(key)


def test_the_names_of_classes_are_those_of_this_diffusers() -> None:
    assert classes() == load(tables.ROOM, "classes")


def test_layerwise_casting_skips_the_same_patterns() -> None:
    assert schemes.UNCAST == layerwise_casting.DEFAULT_SKIP_MODULES_PATTERN


@pytest.mark.parametrize("slug", catalog.slugs())
def test_a_pipeline_offloads_in_the_order_of_its_class(slug: str) -> None:
    architecture = catalog.architecture_of(slug)
    cls = getattr(diffusers, architecture.pipeline)
    sequence = getattr(cls, "model_cpu_offload_seq", None)
    if sequence is None:  # a modular pipeline has none
        assert "Modular" in architecture.pipeline
        return
    assert architecture.offload_sequence == tuple(sequence.split("->"))
    assert architecture.excluded_from_offload == tuple(cls._exclude_from_cpu_offload)

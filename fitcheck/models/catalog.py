"""The models fitcheck knows by name: data in ``data/*.json``, turned into ``Model`` values on first use."""

from __future__ import annotations

import difflib
import json
from functools import cache
from importlib import resources
from typing import Any

from fitcheck.errors import InputError
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture, tensor_table
from fitcheck.models.model import Model, Requirement, Tier
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task
from fitcheck.units import GB


@cache
def _data() -> dict[str, Any]:
    text = resources.files("fitcheck.models").joinpath("data/sensenova.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def slugs() -> tuple[str, ...]:
    return tuple(entry["slug"] for entry in _data()["models"])


@cache
def get(slug: str) -> Model:
    """The catalog model of that slug. Raises InputError naming the nearest slugs."""
    entry = next((entry for entry in _data()["models"] if entry["slug"] == slug.lower()), None)
    if entry is None:
        near = difflib.get_close_matches(slug.lower(), slugs(), n=3, cutoff=0.3) or slugs()
        raise InputError(
            f"model: {slug!r} is not in the catalog; did you mean {', '.join(near)}? `fitcheck models` lists all."
        )
    architecture = SenseNovaArchitecture(**entry["architecture"])
    tiers = tuple(_tier(row, slug, architecture) for row in entry["tiers"])
    return Model(
        slug=entry["slug"],
        name=entry["name"],
        architecture=architecture,
        tiers=tiers,
        tasks=(Task.T2I, Task.EDITING, Task.INTERLEAVE, Task.VQA),
        runtimes=("sensenova", "comfyui"),
        repository=entry["repository"],
        licence=entry["licence"],
        requirements=tuple(Requirement(**row) for row in _data()["requirements"]),
        notes=tuple(entry["notes"]),
    )


def minimum_compute_capability() -> tuple[int, int]:
    major, minor = _data()["compute_capability"]["minimum"]
    return major, minor


def bfloat16_compute_capability() -> tuple[int, int]:
    major, minor = _data()["compute_capability"]["bfloat16"]
    return major, minor


@cache
def recipe_table(recipe: str, architecture: SenseNovaArchitecture) -> TensorTable:
    """The tensor table that a quantization recipe gives for an architecture, e.g. a scaled-down one for a dry run."""
    rules = _data()["recipes"][recipe]

    def type_of(name: str, role: str) -> str:
        for rule in rules["rules"]:
            if role in rule["roles"] and any(part in name for part in rule.get("names", [""])):
                return str(rule["type"])
        return str(rules["otherwise"])

    return tensor_table(architecture, type_of)


def _tier(row: dict[str, Any], slug: str, architecture: SenseNovaArchitecture) -> Tier:
    table = recipe_table(row["name"], architecture)
    published = row.get("published_gb")
    return Tier(
        name=row["name"],
        tensors=table,
        format=row["format"],
        file=row.get("file"),
        repository=row.get("repository"),
        disk_bytes=table.nbytes,
        published_bytes=None if published is None else round(published * GB),
        source=row.get("note") or _data()["recipes"][row["name"]]["source"],
        published=row["published"],
        distilled_steps=row.get("distilled_steps"),
    )

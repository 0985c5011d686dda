"""SenseNova-U1 models known by name: ``data/sensenova.json``, turned into ``Model`` values on first use."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

from fitcheck.data_files import load
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture, tensor_table
from fitcheck.models.model import Model, Requirement, Tier
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task
from fitcheck.units import GB

TASKS = (Task.T2I, Task.EDITING, Task.INTERLEAVE, Task.VQA)
RUNTIMES = ("sensenova", "comfyui")


def _data() -> dict[str, Any]:
    return load("models.families.sensenova", "sensenova")


def slugs() -> tuple[str, ...]:
    """The names of the published models."""
    return tuple(entry["slug"] for entry in _data()["models"])


class SenseNovaEntry(NamedTuple):
    """What the catalog says of a model apart from its tiers."""

    slug: str
    name: str
    architecture: SenseNovaArchitecture


def entries() -> tuple[SenseNovaEntry, ...]:
    """All of them, in the order of ``slugs``."""
    rows = _data()["models"]
    return tuple(SenseNovaEntry(row["slug"], row["name"], SenseNovaArchitecture(**row["architecture"])) for row in rows)


@cache
def get(slug: str) -> Model:
    """The model of one of ``slugs``."""
    entry = next(entry for entry in _data()["models"] if entry["slug"] == slug)
    architecture = SenseNovaArchitecture(**entry["architecture"])
    return Model(
        slug=entry["slug"],
        name=entry["name"],
        architecture=architecture,
        tiers=tuple(_tier(row, slug, architecture) for row in entry["tiers"]),
        tasks=TASKS,
        runtimes=RUNTIMES,
        repository=entry["repository"],
        licence=entry["licence"],
        requirements=tuple(Requirement(**row) for row in _data()["requirements"]),
        notes=tuple(entry["notes"]),
    )


@cache
def recipe_table(recipe: str, architecture: SenseNovaArchitecture, digest: str | None = None) -> TensorTable:
    """The tensor table that a quantization recipe gives for an architecture, e.g. a scaled-down one for a dry run; its
    ``digest`` where that is known."""
    return tensor_table(architecture, partial(_type_of, recipe), digest)


def _type_of(recipe: str, name: str, role: str) -> str:
    rules = _data()["recipes"][recipe]
    for rule in rules["rules"]:
        if role in rule["roles"] and any(part in name for part in rule.get("names", [""])):
            return str(rule["type"])
    return str(rules["otherwise"])


def _tier(row: dict[str, Any], slug: str, architecture: SenseNovaArchitecture) -> Tier:
    table = recipe_table(row["name"], architecture, row["digest"])
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

"""Pipelines known by name: ``data/pipelines.json`` and the components they share, as ``Model`` values on first use."""

from __future__ import annotations

from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.models.families.base import Listing
from fitcheck.models.families.pipeline import tables
from fitcheck.models.families.pipeline.architecture import (
    CONTROLNET,
    Component,
    Config,
    ControlNet,
    Defaults,
    PipelineArchitecture,
    References,
)
from fitcheck.models.families.pipeline.tiers import elements_of, tiers_of
from fitcheck.models.model import Model
from fitcheck.models.workload import Task

RUNTIMES = ("diffusers",)
# what an entry does not take over from the one that it is like
_OWN: dict[str, Any] = {
    "notes": [],
    "published": {},
    "aliases": [],
    "comfy": {},
    "controlnet": None,
    "gguf_repository": None,
    "licence": "unknown",
    "licence_source": None,
}


def _entries() -> dict[str, Any]:
    return load(tables.ROOM, "pipelines")


def slugs() -> tuple[str, ...]:
    """The names of the pipelines, by demand."""
    return tuple(_entries())


@cache
def entry_of(slug: str) -> dict[str, Any]:
    """The catalog's row, with what it takes over from the one it is ``like``. Raises KeyError."""
    row = dict(_entries()[slug])
    base = row.pop("like", None)
    return {**entry_of(base), **_OWN, **row} if base else row


@cache
def get(slug: str) -> Model:
    """The model of one of ``slugs``. Raises KeyError."""
    entry = entry_of(slug)
    architecture = architecture_of(slug)
    return Model(
        slug=slug,
        name=entry["name"],
        architecture=architecture,
        tiers=tiers_of(architecture, entry),
        tasks=architecture.tasks,
        runtimes=RUNTIMES,
        repository=entry["repository"],
        licence=entry.get("licence", "unknown"),
        notes=tuple(entry.get("notes", ())),
        sources=(_source(entry),),
    )


def listing_of(slug: str) -> Listing:
    """What a list says of one of ``slugs``. Raises KeyError."""
    entry, architecture = entry_of(slug), architecture_of(slug)
    return Listing(
        slug, entry["name"], architecture.tasks, elements_of(architecture), None, _source(entry), seen=first_seen(slug)
    )


def first_seen(slug: str) -> str | None:
    """The first day (ISO) on which a public list has the pipeline; ``None`` where none is recorded."""
    day: str | None = load("models.families.pipeline", "first_seen")["days"].get(slug)
    return day


def _source(entry: dict[str, Any]) -> str:
    return f"{entry['source']}, looked up {entry['date']}"


@cache
def architecture_of(slug: str) -> PipelineArchitecture:
    """The architecture of one of ``slugs``, one and the same of those that share it: what follows from one is looked up
    for cell after cell. Raises KeyError."""
    entry = entry_of(slug)
    experts, chunk = entry.get("experts"), entry.get("frame_chunk")
    found = PipelineArchitecture(
        pipeline=entry["pipeline"],
        components=tuple(component_of(name, *row) for name, row in entry["components"].items()),
        offload_sequence=tuple(entry["offload_sequence"].split("->")),
        excluded_from_offload=tuple(entry.get("excluded_from_offload", ())),
        tasks=tuple(map(Task, entry["tasks"])),
        vae_scale_spatial=entry["vae_scale_spatial"],
        vae_scale_temporal=entry.get("vae_scale_temporal", 1),
        patch=entry["patch"],
        latent_channels=entry["latent_channels"],
        size_multiple=entry["size_multiple"],
        text_tokens=entry["text_tokens"],
        text_padded=entry.get("text_padded", True),
        guidance=entry["guidance"],
        defaults=Defaults(**entry["defaults"]),
        experts=None if experts is None else ((experts[0], experts[1]), experts[2]),
        frame_chunk=None if chunk is None else (chunk[0], chunk[1], chunk[2]),
        timestep_per_token=entry.get("timestep_per_token", False),
        references=References(**entry.get("references", {})),
        whole_video=entry.get("whole_video", False),
        sound_rate=entry.get("sound_rate", 0.0),
        sound_channels=entry.get("sound_channels", 1),
        further_calls=entry.get("further_calls", {"a_step": 0})["a_step"],
        guided_above=entry.get("guided_above", {"scale": 1.0})["scale"],
        encoder_by_encoder="encoder_by_encoder" in entry,
        keeps_prefix="keeps_prefix" in entry,
        schedule_ends="schedule_ends" in entry,
        one_at_a_time="one_at_a_time" in entry,
        duration=_pair(entry.get("duration", {}).get("seconds")),
        finished_in=entry.get("finished_in", {"copies": 0})["copies"],
        ungrouped=tuple(entry.get("ungrouped", {"components": ()})["components"]),
        loads_lora="loads_no_lora" not in entry,
        untraced=tuple((Task(task), why) for task, why in entry.get("untraced", {}).items()),
        controlnet=_controlnet(entry.get("controlnet")),
        pipeline_for_pictures=entry.get("pipeline_for_pictures", ""),
    )
    return _shared.setdefault(found, found)


_shared: dict[PipelineArchitecture, PipelineArchitecture] = {}


def _controlnet(row: dict[str, Any] | None) -> ControlNet | None:
    if row is None:
        return None
    component = component_of(CONTROLNET, *row["component"])
    return ControlNet(row["pipeline"], component, row["picture"], row.get("encodes", False), row["repository"])


def _pair(row: list[float] | None) -> tuple[float, float] | None:
    return None if row is None else (row[0], row[1])


@cache
def component_of(name: str, role: str, key: str, dtype: str, tokens: int = 0, stored: str | None = None) -> Component:
    """The component whose tables stand under ``key``, under the name that a pipeline gives it. Raises KeyError."""
    described = load(tables.ROOM, "components")[key]
    trace = described.get("trace", key)
    packed = tables.data()[trace]
    return Component(
        name=name,
        role=role,
        library=described["library"],
        cls=described["class"],
        trace=trace,
        config=Config({**packed["config"], **described["config"]}),
        lists=tuple(packed.get("lists", ())),
        recursed=tuple(packed.get("recursed", ())),
        uncast=tuple(packed.get("uncast", ())),
        single_precision=(
            *packed.get("single_precision", ()),
            *(packed.get("single_precision_fp16", ()) if dtype == "fp16" else ()),
        ),
        unquantized=tuple(packed.get("single_precision_fp16", ())),
        dtype=dtype,
        stored=stored or dtype,
        tokens=tokens,
        buffers=packed.get("buffers", 0),
    )

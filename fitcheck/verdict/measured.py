"""Cells that somebody measured, as the estimator sees them: published rows and pass records."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fitcheck.data_files import read_text
from fitcheck.errors import InputError
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.phases import CardView
from fitcheck.runtimes.sensenova.streaming import Streaming, upstream
from fitcheck.units import GIB
from fitcheck.verdict.cells import host_bound

_MODELS = {"SenseNova-U1-8B-MoT": "sensenova-u1-8b-mot", "SenseNova-U1.5-8B-MoT": "sensenova-u1.5-8b-mot"}


@dataclass(frozen=True, slots=True)
class MeasuredCell:
    """One measurement. Memory in bytes, seconds of one pass; ``None`` where nothing was measured.

    ``origin`` is ``published`` or ``record``; ``inferred`` says that an input was inferred from the row itself;
    ``process`` whose other host memory it shows; ``limit`` the caps in bytes between which it stops working.
    """

    origin: str
    source: str
    name: str
    model: Model
    architecture: SenseNovaArchitecture
    tier: Tier
    workload: Workload
    placement: Streaming
    device: CardView
    card: Card
    allocated: int | None = None
    reserved: int | None = None
    on_card: int | None = None
    host: int | None = None
    seconds: float | None = None
    inferred: bool = False
    process: str = "upstream"
    capped: bool = False
    limit: tuple[int, int] | None = None


def _number(note: str, key: str) -> int:
    match = re.search(rf"{key}=(\d+)", note)
    return int(match.group(1)) if match else 0


def _gib(text: str) -> int | None:
    return round(float(text) * GIB) if text else None


def published_cells() -> Iterator[MeasuredCell]:
    """Rows of ``fitcheck/memory/data/published_sensenova_u1.csv`` whose mode fitcheck models (not device_map)."""
    text = read_text("runtimes.sensenova", "published_sensenova_u1.csv")
    card = find_card("H100 SXM")
    for raw in csv.DictReader(text.splitlines()):
        if raw["vram_mode"] not in ("full", "fast", "balanced", "low") or raw["task"] == "load":
            continue
        model = catalog.get(_MODELS[raw["model"]])
        tier = model.tier(raw["precision_or_quant"])
        if tier is None or not isinstance(model.architecture, SenseNovaArchitecture):
            continue
        task, note = Task(raw["task"].removesuffix("-think")), raw["note"]
        workload = Workload(task, int(raw["width"]), int(raw["height"]), int(raw["steps"]), float(raw["cfg"]))
        if task is Task.EDITING:
            # 4,029 tokens is the image's own grid; any size with as many tokens stands for it.
            workload = workload.with_(references=((32 * _number(note, "ref_tokens"), 32),))
        if think := _number(note, r"fit\.think_tokens"):
            workload = workload.with_(prompt_tokens=340 + think)
        if task is Task.INTERLEAVE:
            text_tokens = _number(note, r"fit\.text_tokens")
            workload = workload.with_(images=_number(note, "images"), new_tokens=text_tokens, prompt_tokens=9)
        revision, mode = raw["revision_note"].split(";")[0], raw["vram_mode"]
        placement = upstream(mode, revision)
        size = f"{raw['width']}x{raw['height']}"
        yield MeasuredCell(
            origin="published",
            source=raw["source"],
            name=" ".join((raw["model"].removeprefix("SenseNova-"), revision, raw["task"], size, mode)),
            model=model,
            architecture=model.architecture,
            tier=tier,
            workload=workload,
            placement=placement,
            device=CardView(
                card.compute_capability,
                round(float(raw["vram_total_gib"]) * GIB),
                flash_attention=raw["attn_backend"] == "flash",
                host_bound=host_bound(model.architecture, tier, workload, placement, card),
            ),
            card=card,
            allocated=_gib(raw["allocated_gib"]),
            reserved=_gib(raw["reserved_gib"]),
            host=_gib(raw["host_rss_gib"]),
            seconds=float(raw["seconds"]) if raw["seconds"] else None,
            inferred="fit." in note,
        )


def recorded_cells(root: Path) -> Iterator[MeasuredCell]:
    """Pass records of SenseNova models under a results folder that ended well, in the order of their file names."""
    from fitcheck.records import store
    from fitcheck.records.schema import PassRecord

    for record in store.load(root):
        if not isinstance(record, PassRecord) or record.outcome.result != "ok" or record.card is None:
            continue
        try:
            model = catalog.get(record.model.slug)
            placement = upstream(
                record.runtime.mode or "", record.runtime.revision or "", record.runtime.policy or "upstream"
            )
        except InputError:
            continue  # a record of a model or a runtime that this release does not know
        tier = model.tier(record.model.tier or "")
        if tier is None or not isinstance(model.architecture, SenseNovaArchitecture):
            continue
        workload, memory = record.workload.workload(), record.memory
        capped = record.protocol.cap is not None
        timed = sorted(sample.total for sample in record.samples if not sample.warmup)
        limit, card = record.limit, find_card(record.card.slug)
        yield MeasuredCell(
            origin="record",
            source=record.id or "",
            name=_name(model, tier, workload, placement),
            model=model,
            architecture=model.architecture,
            tier=tier,
            workload=workload,
            placement=placement,
            device=replace(
                _device(record.card.compute_capability, record.card.memory, record.protocol.warmup > 0),
                host_bound=host_bound(model.architecture, tier, workload, placement, card),
            ),
            card=card,
            allocated=memory.allocated,
            reserved=memory.reserved,
            on_card=memory.process,
            host=memory.rss,
            seconds=timed[len(timed) // 2] if timed and record.protocol.steps_run is None else None,
            process="bench",
            capped=capped,
            limit=(limit.fails, limit.works) if limit and limit.works and limit.fails else None,
        )


def _device(capability: str | None, total: int | None, warm: bool) -> CardView:
    pair = None
    if capability:
        major, _, minor = capability.partition(".")
        pair = (int(major), int(minor))
    return CardView(pair, total, warm=warm)


def _name(model: Model, tier: Tier, workload: Workload, placement: Streaming) -> str:
    mode = placement.mode + ("/ring" if placement.policy == "ring" else "")
    size = f"{workload.width}x{workload.height} cfg {workload.cfg:g}"
    return " ".join(
        (model.name.removeprefix("SenseNova-"), tier.name, placement.revision, str(workload.task), size, mode)
    )

"""Predicted against published: each row of others' measurements beside what the estimator says about the same cell.

Published rows live in ``fitcheck/memory/data/published_sensenova_u1.csv`` with their sources. A row whose token count
was inferred from the row itself (``fit.`` in its note) is reported apart, because it cannot test what it fixed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import median

from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Link
from fitcheck.memory.estimate import estimate, kept_share
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.placement import upstream
from fitcheck.memory.sensenova import Device
from fitcheck.models import catalog
from fitcheck.models.model import Model, Tier
from fitcheck.models.sensenova import SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.speed.rates import Calibration
from fitcheck.speed.sensenova import seconds
from fitcheck.units import GIB

_MODELS = {"SenseNova-U1-8B-MoT": "sensenova-u1-8b-mot", "SenseNova-U1.5-8B-MoT": "sensenova-u1.5-8b-mot"}
# Host-to-device rate of the published H100 (facts of 2026-08); not fitted to any row here.
_PUBLISHED_LINK = 54e9
# The one row that seconds are calibrated on.
_CALIBRATION_ROW = ("pr241", "full", 20.894)


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of one published or recorded cell. ``unit`` is GiB or s."""

    source: str
    cell: str
    quantity: str
    unit: str
    predicted: float
    low: float
    high: float
    published: float
    fitted: bool

    @property
    def error(self) -> float:
        """Relative: predicted over published, minus one."""
        return self.predicted / self.published - 1

    @property
    def covered(self) -> bool:
        return self.low <= self.published <= self.high


@dataclass(frozen=True, slots=True)
class Summary:
    quantity: str
    rows: int
    median: float
    worst: float
    covered: int
    fitted: bool


def summarize(rows: Sequence[Row]) -> list[Summary]:
    """Median and worst absolute error by quantity; rows that were fitted on stand apart."""
    found = []
    for quantity, fitted in sorted({(row.quantity, row.fitted) for row in rows}):
        part = [row for row in rows if (row.quantity, row.fitted) == (quantity, fitted)]
        errors = [abs(row.error) for row in part]
        found.append(
            Summary(quantity, len(part), median(errors), max(errors), sum(row.covered for row in part), fitted)
        )
    return found


@dataclass(frozen=True, slots=True)
class _Published:
    """A row of the table, made into what the estimator takes."""

    model: Model
    architecture: SenseNovaArchitecture
    tier: Tier
    workload: Workload
    revision: str
    mode: str
    device: Device
    raw: dict[str, str]

    @property
    def name(self) -> str:
        raw = self.raw
        size = f"{raw['width']}x{raw['height']}"
        return " ".join((raw["model"].removeprefix("SenseNova-"), self.revision, raw["task"], size, self.mode))


def _parse(raw: dict[str, str], card: Card) -> _Published | None:
    """``None`` for rows of modes that fitcheck does not model (device_map) or without a pass."""
    if raw["vram_mode"] not in ("full", "fast", "balanced", "low") or raw["task"] == "load":
        return None
    model = catalog.get(_MODELS[raw["model"]])
    tier = model.tier(raw["precision_or_quant"])
    if tier is None or not isinstance(model.architecture, SenseNovaArchitecture):
        return None
    task = Task(raw["task"].removesuffix("-think"))
    workload = Workload(task, int(raw["width"]), int(raw["height"]), int(raw["steps"]), float(raw["cfg"]))
    note = raw["note"]
    if task is Task.EDITING:
        count = _number(note, "ref_tokens")
        # 4,029 tokens is the image's own grid; any size with as many tokens stands for it.
        workload = workload.with_(references=((32 * count, 32),))
    if think := _number(note, r"fit\.think_tokens"):
        workload = workload.with_(prompt_tokens=340 + think)
    if task is Task.INTERLEAVE:
        workload = workload.with_(
            images=_number(note, "images"), new_tokens=_number(note, r"fit\.text_tokens"), prompt_tokens=9
        )
    device = Device(
        card.compute_capability, int(float(raw["vram_total_gib"]) * GIB), flash_attention=raw["attn_backend"] == "flash"
    )
    revision = raw["revision_note"].split(";")[0]
    return _Published(model, model.architecture, tier, workload, revision, raw["vram_mode"], device, raw)


def _number(note: str, key: str) -> int:
    match = re.search(rf"{key}=(\d+)", note)
    return int(match.group(1)) if match else 0


def published_rows() -> list[Row]:
    """Every published SenseNova row that fitcheck models, beside the estimate."""
    text = resources.files("fitcheck.memory").joinpath("data/published_sensenova_u1.csv").read_text("utf-8")
    card = find_card("H100 SXM")
    rows: list[Row] = []
    for raw in csv.DictReader(text.splitlines()):
        published = _parse(raw, card)
        if published is not None:
            rows += _memory_rows(published) + _time_rows(published, card)
    return rows


def _memory_rows(published: _Published) -> list[Row]:
    raw = published.raw
    placement = upstream(published.mode, published.revision)
    footprint: Footprint = estimate(
        published.architecture, published.tier, published.workload, placement, published.device
    )
    rows = []
    for quantity, column, span in (
        ("allocated", "allocated_gib", footprint.allocated),
        ("reserved", "reserved_gib", footprint.reserved),
        ("host RSS", "host_rss_gib", footprint.host.total),
    ):
        if raw[column]:
            values = (span.best / GIB, span.low / GIB, span.high / GIB)
            fitted = "fit." in raw["note"] if quantity == "allocated" else quantity in ("reserved", "host RSS")
            rows.append(Row(raw["source"], published.name, quantity, "GiB", *values, float(raw[column]), fitted))
    return rows


def _duration(
    published: _Published, mode: str, revision: str, card: Card, calibration: Calibration | None
) -> tuple[float, float, float]:
    placement = upstream(mode, revision)
    found = seconds(
        published.architecture,
        published.tier.tensors,
        published.workload,
        placement,
        card,
        Link(5, 16),
        kept_share=kept_share(published.architecture, published.tier, published.workload, placement, published.device),
        calibration=calibration,
    )
    if found is None:
        raise ValueError(f"{card.name} has no published rates")
    return found.seconds.best, found.seconds.low, found.seconds.high


def _time_rows(published: _Published, card: Card) -> list[Row]:
    """Seconds after calibration on one row of mode ``full``; only rows of the same task and steps."""
    raw = published.raw
    if not raw["seconds"] or published.workload.task is not Task.T2I or published.workload.prompt_tokens:
        return []
    revision, mode, measured = _CALIBRATION_ROW
    predicted, _, _ = _duration(published, mode, revision, card, None)
    calibration = Calibration(compute=measured / predicted, spread=0.05, pinned=_PUBLISHED_LINK, records=1)
    values = _duration(published, published.mode, published.revision, card, calibration)
    fitted = (published.revision, published.mode, float(raw["seconds"])) == _CALIBRATION_ROW
    return [Row(raw["source"], published.name, "seconds", "s", *values, float(raw["seconds"]), fitted)]

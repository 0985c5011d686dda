"""Others' published measurements of SenseNova-U1 as asks: ``data/published_sensenova_u1.csv``."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping

from fitcheck.data_files import load, read_text
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, Link, Machine
from fitcheck.models import catalog
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Ask, Measured, Process
from fitcheck.runtimes.sensenova.streaming import MODES, placement_of, upstream
from fitcheck.runtimes.sensenova.token_counts import tokens
from fitcheck.units import GIB

_MODELS = {"SenseNova-U1-8B-MoT": "sensenova-u1-8b-mot", "SenseNova-U1.5-8B-MoT": "sensenova-u1.5-8b-mot"}
# as a row names its card: the catalog's name of it
_CARDS = {"H100 80GB": "H100 SXM", "RTX 5090": "RTX 5090", "gfx1100 48GB": "Radeon PRO W7900"}
_REVISIONS = {"phase": "phase-aware", "pr246": "phase-aware"}


def published_rows() -> Iterator[Measured]:
    """Rows whose mode fitcheck models (not device_map), in the file's order."""
    for raw in csv.DictReader(read_text("runtimes.sensenova", "published_sensenova_u1.csv").splitlines()):
        if raw["vram_mode"] not in MODES or raw["task"] == "load":
            continue
        ask = _ask(raw)
        if ask is None:
            continue
        size = f"{raw['width']}x{raw['height']} {raw['steps']} steps cfg {raw['cfg']}"
        model = raw["model"].removeprefix("SenseNova-")
        card = _CARDS[raw["gpu"]]
        name = (card, model, _revision(raw), raw["task"], size, raw["attn_backend"], raw["vram_mode"])
        yield Measured(
            source=raw["source"],
            name=" ".join(name),
            ask=ask,
            allocated=_gib(raw["allocated_gib"]),
            reserved=_gib(raw["reserved_gib"]),
            host=_gib(raw["host_rss_gib"]),
            seconds=float(raw["seconds"]) if raw["seconds"] else None,
            fitted=_named(raw["note"], "fits"),
            levels=_named(raw["note"], "levels"),
            widens=_named(raw["note"], "widens"),
            machine=card,
            inferred_text="fit." in raw["note"],
        )


def _ask(raw: Mapping[str, str]) -> Ask | None:
    model = catalog.get(_MODELS[raw["model"]])
    tier = model.tier(raw["precision_or_quant"])
    if tier is None:
        return None
    attention = "flash" if raw["attn_backend"] == "flash" else "sdpa"
    placement = placement_of(upstream(raw["vram_mode"], _revision(raw)), attention)
    process = Process(first="first image" in raw["note"])
    return Ask(model, tier, placement, _workload(raw), _machine(raw), process=process)


def _machine(raw: Mapping[str, str]) -> Machine:
    """The card as the program saw it, behind the link that was measured there or the one that the card has."""
    card, total = find_card(_CARDS[raw["gpu"]]), round(float(raw["vram_total_gib"]) * GIB)
    rates = load("runtimes.sensenova", "published")["link"]["bytes_per_second"]
    link = Link(card.pcie_generation, card.pcie_lanes, measured_pinned=rates.get(raw["gpu"]))
    return Machine((Gpu(card, link, vram_total=total, vram_override=total),))


def _workload(raw: Mapping[str, str]) -> Workload:
    task, note = Task(raw["task"].removesuffix("-think")), raw["note"]
    workload = Workload(task, int(raw["width"]), int(raw["height"]), int(raw["steps"]), float(raw["cfg"]))
    if task is Task.EDITING:
        # 4,029 tokens is the image's own grid; any size with as many tokens stands for it.
        return workload.with_(references=((32 * _number(note, "ref_tokens"), 32),))
    if think := _number(note, r"fit\.think_tokens"):
        return workload.with_(think=think)
    if task is Task.INTERLEAVE:
        # what a peak tells is prompt and written text together
        text = _number(note, r"fit\.text_tokens") - tokens("interleave_prompt")
        return workload.with_(images=_number(note, "images"), new_tokens=text, text_assumed=True)
    return workload


def _revision(raw: Mapping[str, str]) -> str:
    name = raw["revision_note"].split(";")[0]
    return _REVISIONS.get(name, name)


def _named(note: str, what: str) -> frozenset[str]:
    """Quantities after ``what:`` in a note, such as ``fits: host seconds``."""
    match = re.search(rf"{what}: ([a-z ]+)", note)
    return frozenset(match.group(1).split()) if match else frozenset()


def _number(note: str, key: str) -> int:
    match = re.search(rf"{key}=(\d+)", note)
    return int(match.group(1)) if match else 0


def _gib(text: str) -> int | None:
    return round(float(text) * GIB) if text else None

"""The document behind a page about one model on one card: the report itself, and what stands around it.

A page is drawn from its document. Its JSON twin is the document without what only the page's tables and pictures need:
the command that it names gives all of it. Names and values are those of ``fitcheck check --json``; bytes are integers,
unknown is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fitcheck.hardware.card import Card, Sourced
from fitcheck.pages import other_sizes
from fitcheck.pages.formats import rounded
from fitcheck.pages.view import MOST_RECORDS, RUNS, focus, measured_memory, pace, pictured, record_facts
from fitcheck.verdict.accuracy import AccuracyRow
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.cell_json import cell_json, interval_json
from fitcheck.verdict.report import Report
from fitcheck.verdict.usual_machine import Asked

SCHEMA = "fitcheck.page/2"
# of the cell that the answer speaks of, what a page says
_HEADLINE: tuple[str, ...] = (
    *("tier", "published", "quality", "runtime", "revision", "mode", "settings", "workload", "verdict", "binding"),
    *("gist", "reason", "margins", "flip", "card", "required", "host", "disk", "seconds", "time", "commands"),
    "assumptions",
)
# what a list says was asked; a task without pictures has no width
ASKED = ("task", "width", "height", "frames", "context")
_CARD: tuple[str, ...] = ("slug", "name", "vendor", "memory", "memory_bandwidth", "tensor_flops", "launch_price_usd")
_MACHINE: tuple[str, ...] = (
    *("card", "name", "vendor", "memory", "compute_capability", "assumed", "ram", "disk_free", "usable_vram"),
    *("usable_ram", "basis", "notes"),
)


def check_document(
    asked: Asked, records: Sequence[Mapping[str, Any]] = (), accuracy: Sequence[AccuracyRow] = ()
) -> dict[str, Any]:
    """Everything the page about ``asked`` says. ``records`` are JSON documents of this model on this card."""
    report = asked.told()
    reports = other_sizes.Reports(asked, report)
    return {
        **report_document(report, asked.command(), records, accuracy),
        "address": f"check/{asked.model.slug}/{asked.card.slug}/",
        "tasks": rounded(other_sizes.other_tasks(reports)),
        "steps": rounded(other_sizes.steps(reports)),
        "by_memory": rounded(other_sizes.by_memory(reports)),
    }


def report_document(
    report: Report,
    command: str | None = None,
    records: Sequence[Mapping[str, Any]] = (),
    accuracy: Sequence[AccuracyRow] = (),
) -> dict[str, Any]:
    """The document of any report, also of one that no page of the site is about."""
    gpu, said = report.gpu, report.to_json_head()
    said["machine"] = {name: said["machine"][name] for name in _MACHINE}
    said["cells"] = [headline_json(report.best), *map(slim_json, report.cells[1:])]
    for index in pictured(said):
        memory = cell_json_memory(report.cells[index])
        said["cells"][index] |= memory
        said["cells"][index]["dots"] = measured_memory(records, said["workload"], said["cells"][index])
    return {
        "schema": SCHEMA,
        "address": None,
        "command": command,
        "card": None if gpu is None else {name: card_facts(gpu.card)[name] for name in _CARD},
        "report": said,
        "tasks": [],
        "steps": [],
        "by_memory": [],
        "accuracy": accuracy_of(accuracy),
        "records": [record_facts(record) for record in records[:MOST_RECORDS]],
        "measured": len(records),
    }


def headline_json(cell: Cell) -> dict[str, Any]:
    """The cell that the answer speaks of, by the names of ``fitcheck.check/2``."""
    whole = cell_json(cell)
    evidence = whole["evidence"]
    quantities = {
        name: {key: evidence[name][key] for key in ("level", "records", "note")}
        for name in ("memory", "host", "seconds")
    }
    return {
        **{name: whole[name] for name in _HEADLINE},
        "evidence": {"level": evidence["level"], "note": evidence["note"], **quantities},
    }


def slim_json(cell: Cell) -> dict[str, Any]:
    """Any other cell: what the table of files and modes shows."""
    margins = {
        str(one.constraint): {"left": one.left, "worst": one.worst, "available": one.available}
        for one in cell.judgement.margins
    }
    return {
        "tier": cell.tier.name,
        "published": cell.tier.published,
        "runtime": cell.placement.runtime,
        "revision": cell.placement.revision,
        "mode": cell.placement.mode,
        "settings": dict(cell.placement.settings),
        "workload": {"cfg": cell.workload.cfg},
        "verdict": str(cell.verdict),
        "binding": str(cell.judgement.binding),
        "margins": margins,
        "card": interval_json(cell.memory.card),
        "required": interval_json(cell.memory.required),
        "host": interval_json(cell.footprint.host.total),
        "disk": cell.footprint.disk,
        "seconds": interval_json(cell.seconds),
        "time": {"rates": {cell.workload.task.rate: interval_json(cell.pace)}},
        "evidence": {"level": cell.evidence.level},
    }


def cell_json_memory(cell: Cell) -> dict[str, Any]:
    """Memory by phase, for the picture of it."""
    whole = cell_json(cell)
    return {name: whole[name] for name in ("phases", "peak")}


# what the twin keeps: enough for lists, titles and whoever wants the answer; its command prints the rest
_KEPT_OF_MACHINE: tuple[str, ...] = ("card", "name", "memory", "ram", "assumed", "usable_vram")
_KEPT_OF_CELL: tuple[str, ...] = (
    *("tier", "published", "runtime", "mode", "workload", "verdict", "binding", "gist", "reason", "flip"),
    *("card", "host", "disk", "seconds", "commands"),
)


def twin_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is written beside the page: its document with the one cell that the answer speaks of, without what only
    tables and pictures of the page show."""
    report, card = document["report"], document["card"]
    cell = report["cells"][focus(report)]
    head = {name: cell[name] for name in _KEPT_OF_CELL}
    head["time"] = {"rates": (cell["time"] or {}).get("rates", {})}
    head["evidence"] = {"level": cell["evidence"]["level"]}
    kept = {
        "schema": report["schema"],
        "machine": {name: report["machine"][name] for name in _KEPT_OF_MACHINE},
        "model": {name: report["model"][name] for name in ("slug", "name", "family")},
        "workload": report["workload"],
        "answer": report["answer"],
        "headline": 0,
        "cells": [head],
    }
    price = card["launch_price_usd"] and {"value": card["launch_price_usd"]["value"]}
    facts = {name: card[name] for name in ("slug", "name", "vendor", "memory")} | {"launch_price_usd": price}
    names = ("schema", "address", "command", "tasks", "steps", "by_memory", "measured")
    rest = {name: document[name] for name in names}
    return {**rest, "card": facts, "report": kept, "records": [one["id"] for one in document["records"]]}


def card_facts(card: Card) -> dict[str, Any]:
    """What is known about a card, with sources where they are kept."""
    return {
        "slug": card.slug,
        "name": card.name,
        "vendor": card.vendor,
        "form": card.form,
        "architecture": card.architecture,
        "released": card.released,
        "memory": card.memory,
        "memory_type": card.memory_type,
        "memory_bandwidth": card.memory_bandwidth,
        "tensor_flops": _sourced(card.tensor_flops),
        "launch_price_usd": _sourced(card.launch_price_usd),
        "compute_capability": list(card.compute_capability) if card.compute_capability else None,
        "pcie_generation": card.pcie_generation,
        "pcie_lanes": card.pcie_lanes,
        "power_watts": card.power_watts,
        "unified_memory": card.unified_memory,
        "corrections": list(card.corrections),
    }


def _sourced(fact: Sourced | None) -> dict[str, Any] | None:
    return None if fact is None else asdict(fact)


def accuracy_of(rows: Sequence[AccuracyRow]) -> dict[str, Any] | None:
    """How the estimator did on the measurements in ``rows``; ``None`` when there are none."""
    if not rows:
        return None
    return {
        "rows": len(rows),
        "tested": sum(not row.fitted for row in rows),
        "covered": sum(row.covered for row in rows),
    }


_ROW = ("origin", "source", "cell", "quantity", "unit", "predicted", "low", "high", "published", "fitted")


def accuracy_row(row: AccuracyRow) -> dict[str, Any]:
    """A row as JSON values, with its relative error and whether the interval covers what was measured."""
    return {**{name: getattr(row, name) for name in _ROW}, "error": row.error, "covered": row.covered}


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """The row that stands for a page in lists: its best cell."""
    report = document["report"]
    cell, machine, card = report["cells"][focus(report)], report["machine"], document["card"]
    return {
        "address": document["address"],
        "model": report["model"]["slug"],
        "model_name": report["model"]["name"],
        **{name: report["workload"].get(name) for name in ASKED},
        "card": card["slug"],
        "name": card["name"],
        "vendor": card["vendor"],
        "memory": card["memory"],
        "price": None if card["launch_price_usd"] is None else card["launch_price_usd"]["value"],
        "usable_span": machine["usable_vram"],
        "ram": machine["ram"],
        "verdict": cell["verdict"],
        "binding": cell["binding"],
        "tier": cell["tier"],
        "published": cell["published"],
        "runtime": cell["runtime"],
        "mode": cell["mode"],
        "need": cell["card"]["best"],
        "host": cell["host"]["best"],
        "seconds": cell["seconds"],
        "pace": pace(cell, report["workload"]["task"]),
        "evidence": cell["evidence"]["level"],
        "records": document["measured"],
        "way_out": way_out(document),
    }


def way_out(document: Mapping[str, Any]) -> str | None:
    """What would make the cell run that the answer speaks of, in a few words; ``None`` where it runs or nothing
    would."""
    report = document["report"]
    cell = report["cells"][focus(report)]
    if cell["verdict"] in RUNS or cell["flip"] is None:
        return None
    # more of something alone may leave open whether the software runs there
    least = "at least " if cell["flip"]["verdict"] == "unknown" else ""
    return f"{least}{cell['flip']['change']}"

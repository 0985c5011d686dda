"""The document behind a page about one model on one card: the report itself, and what stands around it.

A page is drawn from its document alone, and the document is the page's JSON twin, so the two cannot disagree.
``report`` is exactly what ``fitcheck check --json`` prints. Bytes are integers, unknown is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from fitcheck.hardware.card import Card, Sourced
from fitcheck.memory.weighing import Verdict
from fitcheck.models.workload import Task
from fitcheck.pages.view import RUNS, focus
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.accuracy import AccuracyRow
from fitcheck.verdict.check import advised, rejudged
from fitcheck.verdict.order import order
from fitcheck.verdict.report import Cell, Report, cell_json
from fitcheck.verdict.usual_machine import Asked

SCHEMA = "fitcheck.page/1"
# of the other tasks a page shows the answer, not the whole table
TASK_CELL = ("tier", "published", "mode", "verdict", "reason", "flip", "card", "host", "seconds", "commands")
# what a list says was asked; a task without pictures has no width
ASKED = ("task", "width", "height")
RAM_STEPS = tuple(size * GIB for size in (16, 24, 32, 48, 64, 96, 128, 192, 256))


def check_document(
    asked: Asked, records: Sequence[Mapping[str, Any]] = (), accuracy: Sequence[AccuracyRow] = ()
) -> dict[str, Any]:
    """Everything the page about ``asked`` says. ``records`` are JSON documents of this model on this card."""
    report = asked.report()
    tasks = []
    for task in asked.model.tasks:
        cell = report.best if task is asked.model.tasks[0] else closest(asked, task)
        shown = {name: value for name, value in cell_json(cell).items() if name in TASK_CELL}
        tasks.append({"task": str(task), "command": asked.command(task), "cell": shown})
    return {
        **report_document(report, asked.command(), records, accuracy),
        "address": f"check/{asked.model.slug}/{asked.card.slug}/",
        "tasks": tasks,
    }


def closest(asked: Asked, task: Task) -> Cell:
    """The best cell of a task, with its advice; where none runs, the published one that is least short."""
    report = asked.report(task, advise=False)
    cell = report.best
    if cell.verdict is Verdict.FITS:
        return cell
    return advised(cell, Wanted(task=str(task)))


def report_document(
    report: Report,
    command: str | None = None,
    records: Sequence[Mapping[str, Any]] = (),
    accuracy: Sequence[AccuracyRow] = (),
) -> dict[str, Any]:
    """The document of any report, also of one that no page of the site is about."""
    model, gpu = report.model, report.gpu
    return {
        "schema": SCHEMA,
        "address": None,
        "command": command,
        "card": None if gpu is None else card_facts(gpu.card),
        "report": report.to_json(),
        "tasks": [],
        "system_memory": system_memory(report),
        "requirements": [asdict(requirement) for requirement in model.requirements],
        "accuracy": accuracy_of(accuracy),
        "records": [dict(record) for record in records],
    }


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


def system_memory(report: Report) -> list[dict[str, Any]]:
    """The best choice for other amounts of system memory on the same card: only host budgets change.

    Empty where memory is shared, and for language models, whose layers move with the memory there is.
    """
    rows: list[dict[str, Any]] = []
    if report.workload.task.read_along or any(gpu.card.unified_memory for gpu in report.machine.gpus):
        return rows
    for size in RAM_STEPS:
        machine = replace(report.machine, ram_total=size, ram_available=None)
        best = order([rejudged(cell, machine, report.floor) for cell in report.cells])[0]
        rows.append({"ram": size, "verdict": str(best.verdict), "tier": best.tier.name, "mode": best.placement.mode})
    return rows


def accuracy_of(rows: Sequence[AccuracyRow]) -> dict[str, Any] | None:
    """How the estimator did on the measurements in ``rows``; ``None`` when there are none."""
    if not rows:
        return None
    worst = sorted(rows, key=lambda row: -abs(row.error))[:3]
    return {
        "rows": len(rows),
        "tested": sum(not row.fitted for row in rows),
        "covered": sum(row.covered for row in rows),
        "worst": [accuracy_row(row) for row in worst],
    }


def accuracy_row(row: AccuracyRow) -> dict[str, Any]:
    """A row as JSON values, with its relative error and whether the interval covers what was measured."""
    return {**asdict(row), "error": row.error, "covered": row.covered}


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
        "form": card["form"],
        "memory": card["memory"],
        "released": card["released"],
        "price": None if card["launch_price_usd"] is None else card["launch_price_usd"]["value"],
        "ram": machine["ram"],
        "usable_span": machine["usable_vram"],
        "verdict": cell["verdict"],
        "binding": cell["binding"],
        "tier": cell["tier"],
        "mode": cell["mode"],
        "need": cell["card"]["best"],
        "host": cell["host"]["best"],
        "seconds": cell["seconds"],
        "evidence": cell["evidence"]["level"],
        "records": len(document["records"]),
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

"""The same question at other sizes: system memory, context, resolution, length, and the model's other tasks.

Each row is what ``fitcheck check`` says with the options that its command names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from fitcheck.data_files import load
from fitcheck.errors import InputError
from fitcheck.memory.weighing import Verdict
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Product, Task, Workload
from fitcheck.pages.view import RUNS
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.options import declared, flag
from fitcheck.units import GIB
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.cell_json import cell_json, interval_json
from fitcheck.verdict.changes import least_purchase
from fitcheck.verdict.check import advised
from fitcheck.verdict.compare import compared
from fitcheck.verdict.purposes import purposes
from fitcheck.verdict.report import Report
from fitcheck.verdict.usual_machine import Asked

# what people have beside a card, in bytes
MEMORY = tuple(size * GIB for size in (16, 32, 64, 128))
# of the other tasks a page shows the answer, not the whole table
_TASK = ("tier", "published", "mode", "verdict", "reason", "flip", "card", "host", "seconds", "commands")


class Reports:
    """The answers about one model on one card, for each of its tasks and amounts of system memory, each found once."""

    def __init__(self, asked: Asked, report: Report) -> None:
        self.asked = asked
        self.told = report
        self._found = {(asked.model.tasks[0], report.machine.ram_total): report}

    def of(self, task: Task, ram: int | None = None) -> Report:
        """The answer beside ``ram`` bytes, of which the best cell alone counts; by default the whole answer beside the
        usual amount. With no more advice than that has."""
        usual = task, self.told.machine.ram_total
        if usual not in self._found:
            self._found[usual] = self.asked.report(task, advise=False)
        place = task, usual[1] if ram is None else ram
        if place not in self._found:
            assert ram is not None
            self._found[place] = self.asked.beside(self._found[usual], ram, task)
        return self._found[place]


def by_memory(reports: Reports) -> list[dict[str, Any]]:
    """The best choice beside each amount of system memory, for each task that somebody wants the model for; one amount
    where the card shares that memory."""
    sizes = (reports.told.machine.ram_total,) if reports.asked.card.unified_memory else MEMORY
    rows = []
    for task in _wanted_tasks(reports.asked):
        for size in sizes:
            found = reports.of(task, size)
            row = {"task": str(task), "ram": size, **_answer(found.best), "change": _change(found)}
            rows.append({**row, "price_usd_per": _priced(found)})
    return rows


def tiers_shown(model: Model) -> tuple[Tier, ...] | None:
    """The tiers that pages ask about where a model has dozens by rule: those that most publishers make. ``None`` means
    all."""
    names = load("pages", "steps")["tiers"]
    found = tuple(tier for tier in model.tiers if tier.name in names)
    return found if len(model.tiers) > len(names) and model.tasks[0].read_along and found else None


def _priced(report: Report) -> float | None:
    """US dollars of cards for each image an hour or token a second, as ``fitcheck compare`` has it."""
    return compared(report, {}).price_per_hourly


def _wanted_tasks(asked: Asked) -> list[Task]:
    """The model's first task, then those that a purpose of ``fitcheck runs`` asks it for."""
    served = {task for purpose in purposes() for task in purpose.tasks}
    first, *rest = asked.model.tasks
    return [first, *(task for task in rest if str(task) in served and not task.read_along)]


def _change(report: Report) -> dict[str, str] | None:
    if report.best.verdict is Verdict.FITS:
        return None
    flip = least_purchase(report.best, report.floor)
    return None if flip is None else {"words": flip.change, "verdict": str(flip.verdict)}


def _answer(cell: Cell) -> dict[str, Any]:
    """A cell in a row: the names of ``fitcheck.check/2``, memory as the best estimate alone, and the one of the two
    speeds that is told."""
    return {
        "verdict": str(cell.verdict),
        "tier": cell.tier.name,
        "mode": cell.placement.mode,
        "need": cell.need,
        "host": cell.footprint.host.total.best,
        "seconds": interval_json(cell.seconds),
        "pace": interval_json(cell.pace),
    }


def steps(reports: Reports) -> list[dict[str, Any]]:
    """The files that the answer speaks of at other sizes of the work, in the best mode of each; nothing where
    none of them runs."""
    asked, report, rows = reports.asked, reports.told, []
    best_fits = report.best.verdict is Verdict.FITS
    for name, value, words in _values(asked, report):
        with suppress(InputError):  # a size that this model cannot make
            usual = best_fits and _made(report.workload)[name] == value  # the answer itself
            best = report.best if usual else asked.best(report.best.tier, ((name, value),))
            typed = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
            rows.append({"option": f"{flag(name)} {typed}", "value": words, **_answer(best)})
    return rows if any(row["verdict"] in RUNS for row in rows) else []


def _made(work: Workload) -> dict[str, Any]:
    """What a workload says of each option that a step may set."""
    return {"ctx": work.context, "size": (work.width, work.height), "frames": work.frames}


def _values(asked: Asked, report: Report) -> Iterator[tuple[str, Any, str]]:
    """(Option, value, what it is called) of each step that the runtime of the answer has an option for, of contexts as
    far as the model was trained on them."""
    data, work = load("pages", "steps"), report.workload
    known = declared(registry.get(report.best.placement.runtime).options)
    if work.task is Task.EMBED:  # a text is as long as it is: more context holds nothing more
        return
    if work.task.read_along and "ctx" in known:
        longest = asked.model.architecture.context_length or max(data["ctx"])
        trained = [value for value in data["ctx"] if value <= longest]
        if len(trained) > 1:
            yield from (("ctx", value, f"{value:,} tokens") for value in trained)
        return
    for name, value in sizes_shown(work.task):
        if name in known:
            yield name, value, "{} × {}".format(*value) if isinstance(value, tuple) else f"{value} {name}"


def sizes_shown(task: Task) -> Iterator[tuple[str, Any]]:
    """(Option, value) of each size and length at which pages show what a task of pictures or videos takes."""
    data, video = load("pages", "steps"), task.produces is Product.VIDEO
    yield from (("size", tuple(size)) for size in data["video" if video else "image"])
    if video:
        yield from (("frames", value) for value in data["frames"])


def other_tasks(reports: Reports) -> list[dict[str, Any]]:
    """The answer for each task of the model but its first; text that is read along is no other task of text."""
    asked, rows = reports.asked, []
    for task in asked.model.tasks[1:]:
        if task.read_along and reports.told.workload.task.read_along:
            continue
        cell = _closest(reports.of(task), task)
        whole = cell_json(cell)
        shown = {name: whole[name] for name in _TASK}
        shown["pace"] = interval_json(cell.pace)
        rows.append({"task": str(task), "command": asked.command(task), "cell": shown})
    return rows


def _closest(report: Report, task: Task) -> Cell:
    """The best cell of a task, with its advice; where none runs, the published one that is least short."""
    cell = report.best
    return cell if cell.verdict is Verdict.FITS else advised(cell, Wanted(task=str(task)))

"""What runs on a machine: the catalog in order of size, each model in the one tier that a buyer would take.

A full check of one model takes up to seconds, of the whole catalog minutes. So the list is walked in order, largest
first, and a model is checked in one tier, by the same ``check`` that a person would run on it: ``Row.command`` says so.
Sizes alone decide what is looked at first and what is too large to be looked at; every verdict is that of the check.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import field, replace
from typing import Any

from fitcheck.dataclass import dataclass
from fitcheck.errors import CardError
from fitcheck.hardware.budget import budgets_of
from fitcheck.hardware.machine import Machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.models.families.base import Listing
from fitcheck.models.workload import Task
from fitcheck.records.run_index import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.verdict.changes import least_purchase
from fitcheck.verdict.lead import SHARE, USUAL_BITS, lead
from fitcheck.verdict.purposes import Purpose
from fitcheck.verdict.report import Report, interval_json
from fitcheck.verdict.usual_memory import completed

SCHEMA = "fitcheck.runs/1"
ORDER = (
    "largest first by parameters, newer first among equals: the catalog holds no quality score with a source, and "
    "fitcheck has no opinion"
)
MOST_MISSES = 3
# searches for how to split a model over card and host, which take most of the time
MOST_SPLITS = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One model in one tier; ``report`` is what ``check`` says of it."""

    listing: Listing
    task: Task
    report: Report

    @property
    def verdict(self) -> Verdict:
        """That of the report's best cell."""
        return self.report.best.verdict

    @property
    def change(self) -> str | None:
        """What would better it, with the verdict that it buys; ``None`` where it fits, or nothing simple helps."""
        flip = self.report.best.flip
        return None if flip is None else f"{flip.change} ({flip.verdict})"

    def command(self, said: Sequence[str] = ()) -> str:
        """The command line that asks the same; ``said`` are the words that name the machine."""
        words = ["fitcheck", "check", self.listing.slug, *said, "--tier", self.report.best.tier.name]
        if self.task is not self.report.model.tasks[0]:
            words += ["--task", str(self.task)]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Ranking:
    """``rows`` fit, in ``ORDER``; ``misses`` do not, or too slowly, nearest first. Of
    ``listed`` models ``larger`` are too large for this machine in a usual tier and ``unseen`` were not checked, because
    enough better ones run."""

    purpose: Purpose
    machine: Machine
    rows: tuple[Row, ...]
    misses: tuple[Row, ...]
    listed: int
    larger: int
    unseen: int

    def to_json(self, said: Sequence[str] = ()) -> dict[str, Any]:
        """Bytes and parameters are integers; each row has the headline cell's main figures and the command."""
        return {
            "for": self.purpose.name,
            "order": ORDER,
            "rows": [_row_json(row, said) for row in self.rows],
            "misses": [_row_json(row, said) for row in self.misses],
            "listed": self.listed,
            "too_large": self.larger,
            "not_checked": self.unseen,
        }


def rank(
    purpose: Purpose,
    machine: Machine,
    wanted: Wanted,
    index: Index | None = None,
    *,
    most: int = 10,
    every_tier: bool = False,
) -> Ranking:
    """At most ``most`` models that run on ``machine``, and a few that just miss.

    ``every_tier`` looks for the best of every tier, as ``check`` does when no tier is named, which takes minutes.
    Raises InputError for a floor that cannot be.
    """
    machine = completed(machine)
    room, found = _room(machine), sorted(purpose.models(), key=_order)
    larger = [one for one in found if one[1].read_along and room.lacks(one[0])]
    whole = [one for one in found if not one[1].read_along or room.holds(one[0])]
    split = sorted((one for one in found if one not in whole and one not in larger), key=_newest)
    ask = _Asker(machine, wanted, index, room, every_tier)
    rows, misses = _first(ask.each(whole), most)
    for row in ask.each(split[: None if every_tier else MOST_SPLITS]):
        (rows if row.verdict is Verdict.FITS else misses).append(row)
    if not misses:
        misses = list(ask.each(larger[-MOST_MISSES:]))
    rows.sort(key=lambda row: _order((row.listing, row.task)))
    told = tuple(with_change(row) for row in sorted(misses, key=_nearness)[:MOST_MISSES])
    unseen = len(found) - len(larger) - sum(row.listing not in {one for one, _ in larger} for row in ask.met)
    return Ranking(purpose, machine, tuple(rows), told, len(found), len(larger), unseen)


def _first(rows: Iterator[Row], most: int) -> tuple[list[Row], list[Row]]:
    """The first ``most`` that fit, and what was met on the way and does not."""
    fit: list[Row] = []
    other: list[Row] = []
    for row in rows:
        (fit if row.verdict is Verdict.FITS else other).append(row)
        if len(fit) == most:
            break
    return fit, other


@dataclass(frozen=True, slots=True)
class _Room:
    """Bytes on all cards together and beside them on the host, expected and at most."""

    card: int
    host: int
    most: int

    def holds(self, listing: Listing) -> bool:
        """Whether the model is likely to lie whole on the cards in a usual tier; a check then says."""
        return (listing.parameters or 0) * USUAL_BITS / 8 <= SHARE * self.card

    def lacks(self, listing: Listing) -> bool:
        """Whether the weights of a usual tier are more than there is on cards and host together."""
        return (listing.parameters or 0) * USUAL_BITS / 8 > self.most


def _room(machine: Machine) -> _Room:
    budgets = budgets_of(machine)
    card, most = sum(one.vram.best for one in budgets), sum(one.vram.high for one in budgets)
    ram, shared = budgets[0].ram, any(gpu.card.unified_memory for gpu in machine.gpus)
    if ram is None or shared:
        return _Room(card, 0, most)
    return _Room(card, ram.best, most + ram.high)


@dataclass(slots=True)
class _Asker:
    """Checks models one after another, each once."""

    machine: Machine
    wanted: Wanted
    index: Index | None
    room: _Room
    every_tier: bool
    met: list[Row] = field(default_factory=list)

    def each(self, models: Sequence[tuple[Listing, Task]]) -> Iterator[Row]:
        """One row a model; none for a model that asks for a card on a machine without one."""
        for one in models:
            with suppress(CardError):
                yield self.best(one)

    def best(self, one: tuple[Listing, Task]) -> Row:
        """The finest tier that lies whole on the cards, else the usual one with a part of it on the host. Pictures in
        every tier and mode, because there a mode decides as much as a tier."""
        listing, task = one
        model = catalog.get(listing.slug)
        tiers = None if self.every_tier or not task.read_along else model.tiers
        report = lead(model, tiers, self.machine, self._wanted(task), self.index)
        self.met.append(Row(listing, task, report))
        return self.met[-1]

    def _wanted(self, task: Task) -> Wanted:
        """The question for this task: a floor in tokens a second says nothing of pictures, one in seconds nothing of
        text that is read along."""
        if task.read_along:
            return replace(self.wanted, task=str(task), max_seconds=None)
        return replace(self.wanted, task=str(task), min_speed=None)


def with_change(row: Row) -> Row:
    """The same row with the least memory to buy that would better it, where memory does."""
    first, *rest = row.report.cells
    cells = (replace(first, flip=least_purchase(first, row.report.floor)), *rest)
    return replace(row, report=replace(row.report, cells=cells))


def _nearness(row: Row) -> tuple[object, ...]:
    """What runs though tight or too slowly before what does not, then what lacks the smaller share."""
    lack = max((-one.left / max(one.available, 1) for one in row.report.best.judgement.margins), default=0.0)
    return row.verdict.rank, max(lack, 0.0), _order((row.listing, row.task))


def _order(one: tuple[Listing, Task]) -> tuple[object, ...]:
    listing = one[0]
    day = int((listing.released or "0").replace("-", "") or 0)
    return -(listing.parameters or 0), -day, listing.slug


def _newest(one: tuple[Listing, Task]) -> tuple[object, ...]:
    return -int((one[0].released or "0").replace("-", "")), _order(one)


def _row_json(row: Row, said: Sequence[str]) -> dict[str, Any]:
    cell, listing = row.report.best, row.listing
    return {
        "model": listing.slug,
        "name": listing.name,
        "task": str(row.task),
        "parameters": listing.parameters,
        "released": listing.released,
        "source": listing.source,
        **summary_json(row.report),
        "change": None if cell.flip is None else {"words": cell.flip.change, "verdict": str(cell.flip.verdict)},
        "command": row.command(said),
    }


def summary_json(report: Report) -> dict[str, Any]:
    """The headline cell's figures that a list shows, by the names of ``fitcheck.check/2``."""
    cell = report.best
    return {
        "verdict": str(cell.verdict),
        "tier": cell.tier.name,
        "runtime": cell.placement.runtime,
        "mode": cell.placement.mode,
        "binding": str(cell.judgement.binding),
        "gist": cell.judgement.gist,
        "reason": cell.judgement.reason,
        "card": interval_json(cell.memory.card),
        "host": interval_json(cell.footprint.host.total),
        "disk": cell.footprint.disk,
        "seconds": interval_json(cell.seconds),
        "generation": interval_json(cell.rate("generation")),
        "evidence": cell.evidence.level,
    }

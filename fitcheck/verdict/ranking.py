"""What runs on a machine: the catalog in a public order, each model in the one tier that a buyer would take.

A full check of one model takes up to seconds, of the whole catalog minutes. So the list is walked in order, best rated
and newest first, and a model is checked in one tier, by the same ``check`` that a person would run on it:
``Row.command`` says so. Sizes alone decide what may lie whole on the cards and what is too large to be looked at; every
verdict is that of the check.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import field, replace
from functools import partial
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import CardError
from fitcheck.hardware.budget import budgets_of
from fitcheck.hardware.machine import Machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.models.families.base import Listing
from fitcheck.models.workload import Task
from fitcheck.records.run_index import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.cell_json import interval_json, quality_json
from fitcheck.verdict.check import advised
from fitcheck.verdict.known_records import known_of
from fitcheck.verdict.lead import SHARE, USUAL_BITS, LeadingTier
from fitcheck.verdict.purposes import Purpose
from fitcheck.verdict.report import Report
from fitcheck.verdict.usual_memory import completed

SCHEMA = "fitcheck.runs/1"
MOST_MISSES = 3
# of the rows, the share that is kept for models which no leaderboard lists: most of the newest are among them
UNRATED = 3
# searches for how to split a model over card and host, which take most of the time
MOST_SPLITS = 6


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
    """``rows`` fit, in the purpose's order, and so do ``more`` that are not shown; ``misses`` do not, or too slowly,
    nearest first. Of ``listed`` models ``larger`` are too large for this machine in a usual tier and ``unseen`` were
    not checked, because enough better ones run."""

    purpose: Purpose
    machine: Machine
    rows: tuple[Row, ...]
    misses: tuple[Row, ...]
    listed: int
    larger: int
    unseen: int
    more: int = 0

    def to_json(self, said: Sequence[str] = ()) -> dict[str, Any]:
        """Bytes and parameters are integers; each row has the headline cell's main figures and the command."""
        return {
            "for": self.purpose.name,
            "order": self.purpose.order,
            "rows": [_row_json(self.purpose, row, said) for row in self.rows],
            "misses": [_row_json(self.purpose, row, said) for row in self.misses],
            "listed": self.listed,
            "too_large": self.larger,
            "not_checked": self.unseen,
            "more": self.more,
        }


@dataclass(frozen=True, slots=True)
class Rankings:
    """A list for each purpose; ``said`` are the words that name the machine on a command line."""

    purposes: tuple[Ranking, ...]
    said: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The lists in the order asked."""
        return {"schema": SCHEMA, "purposes": [one.to_json(self.said) for one in self.purposes]}


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
    order = partial(_order, purpose)
    room, found = _room(machine), sorted(purpose.models(), key=order)
    larger = [one for one in found if one[1].read_along and room.lacks(one[0])]
    whole = [one for one in found if not one[1].read_along or room.holds(one[0])]
    split = [one for one in found if one[1].read_along and not room.holds(one[0]) and not room.lacks(one[0])]
    ask = _Asker(machine, wanted, index, room, every_tier)
    rows, misses = _first(ask, purpose, whole, most)
    for one in ask.each(split[: None if every_tier else MOST_SPLITS]):
        (rows if one.tier.fits else misses).append(one)
    if not misses:
        for one in ask.each(sorted(larger, key=_size)[:MOST_MISSES]):
            (rows if one.tier.fits else misses).append(one)
    rows.sort(key=lambda one: order((one.listing, one.task)))
    shown = tuple(one.row for one in _shown(rows, purpose, most))
    told = tuple(with_change(row, index) for row in _nearest(misses))
    too_large = {listing.slug for listing, _ in larger}
    unseen = len(found) - len(larger) - sum(one.listing.slug not in too_large for one in ask.met)
    more = len(rows) - len(shown)
    return Ranking(purpose, machine, shown, told, len(found), len(larger), unseen, more)


def _first(
    ask: _Asker, purpose: Purpose, models: Sequence[tuple[Listing, Task]], most: int
) -> tuple[list[_Candidate], list[_Candidate]]:
    """The first ``most`` that fit, a share of them models that no leaderboard lists, and what was met on the way and
    does not."""
    rated = ask.each([one for one in models if purpose.score(one[0]) is not None])
    others = ask.each([one for one in models if purpose.score(one[0]) is None])
    fit: list[_Candidate] = []
    other: list[_Candidate] = []
    for candidates, until in ((rated, most - most // UNRATED), (others, most), (rated, most)):
        while len(fit) < until and (one := next(candidates, None)) is not None:
            (fit if one.tier.fits else other).append(one)
    return fit, other


def _shown(rows: Sequence[_Candidate], purpose: Purpose, most: int) -> list[_Candidate]:
    """At most ``most`` of ``rows``, in their order, with the share of those that no leaderboard lists."""
    rated = [row for row in rows if purpose.score(row.listing) is not None]
    others = [row for row in rows if purpose.score(row.listing) is None]
    count = max(most - most // UNRATED, most - len(others))
    kept = {id(row) for row in (*rated[:count], *others[: most - len(rated[:count])])}
    return [row for row in rows if id(row) in kept]


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
    if not machine.gpus:  # the processor does the work, and all the room there is lies beside it
        return _Room(ram.best, 0, ram.high)
    return _Room(card, ram.best, most + ram.high)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A model of the list: its tier is searched as far as the list has to know it."""

    listing: Listing
    task: Task
    tier: LeadingTier

    @property
    def row(self) -> Row:
        """With the tier that leads."""
        return Row(self.listing, self.task, self.tier.report)


@dataclass(slots=True)
class _Asker:
    """Checks models one after another, each once."""

    machine: Machine
    wanted: Wanted
    index: Index | None
    room: _Room
    every_tier: bool
    met: list[_Candidate] = field(default_factory=list)

    def each(self, models: Sequence[tuple[Listing, Task]]) -> Iterator[_Candidate]:
        """One candidate a model, of which it is known whether it fits; none for a model that asks for a card on a
        machine without one."""
        for one in models:
            with suppress(CardError):
                found = self._candidate(one)
                found.tier.fits  # noqa: B018 - without a card it is refused here
                self.met.append(found)
                yield found

    def _candidate(self, one: tuple[Listing, Task]) -> _Candidate:
        """With the tier that the check leads with, of those that are not coarse; of pictures and videos among every
        tier and mode, because there a mode decides as much as a tier."""
        listing, task = one
        model = catalog.get(listing.slug)
        tiers = None if self.every_tier or not task.read_along else model.tiers
        return _Candidate(listing, task, LeadingTier(model, tiers, self.machine, self._wanted(task), self.index))

    def _wanted(self, task: Task) -> Wanted:
        """The question for this task: a floor in tokens a second says nothing of pictures, one in seconds nothing of
        text that is read along."""
        if task.read_along:
            return replace(self.wanted, task=str(task), max_seconds=None)
        return replace(self.wanted, task=str(task), min_speed=None)


def with_change(row: Row, index: Index | None = None) -> Row:
    """The same row with the change that a check advises."""
    report, (first, *rest) = row.report, row.report.cells
    best = advised(first, report.wanted, known_of(index, report.machine, report.model))
    return replace(row, report=replace(report, cells=(best, *rest)))


def _nearest(misses: Sequence[_Candidate]) -> list[Row]:
    """A few that just miss, nearest first. How far what does not run at all is from running, is only asked where too
    few do."""
    found = [one.row for one in misses if not one.tier.surely_not]
    if sum(row.verdict is not Verdict.NO for row in found) < MOST_MISSES:
        found += [one.row for one in misses if one.tier.surely_not]
    return sorted(found, key=_nearness)[:MOST_MISSES]


def _nearness(row: Row) -> tuple[object, ...]:
    """What runs though tight or too slowly before what does not, then what lacks the smaller share."""
    lack = max((-one.left / max(one.available, 1) for one in row.report.best.judgement.margins), default=0.0)
    return row.verdict.rank, max(lack, 0.0), -(row.listing.parameters or 0), row.listing.slug


def _order(purpose: Purpose, one: tuple[Listing, Task]) -> tuple[object, ...]:
    """Rated models first, best first; then the newest; a day that is not known comes last, the larger model first."""
    listing = one[0]
    score = purpose.score(listing)
    day = int((listing.day or "0").replace("-", ""))
    return score is None, 0 if score is None else -score.value, -day, -(listing.parameters or 0), listing.slug


def _size(one: tuple[Listing, Task]) -> tuple[object, ...]:
    return one[0].parameters or 0, one[0].slug


def _row_json(purpose: Purpose, row: Row, said: Sequence[str]) -> dict[str, Any]:
    cell, listing, score = row.report.best, row.listing, purpose.score(row.listing)
    return {
        "model": listing.slug,
        "name": listing.name,
        "task": str(row.task),
        "parameters": listing.parameters,
        "released": listing.released,
        "seen": listing.seen,
        "score": None if score is None else score.to_json(),
        "source": listing.source,
        **summary_json(row.report),
        "change": change_json(cell),
        "command": row.command(said),
    }


def change_json(cell: Cell) -> dict[str, str] | None:
    """The smallest change that gives a better verdict; null where there is none, or it was not looked for."""
    return None if cell.flip is None else {"words": cell.flip.change, "verdict": str(cell.flip.verdict)}


def summary_json(report: Report) -> dict[str, Any]:
    """The headline cell's figures that a list shows, by the names of ``fitcheck.check/2``."""
    cell = report.best
    return {
        "verdict": str(cell.verdict),
        "tier": cell.tier.name,
        "quality": quality_json(cell),
        "runtime": cell.placement.runtime,
        "mode": cell.placement.mode,
        "binding": str(cell.judgement.binding),
        "gist": cell.judgement.gist,
        "reason": cell.reason,
        "card": interval_json(cell.memory.card),
        "host": interval_json(cell.footprint.host.total),
        "disk": cell.footprint.disk,
        "seconds": interval_json(cell.seconds),
        "pace": interval_json(cell.pace),
        "evidence": cell.evidence.level,
    }

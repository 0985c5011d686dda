"""The question about a model on a card that anybody can repeat, in the machine that such a card usually sits in.

`fitcheck check` with ``Asked.command`` gives the same numbers, because both assume the same of what is not said.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Machine, machine_for
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task
from fitcheck.records.run_index import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check, told
from fitcheck.verdict.other_memory import best_beside
from fitcheck.verdict.report import Report
from fitcheck.verdict.usual_memory import completed


@dataclass(frozen=True, slots=True)
class Asked:
    """A model on a card; ``ram`` are bytes of system memory where somebody said them, ``index`` holds the card's
    records, ``tiers`` are those that are looked at where not all are."""

    model: Model
    card: Card
    index: Index
    ram: int | None = None
    tiers: tuple[Tier, ...] | None = None

    def command(self, task: Task | None = None) -> str:
        """The command line that asks the same."""
        words = ["fitcheck", "check", self.model.slug, "--gpu", self.card.slug]
        if task is not None and task is not self.model.tasks[0]:
            words += ["--task", str(task)]
        if self.ram is not None:
            words += ["--ram", f"{self.ram // GIB}GB"]
        if self.tiers is not None:
            words += ["--tier", ",".join(tier.name for tier in self.tiers)]
        return shlex.join(words)

    def report(
        self,
        task: Task | None = None,
        *,
        tiers: Sequence[Tier] | None = None,
        options: tuple[tuple[str, Any], ...] = (),
        advise: bool = True,
    ) -> Report:
        """What ``command`` prints, as a value; of some tiers alone when they are given, with ``options`` by name."""
        machine = _beside(self.card, self.ram)
        wanted = Wanted(task=None if task is None else str(task), options=options)
        return check(self.model, machine, wanted, tiers=tiers or self.tiers, index=self.index, advise=advise)

    def best(self, tier: Tier, options: tuple[tuple[str, Any], ...]) -> Cell:
        """The best cell of ``report`` for one tier with these options, without advice."""
        machine, wanted = _beside(self.card, self.ram), Wanted(options=options)
        return check(self.model, machine, wanted, tiers=(tier,), index=self.index, advise=False, head=True).best

    def beside(self, report: Report, ram: int, task: Task | None = None) -> Report:
        """``report``, which answers the same beside another amount of system memory, beside ``ram`` bytes: its best
        cell, without advice."""
        wanted, machine = Wanted(task=None if task is None else str(task)), _beside(self.card, ram)
        return best_beside(report, machine, wanted, self.tiers, self.index)

    def told(self) -> Report:
        """``report``, with advice on the best cell alone: that of every cell takes ten times as long."""
        return told(self.report(advise=False), Wanted(), self.index)


@lru_cache(maxsize=8)
def _beside(card: Card, ram: int | None) -> Machine:
    """The usual machine of a card beside so much system memory, the same one for each of a page's questions: what
    follows from a machine is kept by its identity."""
    return completed(machine_for(card, ram=ram))


def ask(model: Model, card: Card, index: Index | None = None, tiers: tuple[Tier, ...] | None = None) -> Asked:
    """The question about ``model`` on ``card`` in its usual machine, with the records of that card."""
    return Asked(model, card, index or Index(), tiers=tiers)

"""Which machine a card usually sits in, and the question about a model on it that anybody can repeat.

`fitcheck check` with ``Asked.command`` gives the same numbers.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import machine_for
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task
from fitcheck.records.evidence import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.check import check
from fitcheck.verdict.report import Report

# System memory that a machine with such a card usually has; every answer says which one it was asked with.
USUAL_RAM = {"workstation": 128 * GIB, "datacenter": 256 * GIB}
USUAL_RAM_ELSEWHERE = 32 * GIB


@dataclass(frozen=True, slots=True)
class Asked:
    """A model on a card in a machine with ``ram`` bytes of system memory (``None``: the card's own, shared).

    ``index`` holds the records of the card.
    """

    model: Model
    card: Card
    ram: int | None
    index: Index

    def command(self, task: Task | None = None) -> str:
        """The command line that asks the same."""
        words = ["fitcheck", "check", self.model.slug, "--gpu", self.card.slug]
        if task is not None and task is not self.model.tasks[0]:
            words += ["--task", str(task)]
        if self.ram is not None:
            words += ["--ram", f"{self.ram // GIB}GB"]
        return shlex.join(words)

    def report(self, task: Task | None = None, *, tiers: Sequence[Tier] | None = None, advise: bool = True) -> Report:
        """What ``command`` prints, as a value; of some tiers alone when they are given."""
        machine = machine_for(self.card, ram=self.ram)
        wanted = Wanted(task=None if task is None else str(task))
        return check(self.model, machine, wanted, tiers=tiers, index=self.index, advise=advise)


def usual_ram(card: Card) -> int | None:
    """Bytes of system memory beside such a card; ``None`` where the card shares it."""
    return None if card.unified_memory else USUAL_RAM.get(card.form, USUAL_RAM_ELSEWHERE)


def ask(model: Model, card: Card, index: Index | None = None) -> Asked:
    """The question about ``model`` on ``card`` in its usual machine, with the records of that card."""
    return Asked(model, card, usual_ram(card), index or Index())

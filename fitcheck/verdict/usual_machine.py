"""The question that a page of the site answers: which machine a card is taken to sit in, and the reports about it.

A page must be repeatable: `fitcheck check` with ``Asked.command`` gives the same numbers.
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
from fitcheck.runtimes.sensenova.workloads import Request
from fitcheck.units import GIB
from fitcheck.verdict.check import check
from fitcheck.verdict.report import Report

# System memory that a machine with such a card usually has; every page says which one it was asked with.
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

    def command(self, task: Task = Task.T2I) -> str:
        words = ["fitcheck", "check", self.model.slug, "--gpu", self.card.slug]
        if task is not Task.T2I:
            words += ["--task", str(task)]
        if self.ram is not None:
            words += ["--ram", f"{self.ram // GIB}GB"]
        return shlex.join(words)

    def report(
        self,
        task: Task = Task.T2I,
        *,
        tiers: Sequence[Tier] | None = None,
        modes: Sequence[str] | None = None,
        advise: bool = True,
    ) -> Report:
        """What ``command`` prints, as a value; of some tiers and modes alone when they are given."""
        machine = machine_for(self.card, ram=self.ram)
        return check(
            self.model,
            machine,
            tiers=tiers,
            modes=modes,
            request=Request(task=str(task)),
            index=self.index,
            advise=advise,
        )


def ask(model: Model, card: Card, index: Index | None = None) -> Asked:
    """The question of the page about ``model`` on ``card``, with the records of that card."""
    ram = None if card.unified_memory else USUAL_RAM.get(card.form, USUAL_RAM_ELSEWHERE)
    return Asked(model, card, ram, index or Index())

"""Which cards run what somebody wants: every card is asked, none is dropped because its price or verdict is unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.asked import running
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Machine, machine_for
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.find import Identified
from fitcheck.records.run_index import Index
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.verdict.lead import lead
from fitcheck.verdict.ranking import summary_json
from fitcheck.verdict.report import Report


@dataclass(frozen=True, slots=True)
class Offer:
    """``count`` cards of one kind in one machine, with the report of each model asked about. ``price`` in US dollars
    is of all of them, ``None`` where it is not known."""

    card: Card
    count: int
    machine: Machine
    reports: tuple[Report, ...]

    @property
    def price(self) -> float | None:
        """What the cards cost."""
        one = self.card.launch_price_usd
        return None if one is None else one.value * self.count

    @property
    def worst(self) -> Report:
        """The report of the model that runs worst: its verdict is the offer's."""
        return max(self.reports, key=lambda report: report.best.verdict.rank)

    @property
    def verdict(self) -> Verdict:
        """That of the model that runs worst."""
        return self.worst.best.verdict

    @property
    def slow(self) -> bool:
        """Whether any of the models runs slower than is of use."""
        return any(report.best.judgement.binding is Constraint.SPEED for report in self.reports)

    @property
    def name(self) -> str:
        """``"2 × GeForce RTX 3090"``."""
        return self.card.name if self.count == 1 else f"{self.count} × {self.card.name}"

    def to_json(self) -> dict[str, Any]:
        """Price, verdict, and each model's headline cell."""
        return {
            "card": self.card.slug,
            "name": self.name,
            "count": self.count,
            "price_usd": self.price,
            "watts": None if self.card.power_watts is None else self.card.power_watts * self.count,
            "ram": self.machine.ram_total,
            "verdict": str(self.verdict),
            "models": [{"model": one.model.slug, **summary_json(one)} for one in self.reports],
        }


@dataclass(frozen=True, slots=True)
class Offers:
    """``fit`` cheapest first within one verdict; ``unpriced`` run and have no price, ``unknown`` may run and nobody has
    shown it; ``dearer`` run and cost more than was asked, ``slow`` run within the price or without one but slower than
    is of use, ``lacking`` do not run."""

    fit: tuple[Offer, ...]
    unpriced: tuple[Offer, ...]
    unknown: tuple[Offer, ...]
    dearer: tuple[Offer, ...]
    slow: tuple[Offer, ...]
    lacking: tuple[Offer, ...]

    @property
    def count(self) -> int:
        """All that were asked."""
        return sum(map(len, (self.fit, self.unpriced, self.unknown, self.dearer, self.slow, self.lacking)))

    @property
    def nearest(self) -> Offer | None:
        """Where nothing fits the price, the cheapest of what costs more: of what is quick enough, where any is."""
        if self.fit:
            return None
        return min(self.dearer, key=lambda one: (one.slow, one.price or math.inf), default=None)

    def to_json(self) -> dict[str, Any]:
        """The offers by group."""
        names = ("fit", "unpriced", "unknown", "dearer", "slow", "lacking")
        return {name: [one.to_json() for one in getattr(self, name)] for name in names}


def offer(
    card: Card,
    models: Sequence[Identified],
    wanted: Wanted,
    index: Index | None = None,
    *,
    ram: int | None = None,
    system: str | None = None,
    count: int = 1,
) -> Offer:
    """What ``count`` of ``card`` do with each model, beside ``ram`` bytes of system memory or what is usual, under the
    operating ``system``."""
    machine = running(machine_for(card, ram=ram, count=count), system)
    return Offer(card, count, machine, tuple(lead(one.model, one.tiers, machine, wanted, index) for one in models))


def split_over_cards(models: Iterable[Identified], wanted: Wanted) -> bool:
    """Whether a second card can hold a part of any of the models under the runtimes in play. Raises OptionError."""
    return any(runtime.splits for found in models for runtime in registry.serving(found.model, wanted.runtime))


def offers(
    cards: Iterable[Card],
    models: Sequence[Identified],
    wanted: Wanted,
    index: Index | None = None,
    *,
    ram: int | None = None,
    system: str | None = None,
    under: float | None = None,
    pairs: bool = False,
) -> Offers:
    """Every card alone, and with ``pairs`` two of each that are not enough alone, sorted into what can be said. Pairs
    are asked only of what runs on several cards."""
    pairs = pairs and split_over_cards(models, wanted)
    found = []
    for card in (card for card in cards if card.memory):
        found.append(offer(card, models, wanted, index, ram=ram, system=system))
        if pairs and found[-1].verdict is not Verdict.FITS and card.form != "laptop":
            found.append(offer(card, models, wanted, index, ram=ram, system=system, count=2))
    return sorted_out(found, under)


def sorted_out(found: Sequence[Offer], under: float | None) -> Offers:
    """The groups of ``Offers``; each offer is in exactly one."""
    limit = math.inf if under is None else under
    ordered = sorted(found, key=lambda one: (one.verdict.rank, one.price or math.inf, one.name))
    runs = [one for one in ordered if one.verdict in (Verdict.FITS, Verdict.TIGHT)]
    within = [one for one in runs if one.price is None or one.price <= limit]
    return Offers(
        fit=tuple(one for one in within if one.price is not None and not one.slow),
        unpriced=tuple(one for one in within if one.price is None and not one.slow),
        unknown=tuple(one for one in ordered if one.verdict is Verdict.UNKNOWN),
        dearer=tuple(one for one in runs if one.price is not None and one.price > limit),
        slow=tuple(one for one in within if one.slow),
        lacking=tuple(one for one in ordered if one.verdict is Verdict.NO),
    )

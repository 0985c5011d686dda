"""Machines side by side on the same models: each cell is the report of ``check``, and what it costs beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Sourced
from fitcheck.hardware.machine import Gpu, Machine
from fitcheck.models.find import Identified
from fitcheck.records.run_index import Index
from fitcheck.runtimes.base import Wanted
from fitcheck.verdict.check import check
from fitcheck.verdict.ranking import summary_json
from fitcheck.verdict.report import Report

SCHEMA = "fitcheck.compare/1"
HOUR = 3600


@dataclass(frozen=True, slots=True)
class Compared:
    """One model on one machine. ``price`` in US dollars and ``watts`` are of its cards that work, of which the others
    are ``idle``; ``None`` where one is not known."""

    report: Report
    price: float | None
    watts: float | None
    idle: int = 0

    @property
    def price_per_hourly(self) -> float | None:
        """US dollars of cards for each image, video or answer an hour, or each token a second; ``None`` where price or
        speed is not known or it does not run."""
        best = self.report.best
        rate = best.pace
        if self.price is None or best.verdict.rank >= 2:
            return None
        if best.workload.task.read_along:
            return None if rate is None else self.price / rate.best
        return None if best.seconds is None else self.price * best.seconds.best / (best.workload.batch * HOUR)

    def to_json(self) -> dict[str, Any]:
        """The headline cell's main figures with the machine's costs; unknown is null."""
        machine, task = self.report.machine, self.report.workload.task
        return {
            "model": self.report.model.slug,
            "cards": [gpu.card.slug for gpu in machine.gpus],
            "ram": machine.ram_total,
            **summary_json(self.report),
            "idle": self.idle,
            "price_usd": self.price,
            "watts": self.watts,
            "price_usd_per": self.price_per_hourly,
            "per": "token/s" if task.read_along else f"{task.one.split()[-1]}/h",
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every model on every machine, models first."""

    rows: tuple[Compared, ...]

    def to_json(self) -> dict[str, Any]:
        """The rows in order."""
        return {"schema": SCHEMA, "rows": [one.to_json() for one in self.rows]}


def compare(
    models: Sequence[Identified],
    machines: Sequence[Machine],
    wanted: Wanted,
    index: Index | None = None,
    *,
    prices: Mapping[str, Sourced] | None = None,
) -> list[Compared]:
    """Every model on every machine, in the order given, models first. Raises InputError."""
    return [
        compared(check(found.model, machine, wanted, tiers=found.tiers, index=index, advise=False), prices or {})
        for found in models
        for machine in machines
    ]


def compared(report: Report, prices: Mapping[str, Sourced]) -> Compared:
    """A report with what its cards cost."""
    gpus = working_cards(report)
    return Compared(report, price_of(gpus, prices), watts_of(gpus), len(report.machine.gpus) - len(gpus))


def working_cards(report: Report) -> tuple[Gpu, ...]:
    """The cards that hold anything in the best cell: a runtime that does not split a model leaves all but one idle."""
    gpus = report.machine.gpus
    cards = zip(gpus, report.best.footprint.cards, strict=False)
    return tuple(gpu for gpu, memory in cards if memory.card.high) or gpus


def price_of(gpus: Sequence[Gpu], prices: Mapping[str, Sourced]) -> float | None:
    """US dollars of the cards: from ``prices``, else the launch prices; ``None`` where one is not known."""
    found = [prices.get(gpu.card.slug) or gpu.card.launch_price_usd for gpu in gpus]
    return _sum([None if one is None else one.value for one in found])


def watts_of(gpus: Sequence[Gpu]) -> float | None:
    """Board power of the cards; ``None`` where one is not known."""
    return _sum([gpu.card.power_watts for gpu in gpus])


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) and known else None

"""What records add to an estimate: measured cells are shown as measured, records of the card calibrate the rest. Pure:
the caller hands in the index of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, sqrt
from statistics import mean, median

from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Machine
from fitcheck.records.evidence import Index, Summary, find
from fitcheck.records.run import CellKey, Run
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.speed.link import from_memory
from fitcheck.speed.rates import Calibration, calibrated_spread, student_t
from fitcheck.units import GIB, format_seconds
from fitcheck.verdict.report import Evidence


def key_of(runtime: Runtime, ask: Ask) -> CellKey:
    """The cell's identity among records."""
    named = runtime.recorded(ask.placement)
    return CellKey.of(
        ask.model.slug, ask.tier.name, ask.workload, named["name"], named["revision"], named["policy"], named["mode"]
    )


@dataclass(frozen=True)
class Known:
    """The records that say something of a card, and what follows from them by tier."""

    card: Card
    index: Index
    _calibrations: dict[str, Calibration | None] = field(default_factory=dict)

    def calibration(self, ask: Ask) -> Calibration | None:
        """Corrections for a cell of that tier."""
        tier = ask.tier.name
        if tier not in self._calibrations:
            self._calibrations[tier] = calibration_for(self.card, tier, self.index)
        return self._calibrations[tier]

    def evidence(self, runtime: Runtime, ask: Ask) -> Evidence:
        """How we know about a cell."""
        calibration = self.calibration(ask)
        count = 0 if calibration is None else calibration.records
        return evidence_for(key_of(runtime, ask), self.card, self.index, count)


def known_of(index: Index | None, machine: Machine) -> Known | None:
    """The records of the machine's first card; ``None`` where there are none."""
    if index is None or not machine.gpus:
        return None
    card = machine.gpus[0].card
    here = any(run.card == card.slug for run in index.rows) or any(link.card == card.slug for link in index.links)
    return Known(card, index) if here else None


def calibration_for(card: Card, tier: str, index: Index) -> Calibration | None:
    """Corrections from this card's link records and from its finished runs that no streaming slowed, those of the same
    tier where there are any."""
    links = [link for link in index.links if link.card == card.slug]
    tiers: dict[str, list[float]] = {}
    for run in index.rows:
        if run.card == card.slug and (factor := compute_factor(run)) is not None:
            tiers.setdefault(run.cell.tier, []).append(factor)
    alike = list(tiers.values())
    if tier not in tiers:  # how tiers differ from one another counts as well
        alike = [[factor for found in alike for factor in found]]
    factors = tiers.get(tier) or alike[0]
    if not links and not factors:
        return None
    return Calibration(
        compute=median(factors) if factors else 1.0,
        spread=_spread(alike, len(factors)) if factors else None,
        pinned=tuple(link.pinned for link in links if link.pinned),
        pageable=tuple(from_memory(link.pageable) for link in links if link.pageable),
        records=len(factors) + len(links),
    )


@lru_cache(maxsize=4096)
def compute_factor(run: Run) -> float | None:
    """Measured over predicted seconds of a finished run during which no weights travelled, not under a cap; ``None``
    for any other and where nothing predicts it."""
    if run.outcome != "ok" or run.cap is not None or run.seconds is None or not 0 < run.seconds < inf:
        return None
    ask = ask_of(run)
    if ask is None:
        return None
    runtime = registry.get(ask.placement.runtime)
    predicted = runtime.duration(ask, runtime.footprint(ask))
    if predicted is None or predicted.seconds is None or predicted.part("streaming"):
        return None
    return run.seconds / predicted.seconds.best


def ask_of(run: Run) -> Ask | None:
    """The cell that a record measured, by the runtime that it names."""
    name = run.cell.runtime
    return registry.get(name).ask_of(run) if name in registry.names() else None


def _spread(alike: Sequence[Sequence[float]], count: int) -> float:
    """Relative half-width of the 90 % interval for one more run, from how runs that are ``alike`` differ between
    machines, occasions and workloads: Student's t on their deviations, around the mean of ``count`` factors.

    A few runs say little of how others differ: then what another card left is the most that is added, but never less
    than what was seen.
    """
    known = calibrated_spread()
    deviations = [factor / mean(found) - 1 for found in alike for factor in found]
    degrees = len(deviations) - len(alike)
    if not degrees:
        return known
    deviation = sqrt(sum(one * one for one in deviations) / degrees)
    expected = student_t(degrees) * deviation * sqrt(1 + 1 / count)
    return max(min(expected, known), *map(abs, deviations))


def evidence_for(key: CellKey, card: Card, index: Index, calibrated_on: int) -> Evidence:
    """How we know about a cell: its own records, else the card's, else the model alone."""
    found = find(key, card.slug, index)
    if found.exact:
        count = len(found.exact)
        return Evidence("measured", count, _measured(count, found.summary("seconds"), found.summary("process")))
    if calibrated_on:
        simulated = ""
        if found.simulated:
            took = Summary.of(run.seconds for run in found.simulated)
            simulated = f"; this cell itself ran with synthetic weights or under a cap: {_span(took)}" if took else ""
        return Evidence("calibrated", calibrated_on, f"model fitted on {calibrated_on} records of this card{simulated}")
    return Evidence()


def _measured(count: int, took: Summary | None, held: Summary | None) -> str:
    words = [f"{count} record{'s' if count > 1 else ''} of this cell"]
    if took is not None:
        words.append(_span(took))
    if held is not None:
        words.append(f"{held.median / GIB:.1f} GiB on the card")
    return ": ".join((words[0], ", ".join(words[1:]))) if len(words) > 1 else words[0]


def _span(took: Summary) -> str:
    return f"{format_seconds(took.median)} ({format_seconds(took.low)} to {format_seconds(took.high)})"

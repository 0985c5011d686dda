"""What records add to an estimate: measured cells are shown as measured, records of the card calibrate the rest. Pure:
the caller hands in the index of records."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from statistics import mean, median

from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Link
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.records.evidence import CellKey, Index, Row, Summary, find
from fitcheck.runtimes.sensenova.seconds import seconds
from fitcheck.runtimes.sensenova.streaming import Placement, upstream
from fitcheck.speed.link import from_memory
from fitcheck.speed.rates import Calibration, calibrated_spread, student_t
from fitcheck.units import GIB, format_seconds
from fitcheck.verdict.report import Evidence


def key_of(model: Model, tier: Tier, workload: Workload, placement: Placement) -> CellKey:
    """The cell's identity among records; a mode without streaming has no policy."""
    policy = placement.policy if placement.in_flight else None
    return CellKey.of(model.slug, tier.name, workload, placement.runtime, placement.revision, policy, placement.mode)


def known_cards(index: Index | None) -> frozenset[str]:
    """Cards that any record is about."""
    if index is None:
        return frozenset()
    return frozenset(row.card for row in index.rows) | frozenset(link.card for link in index.links)


def calibration_for(card: Card, tier: Tier, index: Index) -> tuple[Calibration | None, int]:
    """Corrections from this card's link records and from its finished runs in mode ``full``, those of the same tier
    where there are any; and how many records they rest on."""
    links = [link for link in index.links if link.card == card.slug]
    tiers: dict[str, list[float]] = {}
    for row in runs_in_full(card.slug, index):
        if (factor := _factor(row, card)) is not None:
            tiers.setdefault(row.cell.tier, []).append(factor)
    alike = list(tiers.values())
    if tier.name not in tiers:  # how tiers differ from one another counts as well
        alike = [[factor for found in alike for factor in found]]
    factors = tiers.get(tier.name) or alike[0]
    if not links and not factors:
        return None, 0
    calibration = Calibration(
        compute=median(factors) if factors else 1.0,
        spread=_spread(alike, len(factors)) if factors else None,
        pinned=tuple(link.pinned for link in links if link.pinned),
        pageable=tuple(from_memory(link.pageable) for link in links if link.pageable),
        records=len(factors) + len(links),
    )
    return calibration, calibration.records


def runs_in_full(card: str, index: Index) -> list[Row]:
    """Finished runs in mode ``full`` on the card of that slug, not under a cap."""
    return [
        row
        for row in index.rows
        if (row.card, row.cell.mode, row.outcome, row.cap) == (card, "full", "ok", None)
        and row.seconds is not None
        and 0 < row.seconds < inf  # a user's own file may hold anything
    ]


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


def _factor(row: Row, card: Card) -> float | None:
    """Measured over predicted seconds of a run in mode ``full``; ``None`` where nothing predicts it."""
    if row.seconds is None or row.cell.model not in catalog.slugs():
        return None
    model = catalog.get(row.cell.model)
    tier = model.tier(row.cell.tier)
    if tier is None or not isinstance(model.architecture, SenseNovaArchitecture):
        return None
    workload = Workload(Task(row.cell.task), **dict(row.cell.sizes))
    link = Link(card.pcie_generation, card.pcie_lanes)
    predicted = seconds(model.architecture, tier.tensors, workload, upstream("full"), card, link)
    return None if predicted is None else row.seconds / predicted.seconds.best


def evidence_for(key: CellKey, card: Card, index: Index, calibrated_on: int) -> Evidence:
    """How we know about a cell: its own records, else the card's, else the model alone."""
    found = find(key, card.slug, index)
    if found.exact:
        count = len(found.exact)
        return Evidence("measured", count, _measured(count, found.summary("seconds"), found.summary("process")))
    if calibrated_on:
        simulated = ""
        if found.simulated:
            took = Summary.of(row.seconds for row in found.simulated)
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

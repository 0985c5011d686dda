"""What records add to an estimate: measured cells are shown as measured, records of the card calibrate the rest. Pure:
the caller hands in the index of records."""

from __future__ import annotations

from statistics import median

from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Link
from fitcheck.memory.placement import Placement, upstream
from fitcheck.models import catalog
from fitcheck.models.model import Model, Tier
from fitcheck.models.sensenova import SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.records.evidence import CellKey, Index, LinkRow, Row, Summary, find
from fitcheck.speed.rates import Calibration, calibrated_spread
from fitcheck.speed.sensenova import seconds
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
    links = sorted((link for link in index.links if link.card == card.slug), key=lambda link: link.created)
    runs = [
        (row, factor)
        for row in index.rows
        if row.card == card.slug and row.outcome == "ok" and row.cap is None and (factor := _factor(row, card))
    ]
    runs = [pair for pair in runs if pair[0].cell.tier == tier.name] or runs
    if not links and not runs:
        return None, 0
    newest: LinkRow | None = links[-1] if links else None
    calibration = Calibration(
        compute=median(factor for _, factor in runs) if runs else 1.0,
        spread=calibrated_spread() if runs else None,
        pinned=newest.host_to_device_pinned if newest else None,
        pageable=newest.host_to_device_pageable if newest else None,
        records=len(runs) + len(links),
    )
    return calibration, calibration.records


def _factor(row: Row, card: Card) -> float | None:
    """Measured over predicted seconds of a run in mode ``full``; ``None`` for any other run."""
    if row.cell.mode != "full" or row.seconds is None or row.cell.model not in catalog.slugs():
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

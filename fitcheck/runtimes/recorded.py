"""The one way from a record to the estimator: the machine that a run sat in, and the ask it measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fitcheck.errors import InputError
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, Link, Machine
from fitcheck.models import catalog
from fitcheck.records.run import Run
from fitcheck.runtimes.base import Ask, Placement, Process


def card_of(run: Run) -> Card | None:
    """The catalog card of a run, with the compute capability that was read there; ``None`` for one not in the
    catalog."""
    try:
        card = find_card(run.card)
    except InputError:
        return None
    major, _, minor = (run.compute_capability or "").partition(".")
    return (
        replace(card, compute_capability=(int(major), int(minor))) if major.isdecimal() and minor.isdecimal() else card
    )


def machine_of(run: Run) -> Machine | None:
    """The machine as the program saw it: the cap where there was one, else what the driver reported."""
    card = card_of(run)
    if card is None:
        return None
    return machine_with(card, run.cap or run.card_memory)


def machine_with(card: Card, total: int | None) -> Machine:
    """One card as a program on it sees it: ``total`` bytes are the cap where there was one, else what the driver
    reported; ``None`` takes the card's own size."""
    seen = total or card.memory
    link = Link(card.pcie_generation, card.pcie_lanes)
    return Machine((Gpu(card, link, vram_total=seen, vram_override=seen or None),))


def ask_of(run: Run, placement: Placement, families: Sequence[str]) -> Ask | None:
    """The ask of a catalog model in ``placement``; ``None`` where model, tier or card are not known."""
    machine = machine_of(run)
    if machine is None or not catalog.is_slug(run.cell.model):
        return None
    model = catalog.get(run.cell.model)
    tier = model.tier(run.cell.tier)
    if tier is None or model.architecture.family not in families:
        return None
    return Ask(model, tier, placement, run.workload, machine, process=Process(run.bench, run.warm))

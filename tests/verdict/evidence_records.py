"""Records of SenseNova-U1 on an RTX 4070 and the answers that they lead to, for the tests of evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.records.run import CellKey, Run
from fitcheck.records.run_index import Index, LinkRow
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check
from fitcheck.verdict.report import Report

MODEL = catalog.get("sensenova-u1-8b-mot")
CARD = "RTX 4070"
SLUG = "rtx-4070"
TIERS = ("Q4_K_S", "Q8_0")
NOTHING = "model only, no record of this card"


def report(index: Index | None, card: str = CARD, tiers: tuple[str, ...] = TIERS) -> Report:
    return check(MODEL, machine_for(find_card(card), ram=128 * GIB), Wanted(tiers=tiers), index=index, advise=False)


def cell(found: Report, mode: str, tier: str = "Q4_K_S") -> Cell:
    return next(one for one in found.cells if (one.tier.name, one.placement.mode) == (tier, mode))


PLAIN = report(None)


def run(mode: str, tier: str = "Q4_K_S", number: int = 0, times: float = 1.0, **changes: Any) -> Run:
    """A record of a cell of the RTX 4070 that took ``times`` what is predicted, on a machine of its own."""
    one = cell(PLAIN, mode, tier)
    runtime = registry.get(one.placement.runtime)
    named = runtime.recorded(one.placement)
    identity = (named["name"], named["revision"], named["policy"], named["mode"])
    assert one.seconds is not None
    found = Run(
        id=f"{mode}-{tier}-{number}",
        card=SLUG,
        card_memory=12 * GIB,
        cell=CellKey.of(MODEL.slug, tier, one.workload, *identity),
        weights="real",
        outcome="ok",
        created=1_790_000_000 + number,
        seconds=one.seconds.best * times,
        machine=f"m{number}",
    )
    return replace(found, **changes)


def link(number: int, rate: float, card: str = SLUG) -> LinkRow:
    blocks = tuple((size << 20, rate) for size in (1, 1024))
    return LinkRow(str(number), card, number, blocks, tuple((size, each / 5) for size, each in blocks))


def best(one: Cell) -> float:
    assert one.seconds is not None
    return one.seconds.best

"""*Fits* holds where the model takes the most it may and the machine gives the least: the word's whole promise."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import all_cards, common_cards, find_card
from fitcheck.hardware.machine import Budget, machine_for
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory, Phase
from fitcheck.memory.weighing import Constraint, Verdict, weigh
from fitcheck.models import catalog
from fitcheck.models.workload import Task
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GB, GIB, Interval
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check
from fitcheck.verdict.report import Report

PICTURES = ("sensenova-u1-8b-mot", "sensenova-u1.5-8b-mot", "sensenova-u1-a3b-mot")
TEXT = ("llama-3.1-8b", "qwen3-30b-a3b", "gpt-oss-20b", "gemma-3-12b")


def broken(report: Report) -> Iterator[tuple[Cell, str]]:
    """Cells that are said to fit and do not in the pessimistic case, with the resource."""
    for cell in report.cells:
        if cell.verdict is not Verdict.FITS:
            continue
        for memory, have in zip(cell.footprint.cards, report.budgets, strict=False):
            if memory.card.high > have.vram.low:
                yield cell, "card"
        ram, disk = report.budgets[0].ram, report.budgets[0].disk
        if ram is None or cell.footprint.host.total.high > ram.low:
            yield cell, "host"
        if disk is not None and cell.footprint.disk > disk:
            yield cell, "disk"


@cache
def task_reports(slug: str) -> tuple[Report, ...]:
    model = catalog.get(slug)
    return tuple(
        check(model, machine_for(card, disk=40 * GB), Wanted(task=str(task)), advise=False)
        for card in common_cards()
        for task in model.tasks
    )


@pytest.mark.parametrize("slug", PICTURES)
def test_no_common_card_is_promised_what_it_may_not_hold(slug: str) -> None:
    """Of 2,374 cells that were said to fit before this, 83 had a high end above the budget's low end."""
    reports = task_reports(slug)
    assert not [found for report in reports for found in broken(report)]
    assert sum(cell.verdict is Verdict.FITS for report in reports for cell in report.cells) > 100


@pytest.mark.parametrize("slug", TEXT)
@pytest.mark.parametrize("card", ["RTX 3060 12GB", "RTX 4090", "L4", "RTX 4060"])
def test_no_language_model_is_promised_either(slug: str, card: str) -> None:
    model = catalog.get(slug)
    tiers = [tier for tier in model.tiers if tier.name in ("Q4_K_M", "Q8_0", "MXFP4")]
    report = check(model, machine_for(find_card(card)), tiers=tiers, advise=False)
    assert not list(broken(report))


@pytest.mark.parametrize("slug", ["sdxl", "flux.1-dev", "z-image-turbo"])
def test_nor_any_pipeline(slug: str) -> None:
    report = check(catalog.get(slug), machine_for(find_card("RTX 4090"), ram=96 * GIB), advise=False)
    assert any(cell.verdict is Verdict.FITS for cell in report.cells)
    assert not list(broken(report))


@settings(max_examples=40, deadline=None)
@given(
    card=st.sampled_from([card for card in all_cards() if card.memory]),
    ram=st.integers(4, 128),
    disk=st.integers(5, 60),
    task=st.sampled_from([Task.T2I, Task.EDITING, Task.VQA]),
)
def test_nor_is_any_card_of_the_database(card: Card, ram: int, disk: int, task: Task) -> None:
    machine = machine_for(card, ram=ram * GIB, disk=disk * GB)
    report = check(catalog.get(PICTURES[0]), machine, Wanted(task=str(task)), advise=False)
    assert not list(broken(report))


spans = st.tuples(*(st.integers(0, 100),) * 3).map(lambda ends: Interval(*sorted(ends)))


@settings(max_examples=300, deadline=None)
@given(card=spans, host=spans, vram=spans, ram=spans, disk=st.integers(0, 100), free=st.integers(0, 100))
def test_the_one_rule_for_amounts(
    card: Interval[int], host: Interval[int], vram: Interval[int], ram: Interval[int], disk: int, free: int
) -> None:
    """Fits exactly where every pessimistic end goes in, no exactly where an expected need exceeds what is expected."""
    need = Footprint(
        (CardMemory((Phase("run", card.best, 0, 0, 0, 0),), card, card, card, card),),
        HostMemory(0, 0, host.best, host),
        disk,
    )
    weighed = weigh(need, (Budget(vram, ram, free, ""),))
    fits = card.high <= vram.low and host.high <= ram.low and disk <= free
    short = card.best > vram.best or host.best > ram.best or disk > free
    assert weighed.verdict is (Verdict.FITS if fits else Verdict.NO if short else Verdict.TIGHT)
    for margin, least, most in zip(
        weighed.margins, (vram.low, ram.low, free), (card.high, host.high, disk), strict=True
    ):
        assert margin.worst == least - most
    certain = card.low > vram.high or host.low > ram.high or disk > free
    assert any(margin.sure for margin in weighed.margins) is certain
    assert weighed.binding.sure is certain
    assert weighed.binding.constraint in (Constraint.VRAM, Constraint.RAM, Constraint.DISK)

"""The best cell beside another amount of system memory, from an answer that is there: most of it stays as it was.

Where a runtime's cells are the same whatever a machine has to give, another amount moves the verdict of those cells
alone that it does not hold in the worst case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fitcheck.hardware.budget import budgets_of, has_many_channels, ram_budget
from fitcheck.hardware.machine import Machine
from fitcheck.models.model import Tier
from fitcheck.records.run_index import Index
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import Interval
from fitcheck.verdict.alike import cells_alike
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import again, check, question_of
from fitcheck.verdict.known_records import known_of
from fitcheck.verdict.order import first_of
from fitcheck.verdict.report import Report
from fitcheck.verdict.usual_memory import completed


def best_beside(
    report: Report,
    machine: Machine,
    wanted: Wanted,
    tiers: Sequence[Tier] | None = None,
    index: Index | None = None,
) -> Report:
    """``check`` of the same question on ``machine``, which has the cards of ``report`` and another amount of system
    memory: the best cell, without advice. Where runtimes search for placements and either amount is less than settles
    which they choose, all cells are found anew."""
    machine = completed(machine)

    def found() -> list[Cell]:
        return [_best_beside(report, machine, wanted, tiers, index)]

    if known_of(index, machine, report.model) is None:
        best = cells_alike(question_of(report.model, machine, wanted, tiers, head=True), machine, found)[0]
    else:
        best = found()[0]
    return replace(report, machine=best.ask.machine, budgets=best.ask.budgets, cells=(best,))


def _best_beside(
    report: Report, machine: Machine, wanted: Wanted, tiers: Sequence[Tier] | None, index: Index | None
) -> Cell:
    # another board, whose memory is read at another speed
    like = report if has_many_channels(report.machine) == has_many_channels(machine) else None
    found = _best_of_same(report, machine, wanted) if like and _same_cells(report, machine, wanted) else None
    if found is not None:
        return found
    return check(report.model, machine, wanted, tiers=tiers, index=index, advise=False, like=like, head=True).best


def _same_cells(report: Report, machine: Machine, wanted: Wanted) -> bool:
    """Whether the cells on ``machine`` are those of the report, of which only verdicts may move."""
    if [one.vram for one in report.budgets] != [one.vram for one in budgets_of(machine)]:
        return False  # memory that cards share with the system: what is chosen by it is chosen anew
    least = min((one.low for one in (ram_budget(report.machine), ram_budget(machine)) if one is not None), default=0)
    for name in dict.fromkeys(cell.placement.runtime for cell in report.cells):
        runtime, asks = registry.get(name), [cell.ask for cell in report.cells if cell.placement.runtime == name]
        if not runtime.searches:
            continue
        if len({ask.tier.name for ask in asks}) < max(len(asks), 2):
            return False  # of one tier alone a search shows alternatives too
        reaches = (runtime.settled(ask, wanted) for ask in asks)
        if any(reach is None or reach > least for reach in reaches):
            return False
    return True


def _best_of_same(report: Report, machine: Machine, wanted: Wanted) -> Cell | None:
    """The best of the report's cells on ``machine``; ``None`` where two are alike, of which their order decides."""
    before, now = ram_budget(report.machine), ram_budget(machine)
    if before is None or now is None:
        return None
    cells = [cell if _holds(cell, before, now) else again(cell, machine, wanted) for cell in report.cells]
    if all(one is other for one, other in zip(cells, report.cells, strict=True)):
        return again(report.best, machine, wanted)
    best = first_of(cells)
    if any(_alike(one, best) for one in cells if one is not best):
        return None
    return best if best.ask.machine is machine else again(best, machine, wanted)


def _holds(cell: Cell, before: Interval[int], now: Interval[int]) -> bool:
    """Whether both amounts hold the cell in the worst case, so that all else decides."""
    need = cell.footprint.host.total.high
    return need <= before.low and need <= now.low


def _alike(one: Cell, other: Cell) -> bool:
    return one.need == other.need and one.verdict is other.verdict and one.seconds == other.seconds

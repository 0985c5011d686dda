"""A cell in two steps: what it holds with the level that follows from it, and then how long it takes. An answer that
shows one cell of many needs the second step of few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.footprint import Footprint
from fitcheck.runtimes import held
from fitcheck.runtimes.base import Ask, Runtime, Wanted
from fitcheck.runtimes.level import Level
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.judge import judged
from fitcheck.verdict.quantities import Evidence

if TYPE_CHECKING:
    from fitcheck.verdict.evidence import Known, KnownMemory

_ESTIMATED, _ESTIMATED_UNTIMED = Evidence(), Evidence(timed=False)


@dataclass(frozen=True, slots=True)
class WeighedCell:
    """An ask with its memory, as records of the card leave it (``said`` is what they say), and its level."""

    runtime: Runtime
    ask: Ask
    footprint: Footprint
    level: Level
    said: KnownMemory | None = None


def weighed_cell(runtime: Runtime, ask: Ask, known: Known | None = None) -> WeighedCell:
    """The first step: memory and level."""
    if known is None:
        return WeighedCell(runtime, ask, *held.shown_and_level(runtime, ask))
    said = known.memory(runtime, ask, held.shown(runtime, ask))
    return WeighedCell(runtime, ask, said.footprint, held.shown_level(runtime, ask, said.footprint), said)


def at_best(runtime: Runtime, ask: Ask, known: Known | None = None) -> Level | None:
    """A level that the cell's is not better than, whatever records say of it; ``None`` where only weighing it tells."""
    return None if known is not None and known.makes_smaller(runtime) else held.at_best(runtime, ask)


def timed_cell(cell: WeighedCell, wanted: Wanted, known: Known | None = None) -> Cell:
    """The second step: the cell judged and timed, without advice."""
    runtime, ask, footprint = cell.runtime, cell.ask, cell.footprint
    calibration, evidence = None, _ESTIMATED if runtime.times else _ESTIMATED_UNTIMED
    if known is not None and cell.said is not None:
        calibration, evidence = known.timed(runtime, ask, cell.said)
    duration = runtime.duration(ask, footprint, calibration)
    judgement = judged(cell.level, ask, footprint, duration, wanted.floor(ask.workload.task))
    return Cell(ask, footprint, duration, judgement, evidence, flip=None, loss=runtime.loss(ask))


def cell_of(runtime: Runtime, ask: Ask, wanted: Wanted, known: Known | None = None) -> Cell:
    """One ask judged and timed, without advice."""
    return timed_cell(weighed_cell(runtime, ask, known), wanted, known)

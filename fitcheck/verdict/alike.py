"""Machines that look alike to every runtime of a question share its cells: they are worked out for the first of them.

Of 2,850 cards with the same system memory a few hundred tell cells apart. What decides is declared by the runtime
(``Runtime.sees``); budgets and the records, of which there are none here, are the check's own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import field
from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.budget import budgets_of
from fitcheck.hardware.machine import Machine
from fitcheck.models.model import Model, Tier
from fitcheck.runtimes.base import Ask, Runtime, Wanted
from fitcheck.verdict.cell import Cell

_MOST = 1024  # kinds of machines of one question
_QUESTIONS = 16  # that are asked in turn: of a page its own, at other sizes, and beside other system memory


@dataclass(frozen=True, slots=True)
class SharedQuestion:
    """What is asked, whichever the machine. ``spelled`` tells options apart that are equal, like ``True`` and 1."""

    model: Model
    tiers: tuple[Tier, ...]
    wanted: Wanted
    runtimes: tuple[Runtime, ...]
    head: bool = False  # whether only cells that may lead are worked out
    spelled: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spelled", repr(self.wanted.options))

    def __hash__(self) -> int:
        return hash(self.model)


def cells_alike(question: SharedQuestion, machine: Machine, work: Callable[[], list[Cell]]) -> list[Cell]:
    """The cells of ``question`` on ``machine`` in their order: those of a machine that looks alike where one was asked
    about before, else what ``work`` gives."""
    look = look_of(question, machine)
    if look is None:
        return work()
    known = _known(question)
    found = known.get(look)
    if found is not None:
        return [_moved(cell, machine) for cell in found]
    if len(known) >= _MOST:
        known.clear()
    made = work()
    if all(cell.ask.machine == machine for cell in made):  # cells may be of more cards than the machine's own
        known[look] = tuple(made)
    return made


@lru_cache(maxsize=_QUESTIONS)
def _known(question: SharedQuestion) -> dict[Hashable, tuple[Cell, ...]]:
    """The cells of the latest questions by what is seen of a machine."""
    return {}


def look_of(question: SharedQuestion, machine: Machine) -> Hashable | None:
    """All that the cells of a question hang on of a machine; ``None`` where a runtime does not say."""
    seen = [runtime.sees(machine) for runtime in question.runtimes]
    if any(one is None for one in seen):
        return None
    return tuple(seen), tuple((one.vram, one.ram, one.disk) for one in budgets_of(machine))


def _moved(cell: Cell, machine: Machine) -> Cell:
    """The same cell on a machine that looks alike. Written out, because ``replace`` takes twice as long."""
    ask = on_machine(cell.ask, machine)
    return Cell(ask, cell.footprint, cell.duration, cell.judgement, cell.evidence, cell.flip, cell.loss)


def on_machine(ask: Ask, machine: Machine) -> Ask:
    """The same question about ``machine``, written out as well."""
    return Ask(ask.model, ask.tier, ask.placement, ask.workload, machine, ask.gpu, ask.process)

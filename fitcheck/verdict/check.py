"""The check: every runtime in play, every tier and placement of a model, judged, timed and put in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fitcheck.errors import CardError, ModelError, NotModelledError
from fitcheck.hardware.machine import Machine
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.model import Model, Tier
from fitcheck.records.run_index import Index
from fitcheck.runtimes import held, registry
from fitcheck.runtimes.base import Ask, Runtime, Wanted
from fitcheck.runtimes.level import Level
from fitcheck.runtimes.options import refuse_foreign
from fitcheck.speed.floor import check_floor
from fitcheck.verdict.alike import SharedQuestion, cells_alike, on_machine
from fitcheck.verdict.assumptions import assumptions_of
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.changes import smallest_change
from fitcheck.verdict.coarseness import is_broken
from fitcheck.verdict.judge import judged
from fitcheck.verdict.known_records import known_of
from fitcheck.verdict.leading import AskedTier, AskOf, none_runs, that_may_lead, that_may_run
from fitcheck.verdict.order import first_of, order, wait_of
from fitcheck.verdict.report import Report
from fitcheck.verdict.usual_memory import completed
from fitcheck.verdict.weighed_cell import at_best, cell_of, timed_cell, weighed_cell

if TYPE_CHECKING:
    from fitcheck.verdict.evidence import Known


class NothingRunsError(Exception):
    """It is known that no cell runs, and not yet which one is nearest to it."""


def check(
    model: Model,
    machine: Machine,
    wanted: Wanted | None = None,
    *,
    tiers: Sequence[Tier] | None = None,
    index: Index | None = None,
    advise: bool = True,
    like: Report | None = None,
    head: bool = False,
    only_running: bool = False,
) -> Report:
    """Judge every tier × placement, best first.

    ``tiers`` are those to look at, by default the ones that ``wanted`` names or all of the model. ``index`` holds the
    records that may calibrate or replace estimates; ``advise`` adds the smallest flipping change to each cell, which
    costs a few re-checks. ``like`` is an answer to the same question, without advice, on a machine with the same cards:
    its cells are judged again where they are asked about here, not weighed and timed. With ``head`` the report of what
    is waited for, or of one tier, has no more cells than it takes to know the first, for who shows no other; with
    ``only_running`` too it raises NothingRunsError where it is quickly known that no cell runs. A model
    that turns out not to be modelled is judged by its weights, in the last runtime of the registry. Raises InputError
    for names, sizes and options that cannot be.
    """
    wanted = wanted or Wanted()
    try:
        return _checked(
            model, machine, wanted, tiers, index, advise=advise, like=like, head=head, only_running=only_running
        )
    except NotModelledError as problem:
        bounded = replace(model, runtimes=(registry.names()[-1],), unmodelled=str(problem))
        return _checked(bounded, machine, replace(wanted, runtime=None), tiers, index, advise=advise)


def _checked(
    model: Model,
    machine: Machine,
    wanted: Wanted,
    tiers: Sequence[Tier] | None,
    index: Index | None,
    *,
    advise: bool,
    like: Report | None = None,
    head: bool = False,
    only_running: bool = False,
) -> Report:
    question = question_of(model, machine, wanted, tiers, head=head)
    chosen, runtimes, machine = question.tiers, question.runtimes, completed(machine)
    known = known_of(index, machine, model)
    there = {} if like is None else {_place(cell.ask): cell for cell in like.cells}

    def whole(runtime: Runtime, ask: Ask) -> Cell:
        if there and _place(ask) in there:
            return _again(runtime, ask, wanted, there[_place(ask)])
        return cell_of(runtime, ask, wanted, known)

    def hoped_of(asks: Sequence[AskOf]) -> list[Level | None]:
        return [at_best(runtime, ask, known) if head else None for runtime, ask in asks]

    def cells_of(asks: Sequence[AskOf], hoped: Sequence[Level | None]) -> list[Cell]:
        if not head or any(ask.workload.task.read_along for _, ask in asks):
            return [whole(*one) for one in asks]
        return that_may_lead(
            asks,
            hoped,
            lambda runtime, ask: weighed_cell(runtime, ask, known),
            lambda cell: timed_cell(cell, wanted, known),
            _wait if known is None else lambda *_: None,
        )

    def asks_of(runtime: Runtime) -> Iterable[Ask]:
        # of a file that is as good as broken what fits does not come before what is tight
        if head and known is None and len(chosen) == 1 and not is_broken(model, chosen[0]):
            return runtime.leading(model, chosen[0], wanted, machine)
        return runtime.asks(model, chosen, wanted, machine)

    def closer_of(tiers: Iterable[AskedTier]) -> list[AskOf]:
        return [(one, ask) for one, tier in tiers for ask in one.closer(model, tier, wanted, machine)]

    def worked_out() -> list[Cell]:
        asks = [(runtime, ask) for runtime in runtimes for ask in asks_of(runtime)]
        hoped = hoped_of(asks)
        if only_running and none_runs(hoped):
            between = closer_of(that_may_run(asks, hoped, by_hope=True))
            if none_runs(hoped_of(between)):
                raise NothingRunsError
        found = order(cells_of(asks, hoped))
        if len(chosen) == 1 or not found:
            return found
        tiers = [(registry.get(found[0].placement.runtime), found[0].tier)]
        if found[0].verdict is Verdict.NO:  # one of the others may run in another mode
            tiers += [one for one in that_may_run(asks, hoped) if one not in tiers]
        closer = closer_of(tiers)
        return _with_those_of_the_first(found, cells_of(closer, hoped_of(closer))) if closer else found

    ordered = list(worked_out() if known is not None or advise else cells_alike(question, machine, worked_out))
    if not ordered:
        raise ModelError(f"nothing to check: {model.name} has no tier and mode left; drop --tier or --mode.")
    floor = wanted.floor(ordered[0].workload.task)
    if advise:
        ordered = [
            # what makes a slow cell quick takes a search for each size of card: of the one that the answer speaks of
            advised(cell, wanted, known) if not at or cell.judgement.binding is not Constraint.SPEED else cell
            for at, cell in enumerate(ordered)
        ]
    assumed = assumptions_of(ordered[0], wanted, floor, known) if advise else ()
    best = ordered[0].ask
    return Report(model, best.machine, best.budgets, tuple(ordered), wanted, floor, assumed)


def question_of(
    model: Model, machine: Machine, wanted: Wanted, tiers: Sequence[Tier] | None = None, *, head: bool = False
) -> SharedQuestion:
    """What ``check`` asks of a machine. Raises InputError as it does."""
    chosen = tuple(tiers) if tiers is not None else _tiers(model, wanted)
    return SharedQuestion(model, chosen, wanted, _that_run_on(machine, in_play(model, wanted), model), head)


def _wait(runtime: Runtime, ask: Ask) -> float | None:
    """How long a cell is waited for, where that is known before it is weighed."""
    foreseen = runtime.foreseen(ask)
    return None if foreseen is None else wait_of(foreseen.seconds, ask.workload)


def in_play(model: Model, wanted: Wanted) -> tuple[Runtime, ...]:
    """The runtimes that answer. Raises InputError for a task, a runtime or an option that none of them has."""
    if wanted.task is not None and wanted.task not in model.tasks:
        known = ", ".join(map(str, model.tasks))
        raise ModelError(f"--task: {wanted.task!r} is not a task of {model.name}; choose from {known}.")
    task = next((task for task in model.tasks if task == wanted.task), model.tasks[0])
    check_floor(wanted.min_speed, wanted.max_seconds, task)
    runtimes = registry.serving(model, wanted.runtime)
    if wanted.options:
        refuse_foreign(wanted, runtimes, registry.every(), model.name)
    return runtimes


def _that_run_on(machine: Machine, runtimes: tuple[Runtime, ...], model: Model) -> tuple[Runtime, ...]:
    """Those that do without a card, where there is none. Raises CardError when that leaves nobody."""
    if machine.gpus:
        return runtimes
    found = tuple(runtime for runtime in runtimes if not runtime.needs_card)
    if not found:
        why = f" ({machine.notes[0].rstrip('.')})" if machine.notes else ""
        raise CardError(
            f"{model.name} runs on a graphics card, and this machine has none{why}; name one with --gpu, like "
            "--gpu 'RTX 4070'."
        )
    return found


def _with_those_of_the_first(cells: list[Cell], closer: Sequence[Cell]) -> list[Cell]:
    """All in order, of those that a look at each tier gave what the tier of the first one has."""
    first = first_of([*cells, *closer])
    return order([*cells, *(cell for cell in closer if cell.tier is first.tier)])


def _tiers(model: Model, wanted: Wanted) -> tuple[Tier, ...]:
    named = dict.fromkeys(tier.name for name in wanted.tiers for tier in model.tiers_named(name))
    return tuple(map(model.tier_named, named)) or model.tiers


def advised(cell: Cell, wanted: Wanted, known: Known | None = None) -> Cell:
    """The same cell with the smallest change that would better it, for a check that was made without advice."""
    runtime = registry.get(cell.ask.placement.runtime)
    floor = wanted.floor(cell.workload.task)
    return replace(cell, flip=smallest_change(runtime, cell.ask, wanted, cell.judgement, floor, known))


def told(report: Report, wanted: Wanted, index: Index | None = None) -> Report:
    """A report that was made without advice, with the advice on its best cell and what was assumed, as ``check`` gives
    both: for who shows of the other cells no more than their verdict."""
    known = known_of(index, report.machine, report.model)
    best = advised(report.best, wanted, known)
    assumed = assumptions_of(best, wanted, report.floor, known)
    return replace(report, cells=(best, *report.cells[1:]), assumed=assumed)


def _place(ask: Ask) -> tuple[object, ...]:
    """What tells the cells of one question apart, on whatever machine it is asked."""
    return ask.tier.name, ask.placement, ask.workload, ask.gpu, ask.process


def _again(runtime: Runtime, ask: Ask, wanted: Wanted, cell: Cell) -> Cell:
    """A cell of another machine with the same cards, judged on the one of ``ask``."""
    floor = wanted.floor(ask.workload.task)
    level = held.shown_level(runtime, ask, cell.footprint)
    judgement = judged(level, ask, cell.footprint, cell.duration, floor)
    return Cell(ask, cell.footprint, cell.duration, judgement, cell.evidence, None, cell.loss)


def again(cell: Cell, machine: Machine, wanted: Wanted) -> Cell:
    """A cell of another machine with the same cards, judged on ``machine``, without advice."""
    ask = on_machine(cell.ask, machine)
    return _again(registry.get(ask.placement.runtime), ask, wanted, cell)

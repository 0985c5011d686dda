"""What an answer assumes because nobody said it, and what another value would change: the line under its headline.

System memory and free disk are always named where they were not given. Everything else, of the machine or of the
question, is named where another value that somebody may well have meant moves the verdict, or memory or time by more
than a tenth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.machine import Machine
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Verdict
from fitcheck.runtimes import held, registry
from fitcheck.runtimes.base import Ask, Default, Runtime, Wanted
from fitcheck.runtimes.imagined import without_display
from fitcheck.speed.duration import Duration
from fitcheck.speed.floor import Floor
from fitcheck.units import GIB, format_gb
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.changes import expected
from fitcheck.verdict.judge import Judgement, judged
from fitcheck.verdict.report import Assumption
from fitcheck.verdict.usual_memory import RAM, RAM_SIZES

if TYPE_CHECKING:
    from fitcheck.verdict.evidence import Known

_MEMORY = ("card memory", "system memory")
_PACE = "tokens a second"
DECIDES = 0.1  # a smaller change of memory or time is not worth a word in a headline


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a reader compares: the verdict, and amounts by name."""

    verdict: str
    amounts: dict[str, float]


def assumptions_of(cell: Cell, wanted: Wanted, floor: Floor, known: Known | None = None) -> tuple[Assumption, ...]:
    """What the answer that ``cell`` stands for assumes, the machine first."""
    runtime = registry.get(cell.placement.runtime)
    found = [*_memory(runtime, cell, wanted, floor, known), *_disk(cell)]
    before = replace(_outcome(runtime, cell.ask, floor, known), verdict=str(cell.verdict))
    for default in (*_machine(cell.ask), *runtime.defaults(cell.ask, wanted)):
        effect = _effect(before, _outcome(runtime, default.other, floor, known))
        if effect is not None:
            found.append(Assumption(default.typed.split()[0], default.words, f"{default.typed}: {effect}"))
    return tuple(found)


def _memory(runtime: Runtime, cell: Cell, wanted: Wanted, floor: Floor, known: Known | None) -> Iterator[Assumption]:
    """System memory that was filled in, and the nearest sizes with another verdict."""
    machine, have = cell.ask.machine, cell.ask.machine.ram_total
    if RAM not in machine.assumed or have is None:
        return
    changes = []
    for sizes in ([size for size in reversed(RAM_SIZES) if size < have], [size for size in RAM_SIZES if size > have]):
        for size in sizes:
            ask = replace(cell.ask, machine=replace(machine, ram_total=size))
            found = _judged(runtime, ask, cell.footprint, cell.duration, floor).verdict
            if found.rank > cell.verdict.rank:
                found = _placed_anew(runtime, ask, wanted, floor, known, found)
            if found is not cell.verdict:
                changes.append(f"--ram {size // GIB}GB: {found}")
                break
    words = f"{have // GIB} GB of system memory, {_usual(machine)}"
    yield Assumption("--ram", words, "; ".join(changes) or "--ram says another")


def _placed_anew(
    runtime: Runtime, ask: Ask, wanted: Wanted, floor: Floor, known: Known | None, same: Verdict
) -> Verdict:
    """The best verdict of the tier on that machine, where its placement is chosen anew as a check would; ``same`` is
    that of the placement as it was."""
    found = same
    for other in runtime.asks(ask.model, (ask.tier,), wanted, ask.machine):
        if other.workload == ask.workload:  # a shorter context beside it answers another question
            footprint, duration = expected(runtime, other, known)
            found = min(found, _judged(runtime, other, footprint, duration, floor).verdict, key=lambda one: one.rank)
    return found


def _usual(machine: Machine) -> str:
    if not machine.gpus:
        return "the most usual without a card"
    return "the most usual beside such a card" if len(machine.gpus) == 1 else "the most usual beside such cards"


def _disk(cell: Cell) -> Iterator[Assumption]:
    """No amount of free disk is usual, so the answer says what it takes."""
    if cell.ask.machine.disk_free is None and cell.ask.tier.local_path is None:
        words = f"{format_gb(cell.footprint.disk, 1)} of free disk for the files"
        yield Assumption("--disk", words, "--disk says what there is")


def _machine(ask: Ask) -> Iterator[Default]:
    """A screen on the card, and a slot as wide as the card."""
    if not ask.machine.gpus:
        return
    if ask.card.display is None:
        for change in without_display(ask):
            yield Default("a screen on this card", "--headless", change.ask)
    link = ask.card.link
    if link.assumed and link.pcie_generation and link.pcie_lanes and link.pcie_lanes > 1:
        narrow = replace(link, pcie_lanes=link.pcie_lanes // 2)
        gpus = tuple(
            replace(gpu, link=narrow) if index == ask.gpu else gpu for index, gpu in enumerate(ask.machine.gpus)
        )
        generation, lanes = link.pcie_generation, link.pcie_lanes
        yield Default(
            f"a slot of PCIe {generation}.0 x{lanes}",
            f"--pcie {generation}x{lanes // 2}",
            replace(ask, machine=replace(ask.machine, gpus=gpus)),
        )


def _outcome(runtime: Runtime, ask: Ask, floor: Floor, known: Known | None) -> _Outcome:
    footprint, duration = expected(runtime, ask, known)
    found = _judged(runtime, ask, footprint, duration, floor)
    on_card = footprint.cards[found.gpu].card.best if footprint.cards else 0
    amounts: dict[str, float] = dict(zip(_MEMORY, (on_card, footprint.host.total.best), strict=True))
    rate, seconds = (None, None) if duration is None else (duration.rate(ask.workload.task.rate), duration.seconds)
    if ask.workload.task.read_along:
        amounts |= {} if rate is None else {_PACE: rate.best}
    elif seconds is not None:
        amounts["time"] = seconds.best
    return _Outcome(str(found.verdict), amounts)


def _judged(runtime: Runtime, ask: Ask, footprint: Footprint, duration: Duration | None, floor: Floor) -> Judgement:
    return judged(held.shown_level(runtime, ask, footprint), ask, footprint, duration, floor)


def _effect(before: _Outcome, after: _Outcome) -> str | None:
    """What another value costs, speed before memory, else what it saves most, in words; ``None`` where it decides
    nothing. That a longer context frees the card would be true, and hide that it moves layers to the host for it."""
    if after.verdict != before.verdict:
        return after.verdict
    both = [(name, value, after.amounts[name]) for name, value in before.amounts.items() if name in after.amounts]
    runs = before.verdict != Verdict.NO  # of what does not run, no speed is told
    changes = {name: other / value - 1 for name, value, other in both if value and (runs or name in _MEMORY)}
    decisive = {name: change for name, change in changes.items() if abs(change) > DECIDES}
    if not decisive:
        return None
    costs = {name: change for name, change in decisive.items() if (change < 0) == (name == _PACE)}
    slower = {name: change for name, change in costs.items() if name not in _MEMORY}
    name, change = max((slower or costs or decisive).items(), key=lambda item: abs(item[1]))
    less = "fewer" if name == _PACE else "less"  # tokens are counted, memory and time are not
    return f"{abs(change):.0%} {'more' if change > 0 else less} {name}".replace("%", " %")

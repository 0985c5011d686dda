"""What records say of a cell's memory: its own replace what they measured, those of its card correct the context and
the process, runs that failed and limits that were searched for bound the need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, log
from statistics import median
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.budget import budget, ram_budget
from fitcheck.hardware.machine import machine_for
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory
from fitcheck.records.run import Run
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.units import Interval, format_gib
from fitcheck.verdict.implied import MAJORITY, NOTHING, Implied, ran_within
from fitcheck.verdict.plausible import host_bytes
from fitcheck.verdict.quantities import (
    CALIBRATED,
    MEASURED,
    Quantity,
    against,
    apart,
    counted,
    quantity,
    says,
    span_of_bytes,
)
from fitcheck.verdict.shrinkage import wrong_odds

Bytes = Interval[int]
_FAR = ", which is far from the model and widens the range"


@dataclass(frozen=True, slots=True)
class RunBesideEstimate:
    """A finished run of the card beside what was predicted for it: the footprint of its own cell."""

    run: Run
    runtime: Runtime
    ask: Ask
    footprint: Footprint

    @property
    def memory(self) -> CardMemory:
        """What was predicted of the card that it ran on."""
        return self.footprint.cards[self.ask.gpu]

    @property
    def context(self) -> float | None:
        """Logarithm of measured over predicted bytes that the card holds beside the allocator's; ``None`` where either
        is not known."""
        memory, on_card = self.memory, self.run.on_card
        if on_card is None:
            return None
        predicted = memory.card.best - memory.reserved.best
        measured = on_card - (self.run.reserved or memory.reserved.best)
        return log(measured / predicted) if measured > 0 and predicted > 0 else None

    @property
    def process(self) -> int | None:
        """Bytes of system memory more than predicted; ``None`` where the meter does not say."""
        held = host_bytes(self.runtime, self.run, self.footprint.host)
        return None if held is None else held - self.footprint.host.total.best


@dataclass(frozen=True, slots=True)
class Bound:
    """What is known of the smallest card memory on which a cell runs: more than ``above``, no more than ``within``; in
    ``words``, with what contradicts it. ``likely`` is within what another ran that needs at least as much."""

    above: int = 0
    within: int | None = None
    likely: int | None = None
    runs: tuple[Run, ...] = ()
    words: str = ""


@dataclass(frozen=True, slots=True)
class MemoryRecords:
    """Looks for what is known of one cell's memory. ``exact`` are finished runs of it on the card as it is, ``failed``
    those that ran out of its memory, ``starved`` out of system memory, ``capped`` runs under a limit with the same
    layout, ``others`` of other cells. ``short`` ran out of memory under a limit on other cards, where none of this card
    tells; ``implied`` is what cells of the card say that need more or less. Sizes of ``odd`` ones cannot be."""

    ask: Ask
    runtime: Runtime
    exact: tuple[Run, ...]
    failed: tuple[Run, ...]
    starved: tuple[Run, ...]
    capped: tuple[Run, ...]
    others: tuple[RunBesideEstimate, ...]
    short: tuple[Run, ...] = ()
    implied: Implied = NOTHING
    odd: tuple[Run, ...] = ()

    def known(self, footprint: Footprint) -> tuple[Footprint, Quantity, Quantity]:
        """The footprint as records leave it, and how memory on the card and system memory are known."""
        memory, card = self._card(footprint.cards[self.ask.gpu])
        card = self._named_odd(card)
        host, system = self._starved(*self._host(footprint))
        cards = tuple(memory if index == self.ask.gpu else one for index, one in enumerate(footprint.cards))
        return replace(footprint, cards=cards, host=host), card, system

    def _card(self, memory: CardMemory) -> tuple[CardMemory, Quantity]:
        held = [run for run in self.exact if run.on_card]
        if held and not self._contradicted(memory, held):
            found = _measured(memory, self.exact)
            seen = [run.on_card or 0 for run in held]
            warm = ", in a process that had run it before" if all(run.warm for run in held) else ""
            note = f"{counted(len(held), 'record')} of this cell on this card{warm}{apart(seen)}"
            how = quantity(MEASURED, held, note + against(seen, memory.card))
        else:
            found, how = self._calibrated(memory)
            if held:  # the one record of the cell, which the others contradict
                said = held[0].on_card or 0
                wide = Interval(min(found.card.low, said), found.card.best, max(found.card.high, said))
                found = replace(found, card=wide)
                how = replace(how, note=f"{how.note}; the one record of this cell says {format_gib(said)}")
        return self._bounded(found, how)

    def _contradicted(self, memory: CardMemory, held: Sequence[Run]) -> bool:
        """Whether a single record of the cell is far from its estimate, where the card's others are near theirs."""
        if len(held) != 1:
            return False
        others = [one for one in self.others if one.run.id != held[0].id]
        pairs = [(one.run.on_card, one.memory.card.best) for one in others]
        errors = [abs(log(seen / predicted)) for seen, predicted in pairs if seen and predicted]
        far = log(_data()["contradiction"]["factor"])
        off = abs(log((held[0].on_card or 1) / memory.card.best)) if memory.card.best else 0.0
        return off > far and len(errors) >= 3 and max(errors) < far

    def _calibrated(self, memory: CardMemory) -> tuple[CardMemory, Quantity]:
        """The context as it is on this card."""
        seen = [(one.run, one.context) for one in self.others]
        known = [(run, value) for run, value in seen if value is not None]
        if not known:
            return memory, Quantity()
        off, likely = _shrunk(known)
        move = _shifted if likely else _widened
        moved = round((memory.card.best - memory.reserved.best) * (exp(off) - 1))
        card, required = (move(one, moved) for one in (memory.card, memory.required))
        runs = [run for run, _ in known]
        note = (
            f"tensors estimated, the driver's context as {counted(len(runs), 'record')} of this card {says(len(runs))}"
        )
        note += "" if likely else _FAR
        return replace(memory, card=card, required=required), quantity(CALIBRATED, runs, note)

    def _bounded(self, memory: CardMemory, how: Quantity) -> tuple[CardMemory, Quantity]:
        """Within what searched limits and failures leave."""
        said = self.implied.beyond(memory.required, self.exact)
        bound = _bound(self.capped, said)
        memory = _within(memory, bound) if bound.runs else memory
        ran = max(sum(bool(run.on_card) for run in self.exact), len(said.ran))
        failed = (*self.failed, *said.failed)
        if had := max((_had(run, self.ask) for run in failed), default=0):
            memory = _failed(memory, had, (len(self.failed), len(said.failed)), ran)
        # those that say no more than the estimate does change nothing
        short = tuple(run for run in self.short if _need_of(run, memory) > memory.required.best)
        if short:
            memory = _needs(memory, max(_need_of(run, memory) for run in short))
        runs = (*bound.runs, *failed, *said.doubted, *short)
        if not runs:
            return memory, how
        notes = [how.note] if how.records else []
        if short:
            most = max(short, key=lambda run: _need_of(run, memory))
            notes.append(f"it did not run within {format_gib(most.ran_out_under or 0)} on {most.card}")
        notes += [bound.words] if bound.words else []
        notes += _failure_words(self.failed, said)
        level, ids = how.level if how.records else CALIBRATED, tuple(run.id for run in runs)
        return memory, Quantity(level, how.records + len(runs), "; ".join(notes), (*how.ids, *ids))

    def _named_odd(self, how: Quantity) -> Quantity:
        """With the records of the cell that count for nothing."""
        if not self.odd:
            return how
        told = f"{counted(len(self.odd), 'record')} of this cell left out, with less than its weights take"
        return replace(how, note=f"{how.note if how.records else 'model only'}; {told}")

    def _starved(self, host: HostMemory, how: Quantity) -> tuple[HostMemory, Quantity]:
        """Machines that had not enough: one leaves it possible, several of which none ran do not."""
        told = [run for run in self.starved if run.ram]
        if not told:
            return host, how
        machine = replace(self.ask.machine, ram_total=max(run.ram or 0 for run in told), ram_available=None)
        had, ran = ram_budget(machine), any(self.runtime.host_bytes(run) for run in self.exact)
        assert had is not None  # it was given
        most = had.best + 1
        best = max(host.total.best, most) if len(told) > 1 and not ran else host.total.best
        total = Interval(host.total.low, best, max(host.total.high, most))
        note = f"{counted(len(told), 'record')} of this cell ran out of system memory on such a card"
        notes = "; ".join([how.note, note] if how.records else [note])
        level, ids = how.level if how.records else CALIBRATED, tuple(run.id for run in told)
        known = Quantity(level, how.records + len(told), notes, (*how.ids, *ids))
        return replace(host, total=total), known

    def _host(self, footprint: Footprint) -> tuple[HostMemory, Quantity]:
        """The program's own runs replace; those of another process, as the bench's is, correct."""
        host = footprint.host
        seen = [(run, host_bytes(self.runtime, run, host)) for run in self.exact if not run.bench]
        own = [(run, held) for run, held in seen if held]
        if own:
            sizes = [held for _, held in own]
            total = span_of_bytes(sizes)
            note = f"{counted(len(own), 'record')} of this cell on this card{apart(sizes)}{against(sizes, host.total)}"
            return replace(host, total=total), quantity(MEASURED, [run for run, _ in own], note)
        beside = [(one.run, one.process) for one in self.others]
        known = [(run, value) for run, value in beside if value is not None]
        if not known or not host.process:
            return host, Quantity()
        relative = [(run, value / host.process) for run, value in known]
        off, likely = _shrunk(relative)
        moved = round(host.process * max(off, -0.9))
        runs = [run for run, _ in known]
        note = f"weights estimated, the process as {counted(len(runs), 'record')} of this card {says(len(runs))}"
        note += "" if likely else _FAR
        total = _shifted(host.total, moved) if likely else _widened(host.total, moved)
        return replace(host, total=total), quantity(CALIBRATED, runs, note)


def _measured(memory: CardMemory, exact: Sequence[Run]) -> CardMemory:
    """Each size as it was measured. The least that works moves with what the tensors take, or where nobody saw them
    with all that the card held."""
    seen = {name: [value for run in exact if (value := getattr(run, name))] for name in ("allocated", "reserved")}
    allocated = span_of_bytes(seen["allocated"]) if seen["allocated"] else memory.allocated
    card = span_of_bytes([held for run in exact if (held := run.on_card)])
    more = allocated.best - memory.allocated.best if seen["allocated"] else card.best - memory.card.best
    reserved = span_of_bytes(seen["reserved"]) if seen["reserved"] else _shifted(memory.reserved, more)
    required = _most(_shifted(memory.required, more), card)
    return replace(memory, allocated=allocated, reserved=reserved, card=card, required=required, crowded=False)


Limits = list[tuple[int, Run, str]]


def _bound(capped: Sequence[Run], said: Implied) -> Bound:
    """What limits say together, the cell's own before those of cells that need more or less. Where one that failed lies
    above one that worked, they contradict each other: the smallest that worked counts."""
    own, less = _fails(capped, "it"), _fails(said.fails, "one that needs no more")
    works, more = _works(capped, "it"), _works(said.works, "one that needs at least as much")
    most, within = max(map(_limit, own), default=0), min(works, key=_limit, default=None)
    said_less = [one for one in more if _limit(one) > most and (within is None or _limit(one) < _limit(within))]
    likely = min(said_less, key=_limit, default=None)
    least = likely or within
    below = [one for one in (*own, *less) if least is None or _limit(one) < _limit(least)]
    above = max(below, key=_limit, default=None)
    runs = {run.id: run for _, run, _ in filter(None, (within, likely, above))}
    parts = [f"{one[2]} ran within {format_gib(one[0])}" for one in (within, likely) if one]
    parts += [] if above is None else [f"{above[2]} did not within {format_gib(above[0])}"]
    if against := len(own) + len(less) - len(below) + sum(_limit(one) <= most for one in more):
        parts.append(f"which {counted(against, 'record')} contradict{'s' if against == 1 else ''}")
    within_, likely_ = (None if one is None else _limit(one) for one in (within, likely))
    return Bound(0 if above is None else _limit(above), within_, likely_, tuple(runs.values()), ", ".join(parts))


def _limit(one: tuple[int, Run, str]) -> int:
    return one[0]


def _works(runs: Sequence[Run], whose: str) -> Limits:
    return [(limit, run, whose) for run in runs if (limit := ran_within(run))]


def _fails(runs: Sequence[Run], whose: str) -> Limits:
    return [(run.ran_out_under, run, whose) for run in runs if run.ran_out_under]


def _failure_words(failed: Sequence[Run], said: Implied) -> list[str]:
    """Which records ran out of card memory on this card, and which of them what ran contradicts."""
    ran_out, found = "ran out of card memory on this card", []
    if failed:
        found.append(f"{counted(len(failed), 'record')} of this cell {ran_out}")
    if said.failed:
        found.append(f"{counted(len(said.failed), 'record')} of cells that need no more {ran_out}")
    if (failed or said.failed) and said.ran:
        found.append(
            f"{counted(len(said.ran), 'record')} of cells that need at least as much ran, which contradicts that"
        )
    if said.doubted:
        told = counted(len(said.doubted), "record")
        found.append(f"{told} of cells that need no more {ran_out}, which those that ran contradict")
    return found


def _within(memory: CardMemory, bound: Bound) -> CardMemory:
    """The least that works between the limits; all that it takes is never less. What another cell ran within takes
    away what was feared, and makes no estimate smaller."""
    low, best, high = memory.required.low, memory.required.best, memory.required.high
    if bound.within is not None:
        low, best, high = (min(value, bound.within) for value in (low, best, high))
    if bound.likely is not None:
        high = max(best, min(high, bound.likely))
    required = Interval(*(max(value, bound.above) for value in (low, best, high)))
    return _at_least(replace(memory, required=required))


def _had(run: Run, ask: Ask) -> int:
    """Bytes that a run that ran out of memory could have had of its card."""
    if run.card_memory and run.before is not None:
        return max(run.card_memory - run.before, run.on_card or 0)
    usual = budget(machine_for(ask.card.card)).vram.best if ask.card.card.memory else 0
    return max(usual, run.on_card or 0)


def _failed(memory: CardMemory, had: int, failed: tuple[int, int], ran: int) -> CardMemory:
    """Runs that failed, of the cell and of those that need no more, make it more than the card ``had``, for all that
    anybody can rely on; where nothing ran and several failed, also the least that works. A clear majority that ran
    leaves it possible."""
    need, count = had + 1, sum(failed)
    if ran >= MAJORITY * count:
        return replace(memory, card=Interval(memory.card.low, memory.card.best, max(memory.card.high, need)))
    told = (count, failed[1]) if need > memory.card.best else (0, 0)
    memory = replace(memory, card=_most_of(memory.card, need), failures=told[0], implied=told[1])
    if count > 1 and not ran:
        memory = replace(memory, required=_most_of(memory.required, need))
    return _at_least(memory)


def _need_of(run: Run, memory: CardMemory) -> int:
    """Bytes that a card needs on which the driver takes what it takes here: more than the limit that was too small for
    the run left to its allocator."""
    return (run.ran_out_under or 0) - (run.context or 0) + memory.card.best - memory.reserved.best + 1


def _needs(memory: CardMemory, need: int) -> CardMemory:
    """The least that works is more than another card had. Convolutions may take less on this one, so the low end
    stays."""
    return _at_least(replace(memory, required=_most_of(memory.required, need)))


def _at_least(memory: CardMemory) -> CardMemory:
    """A card holds at least what is required."""
    pairs = zip(_ends(memory.card), _ends(memory.required), strict=True)
    return replace(memory, card=Interval(*(max(pair) for pair in pairs)))


def _most(one: Bytes, other: Bytes) -> Bytes:
    """``one`` as far as ``other`` goes."""
    return Interval(*(min(pair) for pair in zip(_ends(one), _ends(other), strict=True)))


def _most_of(one: Bytes, least: int) -> Bytes:
    return Interval(one.low, max(one.best, least), max(one.high, least))


def _ends(one: Bytes) -> tuple[int, int, int]:
    return one.low, one.best, one.high


def _shifted(one: Bytes, amount: int) -> Bytes:
    """Never below nothing."""
    return Interval(*(max(value + amount, 0) for value in _ends(one)))


def _widened(one: Bytes, amount: int) -> Bytes:
    """What it is, or so much more or less."""
    other = _shifted(one, amount)
    return Interval(min(one.low, other.low), one.best, max(one.high, other.high))


def _shrunk(values: Sequence[tuple[Run, float]]) -> tuple[float, bool]:
    """The median over machines of each machine's median, as far as so many machines are to be believed; ``False`` where
    they are few and that is likelier wrong than right."""
    rule = _data()["memory"]
    machines: dict[str, list[float]] = {}
    for run, value in values:
        machines.setdefault(run.machine or run.id, []).append(value)
    middle = median(median(found) for found in machines.values())
    prior, scatter = rule["prior"] ** 2, rule["scatter"] ** 2
    variance = prior + scatter / len(machines)
    return float(middle * prior / variance), len(machines) >= MAJORITY or wrong_odds(middle, variance) <= 0


def _data() -> Mapping[str, Any]:
    return load("verdict", "evidence")

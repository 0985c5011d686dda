"""What records add to an estimate, by quantity: a cell's own replace what they measured, those of its card and of its
architecture correct the rest. Pure: the caller hands in the index of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace
from functools import cached_property
from math import log
from statistics import median

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import FitcheckError
from fitcheck.hardware.card import Card
from fitcheck.memory.footprint import CardMemory, Footprint
from fitcheck.records.run import Run
from fitcheck.records.run_index import OUT_OF_CARD_MEMORY, Index, LinkRow
from fitcheck.records.sampling import LOOKED_AT, spread, varied
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.speed.link import from_memory
from fitcheck.speed.rates import Calibration
from fitcheck.verdict.implied import NOTHING, CellNeed, Implied, implied
from fitcheck.verdict.memory_evidence import MemoryRecords, RunBesideEstimate
from fitcheck.verdict.plausible import too_small
from fitcheck.verdict.quantities import Evidence, Quantity, weakest
from fitcheck.verdict.seconds_evidence import RecordsFit, Seconds, traits_of
from fitcheck.verdict.shrinkage import Place, RunGroup, fit

_OUT_OF_SYSTEM_MEMORY = "oom-host"
# As many records as change anything: the rest says the same again.
_MOST_GROUPS, _MOST_BORROWED, _MOST_BESIDE = 36, 12, 6
_MODEL_ONLY = Quantity()
_MOST_NEEDS = 16  # kinds of runs whose needs are compared with a cell's


# what a record that anybody may have written can make of a calculation
_SENSELESS = (FitcheckError, ArithmeticError, ValueError, TypeError, KeyError, AssertionError)


def ask_of(run: Run) -> Ask | None:
    """The cell that a record measured, by the runtime that it names; ``None`` for what this release does not know."""
    name = run.cell.runtime
    if name not in registry.names():
        return None
    try:
        return registry.get(name).ask_of(run)
    except _SENSELESS:
        return None


def is_bounded(ask: Ask) -> bool:
    """Whether the run is not modelled: its sizes are lower bounds, which have no error and say nothing of others."""
    support = registry.get(ask.placement.runtime).platform(ask)
    return support is not None and support.least is not None


_Identified = tuple[Ask, object, bool]


def _identified(run: Run) -> _Identified | None:
    """The cell, what it is alike in and whether it has bounds alone; ``None`` too for sizes that make no sense, like no
    images."""
    ask = ask_of(run)
    if ask is None:
        return None
    runtime = registry.get(ask.placement.runtime)
    try:
        runtime.timings(ask)
        return ask, runtime.alike(ask), is_bounded(ask)
    except _SENSELESS:
        return None


@dataclass
class _Own:
    """Runs on a cell's card: finished ones of the cell with their asks, and those that hold the same memory; out of
    card memory; out of system memory; under a limit with the same layout; those whose sizes cannot be."""

    exact: list[tuple[Run, Ask]] = field(default_factory=list)
    held: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    starved: list[Run] = field(default_factory=list)
    capped: list[Run] = field(default_factory=list)
    odd: list[Run] = field(default_factory=list)

    def possible(self, runs: Iterable[Run], memory: CardMemory) -> list[Run]:
        """Those whose sizes can be; the others are kept apart."""
        found = list[Run]()
        for run in runs:
            (self.odd if too_small(run, memory) else found).append(run)
        return found

    def add(self, runs: Iterable[Run]) -> None:
        """Runs that hold the same memory on the card as it is, by what came of them."""
        outcomes = {"ok": self.held, OUT_OF_CARD_MEMORY: self.failed, _OUT_OF_SYSTEM_MEMORY: self.starved}
        for run in runs:
            if run.outcome in outcomes:
                outcomes[run.outcome].append(run)


@dataclass(frozen=True, slots=True)
class KnownMemory:
    """The memory of a cell as it is ``estimated`` and as records leave it, how that is known on the card and the host,
    and its ``own`` runs; without a card there are none."""

    estimated: Footprint
    footprint: Footprint
    card: Quantity = _MODEL_ONLY
    host: Quantity = _MODEL_ONLY
    own: _Own | None = None


@dataclass(frozen=True)
class Known:
    """The records that say something of a machine's card, out of an index of all, and what follows from them for cells.
    ``borrowed`` are runs of other cards of its architecture, ``short`` runs of the model that ran out of memory under a
    limit on other cards of the vendor."""

    card: Card
    index: Index
    machine: str | None = None
    borrowed: tuple[Run, ...] = ()
    short: tuple[Run, ...] = ()
    _asks: dict[object, _Identified | None] = field(default_factory=dict)
    _said: dict[object, RecordsFit | None] = field(default_factory=dict)
    _beside: dict[str, tuple[RunBesideEstimate, ...]] = field(default_factory=dict)
    _kinds: dict[tuple[str, str, str], list[Sequence[Run]]] = field(default_factory=dict)
    _needed: dict[object, CardMemory] = field(default_factory=dict)

    @cached_property
    def _links(self) -> tuple[LinkRow, ...]:
        return self.index.links_of(self.card.slug)

    def _kinds_of(self, ask: Ask) -> list[Sequence[Run]]:
        """Runs of the asked tier on the card, some of each kind together: what is asked of a kind is asked once,
        however many sent it."""
        key = ask.model.slug, ask.tier.name, ask.placement.runtime
        if key not in self._kinds:
            found: dict[object, list[Run]] = {}
            for run in self.index.runs_of_tier(self.card.slug, *key):
                found.setdefault(run.kind, []).append(run)
            self._kinds[key] = [spread(runs) for runs in found.values()]
        return self._kinds[key]

    def of(self, runtime: Runtime, ask: Ask, footprint: Footprint) -> tuple[Footprint, Calibration, Evidence]:
        """The cell's memory and corrections of its seconds as records leave them, and how it is known."""
        memory = self.memory(runtime, ask, footprint)
        return memory.footprint, *self.timed(runtime, ask, memory)

    def memory(self, runtime: Runtime, ask: Ask, footprint: Footprint) -> KnownMemory:
        """The cell's memory as records leave it."""
        if not footprint.cards:
            return KnownMemory(footprint, footprint)
        own = self._own(runtime, ask, footprint)
        left, card, host = self._memory(runtime, ask, own, footprint).known(footprint)
        return KnownMemory(footprint, left, card, host, own)

    def timed(self, runtime: Runtime, ask: Ask, memory: KnownMemory) -> tuple[Calibration, Evidence]:
        """Corrections of the seconds of a cell with such a memory, and how the whole is known."""
        if memory.own is None:
            return Calibration(), Evidence(timed=runtime.times)
        calibration, rates = self._seconds(runtime, ask, memory.own).known(memory.estimated)
        seconds = weakest(rates.values()) if rates else Quantity()
        named = tuple(rates.items()) if len(rates) > 1 else ()
        return calibration, Evidence(memory.card, memory.host, seconds, named, timed=runtime.times)

    def makes_smaller(self, runtime: Runtime) -> bool:
        """Whether a record may say that cells need less than is estimated: one of this very card. What ran out of
        memory on others says that they need more."""
        return bool(self.index.runs_in(self.card.slug, runtime.name))

    def footprint(self, runtime: Runtime, ask: Ask) -> Footprint:
        """The memory of a cell as records leave it; of one on another card as it is estimated."""
        found = runtime.spread(ask, runtime.footprint(ask))
        if not found.cards or ask.card.card.slug != self.card.slug or ask.card.usable is not None:
            return found
        return self._memory(runtime, ask, self._own(runtime, ask, found), found).known(found)[0]

    def calibration(self, runtime: Runtime, ask: Ask, footprint: Footprint) -> Calibration:
        """The corrections of a cell's seconds."""
        return self._seconds(runtime, ask, self._own(runtime, ask, footprint)).known(footprint)[0]

    def _seconds(self, runtime: Runtime, ask: Ask, own: _Own) -> Seconds:
        links, ids = links_of(self._links), tuple(link.id for link in self._links)
        return Seconds(runtime, ask, links, ids, tuple(own.exact), self._say(runtime, ask, links))

    def _memory(self, runtime: Runtime, ask: Ask, own: _Own, footprint: Footprint) -> MemoryRecords:
        held, failed, starved, capped = (tuple(runs) for runs in (own.held, own.failed, own.starved, own.capped))
        short = () if held or failed or capped else tuple(self._elsewhere(runtime, ask))
        said, odd = self._implied(runtime, ask, footprint), tuple(own.odd)
        return MemoryRecords(ask, runtime, held, failed, starved, capped, self._others(runtime), short, said, odd)

    def _implied(self, runtime: Runtime, ask: Ask, footprint: Footprint) -> Implied:
        """What other cells that ran, or ran out of memory, on the card say of this one; several cards share a cell out,
        each its own way, so that nothing is said there."""
        if len(footprint.cards) != 1:
            return NOTHING
        short = self.index.bounding(self.card.slug, ask.model.slug, runtime.name)
        finished = self._finished(ask) if short else [run for run in self._held(ask) if run.on_card]
        if not short and not finished:
            return NOTHING
        held, asked = runtime.holds(ask), CellNeed(ask, footprint.cards[ask.gpu])
        others = [one for one in self._needs(runtime, short, ask) if runtime.holds(one.ask) != held]
        return implied(asked, others, self._needs(runtime, finished, ask))

    def _finished(self, ask: Ask) -> list[Run]:
        """Some runs of the model that finished on the card as it is."""
        mine = spread(self.index.runs_in(self.card.slug, ask.placement.runtime), LOOKED_AT * 4)
        return [run for run in mine if run.cell.model == ask.model.slug and run.outcome == "ok" and not run.limited]

    def _held(self, ask: Ask) -> list[Run]:
        """A few of those of the tier that finished, of different modes first; asked where none ran under a limit."""
        return varied([run for kind in self._kinds_of(ask) for run in kind[:1]], _MOST_BESIDE)

    def _needs(self, runtime: Runtime, runs: Iterable[Run], asked: Ask) -> list[CellNeed]:
        """Runs on one card by kind, beside what each kind is estimated to need in such a process as ``asked``, on its
        machine or under the limit that it ran under."""
        kinds: dict[object, list[Run]] = {}
        for run in runs:
            if run.cards == 1:
                kinds.setdefault(run.kind, []).append(run)
        found = []
        for kind, alike in list(kinds.items())[:: max(-(-len(kinds) // _MOST_NEEDS), 1)]:
            there = self._modelled(alike[0])
            if there is None:
                continue
            machine = there.machine if alike[0].limited else asked.machine
            ask = replace(there, process=asked.process, machine=machine)
            key = kind, asked.process, machine
            if key not in self._needed:
                self._needed[key] = runtime.footprint(ask).cards[ask.gpu]
            memory = self._needed[key]
            found.append(CellNeed(ask, memory, tuple(run for run in spread(alike) if not too_small(run, memory))))
        return found

    def _elsewhere(self, runtime: Runtime, ask: Ask) -> Iterator[Run]:
        """Runs on other cards that hold the same memory and had not enough."""
        held = None
        for run in self.short:
            if (run.cell.model, run.cell.tier, run.cell.runtime) == (ask.model.slug, ask.tier.name, runtime.name):
                there = self._cell(run)
                held = runtime.holds(ask) if held is None else held
                if there is not None and runtime.holds(there[0]) == held:
                    yield run

    def _own(self, runtime: Runtime, ask: Ask, footprint: Footprint) -> _Own:
        """Runs of this very cell on the card, and of others that hold the same memory."""
        own, kinds = _Own(), self._kinds_of(ask)
        if not kinds:
            return own
        cell, used = runtime.alike(ask), max(sum(bool(one.card.best) for one in footprint.cards), 1)
        memory, plain, need = runtime.holds(ask), None, footprint.cards[ask.gpu]
        for runs in kinds:
            there = self._cell(runs[0]) if runs[0].cards == used else None
            if there is None:
                continue
            same = runtime.holds(there[0]) == memory
            free = [run for run in runs if not run.limited]
            if there[1] == cell:
                own.exact += [(run, there[0]) for run in free if run.outcome == "ok"]
            if same:
                own.add(own.possible(free, need))
            if same and len(free) < len(runs):
                # the same layers stay on the card
                plain = runtime.timings(ask) if plain is None else plain
                if runtime.timings(replace(there[0], workload=ask.workload, process=ask.process)) == plain:
                    own.capped += own.possible((run for run in runs if run.limited), need)
        return own

    def _cell(self, run: Run) -> _Identified | None:
        """The ask that a run measured and what is known of it, looked up once for runs of a kind."""
        kind = run.kind
        if kind not in self._asks:
            self._asks[kind] = _identified(run)
        return self._asks[kind]

    def _modelled(self, run: Run) -> Ask | None:
        """The ask that a run measured, where its estimate may be corrected."""
        there = self._cell(run)
        return None if there is None or there[2] else there[0]

    def _others(self, runtime: Runtime) -> tuple[RunBesideEstimate, ...]:
        """Some finished runs of the card in this runtime beside their own estimates, of different modes first."""
        if runtime.name not in self._beside:
            mine = spread(self.index.runs_in(self.card.slug, runtime.name), LOOKED_AT * 4)
            found = []
            for run in varied(spread([run for run in mine if _tells_memory(run)]), _MOST_BESIDE):
                there = self._modelled(run)
                if there is None:
                    continue
                beside = RunBesideEstimate(run, runtime, there, runtime.footprint(there))
                if not too_small(run, beside.memory):
                    found.append(beside)
            self._beside[runtime.name] = tuple(found)
        return self._beside[runtime.name]

    def _say(self, runtime: Runtime, ask: Ask, links: Calibration) -> RecordsFit | None:
        """The fit of all runs whose seconds have parts in common with the cell's, in runtimes that run the model."""
        parts = frozenset(name for timing in runtime.timings(ask, links).values() for name in timing.parts)
        key = (parts, ask.model.runtimes)
        if key not in self._said:
            self._said[key] = self._fitted(parts, ask.model.runtimes, links)
        return self._said[key]

    def _fitted(self, parts: frozenset[str], runtimes: Sequence[str], links: Calibration) -> RecordsFit | None:
        linked = bool(self._links)
        mine = [run for name in runtimes for run in self.index.runs_in(self.card.slug, name)]
        others = [run for run in self.borrowed if run.cell.runtime in runtimes]
        grouped = self._grouped(varied(spread(mine), _MOST_GROUPS * 4), parts, links, linked=linked)[:_MOST_GROUPS]
        grouped += self._grouped(others, parts, Calibration(), linked=False)[:_MOST_BORROWED]
        if not grouped:
            return None
        place = Place(self.card.slug, self.machine, linked)
        return RecordsFit(fit([group for group, _ in grouped]), tuple(runs for _, runs in grouped), place)

    def _grouped(
        self, runs: Iterable[Run], parts: frozenset[str], links: Calibration, *, linked: bool
    ) -> list[tuple[RunGroup, tuple[Run, ...]]]:
        """Observations with any of the ``parts``, those of one cell on one machine together."""
        found: dict[RunGroup, tuple[list[float], list[Run]]] = {}
        for run in runs:
            there = self._modelled(run)
            if there is None:
                continue
            runtime, place = registry.get(run.cell.runtime), Place(run.card, run.machine or run.id, linked)
            for one in runtime.observed(run, there, links):
                if parts.isdisjoint(one.timing.parts) or not one.sound:
                    continue
                traits = traits_of(runtime, there, one.name)
                group = RunGroup(place, traits, one.timing, 0.0)
                seen, behind = found.setdefault(group, ([], []))
                seen.append(log(one.seconds))
                behind.append(run)
        return [
            (replace(group, measured=median(seen), count=len(seen)), tuple(behind))
            for group, (seen, behind) in found.items()
        ]


def links_of(links: Iterable[LinkRow]) -> Calibration:
    """What link records say of copies from pinned and from pageable memory."""
    found = tuple(links)
    return Calibration(
        pinned=tuple(link.pinned for link in found if link.pinned),
        pageable=tuple(from_memory(link.pageable) for link in found if link.pageable),
    )


def _tells_memory(run: Run) -> bool:
    return run.outcome == "ok" and run.cap is None and bool(run.on_card or run.rss)

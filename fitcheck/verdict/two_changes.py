"""Two changes that cost nothing, where neither alone gives a better verdict: two settings, or one and another mode or a
smaller tier. Every pair is asked as a question of its own, so that what is said of it is what its check says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.machine import Machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models.model import Tier
from fitcheck.records.run_index import Index
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Change, Runtime, Settings, Wanted
from fitcheck.runtimes.options import declared
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.changes import FIXED, may_better
from fitcheck.verdict.check import check
from fitcheck.verdict.coarseness import is_broken
from fitcheck.verdict.known_records import known_of
from fitcheck.verdict.report import Report

MODE = "mode"  # the option of those runtimes whose modes have fixed names
# of a tier's bytes, so that tiers are tried in steps that matter
_CLEARLY = 0.94


@dataclass(frozen=True, slots=True)
class FreePair:
    """Two changes in words, the options that ask for them beside the tier, and the report that they buy."""

    words: str
    tier: str
    settings: Settings
    report: Report


def free_pair(report: Report, index: Index | None = None) -> FreePair | None:
    """The first two changes that together better the verdict of the best cell, what costs least first: time, then what
    is asked for, then the tier. ``None`` where one free change does, where none is wanted, and where no two do."""
    best = report.best
    if best.verdict is Verdict.FITS or best.judgement.binding in FIXED:
        return None
    if best.flip is not None and not best.flip.bought:
        return None
    return next(_Pairs(report, index).found(), None)


@dataclass(frozen=True, slots=True)
class _Setting:
    """A change that an option or the machine asks for."""

    words: str
    settings: Settings
    machine: Machine

    def beside(self, other: _Setting) -> _Setting:
        """Both of them."""
        machine = other.machine if self.settings else self.machine
        return _Setting(_both(self.words, other.words), (*self.settings, *other.settings), machine)


@dataclass(frozen=True)
class _Pairs:
    """The pairs of changes of a report's best cell."""

    report: Report
    index: Index | None

    def found(self) -> Iterator[FreePair]:
        """Those with a better verdict, in the order in which they are worth it."""
        tier = self._cell.tier
        for ladder in self._ladders:
            yield from _least(ladder, lambda one: self._bettering(tier, one, with_mode=True))
        for one, other in combinations(self._ladders, 2):
            both = [first.beside(second) for first in one for second in other]
            yield from _least(both, lambda one: self._bettering(tier, one))
        if not self._runtime.searches:
            yield from self._with_the_largest(self._unchanged, with_mode=True)
        for ladder in self._ladders:
            yield from _least(ladder, self._with_the_largest)

    @property
    def _cell(self) -> Cell:
        return self.report.best

    @cached_property
    def _runtime(self) -> Runtime:
        return registry.get(self._cell.placement.runtime)

    @cached_property
    def _changes(self) -> list[Change]:
        return list(self._runtime.changes(self._cell.ask, self.report.wanted))

    @cached_property
    def _ladders(self) -> list[list[_Setting]]:
        """Changes that keep tier and mode, those of one option together, each of which takes less than the one
        before."""
        machine = self._cell.ask.machine
        found: dict[tuple[str, ...], list[_Setting]] = {}
        for one in self._changes:
            options = tuple(name for name, _ in one.settings)
            if MODE not in options and (options or one.ask.machine != machine):
                found.setdefault(options, []).append(_Setting(one.words, one.settings, one.ask.machine))
        return list(found.values())

    @cached_property
    def _unchanged(self) -> _Setting:
        return _Setting("", (), self._cell.ask.machine)

    @cached_property
    def _smaller(self) -> list[Tier]:
        """Tiers that are published and not as good as broken, from large to small."""
        model, found = self.report.model, list[Tier]()
        size = self._cell.tier.tensors.nbytes
        for tier in sorted(model.tiers, key=lambda tier: -tier.tensors.nbytes):
            if tier.published and tier.tensors.nbytes < _CLEARLY * size and not is_broken(model, tier):
                found.append(tier)
                size = tier.tensors.nbytes
        return found

    def _with_the_largest(self, setting: _Setting, *, with_mode: bool = False) -> Iterator[FreePair]:
        """With the largest of the smaller tiers with which the verdict is better. By bisection: a smaller file is
        seldom worse."""
        tiers: Sequence[Tier] = self._smaller
        best = next(self._bettering(tiers[-1], setting, with_mode=with_mode), None) if tiers else None
        low, high = 0, len(tiers) - 1
        while best is not None and low < high:
            middle = (low + high) // 2
            found = next(self._bettering(tiers[middle], setting, with_mode=with_mode), None)
            low, high, best = (low, middle, found) if found is not None else (middle + 1, high, best)
        if best is not None:
            yield best

    def _bettering(self, tier: Tier, setting: _Setting, *, with_mode: bool = False) -> Iterator[FreePair]:
        """The pair, where its verdict is better; ``with_mode`` whatever mode that takes, else in the same one."""
        same: Settings = ()
        if not with_mode and MODE in declared(self._runtime.options):
            same = ((MODE, self._cell.placement.mode),)
        given = (*setting.settings, *same)
        wanted = replace(self.report.wanted.with_(**dict(given)), tiers=(tier.name,))
        if not self._may_better(tier, wanted, setting.machine):
            return
        report = check(
            self.report.model, setting.machine, wanted, tiers=(tier,), index=self.index, advise=False, head=True
        )
        if (
            report.best.verdict not in (Verdict.FITS, Verdict.TIGHT)
            or report.best.verdict.rank >= self._cell.verdict.rank
        ):
            return
        words = setting.words if tier is self._cell.tier else _both(f"tier {tier.name}", setting.words)
        mode = report.best.placement.mode
        if mode != self._cell.placement.mode and with_mode:
            words = _both(self._mode_words(mode), words)
        yield FreePair(words, tier.name, given, report)

    def _may_better(self, tier: Tier, wanted: Wanted, machine: Machine) -> bool:
        """Whether what is quick to work out leaves it open that the verdict is better."""
        model, now = self.report.model, self._cell.verdict
        known = known_of(self.index, machine, model)
        hoped = list(self._runtime.outlook(model, tier, wanted, machine)) if known is None else []
        if hoped and all(one.verdict.rank >= now.rank for one in hoped):
            return False
        asks = self._runtime.leading(model, tier, wanted, machine)
        return any(may_better(self._runtime, ask, now, self.report.floor, known) for ask in asks)

    def _mode_words(self, mode: str) -> str:
        words = mode if self._runtime.searches else f"--{MODE} {mode}"
        return next((one.words for one in self._changes if one.ask.placement.mode == mode), words)


def _least(ladder: Sequence[_Setting], pairs: Callable[[_Setting], Iterator[FreePair]]) -> Iterator[FreePair]:
    """The pair of the first of the settings that has one: none where the last, which takes least, has none."""
    *others, last = ladder
    found = next(pairs(last), None)
    if found is not None:
        yield next((pair for one in others for pair in pairs(one)), found)


def _both(first: str, second: str) -> str:
    return " and ".join(filter(None, (first, second)))

"""Ways to place a model's layers, and which of them leads, found without looking at all of them.

A way is ruled out where it would be no better than the best one so far even with the fewest layers on the host with
which weights and caches alone go on the cards: every layer more on the host makes a run slower, as long as the host's
memory is slower than the cards', and takes more of the host. Only of what may lead graphs are built.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from enum import Enum, auto
from typing import Protocol

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.weighing import Verdict
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.kept_placements import Judged

# how good a placement is, least first: its verdict's rank, how far it is from running, seconds of a token
Standing = tuple[int, tuple[object, ...], float]
_NOWHERE: Standing = (Verdict.NO.rank + 1, (), 0.0)


class Kind(Enum):
    """``ASKED``: nothing is up for choice. ``WHOLE``: all on the cards; ``ALONE``: all on the host."""

    ASKED = auto()
    WHOLE = auto()
    EXPERTS = auto()
    LAYERS = auto()
    ALONE = auto()


@dataclass(frozen=True, slots=True)
class Way:
    """A kind of placement with one type of cache. ``moved`` has so many layers, or their experts, on the host, of which
    1 to ``most`` are up for choice; none are where that is 0."""

    kind: Kind
    moved: Callable[[int], LlamaOptions]
    most: int = 0

    def judged(self, search: Search, most: int | None = None) -> Judged | None:
        """With as few layers moved as the cards need, ``most`` at most; ``None`` where that is not enough."""
        if not self.most:
            return search.judged(self.moved(0))
        limited = most is not None and most < self.most
        count = search.smallest(most if most is not None else self.most, self.moved, doubtful=limited)
        return None if count is None else search.judged(self.moved(count))


class Search(Protocol):
    """What a search for the placement of one tier on one machine knows to say."""

    @property
    def bounded(self) -> bool:
        """Whether ``least_standing`` gets no better with more layers on the host."""

    def judged(self, options: LlamaOptions) -> Judged:
        """Exactly these options."""

    def smallest(self, most: int, moved: Callable[[int], LlamaOptions], *, doubtful: bool) -> int | None:
        """The smallest number of layers moved with which no card is short; ``None`` where it is more than ``most``,
        which is looked at first where it is ``doubtful``."""

    def fewest(self, most: int, moved: Callable[[int], LlamaOptions]) -> int | None:
        """No more than that, found without a graph."""

    def leaves_room(self, options: LlamaOptions) -> bool:
        """Whether weights and caches alone go on the cards."""

    def standing(self, judged: Judged) -> Standing:
        """How good a placement is."""

    def least_standing(self, options: LlamaOptions, *, amounts: bool) -> Standing:
        """No worse than ``standing`` of the same options, found without a graph; without ``amounts`` as if there were
        any amount of system memory."""


@dataclass(frozen=True, slots=True)
class Leading:
    """The placement that leads. Beside more system memory than any of those ``looked_at`` need it leads too, but where
    it is not ``settled``: one of them needs more than there is, or what was ruled out for what it takes of the host
    might then do."""

    judged: Judged
    looked_at: tuple[Judged, ...]
    settled: bool


def ways(architecture: LanguageArchitecture, options: LlamaOptions, *, cards: bool) -> Iterator[Way]:
    """All on the cards, experts on the host, layers on the host, the host alone: those that ``options`` leave open."""
    everything = architecture.layers + 1
    if options.gpu_layers is not None or not cards:
        fixed = options if options.gpu_layers is not None else options.with_(gpu_layers=0)
        yield Way(Kind.ASKED, lambda _: fixed)
        return
    full = options.with_(gpu_layers=everything)
    yield Way(Kind.WHOLE, lambda _: full)
    if architecture.experts and not options.cpu_moe_layers:
        yield Way(Kind.EXPERTS, lambda count: full.with_(cpu_moe_layers=count), architecture.layers)
    yield Way(Kind.LAYERS, lambda count: options.with_(gpu_layers=everything - count), everything)
    yield Way(Kind.ALONE, lambda _: options.with_(gpu_layers=0))


def all_judged(search: Search, found: Iterable[Way]) -> list[Judged]:
    """Each of the ways: only what is needed of it. What lies whole on the cards and fits makes the rest needless, and
    the host alone is looked at with the first type of cache with which it does."""
    judged: list[Judged] = []
    alone = False
    for way in found:
        if alone and way.kind is Kind.ALONE:
            continue
        one = way.judged(search)
        if one is None:
            continue
        judged.append(one)
        fits = one.level.verdict is Verdict.FITS
        alone = alone or (fits and one.options.gpu_layers == 0)
        if fits and way.kind is Kind.WHOLE:
            break  # a smaller cache buys nothing: it is read no faster
    return judged


def leading(search: Search, found: Sequence[Way]) -> Leading:
    """The best of the ways, of equals the first: what is least by ``standing`` of ``all_judged``."""
    if not search.bounded:
        judged = tuple(all_judged(search, found))
        return Leading(min(judged, key=search.standing), judged, settled=True)
    choice = _Choice(search, found)
    for _ in _standings(choice):
        pass
    assert choice.best is not None
    return Leading(choice.best[2], tuple(choice.looked_at), choice.settled)


def is_any_better(search: Search, found: Sequence[Way], rank: int) -> bool:
    """Whether one of the ways has a better verdict than ``rank``, which the best one has then; only where the search is
    ``bounded``. No more of them are looked at than that takes."""
    return any(standing[0] < rank for standing in _standings(_Choice(search, found)))


def _standings(choice: _Choice) -> Iterator[Standing]:
    """How the best of the ways stands, as they are looked at one after the other."""
    search, found = choice.search, choice.found
    whole = [at for at, way in enumerate(found) if way.kind is Kind.WHOLE and search.leaves_room(way.moved(0))]
    left = [at for at in range(len(found)) if at not in whole]
    for at in whole:
        fits = choice.look(at)
        yield choice.standing
        if fits:
            left = [one for one in left if one < at]  # a smaller cache buys nothing
            break
    for at in _in_turn(search, found, left):
        choice.look(at)
        yield choice.standing


@dataclass(slots=True)
class _Choice:
    """The best of the ways that were looked at: how it stands, which it is and what it holds."""

    search: Search
    found: Sequence[Way]
    best: tuple[Standing, int, Judged] | None = None
    looked_at: list[Judged] = field(default_factory=list)
    settled: bool = True

    @property
    def standing(self) -> Standing:
        """How the best one stands, behind all others where none was found yet."""
        return _NOWHERE if self.best is None else self.best[0]

    def look(self, at: int) -> bool:
        """Look at one of the ways as far as it may be better than the best one; whether it is seen to fit."""
        way = self.found[at]
        most = self._most(at, way)
        one = None if most is None else way.judged(self.search, most)
        if one is None:
            return False
        self.looked_at.append(one)
        host = one.level.weighed.host
        self.settled = self.settled and host is not None and host.verdict is Verdict.FITS
        standing = self.search.standing(one)
        if self.best is None or (standing, at) < self.best[:2]:
            self.best = standing, at, one
        return one.level.verdict is Verdict.FITS

    def _most(self, at: int, way: Way) -> int | None:
        """With how many layers moved at most the way may be better; ``None`` with none."""
        if self.best is None:
            return way.most
        standing, first, judged = self.best
        room = _room(self.search, way, standing, _moved(judged, way), first=at < first, settled=self.settled)
        self.settled = self.settled and room.anyway
        alone = way.kind is Kind.ALONE and room.most is not None and _alone(self.search, self.found[:at])
        return None if alone else room.most


def _in_turn(search: Search, found: Sequence[Way], left: Iterable[int]) -> list[int]:
    """Positions of the ways that are ``left``: first the one that may be best, which mostly rules out the others. What
    cannot be, for want of cards, comes last."""
    few = {at: _fewest(search, found[at]) for at in left}
    hopes = sorted(
        (search.least_standing(found[at].moved(fewest), amounts=False), at)
        for at, fewest in few.items()
        if fewest is not None
    )
    best: tuple[Standing, int] | None = None
    for hope in hopes:
        if best is not None and best <= hope:
            break
        at = hope[1]
        least = search.least_standing(found[at].moved(few[at] or 0), amounts=True), at
        best = least if best is None else min(best, least)
    first = [] if best is None else [best[1]]
    return list(dict.fromkeys([*first, *(at for _, at in hopes), *few]))


def hopes(search: Search, found: Iterable[Way]) -> Iterator[Standing]:
    """What no placement of each of the ways is better than, of those that have one; only where the search is
    ``bounded``."""
    for way in found:
        fewest = search.fewest(way.most, way.moved) if way.most else 0
        if fewest is not None:
            yield search.least_standing(way.moved(fewest), amounts=True)


def _fewest(search: Search, way: Way) -> int | None:
    """How many layers are moved at least; ``None`` where the cards are too small for any number."""
    if way.most:
        return search.fewest(way.most, way.moved)
    return None if _too_large(search, way) else 0


def _too_large(search: Search, way: Way) -> bool:
    """Whether all is to lie on cards that are too small for it, which no system memory changes."""
    return way.kind is Kind.WHOLE and not search.leaves_room(way.moved(0))


def _moved(judged: Judged, way: Way) -> int:
    """How many layers the placement moved, where it is of that kind; 0 where it is of another one."""
    options = judged.options
    if way.kind is Kind.EXPERTS:
        return options.cpu_moe_layers
    layers = options.gpu_layers
    return way.most - layers if way.kind is Kind.LAYERS and layers is not None and not options.cpu_moe_layers else 0


def _alone(search: Search, before: Sequence[Way]) -> bool:
    """Whether the host alone does with a type of cache that comes before."""
    judged = (way.judged(search) for way in before if way.kind is Kind.ALONE)
    return any(one is not None and one.level.verdict is Verdict.FITS for one in judged)


@dataclass(frozen=True, slots=True)
class _Room:
    """With how many layers moved at ``most`` a way may be better than the best one; ``None`` with none. ``anyway``: so
    it is beside any amount of system memory."""

    most: int | None
    anyway: bool


def _room(search: Search, way: Way, best: Standing, near: int, *, first: bool, settled: bool) -> _Room:
    """``near`` layers are moved by the best one, where it is of the same kind. Of equals the ``first`` is better. What
    would be beside any amount of system memory is only asked where everything else is ``settled``."""
    fewest = search.fewest(way.most, way.moved) if way.most else 0
    if fewest is None:
        return _Room(None, anyway=True)
    amounts = best[0] != Verdict.FITS.rank  # else what is taken of the host can only rule out, and slowness does

    def beaten(count: int, amounts: bool) -> bool:
        least = search.least_standing(way.moved(count), amounts=amounts)
        return least > best or (least == best and not first)

    if beaten(fewest, amounts):
        anyway = settled and (not amounts or _too_large(search, way) or beaten(fewest, amounts=False))
        return _Room(None, anyway=anyway)
    if not amounts and beaten(fewest, amounts=True):
        return _Room(None, anyway=False)

    def most_moved(amounts: bool) -> int:
        last = near if fewest < near < way.most and beaten(near, amounts) else way.most
        counts = range(fewest + 1, last + 1)
        return fewest + bisect_left(counts, True, key=lambda count: beaten(count, amounts))

    most = most_moved(amounts)
    return _Room(most, anyway=settled and (not amounts or most_moved(amounts=False) == most))

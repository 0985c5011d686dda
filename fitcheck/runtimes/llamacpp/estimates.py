"""Estimates of asks, each made once, and what decides a search for a placement without making one.

Amounts decide how several cards share a model; the layout on one card is the same on every card, so that a machine more
is a look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from math import ceil

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.hardware.budget import budgets_of, ram_budget
from fitcheck.memory.footprint import Footprint, drawn_from_host
from fitcheck.models.companions import Companion
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.base import Ask
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.beside import beside_model
from fitcheck.runtimes.llamacpp.buffers import (
    LlamaEstimate,
    as_loaded,
    estimate,
    least_footprint,
    not_modelled,
    on_cards,
    overhead,
)
from fitcheck.runtimes.llamacpp.builds import Build, builds_in_use, newest_build
from fitcheck.runtimes.llamacpp.caches import cache_sums
from fitcheck.runtimes.llamacpp.drafting import check_pair, draft_among, draft_estimate, with_draft
from fitcheck.runtimes.llamacpp.placement import arguments_of
from fitcheck.runtimes.llamacpp.weight_placement import Devices, layer_devices, place_weights, weight_bytes
from fitcheck.units import Interval

_estimate = lru_cache(maxsize=16384)(estimate)
Totals = tuple[Interval[int], ...]
_Needs = Callable[[LlamaOptions], Sequence[int]]


def architecture_of(ask: Ask) -> LanguageArchitecture:
    """The shape of the tier; only asks of the family come here."""
    architecture = ask.architecture
    assert isinstance(architecture, LanguageArchitecture)
    return architecture


def estimate_of(ask: Ask) -> LlamaEstimate:
    """llama.cpp's buffers on the machine's cards and host. Raises OptionError for options that cannot be."""
    return _whole(_asked_of(ask, arguments_of(ask.placement, ask.workload)))


def least_of(ask: Ask, options: LlamaOptions) -> Footprint:
    """The least that the run can take with these options on the cards of ``ask``, found without a graph."""
    return _with_shared(ask, least_footprint(*_asked_of(ask, options)))


def is_bounded(ask: Ask, options: LlamaOptions) -> bool:
    """Whether ``least_of`` and ``placed_of`` say of a run on cards what they are for: its buffers are modelled, whole
    layers lie on a device, and it is the only model."""
    architecture = architecture_of(ask)
    if not ask.machine.gpus or architecture.unknown or not_modelled(architecture, options) is not None:
        return False
    return not options.shares_matrices and options.speculative is None and draft_among(ask.tier.companions) is None


def placed_of(ask: Ask, options: LlamaOptions) -> PlacedLayers:
    """Where the layers of such a run lie, found without a graph."""
    loaded = as_loaded(architecture_of(ask), options)
    return needs_of(ask, loaded).placed(loaded)


def footprint_of(ask: Ask, result: LlamaEstimate) -> Footprint:
    """What an estimate takes of the machine."""
    return _with_shared(ask, result.laid_out)


def _with_shared(ask: Ask, found: Footprint) -> Footprint:
    """In a unified memory the host holds the cards' as well."""
    for gpu, held in zip(ask.machine.gpus, found.cards, strict=True):
        if gpu.card.unified_memory:  # one memory: the host holds both, but for what the firmware set aside
            both = found.host.total + drawn_from_host(held.card, gpu.carved)
            found = replace(found, host=replace(found.host, total=both))
    return found


def totals_in_other_builds(ask: Ask) -> dict[Build, Totals]:
    """What the same run takes of each card in the older builds that people still run; nothing where a build was named,
    and without a card."""
    options = arguments_of(ask.placement, ask.workload)
    older = in_other_builds(options) if ask.machine.gpus else ()
    return {one.build: _totals(_asked_of(ask, one)) for one in older}


def in_other_builds(options: LlamaOptions) -> Iterator[LlamaOptions]:
    """The options in each older build still in use that has all they ask for; none where a build was named."""
    if options.build != newest_build():
        return
    for build in builds_in_use():
        with suppress(OptionError):  # what the build has not yet
            yield options.with_(build=build)


_Asked = tuple[LanguageArchitecture, TensorTable, LlamaOptions, tuple[int, ...], int | None, tuple[Companion, ...]]


def _asked_of(ask: Ask, options: LlamaOptions) -> _Asked:
    free = free_of(ask) if ask.machine.gpus else ()
    return architecture_of(ask), ask.tier.tensors, options, free, ask.tier.disk_bytes or None, ask.tier.companions


def _whole(asked: _Asked) -> LlamaEstimate:
    """The estimate, with the second model where one drafts."""
    return _estimate(*asked) if draft_among(asked[-1]) is None else _drafted(*asked)


def _totals(asked: _Asked) -> Totals:
    """What is taken of each card."""
    architecture, tensors, options, free, _, companions = asked
    if options.shares_matrices or draft_among(companions) is not None:
        return _whole(asked).card_totals
    return on_cards(architecture, tensors, options, free, companions).totals


@lru_cache(maxsize=4096)
def _drafted(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    options: LlamaOptions,
    free: tuple[int, ...],
    disk: int | None,
    companions: tuple[Companion, ...],
) -> LlamaEstimate:
    """Both models; the second one is loaded into what the first leaves of the cards."""
    draft = draft_among(companions)
    assert draft is not None
    check_pair(architecture, draft)
    found = _estimate(architecture, tensors, options, free, disk, companions)
    left = [max(have - held.best, 0) for have, held in zip(free, found.card_totals, strict=True)]
    return with_draft(found, draft, draft_estimate(draft, options, left))


def free_of(ask: Ask) -> tuple[int, ...]:
    """What cards share a model by: shares alone decide, so that as much on each is 1 on each. A second model on several
    cards shares what the first one leaves, and there amounts count."""
    free = tuple(one.vram.best for one in ask.budgets)
    alone = len(free) == 1 or draft_among(ask.tier.companions) is None
    return (1,) * len(free) if alone and len(set(free)) == 1 else free


def outweighs(ask: Ask, options: LlamaOptions) -> bool:
    """Whether the weights alone are more than the cards and the host have together."""
    ram = ram_budget(ask.machine)
    if ram is None or not ask.machine.gpus:
        return False
    room = ram.best + sum(one.vram.best for one in budgets_of(ask.machine))
    return weight_bytes(architecture_of(ask), ask.tier.tensors, options) > room


@dataclass(frozen=True, eq=False)
class PlacedLayers:
    """Options, and where the layers lie with them: all that the rate of a run hangs on."""

    options: LlamaOptions
    devices: Devices


class CardNeeds:
    """What each card must hold at most, of one tier with one set of options, by how many layers lie where."""

    def __init__(
        self,
        architecture: LanguageArchitecture,
        tensors: TensorTable,
        free: tuple[int, ...],
        disk: int | None,
        companions: tuple[Companion, ...],
    ) -> None:
        self._asked = (architecture, tensors)
        self._beside = (free, disk, companions)
        self.smallest: dict[tuple[LlamaOptions, int, tuple[int, ...]], int | None] = {}
        self._least: dict[LlamaOptions, list[int]] = {}
        self._placed: dict[LlamaOptions, PlacedLayers] = {}
        self._devices: dict[tuple[int | None, Build], Devices] = {}
        self._highs: dict[LlamaOptions, list[int]] = {}

    def least(self, options: LlamaOptions) -> list[int]:
        """Bytes without the compute buffer, for which no graph is built: weights, caches and the process."""
        if options not in self._least:
            self._least[options] = self._without_graph(options)
        return self._least[options]

    def most(self, options: LlamaOptions) -> list[int]:
        """The high end of the estimate in bytes: over the builds that people run, where none was named."""
        older = [self.high(one) for one in in_other_builds(options)]
        return [max(highs) for highs in zip(self.high(options), *older, strict=True)]

    def high(self, options: LlamaOptions) -> list[int]:
        """The high end in the one build of ``options``."""
        if options not in self._highs:
            totals = _totals((*self._asked, options, *self._beside))
            self._highs[options] = [total.high for total in totals]
        return self._highs[options]

    def beside_least(self, options: LlamaOptions) -> list[int]:
        """What the graph adds in the one build of ``options``, in bytes."""
        return _difference(self.high(options), self.least(options))

    def placed(self, options: LlamaOptions) -> PlacedLayers:
        """Where the layers lie; the same object for the same options."""
        if options not in self._placed:
            self._placed[options] = PlacedLayers(options, self._devices_of(options))
        return self._placed[options]

    def _devices_of(self, options: LlamaOptions) -> Devices:
        """The device of every layer, the same wherever experts lie."""
        place = options.gpu_layers, options.build
        if place not in self._devices:
            self._devices[place] = layer_devices(self._asked[0], options, self._beside[0])
        return self._devices[place]

    def fewest(self, room: Sequence[int], most: int, moved: Callable[[int], LlamaOptions]) -> int | None:
        """The number of layers moved to the host below which weights and caches alone leave a card short, one at least;
        ``None`` where one is short even with ``most``."""
        return _first_within(partial(_lacking, self.least, room, moved), 1, most)

    def _without_graph(self, options: LlamaOptions) -> list[int]:
        (architecture, tensors), (free, _, companions) = self._asked, self._beside
        devices = self._devices_of(options)
        weights, beside = (
            place_weights(architecture, tensors, options, devices),
            beside_model(companions, options, devices),
        )
        found = [sum(amounts) for amounts in zip(weights.cards, beside.cards, beside.slack, strict=True)]
        if not options.cache_on_host:
            sums, (_, *cards) = cache_sums(architecture, options), devices.spans
            found = [amount + sum(sums.between(*span)) for amount, (_, *span) in zip(found, cards, strict=True)]
        draft = draft_among(companions)
        if draft is not None:
            drafting = draft_estimate(draft, options, free)
            found = [amount + card.total for amount, card in zip(found, drafting.cards, strict=True)]
        return [amount + overhead()[-1] if amount else 0 for amount in found]


def _lacking(least: _Needs, room: Sequence[int], moved: Callable[[int], LlamaOptions], count: int) -> int:
    """Bytes that the shortest card lacks with ``count`` layers moved; negative by as many as are left."""
    return max(_difference(least(moved(count)), room))


def _first_within(beyond: Callable[[int], int], first: int, last: int) -> int | None:
    """The least number from ``first`` to ``last`` of which nothing lies ``beyond``, which falls; ``None`` where that is
    none. Layers are much of one size: the next number looked at is where a line through both ends meets zero."""
    over = beyond(first)
    if over <= 0:
        return first
    under = beyond(last)
    if under > 0:
        return None
    while last - first > 1:
        guess = min(max(first + ceil((last - first) * over / (over - under)), first + 1), last - 1)
        amount = beyond(guess)
        if amount > 0:
            first, over = guess, amount
        else:
            last, under = guess, amount
    return last


def _all_within(needs: Sequence[int], room: Sequence[int]) -> bool:
    return all(need <= have for need, have in zip(needs, room, strict=True))


def smallest_count(
    needs: CardNeeds, room: Sequence[int], most: int, moved: Callable[[int], LlamaOptions], *, doubtful: bool = False
) -> int | None:
    """The smallest number of layers moved to the host with which no card is short; ``None`` where one is even with
    ``most``. That is looked at first where it is ``doubtful``."""
    # one layer moved says of what kind they are; cards with as much room share the answer
    place = (moved(1), most, tuple(room))
    if place not in needs.smallest:
        needs.smallest[place] = _smallest_count(needs, room, most, moved, doubtful=doubtful)
    return needs.smallest[place]


def _smallest_count(
    needs: CardNeeds, room: Sequence[int], most: int, moved: Callable[[int], LlamaOptions], *, doubtful: bool
) -> int | None:
    """Searched in one of the builds that people run at a time: first in the oldest, which mostly needs most, then in
    whichever still needs more than there is with the number found."""
    builds = [*(one.build for one in in_other_builds(moved(most))), moved(most).build]
    build, counts, beside = builds[0], range(1, most + 1), [0] * len(room)
    if doubtful and not _all_within(needs.high(moved(most).with_(build=build)), room):
        return None
    while True:

        def in_build(options: LlamaOptions, build: Build = build) -> Sequence[int]:
            return needs.high(options.with_(build=build))

        found = _smallest(needs.least, in_build, room, counts, moved, beside)
        if found is None or _all_within(needs.most(moved(found)), room):
            return found
        options = {one: moved(found).with_(build=one) for one in builds}
        build = max(builds, key=lambda one: max(_difference(needs.high(options[one]), room)))
        beside, counts = needs.beside_least(options[build]), range(found + 1, most + 1)


def _smallest(
    least: _Needs,
    whole: _Needs,
    room: Sequence[int],
    counts: range,
    moved: Callable[[int], LlamaOptions],
    beside: Sequence[int],
) -> int | None:
    """The smallest of ``counts`` with which ``whole`` goes into ``room``, of which ``least`` is a part; ``None`` where
    it does with none of them.

    A graph is only built where the rest leaves it open, and the next number looked at is the one that would do if the
    graph were as large there as it was at the last one, which at first is ``beside``.
    """
    first, last = 0, len(counts)  # the answer is in counts[first:], or counts[last] where that is one
    while first < last:
        left = _difference(room, beside)
        count = _first_within(partial(_lacking, least, left, moved), counts[first], counts[last - 1])
        guess = last - 1 if count is None else counts.index(count)
        options = moved(counts[guess])
        if not _all_within(least(options), room):
            first = guess + 1
            continue
        beside = _difference(whole(options), least(options))
        first, last = (first, guess) if _all_within(whole(options), room) else (guess + 1, last)
    return counts[last] if last < len(counts) else None


def _difference(more: Sequence[int], less: Sequence[int]) -> list[int]:
    return [one - other for one, other in zip(more, less, strict=True)]


def needs_of(ask: Ask, options: LlamaOptions) -> CardNeeds:
    """Of the tier and the machine of ``ask`` with ``options``, apart from how many layers lie where."""
    what = (architecture_of(ask), ask.tier.tensors, free_of(ask), ask.tier.disk_bytes or None)
    return _needs(options.anywhere, *what, ask.tier.companions)


@lru_cache(maxsize=1024)
def _needs(
    options: LlamaOptions,
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    free: tuple[int, ...],
    disk: int | None,
    companions: tuple[Companion, ...],
) -> CardNeeds:
    return CardNeeds(architecture, tensors, free, disk, companions)

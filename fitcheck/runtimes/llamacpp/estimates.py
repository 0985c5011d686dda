"""Estimates of asks, each made once, and what decides a search for a placement without making one.

Amounts decide how several cards share a model; the layout on one card is the same on every card, so that a machine more
is a look-up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache

from fitcheck.models.companions import Companion
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.base import Ask
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.beside import beside_model
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate, overhead
from fitcheck.runtimes.llamacpp.builds import Build
from fitcheck.runtimes.llamacpp.caches import layer_caches
from fitcheck.runtimes.llamacpp.drafting import check_pair, draft_among, draft_estimate, with_draft
from fitcheck.runtimes.llamacpp.placement import arguments_of
from fitcheck.runtimes.llamacpp.weight_placement import HOST, layer_devices, place_weights

_estimate = lru_cache(maxsize=16384)(estimate)


def architecture_of(ask: Ask) -> LanguageArchitecture:
    """The shape of the tier; only asks of the family come here."""
    architecture = ask.architecture
    assert isinstance(architecture, LanguageArchitecture)
    return architecture


def estimate_of(ask: Ask) -> LlamaEstimate:
    """llama.cpp's buffers on the machine's cards and host. Raises OptionError for options that cannot be."""
    free = free_of(ask) if ask.machine.gpus else ()
    options = arguments_of(ask.placement, ask.workload)
    disk = ask.tier.disk_bytes or None
    return _whole((architecture_of(ask), ask.tier.tensors, options, free, disk, ask.tier.companions))


def estimate_in(ask: Ask, build: Build) -> LlamaEstimate:
    """The same run in another build, near enough for an end of an interval. Raises OptionError for what the build has
    not yet."""
    free = free_of(ask) if ask.machine.gpus else ()
    options = arguments_of(ask.placement, ask.workload).with_(build=build, abridged=True)
    disk = ask.tier.disk_bytes or None
    return _whole((architecture_of(ask), ask.tier.tensors, options, free, disk, ask.tier.companions))


_Asked = tuple[LanguageArchitecture, TensorTable, LlamaOptions, tuple[int, ...], int | None, tuple[Companion, ...]]


def _whole(asked: _Asked) -> LlamaEstimate:
    """The estimate, with the second model where one drafts."""
    return _estimate(*asked) if draft_among(asked[-1]) is None else _drafted(*asked)


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
        self._least: dict[LlamaOptions, list[int]] = {}
        self._most: dict[LlamaOptions, list[int]] = {}

    def least(self, options: LlamaOptions) -> list[int]:
        """Bytes without the compute buffer, for which no graph is built: weights, caches and the process."""
        if options not in self._least:
            self._least[options] = self._without_graph(options)
        return self._least[options]

    def most(self, options: LlamaOptions) -> list[int]:
        """The high end of the estimate, in bytes."""
        if options not in self._most:
            found = _whole((*self._asked, options, *self._beside))
            self._most[options] = [total.high for total in found.card_totals]
        return self._most[options]

    def goes_into(self, room: Sequence[int], options: LlamaOptions) -> bool:
        """Whether no card is short with ``room`` bytes each, even in the worst case."""
        return _all_within(self.least(options), room) and _all_within(self.most(options), room)

    def beside_least(self, options: LlamaOptions) -> list[int]:
        """What the graph adds, in bytes."""
        return [most - least for most, least in zip(self.most(options), self.least(options), strict=True)]

    def _without_graph(self, options: LlamaOptions) -> list[int]:
        (architecture, tensors), (free, _, companions) = self._asked, self._beside
        devices = layer_devices(architecture, options, free)
        weights, beside = (
            place_weights(architecture, tensors, options, devices),
            beside_model(companions, options, devices),
        )
        found = [sum(amounts) for amounts in zip(weights.cards, beside.cards, beside.slack, strict=True)]
        if not options.cache_on_host:
            for cache, device in zip(layer_caches(architecture, options), devices.layers, strict=True):
                if device != HOST:
                    found[device] += cache.total
        draft = draft_among(companions)
        if draft is not None:
            drafting = draft_estimate(draft, options, free)
            found = [amount + card.total for amount, card in zip(found, drafting.cards, strict=True)]
        return [amount + overhead()[-1] if amount else 0 for amount in found]


def _all_within(needs: Sequence[int], room: Sequence[int]) -> bool:
    return all(need <= have for need, have in zip(needs, room, strict=True))


def smallest_count(
    needs: CardNeeds, room: Sequence[int], most: int, moved: Callable[[int], LlamaOptions]
) -> int | None:
    """The smallest number of layers moved to the host with which no card is short; ``None`` where one is even with
    ``most``.

    A graph is only built where the rest leaves it open, and the next number looked at is the one that would do if the
    graph were as large there as it was at the last one.
    """
    if not needs.goes_into(room, moved(most)):
        return None
    low, high, beside = 0, most, [0] * len(room)
    while high - low > 1:
        left = [have - more for have, more in zip(room, beside, strict=True)]
        guess = (
            low + 1 + bisect_left(range(low + 1, high), True, key=lambda n: _all_within(needs.least(moved(n)), left))
        )
        middle = min(max(guess, low + 1), high - 1)
        if needs.goes_into(room, moved(middle)):
            high = middle
        else:
            low = middle
        if _all_within(needs.least(moved(middle)), room):
            beside = needs.beside_least(moved(middle))
    return high


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

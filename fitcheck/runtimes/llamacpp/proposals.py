"""Where llama.cpp should put a language model on a machine: what a person would tune by hand.

All layers on the cards if they fit; else, for mixtures of experts, as few layers of experts on the host as needed; else
as many layers on the cards as fit; else the host alone. Every candidate is judged with llama.cpp's own memory layout,
and the fastest one that fits leads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.budget import budgets_of, has_many_channels, ram_budget
from fitcheck.hardware.latest import once_a_machine
from fitcheck.hardware.machine import Machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models.model import Tier
from fitcheck.runtimes.base import Ask, Outlook
from fitcheck.runtimes.held import Store, look_of, number
from fitcheck.runtimes.level import Level
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.flash import CacheTypes
from fitcheck.runtimes.llamacpp.kept_placements import (
    LOOKED_AT,
    SETTLED,
    Judged,
    SettledPlacement,
)
from fitcheck.runtimes.llamacpp.options import LEAST_CONTEXT
from fitcheck.runtimes.llamacpp.tier_on_machine import WORTH, TierOnMachine
from fitcheck.runtimes.llamacpp.ways import Kind, Leading, Way, all_judged, hopes, is_any_better, leading, ways


@dataclass(frozen=True)
class Proposal:
    """One way to run a tier on the machine of ``search``."""

    search: PlacementSearch
    judged: Judged

    @property
    def options(self) -> LlamaOptions:
        """The options it stands for."""
        return self.judged.options

    @property
    def level(self) -> Level:
        """Whether it fits."""
        return self.judged.level

    @cached_property
    def ask(self) -> Ask:
        """Its cell."""
        return self.search.ask(self.options)

    @cached_property
    def rate(self) -> float:
        """Tokens a second that it should write; see ``PlacementSearch.rate``."""
        return self.search.rate_of(self.judged)

    @property
    def place(self) -> tuple[object, ...]:
        """What tells placements apart that differ in more than the cache's type."""
        return self.options.gpu_layers, self.options.cpu_moe_layers, self.options.context


@dataclass(frozen=True)
class PlacementSearch(TierOnMachine):
    """Looks for placements of one tier on one machine, within what was asked."""

    def assess(self, options: LlamaOptions) -> Proposal:
        """Exactly these options on all cards, judged and timed. Raises OptionError for options that cannot be."""
        return Proposal(self, self.judged(options))

    def proposals(
        self, options: LlamaOptions | None = None, cache_types: Sequence[CacheTypes] | None = None
    ) -> Iterator[Proposal]:
        """Ways to run the tier, best first; of those that do not run first what the least change would mend. Never
        empty. ``cache_types`` are pairs for K and V, the first preferred. Speeds are worked out as far as they decide
        what comes next."""
        types = tuple(cache_types or self.cache_types)
        found = [Proposal(self, one) for one in self._looked_at(options or self.wanted, types)]

        def level(proposal: Proposal) -> tuple[object, ...]:
            return self.rank(proposal), proposal.level.way if proposal.level.verdict is Verdict.NO else ()

        def slowness(proposal: Proposal) -> float:
            return -proposal.rate / (1.0 if proposal.options.cache_type_k == types[0][0] else WORTH)

        for _, alike in groupby(sorted(found, key=level), key=level):
            first, *others = alike
            yield from sorted((first, *others), key=slowness) if others else (first,)

    def _looked_at(self, wanted: LlamaOptions, types: tuple[CacheTypes, ...]) -> tuple[Judged, ...]:
        """Ways to run the tier, of which one is chosen; the same for all machines that look alike."""
        look = look_of(self.runtime, self.machine)
        if look is None:
            return tuple(all_judged(self, self._ways(wanted, types)))
        place = look, self.tier, wanted, types, self.workload, self.host_bandwidth, self.model
        found = LOOKED_AT.get(place)
        return LOOKED_AT.keep(place, tuple(all_judged(self, self._ways(wanted, types)))) if found is None else found

    def _ways(self, wanted: LlamaOptions, types: Sequence[CacheTypes]) -> list[Way]:
        """Ways to place the layers with each pair of cache types in turn."""
        kinds = [wanted.with_(cache_type_k=keys, cache_type_v=values) for keys, values in types]
        return [way for one in kinds for way in ways(self.architecture, one, cards=bool(self.machine.gpus))]

    def rank(self, proposal: Proposal) -> int:
        """0 for the best verdict; what is too slow to use is no better than what is tight."""
        return self.standing(proposal.judged)[0]

    def largest_that_betters(self, tiers: Sequence[Tier], rank: int) -> Proposal | None:
        """The best placement of the largest of ``tiers``, which stand from large to small, with a better verdict than
        ``rank``; ``None`` where not even the smallest has one. By bisection: a smaller file is seldom worse."""
        if not tiers or not self.with_tier(tiers[-1])._betters(rank):
            return None
        largest = bisect_left(range(len(tiers) - 1), True, key=lambda at: self.with_tier(tiers[at])._betters(rank))
        return self.with_tier(tiers[largest]).best()

    def _betters(self, rank: int) -> bool:
        """Whether the placement that leads has a better verdict than ``rank``."""
        if not self.bounded or _LEADING.get(self._place(self.wanted, self.cache_types)) is not None:
            return self.rank(self.best()) < rank
        hoped = self.outlook
        if hoped and min(one.verdict.rank for one in hoped) >= rank:
            return False
        return is_any_better(self, self._ways(self.wanted, self.cache_types), rank)

    def best(self) -> Proposal:
        """The placement that leads: looked up where it was found beside less system memory that was enough."""
        place, ram = self._question, ram_budget(self.machine)
        known = SETTLED.get(place)
        if known is not None and ram is not None and known.reach <= ram.low:
            return self.assess(known.options)
        found = self._leading(self.wanted, self.cache_types)
        reach = self._settled_by(found.looked_at) if found.settled else None
        if reach is not None:
            SETTLED.keep(place, SettledPlacement(reach, found.judged.options))
        return Proposal(self, found.judged)

    def best_with(self, options: LlamaOptions, cache_types: Sequence[CacheTypes]) -> Proposal:
        """The first of ``proposals`` with the same arguments."""
        return Proposal(self, self._leading(options, tuple(cache_types)).judged)

    def _leading(self, options: LlamaOptions, cache_types: tuple[CacheTypes, ...]) -> Leading:
        place = self._place(options, cache_types)
        found = _LEADING.get(place)
        return found or _LEADING.keep(place, leading(self, self._ways(options, cache_types)))

    def _place(self, options: LlamaOptions, cache_types: tuple[CacheTypes, ...]) -> Hashable:
        return self._question, ram_budget(self.machine), options, cache_types

    @property
    def settled(self) -> int | None:
        """Bytes of system memory from which on ``best`` is the same placement on these cards; ``None`` where that is
        not known."""
        known = SETTLED.get(self._question)
        return None if known is None else known.reach

    def _settled_by(self, found: Sequence[Judged]) -> int | None:
        """The most that any of the placements takes of system memory, where each has as much in the worst case: beside
        more of it, its verdict and its speed stay."""
        if any(one.level.support is not None and one.level.support.least is not None for one in found):
            return None
        ram = ram_budget(self.machine)
        margins = [one.level.weighed.host for one in found]
        if ram is None or any(one is None or one.verdict is not Verdict.FITS for one in margins):
            return None
        return max(ram.low - one.worst for one in margins if one is not None)

    @cached_property
    def _question(self) -> Hashable:
        """All that the search hangs on but the amount of system memory, and of that the board it tells of."""
        return _cards(self.machine), self.tier, self.model, self.asked, self.workload, self.min_speed

    def alternatives(self) -> list[Proposal]:
        """The best placement, then others that someone might prefer: all on the card, a smaller cache, less context."""
        found = list(self.proposals())
        if self.asked.ngl is not None or not self.machine.gpus:
            return found
        found += self._with_less_context(found[0])
        kept: list[Proposal] = []
        for proposal in found:
            same = [one for one in kept if one.place == proposal.place]
            # a smaller cache in the same placement only matters where the larger one does not fit
            if all(proposal.level.verdict.rank < one.level.verdict.rank for one in same):
                kept.append(proposal)
        return kept

    def leading(self) -> list[Proposal]:
        """Those of ``alternatives`` one of which leads them: of those that run the best placement, because none of the
        others has a better verdict or is quicker, and what leads over it all the same: what lies whole on the cards
        over what is quicker and does not, and what fits with less context over what is tight."""
        if not self.bounded:
            return self.alternatives()
        best = self.best()
        if best.level.verdict is Verdict.NO or not best.rate:
            return self.alternatives()
        whole = [way.moved(0) for way in self._ways(self.wanted, self.cache_types) if way.kind is Kind.WHOLE]
        beside = [] if best.options in whole else [one for one in whole if self.leaves_room(one)]
        found = [best, *map(self.assess, beside)]
        if self.rank(best) == Verdict.FITS.rank:
            return found
        return found + self._with_less_context(best)

    def _with_less_context(self, best: Proposal) -> list[Proposal]:
        """What fits the cards where ``best`` does not, and nobody asked for a context."""
        on_host = best.options.gpu_layers is not None and best.options.gpu_layers <= self.architecture.layers
        moved = best.level.verdict is not Verdict.FITS or on_host or best.options.cpu_moe_layers
        if not moved or self.asked.ctx is not None:  # a context that somebody asked for is not answered with another
            return []
        shorter = self.shorter()
        return [] if shorter is None else [shorter]

    def shorter(self) -> Proposal | None:
        """The longest context, of halves of halves, with which everything fits the cards; None when none does."""
        context = self.workload.context // 2
        while context >= max(LEAST_CONTEXT, (self.workload.prompt_tokens or 0) + self.workload.new_tokens):
            options = self.wanted.with_(context=context)
            may_fit = not self._weighs_cards(options) or self.leaves_room(options)
            if may_fit and (proposal := self.assess(options)).level.verdict is Verdict.FITS:
                return proposal
            context //= 2
        return None

    @property
    def outlook(self) -> list[Outlook]:
        """Of each placement one that it does not better; none where that takes graphs."""
        if not self.bounded:
            return []
        found = hopes(self, self._ways(self.wanted, self.cache_types))
        return [Outlook(tuple(Verdict)[rank], -slowness) for rank, _, slowness in found]

    def with_tier(self, tier: Tier) -> PlacementSearch:
        """The same search for another tier of the model."""
        return replace(self, tier=tier)


@once_a_machine
def _cards(machine: Machine) -> int:
    """A number for all of a machine but how much system memory it has, which the board tells of."""
    vram = tuple([one.vram for one in budgets_of(machine)])
    return number((machine.gpus, vram, machine.disk_free, has_many_channels(machine)))


_LEADING: Store[Leading] = Store(1 << 12)

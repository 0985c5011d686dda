"""Where llama.cpp should put a language model on a machine: what a person would tune by hand.

All layers on the cards if they fit; else, for mixtures of experts, as few layers of experts on the host as needed; else
as many layers on the cards as fit; else the host alone. Every candidate is judged with llama.cpp's own memory layout,
and the fastest one that fits leads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import groupby

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.budget import budgets_of, has_many_channels, ram_budget
from fitcheck.hardware.latest import once_a_machine
from fitcheck.hardware.machine import Gpu, Machine
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.runtimes.held import Store, estimated, look_of, number, shown, shown_level
from fitcheck.runtimes.level import Level, level_with
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, not_modelled
from fitcheck.runtimes.llamacpp.drafting import draft_among
from fitcheck.runtimes.llamacpp.estimates import CardNeeds, footprint_of, least_of, needs_of, outweighs, smallest_count
from fitcheck.runtimes.llamacpp.flash import CacheTypes, readable
from fitcheck.runtimes.llamacpp.kept_placements import (
    LOOKED_AT,
    SETTLED,
    Judged,
    SettledPlacement,
)
from fitcheck.runtimes.llamacpp.options import LEAST_CONTEXT, TextOptions
from fitcheck.runtimes.llamacpp.placement import placement_of
from fitcheck.runtimes.llamacpp.seconds import depth_of, generation_rate, run_of
from fitcheck.runtimes.llamacpp.token_host import Host
from fitcheck.runtimes.llamacpp.token_work import PlacedRun
from fitcheck.runtimes.llamacpp.ways import Kind, Leading, Standing, Way, all_judged, leading, ways

# a cache type is only worth its loss when it buys this much speed or a better verdict
WORTH = 1.05
_MUCH_FASTER = 2.0  # times the host's bandwidth: where cards are, a layer more on the host always costs time
CACHE_TYPES: tuple[CacheTypes, ...] = (("f16", "f16"), ("q8_0", "q8_0"))


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
        layout = self.judged.footprint.layout
        assert isinstance(layout, LlamaEstimate)
        return self.search.rate(layout)

    @property
    def place(self) -> tuple[object, ...]:
        """What tells placements apart that differ in more than the cache's type."""
        return self.options.gpu_layers, self.options.cpu_moe_layers, self.options.context


@dataclass(frozen=True)
class PlacementSearch:
    """Looks for placements of one tier on one machine, within what was asked."""

    runtime: Runtime
    model: Model
    tier: Tier
    machine: Machine
    asked: TextOptions
    workload: Workload
    min_speed: float | None = None

    @cached_property
    def architecture(self) -> LanguageArchitecture:
        """The shape that is sized: the tier's own where it has one, else the model's."""
        found = self.tier.architecture or self.model.architecture
        assert isinstance(found, LanguageArchitecture)
        return found

    @cached_property
    def wanted(self) -> LlamaOptions:
        """The options that are not up for choice."""
        return self.asked.arguments(self.architecture, len(self.machine.gpus))

    @cached_property
    def cache_types(self) -> tuple[CacheTypes, ...]:
        """The (K, V) cache types to try in order: those asked for alone, else f16 before q8_0."""
        if self.architecture.encoder:  # nothing is cached
            return CACHE_TYPES[:1]
        asked = self.asked.cache_types
        return (asked,) if asked else readable(CACHE_TYPES, flash=self.wanted.flash)

    @cached_property
    def host_bandwidth(self) -> float | None:
        """Of system memory in B/s: as said, or that of the memory which the host shares with its graphics chip."""
        if self.asked.bandwidth is not None:
            return self.asked.bandwidth
        shared = (gpu.card.memory_bandwidth for gpu in self.machine.gpus if gpu.card.unified_memory)
        return next((one for one in shared if one is not None), None)

    def ask(self, options: LlamaOptions) -> Ask:
        """The cell of exactly these options."""
        found = self._asks.get(options)
        if found is None:
            placement = placement_of(options, self.architecture.layers, self.host_bandwidth)
            found = self._asks[options] = Ask(self.model, self.tier, placement, self.workload_of(options), self.machine)
        return found

    @cached_property
    def _asks(self) -> dict[LlamaOptions, Ask]:
        return {}

    def workload_of(self, options: LlamaOptions) -> Workload:
        """The workload in the context of ``options``."""
        same = self.workload.context == options.context
        return self.workload if same else self.workload.with_(context=options.context)

    def assess(self, options: LlamaOptions) -> Proposal:
        """Exactly these options on all cards, judged and timed. Raises OptionError for options that cannot be."""
        return Proposal(self, self.judged(options))

    def judged(self, options: LlamaOptions) -> Judged:
        """The same without how fast it is."""
        ask = self.ask(options)
        footprint, level = estimated(self.runtime, ask)
        if level.verdict is Verdict.FITS:
            # as the check will judge it: over the builds that people run, which widen what is needed and do not move
            # what is expected, so that only what fits the newest one is held against the others
            level = self._shown_level(ask)
        return Judged(options, footprint, level)

    def _shown_level(self, ask: Ask) -> Level:
        return shown_level(self.runtime, ask, shown(self.runtime, ask))

    def smallest(self, most: int, moved: Callable[[int], LlamaOptions], *, doubtful: bool = False) -> int | None:
        """The smallest number of layers moved to the host with which the cards are not short; how fast that is, is not
        asked. ``None`` where they are short even with ``most``, which is looked at first where it is ``doubtful``."""
        options = moved(most)
        if self._weighs_cards(options):
            return smallest_count(self._needs(options), self._room, most, moved, doubtful=doubtful)
        if not self._holds(options):
            return None
        return 1 + bisect_left(range(1, most), True, key=lambda count: self._holds(moved(count)))

    def fewest(self, most: int, moved: Callable[[int], LlamaOptions]) -> int | None:
        """No more than ``smallest``: what weights and caches alone leave room for. ``None`` where that is never."""
        return self._needs(moved(most)).fewest(self._room, most, moved)

    def leaves_room(self, options: LlamaOptions) -> bool:
        """Whether weights and caches alone go on the cards."""
        return all(need <= have for need, have in zip(self._needs(options).least(options), self._room, strict=True))

    def _weighs_cards(self, options: LlamaOptions) -> bool:
        """Whether what cards must hold is known of each number of layers on the host, and of each card apart."""
        shared = options.shares_matrices or draft_among(self.tier.companions) is not None
        follows = shared and len(self.machine.gpus) > 1
        return not follows and not self.architecture.unknown and not not_modelled(self.architecture, options)

    def _needs(self, options: LlamaOptions) -> CardNeeds:
        found = self._needs_anywhere.get(options.anywhere)
        if found is None:
            found = self._needs_anywhere[options.anywhere] = needs_of(self.ask(options), options)
        return found

    @cached_property
    def _needs_anywhere(self) -> dict[LlamaOptions, CardNeeds]:
        return {}

    @cached_property
    def _room(self) -> list[int]:
        """Bytes that each card has at least."""
        return [one.vram.low for one in budgets_of(self.machine)]

    @property
    def too_large(self) -> bool:
        """Whether the weights alone are more than cards and host have together, of which each holds its share of a run:
        then none runs, whatever its cache, its context or its placement."""
        options = self.wanted
        elsewhere = options.overrides or options.workers or options.shares_matrices
        return not elsewhere and self._weighs_cards(options) and outweighs(self.ask(options), options)

    @cached_property
    def bounded(self) -> bool:
        """Whether more layers on the host only make a run slower, and without a graph it is known what it takes at
        least: cards are much faster than the host, and llama.cpp supports them."""
        options, bandwidths = self.wanted, [gpu.card.memory_bandwidth for gpu in self.machine.gpus]
        draft = draft_among(self.tier.companions) is not None
        if draft or options.overrides or options.workers or options.shares_matrices or not self._weighs_cards(options):
            return False
        if not bandwidths or self.runtime.platform(self.ask(options)) is not None:
            return False
        return all(rate is not None and rate >= _MUCH_FASTER * self._host.rated for rate in bandwidths)

    def standing(self, judged: Judged) -> Standing:
        """How good a placement is: the verdict, how far it is from running, and how slow it is, a quantized cache by
        ``WORTH`` slower."""
        return self._standing(Proposal(self, judged).rate, judged.level.verdict, judged.level, judged.options)

    def least_standing(self, options: LlamaOptions, *, amounts: bool) -> Standing:
        """At least so good a placement these options would be, found without a graph: by where the layers lie and, with
        ``amounts``, by what weights and caches take of the host as well."""
        found = self._least.get((options, amounts))
        if found is None:
            found = self._least[options, amounts] = self._least_standing(options, amounts=amounts)
        return found

    @cached_property
    def _least(self) -> dict[tuple[LlamaOptions, bool], Standing]:
        return {}

    def _least_standing(self, options: LlamaOptions, *, amounts: bool) -> Standing:
        rate, least = self.rate(self._needs(options).placed(options)), Verdict.FITS
        if amounts:
            level = self._least_level(options)
            return self._standing(rate, level.verdict, level, options)
        if not self.leaves_room(options):
            least = Verdict.TIGHT
        return self._standing(rate, least, None, options)

    def _least_level(self, options: LlamaOptions) -> Level:
        """The level of weights and caches alone; the same for all machines that look alike."""
        look, ask = look_of(self.runtime, self.machine), self.ask(options)
        place = look, self.tier, options, ask.workload, self.model
        found = None if look is None else _LEAST.get(place)
        if found is None:
            found = level_with(None, ask, footprint_of(ask, least_of(ask)))
            if look is not None:
                _LEAST.keep(place, found)
        return found

    def _standing(self, rate: float, verdict: Verdict, level: Level | None, options: LlamaOptions) -> Standing:
        slow = verdict is Verdict.FITS and self._slow(rate)
        loss = 1.0 if options.cache_type_k == self.cache_types[0][0] else WORTH
        way = level.way if level is not None and verdict is Verdict.NO else ()
        return Verdict.TIGHT.rank if slow else verdict.rank, way, -rate / loss

    def _slow(self, rate: float) -> bool:
        return self.min_speed is not None and 0 < rate < self.min_speed

    def rate(self, laid: PlacedRun) -> float:
        """Tokens a second that a run should write, 0 where it writes none or that is not known: what its duration says
        too, beside much that no choice of a placement asks for."""
        if self.workload.task is Task.EMBED:
            return 0.0
        depth = depth_of(self.workload)
        return _rate(self.architecture, self.tier.tensors, laid, self.machine.gpus, depth, self._host)

    @cached_property
    def _host(self) -> Host:
        return Host(self.host_bandwidth, server=has_many_channels(self.machine))

    def _holds(self, options: LlamaOptions) -> bool:
        """Of a run that is not modelled: whether weights alone decide, and how."""
        ask = self.ask(options)
        return self._shown_level(ask).holds(Constraint.VRAM)

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
        if not tiers or self.rank(found := self.with_tier(tiers[-1]).best()) >= rank:
            return None
        low, high = 0, len(tiers) - 1
        while low < high:
            middle = (low + high) // 2
            proposal = self.with_tier(tiers[middle]).best()
            if self.rank(proposal) < rank:
                high, found = middle, proposal
            else:
                low = middle + 1
        return found

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
        place = self._question, ram_budget(self.machine), options, cache_types
        found = _LEADING.get(place)
        return found or _LEADING.keep(place, leading(self, self._ways(options, cache_types)))

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

    def with_tier(self, tier: Tier) -> PlacementSearch:
        """The same search for another tier of the model."""
        return replace(self, tier=tier)


@once_a_machine
def _cards(machine: Machine) -> int:
    """A number for all of a machine but how much system memory it has, which the board tells of."""
    vram = tuple([one.vram for one in budgets_of(machine)])
    return number((machine.gpus, vram, machine.disk_free, has_many_channels(machine)))


_LEADING: Store[Leading] = Store(1 << 12)
_LEAST: Store[Level] = Store(1 << 14)


# beside another amount of system memory a search looks at the same placements again
@lru_cache(maxsize=2048)
def _rate(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    layout: PlacedRun,
    gpus: tuple[Gpu, ...],
    depth: int,
    host: Host,
) -> float:
    return generation_rate(run_of(architecture, tensors, layout, gpus, depth, host))

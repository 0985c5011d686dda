"""Where llama.cpp should put a language model on a machine: what a person would tune by hand.

All layers on the cards if they fit; else, for mixtures of experts, as few layers of experts on the host as needed; else
as many layers on the cards as fit; else the host alone. Every candidate is judged with llama.cpp's own memory layout,
and the fastest one that fits leads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby

from fitcheck.hardware.budget import budgets_of, has_many_channels, ram_budget
from fitcheck.hardware.machine import Gpu, Machine
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.runtimes.held import estimated, look_of, shown, shown_level
from fitcheck.runtimes.level import Level
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, not_modelled
from fitcheck.runtimes.llamacpp.drafting import draft_among
from fitcheck.runtimes.llamacpp.estimates import needs_of, smallest_count
from fitcheck.runtimes.llamacpp.flash import CacheTypes, readable
from fitcheck.runtimes.llamacpp.kept_placements import (
    LOOKED_AT,
    SETTLED,
    Judged,
    SettledPlacement,
)
from fitcheck.runtimes.llamacpp.options import LEAST_CONTEXT, TextOptions
from fitcheck.runtimes.llamacpp.placement import host_of, placement_of
from fitcheck.runtimes.llamacpp.seconds import depth_of, generation_rate, run_of
from fitcheck.runtimes.llamacpp.token_host import Host

# a cache type is only worth its loss when it buys this much speed or a better verdict
WORTH = 1.05
LONG_CACHE_TYPES: tuple[CacheTypes, ...] = (("f16", "f16"), ("q8_0", "q8_0"), ("q4_0", "q4_0"))
CONTEXT_STEP = 1024
MOST_UNTRAINED = 1 << 17  # where the model does not say what it was trained on
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
        """Tokens a second that it should write, 0 where it writes none or that is not known: what its duration says
        too, beside much that no choice of a placement asks for."""
        layout, search = self.judged.footprint.layout, self.search
        assert isinstance(layout, LlamaEstimate)
        if search.workload.task is Task.EMBED:
            return 0.0
        depth = depth_of(self.ask.workload)
        return _rate(search.architecture, search.tier.tensors, layout, search.machine.gpus, depth, host_of(self.ask))

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

    @property
    def architecture(self) -> LanguageArchitecture:
        """The shape that is sized: the tier's own where it has one, else the model's."""
        found = self.tier.architecture or self.model.architecture
        assert isinstance(found, LanguageArchitecture)
        return found

    @property
    def wanted(self) -> LlamaOptions:
        """The options that are not up for choice."""
        return self.asked.arguments(self.architecture, len(self.machine.gpus))

    @property
    def cache_types(self) -> tuple[CacheTypes, ...]:
        """The (K, V) cache types to try in order: those asked for alone, else f16 before q8_0."""
        if self.architecture.encoder:  # nothing is cached
            return CACHE_TYPES[:1]
        asked = self.asked.cache_types
        return (asked,) if asked else readable(CACHE_TYPES, flash=self.wanted.flash)

    @property
    def host_bandwidth(self) -> float | None:
        """Of system memory in B/s: as said, or that of the memory which the host shares with its graphics chip."""
        if self.asked.bandwidth is not None:
            return self.asked.bandwidth
        shared = (gpu.card.memory_bandwidth for gpu in self.machine.gpus if gpu.card.unified_memory)
        return next((one for one in shared if one is not None), None)

    def ask(self, options: LlamaOptions) -> Ask:
        """The cell of exactly these options."""
        placement = placement_of(options, self.architecture.layers, self.host_bandwidth)
        return Ask(self.model, self.tier, placement, self.workload_of(options), self.machine)

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

    def smallest(self, most: int, moved: Callable[[int], LlamaOptions]) -> int | None:
        """The smallest number of layers moved to the host with which the cards are not short; how fast that is, is not
        asked. ``None`` where they are short even with ``most``."""
        ask, options = self.ask(moved(most)), moved(most)
        architecture, alone = self.architecture, len(self.machine.gpus) == 1
        follows = not alone and (options.shares_matrices or draft_among(self.tier.companions) is not None)
        if not follows and not architecture.unknown and not not_modelled(architecture, options):
            return smallest_count(needs_of(ask, options), [one.vram.low for one in ask.budgets], most, moved)
        if not self._holds(options):
            return None
        return 1 + bisect_left(range(1, most), True, key=lambda count: self._holds(moved(count)))

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
            return tuple(self._candidates(wanted, types))
        place = look, self.tier, wanted, types, self.workload, self.host_bandwidth, self.model
        found = LOOKED_AT.get(place)
        return LOOKED_AT.keep(place, tuple(self._candidates(wanted, types))) if found is None else found

    def _candidates(self, wanted: LlamaOptions, types: tuple[CacheTypes, ...]) -> list[Judged]:
        found: list[Judged] = []
        for keys, values in types:
            candidate = wanted.with_(cache_type_k=keys, cache_type_v=values)
            alone = any(one.options.gpu_layers == 0 and one.level.verdict is Verdict.FITS for one in found)
            found += _placements(self, candidate, alone=not alone)
            free = wanted.gpu_layers is None
            if free and self._whole(found[0].options) and found[0].level.verdict is Verdict.FITS:
                break  # a smaller cache buys nothing: it is read no faster
        return found

    def rank(self, proposal: Proposal) -> int:
        """0 for the best verdict; what is too slow to use is no better than what is tight."""
        fits = proposal.level.verdict is Verdict.FITS
        slow = fits and self.min_speed is not None and 0 < proposal.rate < self.min_speed
        return Verdict.TIGHT.rank if slow else proposal.level.verdict.rank

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
        found = next(self.proposals())
        reach = self._settled_by(self._looked_at(self.wanted, tuple(self.cache_types)))
        if reach is not None:
            SETTLED.keep(place, SettledPlacement(reach, found.options))
        return found

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

    @property
    def _question(self) -> Hashable:
        """All that the search hangs on but the amount of system memory, and of that the board it tells of."""
        vram = tuple([one.vram for one in budgets_of(self.machine)])
        machine = self.machine.gpus, vram, self.machine.disk_free, has_many_channels(self.machine)
        return machine, self.tier, self.model, self.asked, self.workload, self.min_speed

    def alternatives(self) -> list[Proposal]:
        """The best placement, then others that someone might prefer: all on the card, a smaller cache, less context."""
        found = list(self.proposals())
        if self.asked.ngl is not None or not self.machine.gpus:
            return found
        best = found[0]
        on_host = best.options.gpu_layers is not None and best.options.gpu_layers <= self.architecture.layers
        moved = best.level.verdict is not Verdict.FITS or on_host or best.options.cpu_moe_layers
        if moved and self.asked.ctx is None:  # a context that somebody asked for is not answered with another one
            shorter = self.shorter()
            found += [] if shorter is None else [shorter]
        kept: list[Proposal] = []
        for proposal in found:
            same = [one for one in kept if one.place == proposal.place]
            # a smaller cache in the same placement only matters where the larger one does not fit
            if all(proposal.level.verdict.rank < one.level.verdict.rank for one in same):
                kept.append(proposal)
        return kept

    def longest(self) -> list[Proposal]:
        """For each type of the cache the longest context that fits, the model's own at most: all on the cards where
        that is possible at all. A type is left out where one that loses less reaches as far."""
        asked = self.asked.cache_types
        types = (asked,) if asked else readable(LONG_CACHE_TYPES, flash=self.wanted.flash)
        found: list[Proposal] = []
        for keys, values in types[:1] if self.architecture.encoder else types:
            reached = self._longest_of(self.wanted.with_(cache_type_k=keys, cache_type_v=values))
            if reached is not None and all(reached.options.context > one.options.context for one in found):
                found.append(reached)
                if reached.options.context >= self._most_steps * CONTEXT_STEP:
                    break  # no type reaches further
        return found

    @property
    def _most_steps(self) -> int:
        """The longest context that is looked at, in steps."""
        return max((self.architecture.context_length or MOST_UNTRAINED) // CONTEXT_STEP, 1)

    def _longest_of(self, options: LlamaOptions) -> Proposal | None:
        """The longest context with these options, in steps; ``None`` where not even the shortest fits."""
        most = self._most_steps
        best = self._fitting(options.with_(context=min(LEAST_CONTEXT, most * CONTEXT_STEP)))
        if best is None:
            return None
        options = options.with_(gpu_layers=best.options.gpu_layers) if self._whole(best.options) else options
        longest = self._fitting(options.with_(context=most * CONTEXT_STEP))
        if longest is not None:  # beside much system memory that is the usual case
            return longest
        low, high = best.options.context // CONTEXT_STEP, most
        while high - low > 1:
            middle = (low + high) // 2
            proposal = self._fitting(options.with_(context=middle * CONTEXT_STEP))
            if proposal is None:
                high = middle
            else:
                low, best = middle, proposal
        return best

    def _fitting(self, options: LlamaOptions) -> Proposal | None:
        """The best placement of exactly these options that fits: on the cards, or as asked."""
        types = ((options.cache_type_k, options.cache_type_v),)
        best = next(self.proposals(options, types))
        return best if best.level.verdict is Verdict.FITS else None

    def _whole(self, options: LlamaOptions) -> bool:
        """Whether all of the model is on the cards."""
        layers = options.gpu_layers
        return layers is not None and layers > self.architecture.layers and not options.cpu_moe_layers

    def shorter(self) -> Proposal | None:
        """The longest context, of halves of halves, with which everything fits the cards; None when none does."""
        context = self.workload.context // 2
        while context >= max(LEAST_CONTEXT, (self.workload.prompt_tokens or 0) + self.workload.new_tokens):
            proposal = self.assess(self.wanted.with_(context=context))
            if proposal.level.verdict is Verdict.FITS:
                return proposal
            context //= 2
        return None

    def with_tier(self, tier: Tier) -> PlacementSearch:
        """The same search for another tier of the model."""
        return replace(self, tier=tier)


# beside another amount of system memory a search looks at the same placements again
@lru_cache(maxsize=2048)
def _rate(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    layout: LlamaEstimate,
    gpus: tuple[Gpu, ...],
    depth: int,
    host: Host,
) -> float:
    return generation_rate(run_of(architecture, tensors, layout, gpus, depth, host))


def _placements(search: PlacementSearch, options: LlamaOptions, *, alone: bool) -> Iterator[Judged]:
    """All on the cards, experts on the host, layers on the host, host ``alone`` where that is asked: only what is
    needed of it."""
    if options.gpu_layers is not None:
        yield search.judged(options)
        return
    if not search.machine.gpus:
        yield search.judged(options.with_(gpu_layers=0))
        return
    architecture = search.architecture
    everything = architecture.layers + 1
    full = search.judged(options.with_(gpu_layers=everything))
    yield full
    if full.level.verdict is Verdict.FITS:
        return

    def experts_on_host(count: int) -> LlamaOptions:
        return options.with_(gpu_layers=everything, cpu_moe_layers=count)

    def layers_on_host(count: int) -> LlamaOptions:
        return options.with_(gpu_layers=everything - count)

    if architecture.experts and not options.cpu_moe_layers:
        count = search.smallest(architecture.layers, experts_on_host)
        if count is not None:
            yield search.judged(experts_on_host(count))
    count = search.smallest(everything, layers_on_host)
    if count is not None:
        yield search.judged(layers_on_host(count))
    if alone:
        yield search.judged(options.with_(gpu_layers=0))

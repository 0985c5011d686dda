"""Where llama.cpp should put a language model on a machine: what a person would tune by hand.

All layers on the cards if they fit; else, for mixtures of experts, as few layers of experts on the host as needed; else
as many layers on the cards as fit; else the host alone. Every candidate is judged with llama.cpp's own memory layout,
and the fastest one that fits leads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from fitcheck.hardware.machine import Gpu, Machine
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.runtimes.held import estimated, shown, shown_level
from fitcheck.runtimes.level import Level
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, not_modelled
from fitcheck.runtimes.llamacpp.drafting import draft_among
from fitcheck.runtimes.llamacpp.estimates import needs_of, smallest_count
from fitcheck.runtimes.llamacpp.options import LEAST_CONTEXT, TextOptions
from fitcheck.runtimes.llamacpp.placement import bandwidth_of, placement_of
from fitcheck.runtimes.llamacpp.seconds import depth_of, generation_rate, run_of

# a cache type is only worth its loss when it buys this much speed or a better verdict
WORTH = 1.05
UNQUANTIZED = ("f16", "bf16", "f32")
CacheTypes = tuple[str, str]  # of K and V
LONG_CACHE_TYPES: tuple[CacheTypes, ...] = (("f16", "f16"), ("q8_0", "q8_0"), ("q4_0", "q4_0"))
CONTEXT_STEP = 1024
MOST_UNTRAINED = 1 << 17  # where the model does not say what it was trained on
CACHE_TYPES: tuple[CacheTypes, ...] = (("f16", "f16"), ("q8_0", "q8_0"))


@dataclass(frozen=True)
class Proposal:
    """One way to run a tier: options, whether that fits, and the tokens a second it should write."""

    ask: Ask
    options: LlamaOptions
    level: Level
    rate: float

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
        return (self.asked.cache_types,) if self.asked.cache_types else CACHE_TYPES

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
        same = self.workload.context == options.context
        workload = self.workload if same else self.workload.with_(context=options.context)
        return Ask(self.model, self.tier, placement, workload, self.machine)

    def assess(self, options: LlamaOptions) -> Proposal:
        """Exactly these options on all cards, judged and timed. Raises OptionError for options that cannot be."""
        ask = self.ask(options)
        footprint, level = estimated(self.runtime, ask)
        if level.verdict is Verdict.FITS:
            # as the check will judge it: over the builds that people run, which widen what is needed and do not move
            # what is expected, so that only what fits the newest one is held against the others
            level = self._shown_level(ask)
        return Proposal(ask, options, level, self._rate(ask, footprint))

    def _shown_level(self, ask: Ask) -> Level:
        return shown_level(self.runtime, ask, shown(self.runtime, ask))

    def _rate(self, ask: Ask, footprint: Footprint) -> float:
        """Tokens a second that it should write, 0 where it writes none or that is not known: what its duration says
        too, beside much that no choice of a placement asks for."""
        assert isinstance(footprint.layout, LlamaEstimate)
        if ask.workload.task is Task.EMBED:
            return 0.0
        asked = (self.architecture, self.tier.tensors, footprint.layout, self.machine.gpus)
        return _rate(*asked, depth_of(ask.workload), bandwidth_of(ask.placement))

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
    ) -> tuple[Proposal, ...]:
        """Ways to run the tier, best first; of those that do not run first what the least change would mend. Never
        empty. ``cache_types`` are pairs for K and V, the first preferred."""
        wanted, types = options or self.wanted, cache_types or self.cache_types
        found: list[Proposal] = []
        for keys, values in types:
            if values not in UNQUANTIZED and not wanted.flash:
                continue
            candidate = wanted.with_(cache_type_k=keys, cache_type_v=values)
            alone = any(one.options.gpu_layers == 0 and one.level.verdict is Verdict.FITS for one in found)
            found += _placements(self, candidate, alone=not alone)
            free = wanted.gpu_layers is None
            if free and self._whole(found[0]) and found[0].level.verdict is Verdict.FITS:
                break  # a smaller cache buys nothing: it is read no faster

        def key(proposal: Proposal) -> tuple[object, ...]:
            loss = 1.0 if proposal.options.cache_type_k == types[0][0] else WORTH
            way = proposal.level.way if proposal.level.verdict is Verdict.NO else ()
            return self.rank(proposal), way, -proposal.rate / loss

        return tuple(sorted(found, key=key))

    def rank(self, proposal: Proposal) -> int:
        """0 for the best verdict; what is too slow to use is no better than what is tight."""
        slow = self.min_speed is not None and 0 < proposal.rate < self.min_speed
        return max(proposal.level.verdict.rank, Verdict.TIGHT.rank if slow else 0)

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
        """The placement that leads."""
        return _best(self)

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
        types = (self.asked.cache_types,) if self.asked.cache_types else LONG_CACHE_TYPES
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
        options = options.with_(gpu_layers=best.options.gpu_layers) if self._whole(best) else options
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
        best = self.proposals(options, types)[0]
        return best if best.level.verdict is Verdict.FITS else None

    def _whole(self, proposal: Proposal) -> bool:
        """Whether all of the model is on the cards."""
        layers = proposal.options.gpu_layers
        return layers is not None and layers > self.architecture.layers and not proposal.options.cpu_moe_layers

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


@lru_cache(maxsize=256)
def _best(search: PlacementSearch) -> Proposal:
    """Once for all cells of an answer whose changes ask for the same tier."""
    return search.proposals()[0]


# beside another amount of system memory a search looks at the same placements again
@lru_cache(maxsize=2048)
def _rate(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    layout: LlamaEstimate,
    gpus: tuple[Gpu, ...],
    depth: int,
    host_bandwidth: float | None,
) -> float:
    return generation_rate(run_of(architecture, tensors, layout, gpus, depth, host_bandwidth))


def _placements(search: PlacementSearch, options: LlamaOptions, *, alone: bool) -> Iterator[Proposal]:
    """All on the cards, experts on the host, layers on the host, host ``alone`` where that is asked: only what is
    needed of it."""
    if options.gpu_layers is not None:
        yield search.assess(options)
        return
    if not search.machine.gpus:
        yield search.assess(options.with_(gpu_layers=0))
        return
    architecture = search.architecture
    everything = architecture.layers + 1
    full = search.assess(options.with_(gpu_layers=everything))
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
            yield search.assess(experts_on_host(count))
    count = search.smallest(everything, layers_on_host)
    if count is not None:
        yield search.assess(layers_on_host(count))
    if alone:
        yield search.assess(options.with_(gpu_layers=0))

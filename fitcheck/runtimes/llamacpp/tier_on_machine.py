"""One tier on one machine: what a placement of its layers takes of cards and host, and how good that makes it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import cached_property, lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.budget import budgets_of, has_many_channels
from fitcheck.hardware.machine import Gpu, Machine
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.runtimes.held import Store, estimated, look_of, shown, shown_level
from fitcheck.runtimes.level import Level, level_with
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, not_modelled
from fitcheck.runtimes.llamacpp.drafting import draft_among
from fitcheck.runtimes.llamacpp.estimates import CardNeeds, least_of, needs_of, outweighs, smallest_count
from fitcheck.runtimes.llamacpp.flash import CacheTypes, readable
from fitcheck.runtimes.llamacpp.kept_placements import (
    Judged,
)
from fitcheck.runtimes.llamacpp.options import TextOptions
from fitcheck.runtimes.llamacpp.placement import placement_of
from fitcheck.runtimes.llamacpp.seconds import depth_of, generation_rate, run_of
from fitcheck.runtimes.llamacpp.token_host import Host
from fitcheck.runtimes.llamacpp.token_work import PlacedRun
from fitcheck.runtimes.llamacpp.ways import Standing

# a cache type is only worth its loss when it buys this much speed or a better verdict
WORTH = 1.05
_MUCH_FASTER = 2.0  # times the host's bandwidth: where cards are, a layer more on the host always costs time
CACHE_TYPES: tuple[CacheTypes, ...] = (("f16", "f16"), ("q8_0", "q8_0"))


@dataclass(frozen=True)
class TierOnMachine:
    """One tier on one machine, within what was asked: what its placements take, at least and exactly, and how good that
    makes them."""

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
        return self._standing(self.rate_of(judged), judged.level.verdict, judged.level, judged.options)

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
        look = look_of(self.runtime, self.machine)
        place = look, self.tier, options, self.workload_of(options), self.model
        found = None if look is None else _LEAST.get(place)
        if found is None:
            ask = self.ask(self.wanted)  # where layers lie is no matter of the machine
            found = level_with(None, ask, least_of(ask, options))
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

    def rate_of(self, judged: Judged) -> float:
        """Tokens a second that a placement should write; see ``rate``."""
        layout = judged.footprint.layout
        assert isinstance(layout, LlamaEstimate)
        return self.rate(layout)

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

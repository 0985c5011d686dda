"""Language models through llama.cpp: where layers, experts and caches lie, and how many tokens a second that gives."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Machine
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory, Phase
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.known_models import takes_projector
from fitcheck.models.model import Model, Tier
from fitcheck.models.quant import FORK as FORK_READS
from fitcheck.models.workload import Task
from fitcheck.records.run import Run
from fitcheck.runtimes.base import CARD, Ask, Change, Default, Outlook, Runtime, Settings, Support, Wanted
from fitcheck.runtimes.figures import Figure
from fitcheck.runtimes.imagined import without_display
from fitcheck.runtimes.llamacpp import commands, recorded_options
from fitcheck.runtimes.llamacpp.adapters import check_adapters
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, not_modelled
from fitcheck.runtimes.llamacpp.builds import FORK
from fitcheck.runtimes.llamacpp.builds_spanned import over_builds
from fitcheck.runtimes.llamacpp.defaults import defaults
from fitcheck.runtimes.llamacpp.details import details_of
from fitcheck.runtimes.llamacpp.drafted_speed import drafted_rates
from fitcheck.runtimes.llamacpp.drafting import unknown_draft
from fitcheck.runtimes.llamacpp.estimates import (
    architecture_of,
    estimate_of,
    footprint_of,
    is_bounded,
    least_of,
    placed_of,
    totals_in_other_builds,
)
from fitcheck.runtimes.llamacpp.flash import UNQUANTIZED
from fitcheck.runtimes.llamacpp.longest import longest
from fitcheck.runtimes.llamacpp.notes import notes_of
from fitcheck.runtimes.llamacpp.options import LEAST_CONTEXT, TextOptions
from fitcheck.runtimes.llamacpp.placement import NAME, arguments_of, host_of
from fitcheck.runtimes.llamacpp.proposals import PlacementSearch
from fitcheck.runtimes.llamacpp.seconds import TokenSpeed, depth_of, token_speed
from fitcheck.runtimes.llamacpp.tier_on_machine import WORTH
from fitcheck.runtimes.llamacpp.token_timing import GENERATION, PROMPT
from fitcheck.runtimes.llamacpp.token_work import PlacedRun
from fitcheck.runtimes.llamacpp.workers import with_workers
from fitcheck.runtimes.options import LONGEST, read
from fitcheck.speed.duration import Duration
from fitcheck.speed.rates import Calibration
from fitcheck.speed.timing import Observation, Timing
from fitcheck.units import Interval

GGUF = "gguf"


# what caches are made of
_OF_CACHES = frozenset({Constraint.VRAM, Constraint.RAM})


class LlamaCpp(Runtime):
    """See ``fitcheck.runtimes.base.Runtime``."""

    name = NAME
    families = ("language",)
    options = TextOptions
    splits = True

    def asks(self, model: Model, tiers: Sequence[Tier], wanted: Wanted, machine: Machine) -> Iterator[Ask]:
        """Of several tiers the best placement each, of a single one its alternatives too."""
        asked = read(TextOptions, wanted)
        machine = with_workers(machine, asked.rpc or ())
        ready = [tier for tier in tiers if tier.format == GGUF]
        for tier in ready:
            search = self._search(model, tier, machine, asked, wanted)
            if asked.ctx == LONGEST:
                found = longest(search) or [search.best()]
            else:
                found = search.alternatives() if len(ready) == 1 else [search.best()]
            yield from (proposal.ask for proposal in found)

    def leading(self, model: Model, tier: Tier, wanted: Wanted, machine: Machine) -> Iterator[Ask]:
        """The best placement, where it fits, and what someone who reads along might like better."""
        asked = read(TextOptions, wanted)
        if tier.format != GGUF or asked.ctx == LONGEST:
            yield from self.asks(model, (tier,), wanted, machine)
            return
        search = self._search(model, tier, with_workers(machine, asked.rpc or ()), asked, wanted)
        yield from (proposal.ask for proposal in search.leading())

    def outlook(self, model: Model, tier: Tier, wanted: Wanted, machine: Machine) -> Iterable[Outlook]:
        """By where layers can lie at best, without a graph."""
        asked = read(TextOptions, wanted)
        if tier.format != GGUF or asked.ctx == LONGEST:
            return ()
        return self._search(model, tier, with_workers(machine, asked.rpc or ()), asked, wanted).outlook

    def _search(
        self, model: Model, tier: Tier, machine: Machine, asked: TextOptions, wanted: Wanted
    ) -> PlacementSearch:
        architecture = tier.architecture or model.architecture
        assert isinstance(architecture, LanguageArchitecture)
        check_adapters(tier, architecture)
        workload = asked.workload(asked.context_of(architecture), embeds=architecture.embeds)
        return PlacementSearch(self, model, tier, machine, asked, workload, wanted.floor(workload.task).min_speed)

    def settled(self, ask: Ask, wanted: Wanted) -> int | None:
        """As far as the search for the tier's placement saw system memory that was enough for all it looked at."""
        return self._search(ask.model, ask.tier, ask.machine, read(TextOptions, wanted), wanted).settled

    def footprint(self, ask: Ask) -> Footprint:
        """llama.cpp's own buffers on every card and the host; in a unified memory the host holds the cards' as well."""
        return footprint_of(ask, estimate_of(ask))

    def weighs(self, machine: Machine) -> Hashable | None:
        """Of one card what the backend for its vendor allows there, and whether it shares the host's memory."""
        if len(machine.gpus) != 1:
            return None
        gpu = machine.gpus[0]
        return gpu.card.unified_memory, gpu.carved, _vendor_support(gpu.card)

    def spread(self, ask: Ask, footprint: Footprint) -> Footprint:
        """Where nobody says which build, the cards' intervals span those that people run."""
        others = totals_in_other_builds(ask)
        return over_builds(footprint, others) if others else footprint

    def duration(self, ask: Ask, footprint: Footprint, calibration: Calibration | None = None) -> Duration | None:
        """Seconds of the asked answer; none where the rate of prompt or generation is unknown."""
        assert isinstance(footprint.layout, LlamaEstimate)
        return self._lasting(ask, footprint.layout, calibration)

    def foreseen(self, ask: Ask) -> Duration | None:
        """Seconds hang on where layers lie, and on no graph."""
        return self._lasting(ask, _laid(ask)) if is_bounded(ask, _options_of(ask)) else None

    def at_least(self, ask: Ask) -> Footprint | None:
        """Weights and caches."""
        return least_of(ask, _options_of(ask)) if is_bounded(ask, _options_of(ask)) else None

    def _lasting(self, ask: Ask, laid: PlacedRun, calibration: Calibration | None = None) -> Duration | None:
        prompt, new = ask.workload.prompt_tokens or 0, ask.workload.new_tokens
        between = _unmeasured(ask, laid.options)
        if between is not None:
            return Duration(None, between)
        speed = token_speed(
            architecture_of(ask),
            ask.tier.tensors,
            laid,
            ask.machine.gpus,
            depth=depth_of(ask.workload),
            host=host_of(ask),
            reads=prompt,
        )
        reading, writing = _known(speed.prompt, PROMPT, calibration), _known(speed.generation, GENERATION, calibration)
        if isinstance(laid, LlamaEstimate):
            reading, writing = drafted_rates(ask, laid, reading, writing)
        rates = tuple((name, rate) for name, rate in ((PROMPT, reading), (GENERATION, writing)) if rate)
        if ask.workload.task is Task.EMBED:
            return _reading(reading, prompt, speed)
        amounts = (("card", speed.card_bytes_per_token), ("host", speed.host_bytes_per_token))
        waits = f"reading weights from {speed.binding}"
        if reading is None or writing is None:
            return Duration(None, waits, rates=rates, amounts=amounts)
        ends = [prompt / getattr(reading, end) + new / getattr(writing, end) for end in ("high", "best", "low")]
        parts = ((PROMPT, prompt / reading.best), (GENERATION, new / writing.best))
        binding = "reading the prompt" if parts[0][1] > parts[1][1] else waits
        return Duration(Interval(*ends), binding, parts, rates, amounts)

    def platform(self, ask: Ask) -> Support | None:
        """``unknown`` for a shape that is not fully known, which decides unless the weights alone are too much; else
        what llama.cpp's backend for the card's vendor lacks."""
        architecture = architecture_of(ask)
        why = architecture.unknown or not_modelled(architecture, arguments_of(ask.placement, ask.workload))
        why = why or unknown_draft(ask.tier.companions)
        if why:
            reason = _sentence(why if isinstance(why, str) else why[0])
            return Support(Verdict.UNKNOWN, Constraint.MODEL, reason, least=_weights_alone(estimate_of(ask)))
        foreign = _foreign_types(ask)
        if foreign is not None:
            return foreign
        local = ask.machine.gpus[len(arguments_of(ask.placement, ask.workload).workers) :]
        found = [one for gpu in local if (one := _vendor_support(gpu.card)) is not None]
        return found[0] if found else None

    def stacks(self, ask: Ask) -> tuple[str, ...]:
        """ggml, which brings kernels of its own for each number format."""
        return ("ggml",)

    def changes(self, ask: Ask, wanted: Wanted) -> Iterator[Change]:
        """A q8_0 KV cache, the best free placement, half the context and so on, a free display, smaller tiers."""
        options, asked = arguments_of(ask.placement, ask.workload), read(TextOptions, wanted)
        search = self._search(ask.model, ask.tier, ask.machine, asked, wanted)
        if not search.too_large:
            yield from _other_settings(search, options, asked)
        yield from without_display(ask)
        size = ask.tier.tensors.nbytes
        tiers = [tier for tier in ask.model.tiers if tier.format == GGUF and tier.tensors.nbytes < size]
        tiers.sort(key=lambda tier: -tier.tensors.nbytes)
        better = search.largest_that_betters(tiers, search.rank(search.assess(options)))
        if better is not None:
            yield Change(f"tier {better.ask.tier.name}", better.ask)

    def defaults(self, ask: Ask, wanted: Wanted) -> Iterator[Default]:
        """The context, and how fast the host's memory is read."""
        asked = read(TextOptions, wanted)
        return defaults(ask, wanted, self._search(ask.model, ask.tier, ask.machine, asked, wanted))

    def loss(self, ask: Ask) -> float:
        """1 for a KV cache in 16 bits, ``WORTH`` for a quantized one."""
        return 1.0 if arguments_of(ask.placement, ask.workload).cache_type_k in UNQUANTIZED else WORTH

    def commands(self, ask: Ask) -> tuple[str, ...]:
        """How to run llama-server with these options, and first how to make the file where nobody publishes it."""
        options = arguments_of(ask.placement, ask.workload)
        workers = dict.fromkeys(commands.worker(one) for one in options.workers)
        projects = takes_projector(ask.model.slug)
        run = (*workers, commands.server(ask.tier, options, architecture_of(ask), projects=projects))
        return run if ask.tier.published else (*commands.convert(ask.model, ask.tier), *run)

    def details(self, ask: Ask, footprint: Footprint) -> dict[str, Any]:
        """The options in llama.cpp's names and the bytes of each buffer by device."""
        assert isinstance(footprint.layout, LlamaEstimate)
        return details_of(footprint.layout, ask.tier)

    def notes(self, ask: Ask, wanted: Wanted, duration: Duration | None) -> tuple[str, ...]:
        """The context that was taken or is too long, the split over cards, and a host bandwidth that was assumed."""
        return notes_of(self, ask, wanted, duration)

    def ask_of(self, run: Run) -> Ask | None:
        """The options that a record states, on as many cards; ``None`` where rows or tensors were split over cards, or
        another backend ran."""
        return recorded_options.ask_of(run, self.families)

    def stated(self, ask: Ask) -> Settings:
        """The options under the names of a record."""
        return recorded_options.stated(arguments_of(ask.placement, ask.workload))

    def alike(self, ask: Ask) -> Hashable:
        """Model, tier, era of the build and the options that decide seconds."""
        return recorded_options.alike(ask, architecture_of(ask).layers)

    def holds(self, ask: Ask) -> Hashable:
        """With caches for as many tokens and sequences; a benchmark reserves what its tests fill."""
        arguments = arguments_of(ask.placement, ask.workload)
        return self.alike(ask), arguments.padded_context, arguments.slots

    def untimed(self, ask: Ask, footprint: Footprint) -> str:
        """As everywhere, and for what lies between machines or cards."""
        assert isinstance(footprint.layout, LlamaEstimate)
        between = _unmeasured(ask, footprint.layout.options)
        return super().untimed(ask, footprint) if between is None else f"nothing is known of {between}"

    def timings(self, ask: Ask, links: Calibration | None = None) -> Mapping[str, Timing]:
        """Seconds a token of the prompt and of the answer."""
        options = arguments_of(ask.placement, ask.workload)
        if options.workers or options.shares_matrices:
            return {}
        return recorded_options.timings(ask, _laid(ask))

    def observed(self, run: Run, ask: Ask, links: Calibration | None = None) -> Iterable[Observation]:
        """Each test of a record."""
        return recorded_options.observed(run, ask, _laid(ask))

    def promises(self, run: Run, ask: Ask) -> Mapping[str, Interval[float]]:
        """Memory as everywhere, and the tokens a second of each test."""
        return {**super().promises(run, ask), **recorded_options.promises(run, ask, estimate_of(ask))}

    def host_bytes(self, run: Run) -> int | None:
        """Pages of a mapped file count as the process's until something else needs them."""
        return None if run.setting("mmap", True) else run.rss or None

    def figures(self) -> Iterable[Figure]:
        """llama.cpp's printed buffers, sizes of published GGUF files and published tokens a second, each beside
        ours."""
        from fitcheck.runtimes.llamacpp.published import figures
        from fitcheck.runtimes.llamacpp.token_accuracy import token_figures

        return [*figures(), *token_figures()]


def _options_of(ask: Ask) -> LlamaOptions:
    return arguments_of(ask.placement, ask.workload)


def _laid(ask: Ask) -> PlacedRun:
    """Where the layers of a run lie, without its graph where that is known."""
    options = _options_of(ask)
    return placed_of(ask, options) if is_bounded(ask, options) else estimate_of(ask)


def _other_settings(search: PlacementSearch, options: LlamaOptions, asked: TextOptions) -> Iterator[Change]:
    """A q8_0 KV cache, the best free placement, half the context and so on."""
    cached = not search.architecture.encoder
    if cached and asked.cache_types is None and options.cache_type_k in UNQUANTIZED and options.flash:
        smaller = options.with_(cache_type_k="q8_0", cache_type_v="q8_0")
        yield Change("--cache-type q8_0", search.ask(smaller), settings=(("cache_type", "q8_0"),))
    free = options.with_(gpu_layers=None, cpu_moe_layers=0)
    other = search.best_with(free, search.cache_types[:1])
    yield Change(other.ask.placement.mode, other.ask)
    context = options.context // 2
    while context >= LEAST_CONTEXT:
        # the seconds are those of a prompt and an answer of the same length
        shorter = search.ask(options.with_(context=context))
        yield Change(f"--ctx {context}", shorter, _OF_CACHES, (("ctx", context),))
        context //= 2


def _unmeasured(ask: Ask, options: LlamaOptions) -> str | None:
    """What intermediate results pass over at a rate that nobody measured; ``None`` where there is no such thing."""
    if options.workers:
        return "the network between the machines"
    return "the link between the cards" if options.shares_matrices and len(ask.machine.gpus) > 1 else None


def _reading(rate: Interval[float] | None, prompt: int, speed: TokenSpeed) -> Duration:
    """The seconds of a text of ``prompt`` tokens that is read, at ``rate`` a second, and not answered."""
    words = "reading the text"
    amounts = (("card", speed.card_bytes_per_token), ("host", speed.host_bytes_per_token))
    if rate is None:
        return Duration(None, words, amounts=amounts)
    seconds = Interval(prompt / rate.high, prompt / rate.best, prompt / rate.low)
    return Duration(seconds, words, ((PROMPT, seconds.best),), ((PROMPT, rate),), amounts)


def _foreign_types(ask: Ask) -> Support | None:
    """What stands against a file whose types the build does not read."""
    types = ask.tier.tensors.foreign_types
    build = arguments_of(ask.placement, ask.workload).build
    unread = {name: reads for name, reads in types.items() if not (build.fork and reads == FORK_READS)}
    if not unread:
        return None
    names = ", ".join(sorted(unread))
    hint = (
        f"{FORK} does: give --build {FORK}"
        if set(unread.values()) == {FORK_READS}
        else "llama.cpp once repacked Q4_0 on disk and now does so when it loads: take the Q4_0 file"
    )
    reason = f"The file holds tensors of type {names}, which this build does not read; {hint}."
    return Support(Verdict.NO, Constraint.RUNTIME, reason)


def _known(rate: Interval[float] | None, name: str, calibration: Calibration | None) -> Interval[float] | None:
    """A rate as records of the card say it, where they do: as many times slower as the seconds are longer."""
    longer = None if calibration is None else calibration.ratio(name)
    if rate is None or longer is None:
        return rate
    return Interval(rate.best / longer.high, rate.best / longer.best, rate.best / longer.low)


def _weights_alone(result: LlamaEstimate) -> Footprint:
    """The one thing that is sure of an architecture that is not known."""
    cards = tuple(
        CardMemory((Phase("load", card.weights, 0, 0, 0, 0),), *(Interval.exactly(card.weights),) * 4)
        for card in result.cards
    )
    used = result.host_weights_used
    return Footprint(cards, HostMemory(0, used, 0, Interval.exactly(used)), result.disk)


@lru_cache(maxsize=4096)
def _vendor_support(card: Card) -> Support | None:
    """A runtime that brings its own kernels for each vendor."""
    vendors = load("runtimes.llamacpp", "support")["vendors"]
    row = vendors.get(card.vendor, vendors["other"])
    minimum = tuple(row.get("compute_capability", ()))
    if card.compute_capability is not None and card.compute_capability < minimum:
        have, want = (".".join(map(str, pair)) for pair in (card.compute_capability, minimum))
        reason = f"Compute capability {have}; the CUDA backend needs {want}, and Vulkan on this card is untested."
        return Support(Verdict.UNKNOWN, Constraint.COMPUTE_CAPABILITY, reason)
    if row["support"] != "yes":
        return Support(Verdict.UNKNOWN, Constraint.RUNTIME, f"{CARD}: {row['reason']}.")
    return None


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


RUNTIME = LlamaCpp()

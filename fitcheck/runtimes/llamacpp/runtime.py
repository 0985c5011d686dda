"""Language models through llama.cpp: where layers, experts and caches lie, and how many tokens a second that gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Machine
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.records.run import Run
from fitcheck.runtimes.base import Ask, Change, Figure, Runtime, Support, Wanted
from fitcheck.runtimes.imagined import without_display
from fitcheck.runtimes.llamacpp import commands
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import DeviceMemory, LlamaEstimate, estimate
from fitcheck.runtimes.llamacpp.options import LEAST_CONTEXT, TextOptions
from fitcheck.runtimes.llamacpp.placement import NAME, arguments_of, bandwidth_of
from fitcheck.runtimes.llamacpp.proposals import UNQUANTIZED, WORTH, Search
from fitcheck.runtimes.llamacpp.seconds import token_speed
from fitcheck.runtimes.options import read
from fitcheck.speed.duration import Duration
from fitcheck.speed.rates import Calibration
from fitcheck.units import Interval

GGUF = "gguf"
_estimate = lru_cache(maxsize=2048)(estimate)


class LlamaCpp(Runtime):
    """See ``fitcheck.runtimes.base.Runtime``."""

    name = NAME
    families = ("language",)
    options = TextOptions

    def asks(self, model: Model, tiers: Sequence[Tier], wanted: Wanted, machine: Machine) -> Iterator[Ask]:
        """Of several tiers the best placement each, of a single one its alternatives too."""
        asked = read(TextOptions, wanted)
        ready = [tier for tier in tiers if tier.format == GGUF]
        for tier in ready:
            search = self._search(model, tier, machine, asked)
            found = search.alternatives() if len(ready) == 1 else [search.best()]
            yield from (proposal.ask for proposal in found)

    def _search(self, model: Model, tier: Tier, machine: Machine, asked: TextOptions) -> Search:
        architecture = tier.architecture or model.architecture
        assert isinstance(architecture, LanguageArchitecture)
        return Search(self, model, tier, machine, asked, asked.workload(asked.context_of(architecture)))

    def footprint(self, ask: Ask) -> Footprint:
        """llama.cpp's own buffers on every card and the host; in a unified memory the host holds the cards' as well."""
        result = estimate_of(ask)
        found = replace(result.footprint, layout=result)
        for gpu, total in zip(ask.machine.gpus, result.card_totals, strict=True):
            if gpu.card.unified_memory:  # one memory: the host holds both
                found = replace(found, host=replace(found.host, total=found.host.total + total))
        return found

    def duration(self, ask: Ask, footprint: Footprint, calibration: Calibration | None = None) -> Duration | None:
        """Seconds of the asked answer; none where the rate of prompt or generation is unknown."""
        assert isinstance(footprint.layout, LlamaEstimate)
        prompt, new = ask.workload.prompt_tokens or 0, ask.workload.new_tokens
        speed = token_speed(
            architecture_of(ask),
            ask.tier.tensors,
            footprint.layout,
            ask.machine.gpus,
            depth=prompt + new // 2,  # half way through the answer
            host_bandwidth=bandwidth_of(ask.placement),
        )
        rates = tuple(
            (name, rate) for name, rate in (("prompt", speed.prompt), ("generation", speed.generation)) if rate
        )
        amounts = (("card", speed.card_bytes_per_token), ("host", speed.host_bytes_per_token))
        waits = f"reading weights from {speed.binding}"
        if speed.prompt is None or speed.generation is None:
            return Duration(None, waits, rates=rates, amounts=amounts)
        ends = [
            prompt / getattr(speed.prompt, end) + new / getattr(speed.generation, end)
            for end in ("high", "best", "low")
        ]
        parts = (("prompt", prompt / speed.prompt.best), ("generation", new / speed.generation.best))
        binding = "reading the prompt" if parts[0][1] > parts[1][1] else waits
        return Duration(Interval(*ends), binding, parts, rates, amounts)

    def platform(self, ask: Ask) -> Support | None:
        """``unknown`` for a shape that is not fully known, which decides unless the weights alone are too much; else
        what llama.cpp's backend for the card's vendor lacks."""
        architecture = architecture_of(ask)
        if architecture.unknown:
            reason = _sentence(architecture.unknown[0])
            sure = _weights_alone_too_much(estimate_of(ask), ask)
            return Support(Verdict.UNKNOWN, Constraint.MODEL, reason, decides=not sure)
        found = [one for gpu in ask.machine.gpus if (one := _vendor_support(gpu.card)) is not None]
        return found[0] if found else None

    def changes(self, ask: Ask, wanted: Wanted) -> Iterator[Change]:
        """A q8_0 KV cache, the best free placement, half the context and so on, a free display, smaller tiers."""
        options, asked = arguments_of(ask.placement, ask.workload), read(TextOptions, wanted)
        search = self._search(ask.model, ask.tier, ask.machine, asked)
        if asked.cache_type is None and options.cache_type_k in UNQUANTIZED and options.flash:
            smaller = options.with_(cache_type_k="q8_0", cache_type_v="q8_0")
            yield Change("--cache-type q8_0", search.ask(smaller))
        free = options.with_(gpu_layers=None, cpu_moe_layers=0)
        other = search.proposals(free, search.cache_types[:1])[0]
        yield Change(other.ask.placement.mode, other.ask)
        context = options.context // 2
        while context >= LEAST_CONTEXT:
            yield Change(f"--ctx {context}", search.ask(options.with_(context=context)))
            context //= 2
        yield from without_display(ask)
        size = ask.tier.tensors.nbytes
        for tier in sorted(ask.model.tiers, key=lambda tier: -tier.tensors.nbytes):
            if tier.format == GGUF and tier.tensors.nbytes < size:
                yield Change(f"tier {tier.name}", search.with_tier(tier).best().ask)

    def loss(self, ask: Ask) -> float:
        """1 for a KV cache in 16 bits, ``WORTH`` for a quantized one."""
        return 1.0 if arguments_of(ask.placement, ask.workload).cache_type_k in UNQUANTIZED else WORTH

    def commands(self, ask: Ask) -> tuple[str, ...]:
        """How to run llama-server with these options, and first how to make the file where nobody publishes it."""
        options = arguments_of(ask.placement, ask.workload)
        run = (commands.server(ask.tier, options, architecture_of(ask).layers),)
        return run if ask.tier.published else (*commands.convert(ask.model, ask.tier), *run)

    def details(self, ask: Ask, footprint: Footprint) -> dict[str, Any]:
        """The options in llama.cpp's names and the bytes of each buffer by device."""
        assert isinstance(footprint.layout, LlamaEstimate)
        options = footprint.layout.options
        return {"options": _options_json(options), "buffers": _buffers_json(footprint.layout)}

    def notes(self, ask: Ask, wanted: Wanted, duration: Duration | None) -> tuple[str, ...]:
        """The context that was taken or is too long, the split over cards, and a host bandwidth that was assumed."""
        notes = []
        limit, context = architecture_of(ask).context_length, ask.workload.context
        if not wanted.has("ctx"):
            trained = f"; it was trained on {limit}" if limit else ""
            notes.append(f"A context of {context} tokens was taken; --ctx asks for another{trained}.")
        elif limit is not None and context > limit:
            notes.append(f"The model was trained on contexts of {limit} tokens; beyond that its answers get worse.")
        if len(ask.machine.gpus) > 1:
            notes.append(f"Split over all {len(ask.machine.gpus)} cards; the one that is shortest is shown.")
        reads_host = duration is not None and duration.seconds is not None and duration.amount("host")
        if reads_host and not wanted.has("host_bandwidth"):
            notes.append(
                "The host's memory bandwidth was not given; a wide range for desktops stands in (--host-bandwidth)."
            )
        return tuple(notes)

    def ask_of(self, run: Run) -> Ask | None:
        """Always ``None``: no record of a language model is compared with a cell yet."""
        return None

    def figures(self) -> Iterable[Figure]:
        """llama.cpp's printed buffers, sizes of published GGUF files and published tokens a second, each beside
        ours."""
        from fitcheck.runtimes.llamacpp.published import figures
        from fitcheck.runtimes.llamacpp.token_accuracy import token_figures

        return [*figures(), *token_figures()]


def architecture_of(ask: Ask) -> LanguageArchitecture:
    """The shape of the tier; only asks of the family come here."""
    architecture = ask.architecture
    assert isinstance(architecture, LanguageArchitecture)
    return architecture


def estimate_of(ask: Ask) -> LlamaEstimate:
    """llama.cpp's buffers on the machine's cards and host. Raises OptionError for options that cannot be."""
    free = tuple(one.vram.best for one in ask.budgets) if ask.machine.gpus else ()
    options = arguments_of(ask.placement, ask.workload)
    return _estimate(architecture_of(ask), ask.tier.tensors, options, vram=free, disk=ask.tier.disk_bytes or None)


def _weights_alone_too_much(result: LlamaEstimate, ask: Ask) -> bool:
    """Whether not even the weights fit: the one thing that is sure of an architecture that is not known."""
    budgets = ask.budgets
    on_cards = any(card.weights > have.vram.high for card, have in zip(result.cards, budgets, strict=False))
    ram = budgets[0].ram
    return on_cards or (ram is not None and result.host_weights_used > ram.high)


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
        return Support(Verdict.UNKNOWN, Constraint.RUNTIME, f"{card.name}: {row['reason']}.")
    return None


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _options_json(options: LlamaOptions) -> dict[str, Any]:
    return {
        "gpu_layers": options.gpu_layers,
        "n_cpu_moe": options.cpu_moe_layers,
        "cache_type_k": options.cache_type_k,
        "cache_type_v": options.cache_type_v,
        "ubatch": options.micro_batch,
        "sequences": options.slots,
        "flash_attention": options.flash,
        "build": str(options.build),
        "build_date": options.build.day.isoformat(),
    }


def _buffers_json(result: LlamaEstimate) -> dict[str, Any]:
    def device(memory: DeviceMemory) -> dict[str, int]:
        kinds = ("weights", "kv_cache", "recurrent", "compute", "output", "layers")
        return {kind: getattr(memory, kind) for kind in kinds}

    return {"cards": [device(card) for card in result.cards], "host": device(result.host)}


RUNTIME = LlamaCpp()

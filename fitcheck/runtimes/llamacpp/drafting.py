"""A second, smaller model that drafts tokens for the first to check (``--model-draft``).

It has weights, a cache and a compute buffer of its own, in a context that is as long as the model's and holds as many
sequences (llama.cpp common/speculative.cpp, common_base_params_to_speculative and common_speculative_init_result).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fitcheck.errors import OptionError
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory, Phase
from fitcheck.models.companions import DRAFT, Companion
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate, host_process, overhead
from fitcheck.units import Interval, format_gib

# speculative.cpp, SPEC_VOCAB_MAX_SIZE_DIFFERENCE
TOKENS_APART = 128


def draft_among(companions: Sequence[Companion]) -> Companion | None:
    """The second model; ``None`` where none drafts."""
    return next((one for one in companions if one.role == DRAFT), None)


def architecture_of_draft(draft: Companion) -> LanguageArchitecture:
    """Its shape. Raises OptionError where it is of a kind that writes no text."""
    found = draft.architecture
    if not isinstance(found, LanguageArchitecture) or found.embeds:
        raise OptionError(f"--model-draft: {draft.name} writes no text, so it drafts none; name a language model.")
    return found


def check_pair(architecture: LanguageArchitecture, draft: Companion) -> None:
    """Raises OptionError for a draft whose tokens cannot be the model's."""
    drafting = architecture_of_draft(draft)
    if architecture.embeds:
        raise OptionError("--model-draft: a model for embeddings writes nothing that could be drafted; leave it out.")
    if abs(architecture.vocabulary - drafting.vocabulary) > TOKENS_APART:
        raise OptionError(
            f"--model-draft: {draft.name} has {drafting.vocabulary} tokens and the model {architecture.vocabulary}; "
            "llama.cpp drafts with a model of the same vocabulary alone."
        )


def unknown_draft(companions: Sequence[Companion]) -> str | None:
    """Why the second model's run is not modelled, in a clause; ``None`` where it is or where there is none."""
    draft = draft_among(companions)
    unknown = () if draft is None else architecture_of_draft(draft).unknown
    return f"of the draft model: {unknown[0]}" if unknown else None


def draft_options(options: LlamaOptions) -> LlamaOptions:
    """How the second model runs beside a model that runs with ``options``."""
    devices, shared = options.draft_devices, options.build.has("shared_draft")
    alone = devices is not None and len(devices) == 1
    return options.with_(
        context=options.draft_context
        or (options.padded_context if shared else options.padded_context // options.slots),
        gpu_layers=0 if devices == () else options.draft_layers,
        cpu_moe_layers=0,
        overrides=(),
        cache_type_k=options.draft_type_k,
        cache_type_v=options.draft_type_v,
        sequences=options.sequences if shared else 1,
        speculative=None,
        split_mode="none" if alone else "layer" if devices else options.split_mode,
        main_gpu=devices[0] if alone and devices else options.main_gpu,
    )


def draft_estimate(draft: Companion, options: LlamaOptions, free: Sequence[int]) -> LlamaEstimate:
    """Memory of the second model alone, on cards with ``free`` bytes each."""
    devices = options.draft_devices
    room = [amount if not devices or index in devices else 0 for index, amount in enumerate(free)]
    found = estimate(
        architecture_of_draft(draft), draft.tensors, draft_options(options), room, draft.disk_bytes or None
    )
    contexts = 1 if options.build.has("shared_draft") else options.slots
    return found if contexts == 1 else _in_contexts(found, contexts)


def _in_contexts(found: LlamaEstimate, count: int) -> LlamaEstimate:
    """With a context for each of ``count`` slots, as builds before May 2026 made them."""
    cards = tuple(
        replace(card, kv_cache=count * card.kv_cache, recurrent=count * card.recurrent, compute=count * card.compute)
        for card in found.cards
    )
    more = [many.total - one.total for many, one in zip(cards, found.cards, strict=True)]
    totals = tuple(_moved(total, extra) for total, extra in zip(found.card_totals, more, strict=True))
    host = replace(found.host, compute=count * found.host.compute, output=count * found.host.output)
    memory = found.footprint.host
    taken = host.total - found.host.total
    memory = replace(memory, process=memory.process + taken, total=_moved(memory.total, taken))
    seen = tuple(
        _with_more(one, many.kv_cache + many.recurrent, many.compute, total)
        for one, many, total in zip(found.footprint.cards, cards, totals, strict=True)
    )
    footprint = replace(found.footprint, cards=seen, host=memory)
    return replace(found, cards=cards, host=host, card_totals=totals, footprint=footprint)


def _with_more(memory: CardMemory, cache: int, compute: int, total: Interval[int]) -> CardMemory:
    phases = tuple(
        phase if phase.name == "load" else replace(phase, kv_cache=cache, activations=compute)
        for phase in memory.phases
    )
    buffers = Interval.exactly(max(phase.allocated for phase in phases))
    return CardMemory(phases, buffers, buffers, total, total)


def _moved(span: Interval[int], by: int) -> Interval[int]:
    return Interval(span.low + by, span.best + by, span.high + by)


def with_draft(found: LlamaEstimate, draft: Companion, drafting: LlamaEstimate) -> LlamaEstimate:
    """Both models in one process. The draft's bytes count as what lies beside the model."""
    totals = tuple(_both(one, two) for one, two in zip(found.card_totals, drafting.card_totals, strict=True))
    cards = tuple(
        replace(card, beside=card.beside + other.total) for card, other in zip(found.cards, drafting.cards, strict=True)
    )
    taken = sum(card.total for card in drafting.cards) + drafting.host.total
    said = f"with the draft model {draft.name} {draft.kind}: {format_gib(taken)}, cache and compute buffer included"
    footprint = Footprint(
        tuple(
            _joined(one, two, total)
            for one, two, total in zip(found.footprint.cards, drafting.footprint.cards, totals, strict=True)
        ),
        _host(found.footprint.host, drafting.footprint.host),
        found.disk + (drafting.disk if draft.path is None else 0),
        (*found.footprint.assumptions, said),
    )
    return replace(
        found,
        cards=cards,
        host=replace(found.host, beside=found.host.beside + drafting.host.total),
        host_weights_used=found.host_weights_used + drafting.host_weights_used,
        card_totals=totals,
        footprint=footprint,
        disk=footprint.disk,
        assumptions=footprint.assumptions,
        draft=drafting,
    )


def _both(one: Interval[int], two: Interval[int]) -> Interval[int]:
    """What a card gives up to both: the process counts once."""
    if not (one.high and two.high):
        return Interval(one.low + two.low, one.best + two.best, one.high + two.high)
    low, best, high = overhead()
    return Interval(one.low + two.low - low, one.best + two.best - best, one.high + two.high - high)


def _joined(one: CardMemory, two: CardMemory, total: Interval[int]) -> CardMemory:
    phases = tuple(
        Phase(
            first.name,
            first.resident + second.resident,
            first.window + second.window,
            first.kv_cache + second.kv_cache,
            first.activations + second.activations,
            first.scratch + second.scratch,
        )
        for first, second in zip(one.phases, two.phases, strict=True)
    )
    buffers = Interval.exactly(max(phase.allocated for phase in phases))
    return CardMemory(phases, buffers, buffers, total, total)


def _host(one: HostMemory, two: HostMemory) -> HostMemory:
    once = host_process()
    total = Interval(*(getattr(one.total, end) + getattr(two.total, end) - once for end in ("low", "best", "high")))
    pinned, pageable = one.pinned + two.pinned, one.pageable + two.pageable
    return HostMemory(pinned, pageable, one.process + two.process - once, total)

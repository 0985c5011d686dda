"""What a reader of a llama.cpp answer should know of it besides the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fitcheck.data_files import load
from fitcheck.errors import InputError
from fitcheck.hardware.budget import budgets_of
from fitcheck.memory.weighing import Verdict
from fitcheck.models.families.language.known_models import (
    first_released,
    known_language_models,
    language_entry,
    takes_projector,
)
from fitcheck.runtimes.base import Ask, Runtime, Wanted
from fitcheck.runtimes.level import level_of
from fitcheck.runtimes.llamacpp.arguments import MTP, LlamaOptions
from fitcheck.runtimes.llamacpp.beside import PROJECTOR
from fitcheck.runtimes.llamacpp.drafting import draft_among
from fitcheck.runtimes.llamacpp.estimates import architecture_of, estimate_of
from fitcheck.runtimes.llamacpp.longest import CONTEXT_STEP
from fitcheck.runtimes.llamacpp.options import GIGA, LEAST_CONTEXT, USUAL_BATCH, TextOptions
from fitcheck.runtimes.llamacpp.placement import arguments_of, bandwidth_of, host_of, placement_of
from fitcheck.runtimes.llamacpp.token_timing import GENERATION
from fitcheck.runtimes.options import LONGEST, read
from fitcheck.speed.duration import Duration
from fitcheck.units import MIB, format_gib


def notes_of(runtime: Runtime, ask: Ask, wanted: Wanted, duration: Duration | None) -> tuple[str, ...]:
    """A build older than the model, the context that was taken or is too long, drafts, the split over cards,
    an assumed bandwidth of the host."""
    options = arguments_of(ask.placement, ask.workload)
    return (
        *_on_build(ask, options),
        *_on_context(runtime, ask, wanted),
        *_on_batches(options, wanted),
        *_on_drafts(ask, options, duration),
        *_on_projector(ask, options),
        *_on_kept_prompts(runtime, ask, options),
        *_on_cards(ask, options),
        *_on_bandwidth(ask, wanted, duration),
    )


def _on_build(ask: Ask, options: LlamaOptions) -> Iterator[str]:
    """Which build first read an architecture is not recorded; none did long before the first model of it was out."""
    if options.build.fork or ask.model.slug not in known_language_models():
        return
    first = first_released(language_entry(ask.model.slug).architecture)
    if first is not None and options.build.day.isoformat() < first:
        yield (
            f"Build {options.build} is older than the first model of this architecture ({first}): whether it can read "
            "such a file is not known; take a newer one."
        )


def _on_context(runtime: Runtime, ask: Ask, wanted: Wanted) -> Iterator[str]:
    limit, context = architecture_of(ask).context_length, ask.workload.context
    if not wanted.has("ctx"):
        trained = f"; it was trained on {limit}" if limit else ""
        yield f"A context of {context} tokens was taken; --ctx asks for another{trained}."
    elif read(TextOptions, wanted).ctx == LONGEST:
        yield _longest_words(runtime, ask, limit)
    elif limit is not None and context > limit:
        yield f"The model was trained on contexts of {limit} tokens; beyond that its answers get worse."


def _on_batches(options: LlamaOptions, wanted: Wanted) -> Iterator[str]:
    if not wanted.has("batch_size") and options.batch > USUAL_BATCH:
        yield f"-b {options.batch} was taken too: llama.cpp cuts a micro-batch down to the batch."
    if options.micro_batch > options.batch:
        yield f"-ub {options.micro_batch} is cut down to the batch, as llama.cpp does: -b {options.batch}."


def _on_drafts(ask: Ask, options: LlamaOptions, duration: Duration | None) -> Iterator[str]:
    if (more := _drafting_takes(ask, options)) is not None:
        yield f"Its own prediction layers are not used; --spec-type draft-mtp does and takes {more} more."
    if options.predicts:
        yield "Tokens a second are those without drafting; how many drafts are accepted is not known."
    yield from _drafted(ask, options, duration)


def _on_projector(ask: Ask, options: LlamaOptions) -> Iterator[str]:
    beside = any(one.role == PROJECTOR for one in ask.tier.companions)
    if options.projector and not beside and takes_projector(ask.model.slug):
        yield "Its mmproj file is not counted, and the command leaves it out; --mmproj FILE counts it."


def _on_kept_prompts(runtime: Runtime, ask: Ask, options: LlamaOptions) -> Iterator[str]:
    if options.prompts_kept:
        yield f"Of system memory {format_gib(options.prompts_kept)} is for prompts seen before, once it is full."
    if options.cache_ram == -1:
        yield "Prompts seen before may fill all system memory (--cache-ram -1); nothing of it is counted."
    if options.cache_ram is None and options.build.has("prompt_cache") and not architecture_of(ask).embeds:
        kept = load("runtimes.llamacpp", "llamacpp_overhead")["prompt_cache_mib"] * MIB
        room = budgets_of(ask.machine)[0].ram
        if room is not None and runtime.footprint(ask).host.total.best + kept > room.best:
            yield (
                f"llama-server keeps prompts seen before in system memory, in time up to {format_gib(kept)}: more than "
                "is left here, and not counted; --cache-ram 1024 keeps less, 0 none."
            )


def _on_cards(ask: Ask, options: LlamaOptions) -> Iterator[str]:
    cards = len(ask.machine.gpus)
    if options.workers:
        yield (
            f"{len(options.workers)} of the cards are in other machines: tokens a second hang on the network between "
            "them, of which nothing is known."
        )
    if options.shares_matrices and cards > 1:
        yield (
            f"All cards work on each layer (--split-mode {options.split_mode}): tokens a second hang on the link "
            "between them and are not modelled; --split-mode layer says those without it."
        )
    if len({gpu.card.vendor for gpu in ask.machine.gpus[len(options.workers) :]}) > 1:
        yield (
            "Cards of several makers need one build for all of them, as Vulkan's is; tokens a second are those of each "
            "maker's own."
        )
    if cards > 1 and options.split_mode == "layer":
        yield f"Split over all {cards} cards; the one that is shortest is shown."


def _on_bandwidth(ask: Ask, wanted: Wanted, duration: Duration | None) -> Iterator[str]:
    bandwidth = bandwidth_of(ask.placement)
    if wanted.has("ram_speed") and bandwidth is not None:
        yield f"System memory is read at {bandwidth / GIGA:.1f} GB/s: its transfers × its channels of 64 bits."
    reads_host = duration is not None and duration.seconds is not None and duration.amount("host")
    if reads_host and bandwidth is None:
        kind = "servers" if host_of(ask).server else "desktops"
        yield f"The host's memory bandwidth was not given; a wide range for {kind} stands in (--host-bandwidth)."


def _drafted(ask: Ask, options: LlamaOptions, duration: Duration | None) -> list[str]:
    """What a second model does to the tokens a second."""
    draft = draft_among(ask.tier.companions)
    rate = None if duration is None else dict(duration.rates).get(GENERATION)
    if draft is None or rate is None or not options.drafted:
        return []
    return [
        f"{draft.name} {draft.kind} drafts {options.drafted} tokens ahead: {rate.low:.3g} tokens a second where none "
        f"is accepted, {rate.high:.3g} where all are. How many are depends on the text; the value between is the one "
        "without drafting."
    ]


def _longest_words(runtime: Runtime, ask: Ask, limit: int | None) -> str:
    context = ask.workload.context
    if level_of(runtime, ask, runtime.footprint(ask)).verdict is not Verdict.FITS:
        return f"No context of {LEAST_CONTEXT} tokens or more fits; {context} were looked at."
    words = ", the length it was trained on" if limit is not None and limit - context < CONTEXT_STEP else ""
    return f"The longest context that fits with this cache: {context} tokens{words}."


def _drafting_takes(ask: Ask, options: LlamaOptions) -> str | None:
    """What drafting with the model's own layers would take besides; ``None`` where it has none, or does."""
    architecture = architecture_of(ask)
    if options.speculative or not any(block.prediction for block in architecture.blocks):
        return None
    drafting = placement_of(options.with_(speculative=MTP), architecture.layers, bandwidth_of(ask.placement))
    try:
        with_, without = estimate_of(replace(ask, placement=drafting)), estimate_of(ask)
    except InputError:  # a layer that is not the usual one
        return None
    cards = zip(with_.card_totals, without.card_totals, strict=True)
    return format_gib(sum(more.best - less.best for more, less in cards) + with_.host.total - without.host.total)

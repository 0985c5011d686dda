"""The check of a language model under llama.cpp: every tier in its best placement, alternatives, what would help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fitcheck.errors import InputError
from fitcheck.hardware.budget import budget
from fitcheck.hardware.machine import Budget, Machine
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.llamacpp import Build, LlamaOptions, parse_build
from fitcheck.runtimes.llamacpp.proposals import (
    CACHE_TYPES,
    UNQUANTIZED,
    WORTH,
    Proposal,
    assess,
    budgets_of,
    command,
    judge_cards,
    propose,
)
from fitcheck.runtimes.llamacpp.seconds import TokenSpeed
from fitcheck.runtimes.sensenova.commands import convert
from fitcheck.units import GIB, Interval
from fitcheck.verdict.cells import RAM_SIZES, VRAM_SIZES
from fitcheck.verdict.judge import Constraint, Verdict
from fitcheck.verdict.report import AnswerDuration, Cell, Evidence, Flip, Report, unjudged

# llama-bench's own defaults of -p and -n, so that seconds can be compared with what people post
PROMPT_TOKENS, NEW_TOKENS = 512, 128
USUAL_CONTEXT, LEAST_CONTEXT = 8192, 2048
MOST_CONTEXT = 1 << 27
# Tokens per second above which quality matters more than speed to someone who reads along: twice the pace of silent
# reading, 238 words a minute (Brysbaert 2019) at about 1.3 tokens a word.
READING_SPEED = 10.0
# Bits a weight above which no difference in quality is known to matter: Q8_0.
ENOUGH_BITS = 8.5


@dataclass(frozen=True, slots=True)
class TextRequest:
    """What a user asked of a language model; ``None`` leaves the choice to fitcheck or to llama.cpp.

    ``cache_types`` are those of K and V, ``host_bandwidth`` is in B/s.
    """

    context: int | None = None
    gpu_layers: int | None = None
    cpu_moe_layers: int | None = None
    cache_types: tuple[str, str] | None = None
    micro_batch: int | None = None
    sequences: int | None = None
    build: Build | None = None
    host_bandwidth: float | None = None
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    flash_attention: bool | None = None

    def options(self, architecture: LanguageArchitecture) -> LlamaOptions:
        """llama.cpp's options as far as they were asked. Raises InputError for what cannot be."""
        keys, values = self.cache_types or ("f16", "f16")
        return LlamaOptions(
            context=self.context_of(architecture),
            gpu_layers=self.gpu_layers,
            cpu_moe_layers=self.cpu_moe_layers or 0,
            cache_type_k=keys,
            cache_type_v=values,
            micro_batch=512 if self.micro_batch is None else self.micro_batch,
            sequences=self.sequences,
            build=self.build or parse_build(None),
            flash_attention=self.flash_attention,
        )

    def context_of(self, architecture: LanguageArchitecture) -> int:
        if self.context is not None:
            if not 1 <= self.context <= MOST_CONTEXT:
                raise InputError(f"--ctx: {self.context} is out of range; give 1 to {MOST_CONTEXT}.")
            return self.context
        return min(architecture.context_length or USUAL_CONTEXT, USUAL_CONTEXT)

    def workload(self, context: int) -> Workload:
        """The answer that seconds are given for. Raises InputError when the context cannot hold it."""
        prompt = self.prompt_tokens if self.prompt_tokens is not None else min(PROMPT_TOKENS, max(context // 2, 1))
        new = self.new_tokens if self.new_tokens is not None else min(NEW_TOKENS, max(context - prompt, 1))
        for flag, count in (("--prompt-tokens", prompt), ("--new-tokens", new)):
            if count < 1:
                raise InputError(f"{flag}: {count} is out of range; give at least 1.")
        if prompt + new > max(context, 2):
            raise InputError(
                f"--ctx: {context} tokens cannot hold a prompt of {prompt} and an answer of {new}; give at least "
                f"{prompt + new}."
            )
        return Workload(task=Task.CHAT, prompt_tokens=prompt, new_tokens=new, context=context)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One tier with everything that its cells depend on."""

    model: Model
    tier: Tier
    architecture: LanguageArchitecture
    machine: Machine
    request: TextRequest
    workload: Workload

    @property
    def options(self) -> LlamaOptions:
        return self.request.options(self.architecture)

    @property
    def depth(self) -> int:
        """Tokens in the cache half way through the answer."""
        return (self.workload.prompt_tokens or 0) + self.workload.new_tokens // 2

    @property
    def cache_types(self) -> tuple[tuple[str, str], ...]:
        return (self.request.cache_types,) if self.request.cache_types else CACHE_TYPES

    def proposals(self, options: LlamaOptions, cache_types: Sequence[tuple[str, str]]) -> tuple[Proposal, ...]:
        return propose(
            self.architecture, self.tier, self.machine, options,
            cache_types=cache_types, host_bandwidth=self.request.host_bandwidth, depth=self.depth,
        )  # fmt: skip

    def assess(self, options: LlamaOptions, machine: Machine | None = None) -> Proposal:
        return assess(
            self.architecture, self.tier, machine or self.machine, options,
            host_bandwidth=self.request.host_bandwidth, depth=self.depth,
        )  # fmt: skip


def check_language(
    model: Model,
    machine: Machine,
    request: TextRequest | None = None,
    *,
    tiers: Sequence[Tier] | None = None,
    architectures: Mapping[str, LanguageArchitecture] | None = None,
) -> Report:
    """Judge a language model: of several tiers the best placement each, of a single one its alternatives too.

    ``architectures`` are the tiers' own shapes by tier name, where a repository holds more than one model. Raises
    InputError when the model is not a language model, nothing is left to check or a size cannot be.
    """
    request = request or TextRequest()
    if not isinstance(model.architecture, LanguageArchitecture):
        raise InputError(f"model: {model.name} is not a language model, so llama.cpp cannot place it.")
    chosen = tuple(model.tiers if tiers is None else tiers)
    if not chosen:
        raise InputError(f"nothing to check: {model.name} has no tier left; drop --tier.")
    cells = []
    for tier in chosen:
        architecture = (architectures or {}).get(tier.name, model.architecture)
        workload = request.workload(request.context_of(architecture))
        asked = _Asked(model, tier, architecture, machine, request, workload)
        proposals = _alternatives(asked) if len(chosen) == 1 else [_best(asked)]
        cells += [_cell(asked, proposal) for proposal in proposals]
    wanted = max(cell.workload.context for cell in cells)
    cells.sort(key=lambda cell: _rank(cell, wanted))
    return Report(
        model, machine, budget(machine), cells[0].workload, tuple(cells), _notes(model, machine, request, cells)
    )


def _best(asked: _Asked) -> Proposal:
    return asked.proposals(asked.options, asked.cache_types)[0]


def _alternatives(asked: _Asked) -> list[Proposal]:
    """The best placement, then others that someone might prefer: all on the card, a smaller cache, less context."""
    found = list(asked.proposals(asked.options, asked.cache_types))
    if asked.request.gpu_layers is not None:
        return found
    best = found[0]
    if best.judgement.verdict is not Verdict.FITS or best.result.host.layers or best.options.cpu_moe_layers:
        shorter = _shorter(asked)
        if shorter is not None:
            found.append(shorter)
    kept: list[Proposal] = []
    for proposal in found:
        same = [one for one in kept if _place(one) == _place(proposal)]
        # a smaller cache in the same placement only matters where the larger one does not fit
        if all(proposal.judgement.verdict.rank < one.judgement.verdict.rank for one in same):
            kept.append(proposal)
    return kept


def _place(proposal: Proposal) -> tuple[object, ...]:
    options = proposal.options
    return options.gpu_layers, options.cpu_moe_layers, options.context


def _shorter(asked: _Asked) -> Proposal | None:
    """The longest context, of halves of halves, with which everything fits the cards; None when none does."""
    context = asked.workload.context // 2
    while context >= max(LEAST_CONTEXT, (asked.workload.prompt_tokens or 0) + asked.workload.new_tokens):
        options = asked.options.with_(context=context)
        proposal = asked.assess(options)
        if proposal.judgement.verdict is Verdict.FITS:
            return proposal
        context //= 2
    return None


def _rank(cell: Cell, wanted: int) -> tuple[object, ...]:
    """Best first: verdict, the context asked, readable speed, quality, then speed."""
    rate = cell.speed.generation.best if cell.speed is not None and cell.speed.generation is not None else 0.0
    table = cell.tier.tensors
    bits = 8 * table.nbytes / max(table.elements, 1)
    options = None if cell.buffers is None else cell.buffers.options
    loss = WORTH if options is not None and options.cache_type_k not in UNQUANTIZED else 1.0
    return (
        cell.verdict.rank,
        cell.workload.context < wanted,
        -min(rate, READING_SPEED),
        -min(bits, ENOUGH_BITS),
        -rate / loss,
        cell.footprint.card.best,
    )


def _cell(asked: _Asked, proposal: Proposal) -> Cell:
    workload = asked.workload.with_(context=proposal.options.context)
    run = (command(asked.tier, proposal.options, asked.architecture),)
    return Cell(
        tier=asked.tier,
        placement=proposal.placement,
        workload=workload,
        footprint=proposal.footprint,
        duration=duration_of(proposal.speed, workload),
        judgement=proposal.judgement,
        evidence=Evidence(),
        flip=smallest_change(asked, proposal),
        commands=run if asked.tier.published else (*convert(asked.model, asked.tier), *run),
        assumptions=proposal.footprint.assumptions,
        speed=proposal.speed,
        buffers=proposal.result,
    )


def duration_of(speed: TokenSpeed, workload: Workload) -> AnswerDuration | None:
    """Seconds of the asked answer; ``None`` where one of the two rates is unknown."""
    if speed.prompt is None or speed.generation is None:
        return None
    prompt, new = workload.prompt_tokens or 0, workload.new_tokens
    ends = [
        prompt / getattr(speed.prompt, end) + new / getattr(speed.generation, end) for end in ("high", "best", "low")
    ]
    return AnswerDuration(
        Interval(*ends),
        prompt / speed.prompt.best,
        new / speed.generation.best,
        f"reading weights from {speed.binding}",
    )


def smallest_change(asked: _Asked, proposal: Proposal) -> Flip | None:
    """The first single change, free ones before bought ones, that gives a better verdict; ``None`` when none does."""
    now = proposal.judgement
    if now.verdict is Verdict.FITS or now.binding in (Constraint.MODEL, Constraint.RUNTIME):
        return None
    if now.binding is Constraint.DISK:
        short = now.margin(Constraint.DISK)
        return Flip(f"{-(-(-short.left if short else 0) // 10**9)} GB more free disk", Verdict.FITS)
    for words, verdict in (*_free_changes(asked, proposal), *_bought_changes(asked, proposal)):
        if verdict.rank < now.verdict.rank:
            return Flip(words, verdict)
    return None


def _free_changes(asked: _Asked, proposal: Proposal) -> Iterator[tuple[str, Verdict]]:
    options = proposal.options
    if asked.request.cache_types is None and options.cache_type_k in UNQUANTIZED and options.flash:
        smaller = asked.assess(options.with_(cache_type_k="q8_0", cache_type_v="q8_0"))
        yield "--cache-type q8_0", smaller.judgement.verdict
    for other in asked.proposals(options.with_(gpu_layers=None, cpu_moe_layers=0), asked.cache_types[:1])[:1]:
        yield other.placement.mode, other.judgement.verdict
    context = options.context // 2
    while context >= LEAST_CONTEXT:
        yield f"--ctx {context}", asked.assess(options.with_(context=context)).judgement.verdict
        context //= 2
    gpu = asked.machine.gpus[0]
    if gpu.display is not False and gpu.vram_free is None and gpu.vram_override is None and not gpu.card.unified_memory:
        headless = replace(asked.machine, gpus=(replace(gpu, display=False), *asked.machine.gpus[1:]))
        yield "run without a display on this card", asked.assess(options, headless).judgement.verdict
    size = asked.tier.tensors.nbytes
    for tier in sorted(asked.model.tiers, key=lambda tier: -tier.tensors.nbytes):
        if tier.tensors.nbytes < size:
            changed = _best(replace(asked, tier=tier))
            yield f"tier {tier.name}", changed.judgement.verdict


def _bought_changes(asked: _Asked, proposal: Proposal) -> Iterator[tuple[str, Verdict]]:
    """More memory in the next sizes that are sold; the same buffers against larger budgets."""
    machine, have = asked.machine, budgets_of(asked.tier, asked.machine)

    def verdict(budgets: list[Budget]) -> Verdict:
        return judge_cards(proposal.result, budgets, machine, proposal.placement)[1].verdict

    if machine.ram_total is not None:
        for size in (size for size in RAM_SIZES if size > machine.ram_total):
            larger = budget(replace(machine, ram_total=size, ram_available=None)).ram
            yield f"{size // GIB} GB of system memory", verdict([replace(one, ram=larger) for one in have])
    total = machine.gpus[0].vram_total
    if len(have) > 1 or not total or machine.gpus[0].card.unified_memory:
        return
    for size in (size for size in VRAM_SIZES if size > total):
        vram = have[0].vram
        scaled = Interval(*(round(value * size / total) for value in (vram.low, vram.best, vram.high)))
        yield f"a card with {size // GIB} GB", verdict([replace(have[0], vram=scaled)])


def _notes(model: Model, machine: Machine, request: TextRequest, cells: Sequence[Cell]) -> tuple[str, ...]:
    notes = [*model.notes, *unjudged(machine)]
    architecture = model.architecture
    assert isinstance(architecture, LanguageArchitecture)
    limit = architecture.context_length
    if request.context is None:
        trained = f"; it was trained on {limit}" if limit else ""
        notes.append(f"A context of {cells[0].workload.context} tokens was taken; --ctx asks for another{trained}.")
    elif limit is not None and request.context > limit:
        notes.append(f"The model was trained on contexts of {limit} tokens; beyond that its answers get worse.")
    if len(machine.gpus) > 1:
        notes.append(f"Split over all {len(machine.gpus)} cards; the one that is shortest is shown.")
    best = cells[0]
    if best.duration is None:
        notes.append("Seconds are unknown because the card's matrix rate, its bandwidth or the link is not known.")
    elif request.host_bandwidth is None and best.speed is not None and best.speed.host_bytes_per_token:
        notes.append(
            "The host's memory bandwidth was not given; a wide range for desktops stands in (--host-bandwidth)."
        )
    return tuple(notes)

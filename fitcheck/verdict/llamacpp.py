"""Language models under llama.cpp on a machine: the best placement of each tier, judged, timed and as a command.

``propose`` looks for what a person would tune by hand: all layers on the cards if they fit; else, for mixtures of
experts, as few layers of experts on the host as needed; else as many layers on the cards as fit; else the host alone.
Every candidate is judged with llama.cpp's own memory layout, and the fastest one that fits leads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fitcheck.errors import InputError
from fitcheck.hardware.budget import budget
from fitcheck.hardware.machine import Budget, Machine
from fitcheck.memory.llamacpp import LlamaEstimate, LlamaOptions, estimate
from fitcheck.memory.placement import Placement
from fitcheck.models.language import LanguageArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.speed.llamacpp import LlamaCalibration, TokenSpeed, token_speed
from fitcheck.speed.sensenova import Duration
from fitcheck.units import Interval
from fitcheck.verdict.judge import Constraint, Judgement, Margin, Verdict
from fitcheck.verdict.report import Cell, Evidence, Flip, Report

# a cache type is only worth its loss when it buys this much speed or a better verdict
WORTH = 1.05
PROMPT_TOKENS = 512
NEW_TOKENS = 256


@dataclass(frozen=True)
class Proposal:
    """One way to run a tier: options, what they take and give, and whether that fits."""

    options: LlamaOptions
    result: LlamaEstimate
    speed: TokenSpeed
    judgement: Judgement

    @property
    def rate(self) -> float:
        return self.speed.generation.best if self.speed.generation else 0.0


@dataclass(frozen=True, slots=True)
class LlamaCell(Cell):
    """A cell with what only language models have: tokens per second and memory by device."""

    speed: TokenSpeed | None = None
    result: LlamaEstimate | None = None


def propose(
    architecture: LanguageArchitecture,
    tier: Tier,
    machine: Machine,
    options: LlamaOptions | None = None,
    *,
    cache_types: Sequence[str] = ("f16", "q8_0"),
    host_bandwidth: float | None = None,
    calibration: LlamaCalibration | None = None,
) -> tuple[Proposal, ...]:
    """Ways to run ``tier`` on ``machine``, best first; never empty. ``options`` holds what is not up for choice.

    Raises InputError for options that cannot be.
    """
    wanted = options or LlamaOptions()
    budgets = [budget(machine, index) for index in range(len(machine.gpus))]

    def judged(candidate: LlamaOptions) -> Proposal:
        free = [have.vram.best for have in budgets]
        result = estimate(architecture, tier.tensors, candidate, vram=free, disk=tier.disk_bytes or None)
        speed = token_speed(
            architecture, tier.tensors, result, machine.gpus, host_bandwidth=host_bandwidth, calibration=calibration
        )
        return Proposal(candidate, result, speed, _judge(result, budgets, machine))

    found = []
    for name in cache_types:
        quantized = name not in ("f16", "bf16", "f32")
        if quantized and not wanted.flash:
            continue
        kept = wanted.with_(cache_type_k=name, cache_type_v=name)
        found += list(_placements(architecture, kept, bool(budgets), judged))
    first = cache_types[0]

    def key(proposal: Proposal) -> tuple[int, float]:
        loss = 1.0 if proposal.options.cache_type_k == first else WORTH
        return proposal.judgement.verdict.rank, -proposal.rate / loss

    return tuple(sorted(found, key=key))


def _placements(
    architecture: LanguageArchitecture, options: LlamaOptions, cards: bool, judged: Callable[[LlamaOptions], Proposal]
) -> Iterator[Proposal]:
    """All on the cards, experts on the host, layers on the host, host alone: only what is needed of it."""
    everything = architecture.layers + 1
    if cards:
        full = judged(options.with_(gpu_layers=everything))
        yield full
        if full.judgement.verdict is Verdict.FITS:
            return
        if architecture.experts:
            experts = _smallest(
                architecture.layers,
                lambda count: judged(options.with_(gpu_layers=everything, cpu_moe_layers=count)),
            )
            if experts is not None:
                yield experts
        layers = _smallest(everything, lambda count: judged(options.with_(gpu_layers=everything - count)))
        if layers is not None:
            yield layers
    yield judged(options.with_(gpu_layers=0))


def _smallest(most: int, judged: Callable[[int], Proposal]) -> Proposal | None:
    """The smallest number of layers moved to the host with which the cards are not short, by bisection."""

    def cards_fit(proposal: Proposal) -> bool:
        margin = proposal.judgement.margin(Constraint.VRAM)
        return margin is None or margin.verdict is Verdict.FITS

    best = judged(most)
    if not cards_fit(best):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        proposal = judged(middle)
        if cards_fit(proposal):
            high, best = middle, proposal
        else:
            low = middle
    return best


def _judge(result: LlamaEstimate, budgets: Sequence[Budget], machine: Machine) -> Judgement:
    margins = []
    for total, have in zip(result.card_totals, budgets, strict=True):
        if total.best <= have.vram.low:
            verdict = Verdict.FITS
        elif total.low <= have.vram.best:
            verdict = Verdict.TIGHT
        else:
            verdict = Verdict.NO
        margins.append(Margin(Constraint.VRAM, total.best, have.vram.best, verdict))
    # one margin a resource: the card that is shortest speaks for all
    margins = sorted(margins, key=lambda margin: (-margin.verdict.rank, margin.left))[:1]
    host, ram = result.footprint.host.total, budgets[0].ram if budgets else None
    if ram is not None:
        # a mapped file larger than memory would still start, and read the disk at every token: that is no fit
        fits = host.best <= ram.low
        verdict = Verdict.FITS if fits else Verdict.TIGHT if host.best <= ram.best else Verdict.NO
        margins.append(Margin(Constraint.RAM, host.best, ram.best, verdict))
    if machine.disk_free is not None:
        enough = Verdict.FITS if result.disk <= machine.disk_free else Verdict.NO
        margins.append(Margin(Constraint.DISK, result.disk, machine.disk_free, enough))
    if not margins:
        return Judgement(Verdict.UNKNOWN, Constraint.RAM, "Neither a card nor the system memory is known.", ())
    worst = max(margins, key=lambda margin: (margin.verdict.rank, -margin.left / max(margin.need, 1)))
    if result.assumptions and worst.verdict is Verdict.FITS and _unsure(result):
        return Judgement(Verdict.TIGHT, worst.constraint, f"{result.assumptions[0]}.", tuple(margins))
    return Judgement(worst.verdict, worst.constraint, _reason(worst), tuple(margins))


def _unsure(result: LlamaEstimate) -> bool:
    return any("not one this version knows" in text for text in result.assumptions)


def _reason(margin: Margin) -> str:
    need, have = margin.need / (1 << 30), margin.available / (1 << 30)
    if margin.verdict is Verdict.FITS:
        return f"{margin.constraint}: {need:.1f} of {have:.1f} GiB."
    short = "is close to" if margin.verdict is Verdict.TIGHT else "is more than"
    return f"{margin.constraint}: {need:.1f} GiB {short} the {have:.1f} GiB there are."


def command(tier: Tier, options: LlamaOptions, architecture: LanguageArchitecture) -> str:
    """The ``llama-server`` command line that means the same as ``options``."""
    file = tier.local_path or tier.file or f"{tier.name}.gguf"
    source = f"-m {_quoted(file)}"
    if tier.local_path is None and tier.repository and tier.file:
        source = f"--hf-repo {_quoted(tier.repository)} --hf-file {_quoted(tier.file)}"
    parts = ["llama-server", source, f"-c {options.context}"]
    layers = options.gpu_layers
    parts.append("-ngl 99" if layers is None or layers > architecture.layers else f"-ngl {layers}")
    if options.cpu_moe_layers:
        everything = options.cpu_moe_layers >= architecture.layers
        parts.append("--cpu-moe" if everything else f"--n-cpu-moe {options.cpu_moe_layers}")
    if options.flash_attention is not None or options.cache_type_v != "f16":
        parts.append("-fa on" if options.flash else "-fa off")
    if options.cache_type_k != "f16":
        parts.append(f"-ctk {options.cache_type_k}")
    if options.cache_type_v != "f16":
        parts.append(f"-ctv {options.cache_type_v}")
    if options.micro_batch != 512:
        parts.append(f"-ub {options.micro_batch}")
    if options.batch != 2048:
        parts.append(f"-b {options.batch}")
    if options.sequences is not None:
        parts.append(f"-np {options.sequences}")
    if any(options.tensor_split):
        parts.append("-ts " + ",".join(f"{share:g}" for share in options.tensor_split))
    if options.full_sliding_cache:
        parts.append("--swa-full")
    if options.cache_on_host:
        parts.append("--no-kv-offload")
    if not options.mmap:
        parts.append("--no-mmap")
    if options.mlock:
        parts.append("--mlock")
    return " ".join(parts)


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def check_llamacpp(
    model: Model,
    machine: Machine,
    options: LlamaOptions | None = None,
    *,
    tiers: Sequence[Tier] | None = None,
    prompt_tokens: int | None = None,
    new_tokens: int | None = None,
    cache_types: Sequence[str] = ("f16", "q8_0"),
    host_bandwidth: float | None = None,
    calibration: LlamaCalibration | None = None,
) -> Report:
    """Every tier of a language model in its best placement and the ones beside it, best first.

    Raises InputError when the model is not a language model or nothing is left to check.
    """
    architecture = model.architecture
    if not isinstance(architecture, LanguageArchitecture):
        raise InputError(f"model: {model.name} is not a language model, so llama.cpp cannot place it.")
    chosen = tuple(tiers if tiers is not None else model.tiers)
    if not chosen:
        raise InputError(f"nothing to check: {model.name} has no tier left; drop --tier.")
    wanted = options or LlamaOptions(context=min(architecture.context_length or 8192, 8192))
    workload = Workload(
        task=Task.CHAT,
        prompt_tokens=prompt_tokens or PROMPT_TOKENS,
        new_tokens=new_tokens or NEW_TOKENS,
        context=wanted.context,
    )
    cells = []
    for tier in chosen:
        proposals = propose(
            architecture, tier, machine, wanted,
            cache_types=cache_types, host_bandwidth=host_bandwidth, calibration=calibration,
        )  # fmt: skip
        cells += [_cell(architecture, tier, workload, proposal, calibration) for proposal in proposals]
    cells.sort(key=_order)
    have = budget(machine, 0)
    return Report(model, machine, have, workload, tuple(cells), _notes(machine, architecture))


def _cell(
    architecture: LanguageArchitecture,
    tier: Tier,
    workload: Workload,
    proposal: Proposal,
    calibration: LlamaCalibration | None,
) -> LlamaCell:
    evidence = Evidence()
    if calibration is not None and calibration.records:
        evidence = Evidence("calibrated", calibration.records, f"{calibration.records} llama.cpp records of this card")
    options = proposal.options
    line = command(tier, options, architecture)
    mode = " ".join(part for part in _words(options, architecture))
    return LlamaCell(
        tier=tier,
        placement=Placement("llama.cpp", str(options.build), mode),
        workload=workload,
        footprint=proposal.result.footprint,
        duration=_duration(proposal.speed, workload),
        judgement=proposal.judgement,
        evidence=evidence,
        flip=_flip(proposal),
        commands=(line,),
        assumptions=proposal.result.assumptions,
        speed=proposal.speed,
        result=proposal.result,
    )


def _words(options: LlamaOptions, architecture: LanguageArchitecture) -> Iterator[str]:
    layers = options.gpu_layers
    yield "-ngl 99" if layers is None or layers > architecture.layers else f"-ngl {layers}"
    if options.cpu_moe_layers:
        yield f"--n-cpu-moe {min(options.cpu_moe_layers, architecture.layers)}"
    if options.cache_type_k != "f16":
        yield f"-ctk {options.cache_type_k}"


def _duration(speed: TokenSpeed, workload: Workload) -> Duration | None:
    """Seconds of a prompt and an answer, when both rates are known."""
    if speed.prompt is None or speed.generation is None:
        return None
    prompt, new = workload.prompt_tokens or PROMPT_TOKENS, workload.new_tokens

    def total(prompt_rate: float, new_rate: float) -> float:
        return prompt / prompt_rate + new / new_rate

    seconds = Interval(
        total(speed.prompt.high, speed.generation.high),
        total(speed.prompt.best, speed.generation.best),
        total(speed.prompt.low, speed.generation.low),
    )
    share = speed.host_bytes_per_token / max(speed.host_bytes_per_token + speed.card_bytes_per_token, 1)
    return Duration(seconds, seconds.best * (1 - share), 0.0, seconds.best * share, speed.host_bytes_per_token * new)


def _flip(proposal: Proposal) -> Flip | None:
    """The smallest amount of the binding resource that would make the cell fit."""
    judgement = proposal.judgement
    margin = judgement.margin(judgement.binding)
    if judgement.verdict is Verdict.FITS or margin is None or margin.left >= 0:
        return None
    missing = 1 + (-margin.left - 1) // (1 << 30)
    return Flip(f"{missing} GiB more of {judgement.binding}", Verdict.FITS)


def _order(cell: LlamaCell) -> tuple[int, float, float]:
    """By verdict; then whole-card speed against quality: bits decide where generation is fast enough to read along."""
    rate = cell.speed.generation.best if cell.speed and cell.speed.generation else 0.0
    bits = 8 * cell.tier.tensors.nbytes / max(cell.tier.tensors.elements, 1)
    readable = min(rate, READING_SPEED)
    return cell.verdict.rank, -readable, -bits if rate >= READING_SPEED else -rate


# tokens per second above which more speed matters less than quality to someone reading the answer
READING_SPEED = 15.0


def _notes(machine: Machine, architecture: LanguageArchitecture) -> tuple[str, ...]:
    notes = list(architecture.unknown)
    if machine.ram_total is None and machine.ram_available is None:
        notes.append("System memory is not judged because it is unknown; give --ram to include it.")
    if machine.disk_free is None:
        notes.append("Disk space is not judged because it is unknown; give --disk to include it.")
    return tuple(notes)

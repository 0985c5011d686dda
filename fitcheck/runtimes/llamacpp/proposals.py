"""Where llama.cpp should put a language model on a machine: placements that are judged, timed and said as a command.

``propose`` looks for what a person would tune by hand: all layers on the cards if they fit; else, for mixtures of
experts, as few layers of experts on the host as needed; else as many layers on the cards as fit; else the host alone.
Every candidate is judged with llama.cpp's own memory layout, and the fastest one that fits leads.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from fitcheck.hardware.budget import budget
from fitcheck.hardware.machine import Budget, Machine
from fitcheck.memory.footprint import Footprint, Phase
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.model import Tier
from fitcheck.runtimes.llamacpp import LlamaEstimate, LlamaOptions
from fitcheck.runtimes.llamacpp import buffers as estimate
from fitcheck.runtimes.llamacpp.seconds import LlamaCalibration, TokenSpeed, token_speed
from fitcheck.units import Interval
from fitcheck.verdict.judge import Constraint, Judgement, Verdict, judge

# a cache type is only worth its loss when it buys this much speed or a better verdict
WORTH = 1.05
UNQUANTIZED = ("f16", "bf16", "f32")
CACHE_TYPES = (("f16", "f16"), ("q8_0", "q8_0"))  # of K and V
ALL_LAYERS = 99  # what people write for "all of them"; llama.cpp takes any number that is large enough


@dataclass(frozen=True)
class LlamaPlacement:
    """Where llama.cpp's options put a model of ``layers`` layers, in the terms that every report uses."""

    options: LlamaOptions
    layers: int

    @property
    def runtime(self) -> str:
        return "llama.cpp"

    @property
    def revision(self) -> str:
        build = self.options.build
        return build.day.isoformat() if build.text == "newest" else str(build)

    @property
    def mode(self) -> str:
        """``"ngl 99, n-cpu-moe 12, cache q8_0"``: what differs from llama.cpp's own defaults."""
        options = self.options
        parts = [f"ngl {gpu_layers_flag(options, self.layers)}"]
        if options.cpu_moe_layers:
            parts.append(f"n-cpu-moe {min(options.cpu_moe_layers, self.layers)}")
        if options.cache_type_k == options.cache_type_v != "f16":
            parts.append(f"cache {options.cache_type_k}")
        elif options.cache_type_k != options.cache_type_v:
            parts.append(f"cache {options.cache_type_k}/{options.cache_type_v}")
        return ", ".join(parts)

    @property
    def policy(self) -> str:
        return "mlock" if self.options.mlock else "mmap" if self.options.mmap else "no-mmap"


def gpu_layers_flag(options: LlamaOptions, layers: int) -> int:
    """The number after ``-ngl``; the output counts as one layer more."""
    if options.gpu_layers is None or options.gpu_layers > layers:
        return ALL_LAYERS if layers < ALL_LAYERS else 999 if layers < 999 else layers + 1
    return options.gpu_layers


@dataclass(frozen=True)
class Proposal:
    """One way to run a tier: options, what they take and give, and whether that fits."""

    placement: LlamaPlacement
    result: LlamaEstimate
    speed: TokenSpeed
    judgement: Judgement
    footprint: Footprint

    @property
    def options(self) -> LlamaOptions:
        return self.placement.options

    @property
    def rate(self) -> float:
        return self.speed.generation.best if self.speed.generation else 0.0


def assess(
    architecture: LanguageArchitecture,
    tier: Tier,
    machine: Machine,
    options: LlamaOptions,
    *,
    host_bandwidth: float | None = None,
    calibration: LlamaCalibration | None = None,
    depth: int | None = None,
    budgets: Sequence[Budget] | None = None,
) -> Proposal:
    """Exactly these ``options`` on all cards of ``machine``. ``depth`` is how many tokens the context holds already.

    ``budgets`` stand in for the machine's own. Raises InputError for options that cannot be.
    """
    have = budgets_of(tier, machine) if budgets is None else budgets
    free = [one.vram.best for one in have]
    result = estimate(architecture, tier.tensors, options, vram=free, disk=tier.disk_bytes or None)
    speed = token_speed(
        architecture, tier.tensors, result, machine.gpus, depth, host_bandwidth=host_bandwidth, calibration=calibration
    )
    placement = LlamaPlacement(options, architecture.layers)
    footprint, judgement = judge_cards(result, have, machine, placement)
    if architecture.unknown and not (judgement.verdict is Verdict.NO and _weights_alone_too_much(result, have)):
        judgement = Judgement(Verdict.UNKNOWN, Constraint.MODEL, _sentence(architecture.unknown[0]), judgement.margins)
    return Proposal(placement, result, speed, judgement, footprint)


def _weights_alone_too_much(result: LlamaEstimate, budgets: Sequence[Budget]) -> bool:
    """Whether not even the weights fit: the one thing that is sure of an architecture that is not known."""
    on_cards = any(card.weights > have.vram.high for card, have in zip(result.cards, budgets, strict=True))
    ram = budgets[0].ram
    return on_cards or (ram is not None and result.host_weights_used > ram.high)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def budgets_of(tier: Tier, machine: Machine) -> list[Budget]:
    """What each card has to give. A file that lies here already needs no more disk."""
    found = [budget(machine, index) for index in range(len(machine.gpus))]
    return found if tier.local_path is None else [replace(one, disk=None) for one in found]


def judge_cards(
    result: LlamaEstimate, budgets: Sequence[Budget], machine: Machine, placement: LlamaPlacement
) -> tuple[Footprint, Judgement]:
    """The footprint and the judgement of the card that is shortest: it speaks for all."""
    found = []
    for index, (gpu, have) in enumerate(zip(machine.gpus, budgets, strict=True)):
        footprint = _footprint_on(result, index, pooled=gpu.card.unified_memory)
        found.append((footprint, judge(footprint, have, gpu.card, placement)))

    def shortness(pair: tuple[Footprint, Judgement]) -> tuple[int, float]:
        margin = pair[1].margin(Constraint.VRAM)
        return pair[1].verdict.rank, 0.0 if margin is None else -margin.left / max(margin.need, 1)

    return max(found, key=shortness)


def _footprint_on(result: LlamaEstimate, index: int, *, pooled: bool) -> Footprint:
    """The run as card ``index`` sees it. ``pooled``: host and card share one memory, so the host holds both."""
    card, total, whole = result.cards[index], result.card_totals[index], result.footprint
    cache = card.kv_cache + card.recurrent
    phases = (
        Phase("load", card.weights, 0, 0, 0, 0),
        Phase("prefill", card.weights, 0, cache, card.compute, 0),
        Phase("decode", card.weights, 0, cache, card.compute, 0),
    )
    buffers = Interval.exactly(card.total)
    host = replace(whole.host, total=whole.host.total + total) if pooled else whole.host
    return replace(whole, phases=phases, allocated=buffers, reserved=buffers, card=total, required=total, host=host)


def propose(
    architecture: LanguageArchitecture,
    tier: Tier,
    machine: Machine,
    options: LlamaOptions | None = None,
    *,
    cache_types: Sequence[tuple[str, str]] = CACHE_TYPES,
    host_bandwidth: float | None = None,
    calibration: LlamaCalibration | None = None,
    depth: int | None = None,
) -> tuple[Proposal, ...]:
    """Ways to run ``tier`` on ``machine``, best first; never empty. ``options`` holds what is not up for choice: set
    ``gpu_layers`` or ``cpu_moe_layers`` stay as they are. ``cache_types`` are pairs for K and V, the first preferred.

    Raises InputError for options that cannot be.
    """
    wanted = options or LlamaOptions()
    budgets = budgets_of(tier, machine)

    def judged(candidate: LlamaOptions) -> Proposal:
        return assess(
            architecture, tier, machine, candidate,
            host_bandwidth=host_bandwidth, calibration=calibration, depth=depth, budgets=budgets,
        )  # fmt: skip

    found = []
    for keys, values in cache_types:
        if values not in UNQUANTIZED and not wanted.flash:
            continue
        found += list(_placements(architecture, wanted.with_(cache_type_k=keys, cache_type_v=values), judged))
    first = cache_types[0]

    def key(proposal: Proposal) -> tuple[int, float]:
        loss = 1.0 if proposal.options.cache_type_k == first[0] else WORTH
        return proposal.judgement.verdict.rank, -proposal.rate / loss

    return tuple(sorted(found, key=key))


def _placements(
    architecture: LanguageArchitecture, options: LlamaOptions, judged: Callable[[LlamaOptions], Proposal]
) -> Iterator[Proposal]:
    """All on the cards, experts on the host, layers on the host, host alone: only what is needed of it."""
    if options.gpu_layers is not None:
        yield judged(options)
        return
    everything = architecture.layers + 1
    full = judged(options.with_(gpu_layers=everything))
    yield full
    if full.judgement.verdict is Verdict.FITS:
        return
    if architecture.experts and not options.cpu_moe_layers:
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


def command(tier: Tier, options: LlamaOptions, architecture: LanguageArchitecture) -> str:
    """The ``llama-server`` command line that means the same as ``options``."""
    file = tier.local_path or tier.file or f"{tier.name}.gguf"
    source = f"-m {shlex.quote(file)}"
    if tier.local_path is None and tier.repository and tier.file:
        source = f"--hf-repo {shlex.quote(tier.repository)} --hf-file {shlex.quote(tier.file)}"
    parts = ["llama-server", source, f"-c {options.context}"]
    parts.append(f"-ngl {gpu_layers_flag(options, architecture.layers)}")
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

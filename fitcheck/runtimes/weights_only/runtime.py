"""A model whose run is not modelled: by its weights a ``no`` can be sure, a ``fits`` never."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.machine import Machine
from fitcheck.memory.footprint import CardMemory, Footprint, HostMemory, Phase, peak
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.records.run import Run
from fitcheck.runtimes.base import Ask, Default, Placement, Runtime, Support, Wanted
from fitcheck.runtimes.options import LONGEST, context_tokens, option, read
from fitcheck.speed.duration import Duration
from fitcheck.speed.rates import Calibration
from fitcheck.units import Interval, format_gib, parse_size

NAME = "weights only"
WHOLE, BY_COMPONENT, SPREAD = "full", "model offload", "spread"
USUAL_CONTEXT = 8192
_MISSING = "activations and the allocator's share are not counted"
_NOTHING = Interval.exactly(0)


def _size(text: str) -> tuple[int, int]:
    return parse_size(text, "--size")


@dataclass(frozen=True, slots=True)
class BoundOptions:
    """What a bound can take into account: the context of a checkpoint's cache in tokens."""

    ctx: int | None = option(
        None, "Tokens of context, like 32k; default: 8192 or the model's own.", parse=context_tokens
    )
    prompt_tokens: int | None = option(None, "Tokens of the prompt; default 512.", type=int)
    new_tokens: int | None = option(None, "Tokens of the answer; default 128.", type=int)
    size: tuple[int, int] = option((2048, 2048), "Output size, WIDTHxHEIGHT; default 2048x2048.", parse=_size)


class WeightsOnly(Runtime):
    """See ``fitcheck.runtimes.base.Runtime``. Serves whatever no other runtime takes, and checkpoints beside them."""

    name = NAME
    families = ("unknown", "language", "pipeline")
    options = BoundOptions
    times = False
    modes: ClassVar[Mapping[str, str]] = {
        WHOLE: "all weights on the card",
        BY_COMPONENT: "one component on the card at a time",
        SPREAD: "the card filled, the rest in system memory",
    }

    def asks(self, model: Model, tiers: Sequence[Tier], wanted: Wanted, machine: Machine) -> Iterator[Ask]:
        """Each tier in the modes that its parts allow; GGUF files that another runtime takes are left to it."""
        options, others = read(BoundOptions, wanted), set(model.runtimes) - {NAME}
        for tier in tiers:
            if others and tier.format == "gguf":  # another runtime takes these files
                continue
            workload = _workload(model, tier, options)
            for mode in _modes(tier, workload):
                settings = (("program", _program(tier, workload)),)
                yield Ask(model, tier, Placement(NAME, "any", mode, settings), workload, machine)

    def footprint(self, ask: Ask) -> Footprint:
        """The least that a run needs: the weights, and with them a checkpoint's 16-bit attention cache."""
        phases, host = _phases(ask)
        most = _spread(ask)[0] if ask.placement.mode == SPREAD else Interval.exactly(peak(phases).allocated)
        used = CardMemory(phases, most, most, most, most)
        idle = CardMemory((Phase("idle", 0, 0, 0, 0, 0),), _NOTHING, _NOTHING, _NOTHING, _NOTHING)
        cards = tuple(used if index == ask.gpu else idle for index in range(len(ask.machine.gpus)))
        host = host if cards else host + peak(phases).allocated
        total = _spread(ask)[1] if ask.placement.mode == SPREAD else Interval.exactly(host)
        memory = HostMemory(0, host, 0, total)
        return Footprint(cards, memory, ask.tier.disk_bytes, (_note(ask), "All sizes are lower bounds"))

    def duration(self, ask: Ask, footprint: Footprint, calibration: Calibration | None = None) -> Duration | None:
        """Always ``None``: nothing is known of the work."""
        return None

    def platform(self, ask: Ask) -> Support:
        """Always at most ``unknown``, with how much of the memory the weights alone take."""
        phases, host = _phases(ask)
        most, why = peak(phases).allocated, ask.model.unmodelled
        budget = ask.budgets[ask.gpu]
        taken = f"{format_gib(most)} of {format_gib(budget.vram.best)} card memory"
        if not ask.machine.gpus:
            there = "" if budget.ram is None else f" {format_gib(budget.ram.best)}"
            taken = f"{format_gib(most + host)} of{there} system memory"
        elif ask.placement.mode == SPREAD and host:
            taken = f"{format_gib(most + host)} of card and system memory"
        because = "" if why is None else f"{why[:1].upper()}{why[1:]}. "
        reason = f"{because}The weights alone take {taken}; what a run needs besides is not modelled."
        return Support(Verdict.UNKNOWN, Constraint.MODEL, reason, least=self.footprint(ask))

    def defaults(self, ask: Ask, wanted: Wanted) -> Iterator[Default]:
        """The context of a checkpoint's cache."""
        context = ask.workload.context
        if ask.workload.task is Task.CHAT and ask.placement.mode != SPREAD and not wanted.has("ctx"):
            other = replace(ask, workload=ask.workload.with_(context=2 * context))
            yield Default(f"a context of {context} tokens", f"--ctx {2 * context}", other)

    def ask_of(self, run: Run) -> Ask | None:
        """Always ``None``: nothing is measured under this name."""
        return None


def _modes(tier: Tier, workload: Workload) -> tuple[str, ...]:
    """A GGUF file may be spread over card and system memory, a pipeline be moved by component."""
    if tier.components:
        return (WHOLE, BY_COMPONENT)
    return (SPREAD,) if tier.format == "gguf" and workload.task is Task.CHAT else (WHOLE,)


def _workload(model: Model, tier: Tier, options: BoundOptions) -> Workload:
    architecture = tier.architecture or model.architecture
    if model.tasks[0] is not Task.CHAT:
        return Workload(Task.T2I, width=options.size[0], height=options.size[1])
    asked = architecture.context_length if options.ctx == LONGEST else options.ctx
    context = asked or min(architecture.context_length or USUAL_CONTEXT, USUAL_CONTEXT)
    return Workload(
        Task.CHAT, context=context, prompt_tokens=options.prompt_tokens or 512, new_tokens=options.new_tokens or 128
    )


def _program(tier: Tier, workload: Workload) -> str:
    """Whose names the modes are: a pipeline's components are moved by diffusers, a checkpoint is loaded by
    transformers."""
    return "diffusers" if tier.components else "transformers" if workload.task is Task.CHAT else "unknown"


def _phases(ask: Ask) -> tuple[tuple[Phase, ...], int]:
    """The phases on the card, and the bytes that wait on the host."""
    tier, table = ask.tier, ask.tier.tensors
    if ask.placement.mode == SPREAD:
        card, host = _spread(ask)
        return (Phase("load", card.best, 0, 0, 0, 0),), host.best
    if not tier.components:
        cache = ask.architecture.cache_bytes(ask.workload.context) if ask.workload.task is Task.CHAT else 0
        return (Phase("decode" if cache else "load", table.nbytes, 0, cache, 0, 0),), 0
    sizes = table.bytes_by_branch
    whole = (Phase("all components", sum(sizes.values()), 0, 0, 0, 0),)
    if ask.placement.mode == WHOLE:
        return whole, 0
    parts = tuple(Phase(name, sizes[name], 0, 0, 0, 0) for name in tier.components if name in sizes)
    return parts or whole, sum(sizes.values())


def _spread(ask: Ask) -> tuple[Interval[int], Interval[int]]:
    """Bytes on the card, which is filled, and on the host, which holds the rest: less of them where the card gives
    more."""
    weights, vram = ask.tier.tensors.nbytes, ask.budgets[ask.gpu].vram
    card = Interval(min(weights, vram.low), min(weights, vram.best), min(weights, vram.high))
    return card, Interval(weights - card.high, weights - card.best, weights - card.low)


def _note(ask: Ask) -> str:
    if ask.placement.mode == BY_COMPONENT:
        return f"enable_model_cpu_offload: one component on the card at a time, the others in system memory; {_MISSING}"
    if ask.placement.mode == SPREAD:
        return "Weights on the card, the rest in system memory; caches and compute buffers are not counted"
    where = "on the card" if ask.machine.gpus else "in system memory"
    if ask.tier.components:
        return f"Weights of all components {where}; {_MISSING}"
    if ask.workload.task is Task.CHAT:
        return f"Weights and a 16-bit cache of {ask.workload.context} tokens {where}; {_MISSING}"
    return f"Weights {where}; {_MISSING}"


RUNTIME = WeightsOnly()

"""What can be said of a model whose run is not modelled: by its weights a ``no`` can be sure, a ``fits`` never."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fitcheck.hardware.budget import budget
from fitcheck.hardware.machine import Budget, Machine
from fitcheck.memory.footprint import Footprint, HostMemory, Phase, peak
from fitcheck.models.language import LanguageArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Workload
from fitcheck.units import Interval, format_gib
from fitcheck.verdict.judge import Constraint, Judgement, Verdict, judge
from fitcheck.verdict.report import Cell, Evidence, Report, unjudged

_CACHE_BYTES = 2  # an element of the cache in bfloat16 or float16


@dataclass(frozen=True, slots=True)
class UnknownArchitecture:
    """A model of which only the tensor table is known."""

    name: str

    @property
    def family(self) -> str:
        return "unknown"


@dataclass(frozen=True, slots=True)
class WeightsOnly:
    """A placement of which only the weights are counted: ``phases`` on the card, ``host`` bytes in system memory."""

    runtime: str
    mode: str
    phases: tuple[Phase, ...]
    host: int
    note: str

    @property
    def revision(self) -> str:
        return "any"

    @property
    def policy(self) -> str:
        return "none"


def pipeline_placements(tier: Tier, components: Sequence[str]) -> tuple[WeightsOnly, ...]:
    """A diffusers pipeline with everything on the card, and with one component on it at a time (model offload)."""
    sizes = component_bytes(tier)
    parts = tuple(Phase(name, sizes[name], 0, 0, 0, 0) for name in components if name in sizes)
    whole = Phase("all components", sum(sizes.values()), 0, 0, 0, 0)
    missing = "activations and the allocator's share are not counted"
    return (
        WeightsOnly("diffusers", "full", (whole,), 0, f"Weights of all components on the card; {missing}"),
        WeightsOnly(
            "diffusers",
            "model offload",
            parts or (whole,),
            sum(sizes.values()),
            f"enable_model_cpu_offload: one component on the card at a time, the others in system memory; {missing}",
        ),
    )


def component_bytes(tier: Tier) -> dict[str, int]:
    """Bytes by component, the branch of a pipeline's tensors; largest first."""
    counts: Counter[str] = Counter()
    for tensor in tier.tensors:
        counts[tensor.branch] += tensor.nbytes
    return dict(counts.most_common())


def checkpoint_placement(tier: Tier, architecture: LanguageArchitecture | None, context: int) -> WeightsOnly:
    """A checkpoint as transformers loads it: the weights as they are stored, and the cache where the shape is known."""
    cache = 0 if architecture is None else _cache_bytes(architecture, context)
    what = "Weights" if architecture is None else f"Weights and a 16-bit cache of {context} tokens"
    return WeightsOnly(
        "transformers" if architecture is not None else "unknown",
        "full",
        (Phase("decode" if cache else "load", tier.tensors.nbytes, 0, cache, 0, 0),),
        0,
        f"{what} on the card; activations and the allocator's share are not counted",
    )


def spread_placement(tier: Tier, have: Budget) -> WeightsOnly:
    """A GGUF file that llama.cpp may spread over card and system memory: as much on the card as can be."""
    on_card = min(tier.tensors.nbytes, have.vram.best)
    return WeightsOnly(
        "llama.cpp",
        "spread",
        (Phase("load", on_card, 0, 0, 0, 0),),
        tier.tensors.nbytes - on_card,
        "Weights on the card, the rest in system memory; caches and compute buffers are not counted",
    )


def _cache_bytes(architecture: LanguageArchitecture, context: int) -> int:
    """Keys and values of one sequence; a layer with a window keeps no more than the window."""
    total = 0
    for index, block in enumerate(architecture.blocks):
        if block.prediction or not block.attention or not block.cached:
            continue
        tokens = min(context, architecture.window) if block.sliding and architecture.window else context
        total += sum(architecture.cache_elements(index)) * tokens * _CACHE_BYTES
    return total


def bound_cell(
    tier: Tier, placement: WeightsOnly, workload: Workload, machine: Machine, have: Budget, why: str | None = None
) -> Cell:
    """The cell of a lower bound: ``no`` where even that does not fit, else ``unknown``. ``why`` the run is unknown."""
    most = Interval.exactly(peak(placement.phases).allocated)
    footprint = Footprint(
        phases=placement.phases,
        allocated=most,
        reserved=most,
        card=most,
        required=most,
        host=HostMemory(0, placement.host, 0, Interval.exactly(placement.host)),
        disk=tier.disk_bytes,
        assumptions=(placement.note, "All sizes are lower bounds"),
    )
    judgement = judge(footprint, have, machine.gpus[0].card, placement)
    because = "" if why is None else f"{why[:1].upper()}{why[1:]}. "
    if judgement.verdict is not Verdict.NO:
        taken = _taken(placement, most.best, have)
        reason = f"The weights alone take {taken}; what a run needs besides is not modelled."
        judgement = Judgement(Verdict.UNKNOWN, Constraint.MODEL, reason, judgement.margins)
    judgement = replace(judgement, reason=because + judgement.reason)
    return Cell(
        tier=tier,
        placement=placement,
        workload=workload,
        footprint=footprint,
        duration=None,
        judgement=judgement,
        evidence=Evidence(note="a lower bound from the tensor table"),
        flip=None,
        commands=(),
        assumptions=footprint.assumptions,
    )


def _taken(placement: WeightsOnly, on_card: int, have: Budget) -> str:
    card = f"{format_gib(on_card)} of {format_gib(have.vram.best)} card memory"
    if placement.mode != "spread" or not placement.host:
        return card
    return f"{format_gib(on_card + placement.host)} of card and system memory"


def check_bounds(
    model: Model,
    machine: Machine,
    workload: Workload,
    placements: Mapping[str, Sequence[WeightsOnly]],
    why: str | None = None,
) -> Report:
    """Every tier of ``model`` in the placements given for its name. ``why`` says why its run is not modelled."""
    have = budget(machine)
    cells = [
        bound_cell(tier, placement, workload, machine, have, why)
        for tier in model.tiers
        for placement in placements[tier.name]
    ]
    cells.sort(key=lambda cell: (cell.verdict.rank, cell.footprint.card.best))
    return Report(model, machine, have, workload, tuple(cells), (*model.notes, *unjudged(machine)))

"""Image and video pipelines under diffusers 0.42.1, in each of its offload modes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

from fitcheck.data_files import load
from fitcheck.errors import InputError
from fitcheck.hardware.machine import Machine
from fitcheck.memory.constants import measured_capability
from fitcheck.memory.footprint import CardMemory, Footprint, Phase
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.families.pipeline.schemes import scheme
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.records.run import Run
from fitcheck.runtimes.base import Ask, Change, Default, Measured, Placement, Process, Runtime, Support, Wanted
from fitcheck.runtimes.diffusers import commands, lora_files, offload_changes, support, tiles_by_default
from fitcheck.runtimes.diffusers.details import details_of, notes_of
from fitcheck.runtimes.diffusers.estimate import at_least, estimate
from fitcheck.runtimes.diffusers.laid_out import Layout, layout_of
from fitcheck.runtimes.diffusers.lora import with_lora
from fitcheck.runtimes.diffusers.offloading import (
    MODEL,
    MODES,
    NAME,
    NONE,
    SEQUENTIAL,
    Offload,
    offload_of,
    placement_of,
    policy_of,
    recorded_placement,
)
from fitcheck.runtimes.diffusers.options import PipelineOptions
from fitcheck.runtimes.diffusers.seconds import seconds, timing
from fitcheck.runtimes.diffusers.stages import stages_of
from fitcheck.runtimes.diffusers.tiling import ROOM
from fitcheck.runtimes.diffusers.workloads import check_options, modes_of, workload_for
from fitcheck.runtimes.figures import NOTHING_RESTS, Figure, RestsOn
from fitcheck.runtimes.options import read
from fitcheck.runtimes.recorded import ask_of
from fitcheck.runtimes.torch_platform import torch_stacks
from fitcheck.speed.duration import Duration
from fitcheck.speed.overlap import prices_of
from fitcheck.speed.rates import Calibration
from fitcheck.speed.timing import WHOLE, Timing
from fitcheck.units import Interval


# The estimator is pure, and a site asks for the same footprint on hundreds of cards; model and tier are quick to hash.
@lru_cache(maxsize=4096)
def _estimate(
    model: Model, tier: Tier, workload: Workload, offload: Offload, capability: tuple[int, int] | None, process: Process
) -> Footprint:
    return estimate(_architecture(model, tier, offload), tier, workload, offload, capability, process=process)


_Question = tuple[Model, Tier, Workload, Offload, tuple[int, int] | None, Process]


def _question(ask: Ask) -> _Question:
    """All that an estimate hangs on."""
    capability = measured_capability(ask.card.card.compute_capability) if ask.machine.gpus else None
    process = replace(ask.process, left_out="") if ask.process.left_out else ask.process
    return ask.model, ask.tier, ask.workload, offload_of(ask.placement), capability, process


def _on_machine(ask: Ask, found: Footprint) -> Footprint:
    """What a pipeline takes of the one card that works, on the machine of ``ask``."""
    if ask.machine.gpus and ask.card.card.unified_memory:
        memory = found.cards[0]
        both = found.host.total + Interval(memory.required.low, memory.required.best, memory.card.high)
        found = replace(found, host=replace(found.host, total=both))
    if len(ask.machine.gpus) == 1:
        return found
    cards = tuple(found.cards[0] if index == ask.gpu else _IDLE for index in range(len(ask.machine.gpus)))
    return replace(found, cards=cards)


# beside many tiers, one mode of each kind
_FEW = (NONE, MODEL, "group-leaf-stream", SEQUENTIAL)
# what PyTorch is asked of a card: whether weights travel, whether anything computes in bfloat16
_PLATFORMS = tuple((streams, bfloat16) for streams in (False, True) for bfloat16 in (False, True))
_NOTHING = Interval.exactly(0)
_IDLE = CardMemory((Phase("idle", 0, 0, 0, 0, 0),), _NOTHING, _NOTHING, _NOTHING, _NOTHING)


class Diffusers(Runtime):
    """See ``fitcheck.runtimes.base.Runtime``."""

    name = NAME
    families = ("pipeline",)
    options = PipelineOptions
    needs_card = True
    searches = False
    modes: ClassVar[Mapping[str, str]] = {
        "none": "all weights on the card",
        "model": "one component at a time (enable_model_cpu_offload)",
        "group-block": "one block at a time, copied back",
        "group-block-stream": "one block ahead on a stream",
        "group-leaf": "one layer at a time, copied back",
        "group-leaf-stream": "one layer ahead on a stream",
        "sequential": "one layer at a time (enable_sequential_cpu_offload)",
    }

    def asks(self, model: Model, tiers: Sequence[Tier], wanted: Wanted, machine: Machine) -> Iterator[Ask]:
        """Every tier in the modes of the options: all modes of one tier, one of each kind of several. What is not
        known to move the weights of a tier is looked at where somebody names it."""
        options = lora_files.settled(read(PipelineOptions, wanted), model, tiers)
        task = Task(wanted.task) if wanted.task else model.tasks[0]
        modes = modes_of(options, MODES if len(tiers) == 1 else _FEW)
        placements: dict[Workload, Mapping[str, Placement]] = {}
        for tier in tiers:
            if len(tiers) > 1 and not tier.published and not wanted.tiers:
                continue  # nobody offers the file; asked for by name it is judged
            arch = _architecture(model, tier)
            check_options(options, arch, task)
            workload = workload_for(task, arch, tier, options)
            if workload not in placements:
                settled = self._settled(options, Ask(model, tier, placement_of(SEQUENTIAL, options), workload, machine))
                placements[workload] = {mode: placement_of(mode, settled) for mode in modes}
            for mode in modes if options.mode else support.proven(tier, modes):
                yield Ask(model, tier, placements[workload][mode], workload, machine)

    def _settled(self, options: PipelineOptions, ask: Ask) -> PipelineOptions:
        """The options with what was left open, which is the same for all tiers of a model."""
        first = ask.model.tiers[0] if ask.model.tiers else ask.tier
        return tiles_by_default.with_tiles(options, replace(ask, tier=first), self.footprint)

    def closer(self, model: Model, tier: Tier, wanted: Wanted, machine: Machine) -> Iterator[Ask]:
        """The modes that are left out of several tiers."""
        if not read(PipelineOptions, wanted).mode:
            yield from (ask for ask in self.asks(model, (tier,), wanted, machine) if ask.placement.mode not in _FEW)

    def footprint(self, ask: Ask) -> Footprint:
        """Bytes of the one card that works; other cards stay idle, unified memory counts on the host."""
        return _on_machine(ask, _estimate(*_question(ask)))

    def at_least(self, ask: Ask) -> Footprint | None:
        """What tensors alone take of the card, and the host as it is; nothing of what was not traced."""
        if support.is_bounded(ask, architecture_of(ask)):
            return None
        model, tier, workload, offload, capability, process = _question(ask)
        return _on_machine(
            ask,
            at_least(_architecture(model, tier, offload), tier, workload, offload, capability, process=process),
        )

    def weighs(self, machine: Machine) -> Hashable | None:
        """Of one card the generation, what PyTorch allows there, and whether it shares the host's memory."""
        if len(machine.gpus) != 1:
            return None
        card = machine.gpus[0].card
        platform = tuple(support.allowed(card, streams=streams, bfloat16=kind) for streams, kind in _PLATFORMS)
        return card.compute_capability, card.unified_memory, platform

    def sees(self, machine: Machine) -> Hashable | None:
        """What the memory hangs on, and where the card's rates are known those and its link, of which seconds are
        made."""
        weighs = self.weighs(machine)
        if weighs is None:
            return None
        prices = prices_of(machine.gpus[0].card)
        return weighs, None if prices is None else (prices, machine.gpus[0].link)

    def duration(self, ask: Ask, footprint: Footprint, calibration: Calibration | None = None) -> Duration | None:
        """Seconds of one run on the one card, over its own link."""
        assert isinstance(footprint.layout, Layout)
        if not ask.machine.gpus or support.is_untraced(ask, architecture_of(ask)):
            return None
        gpu = ask.card
        return seconds(
            footprint.layout, ask.tier, offload_of(ask.placement), gpu.card, gpu.link, calibration, ask.process
        )

    def foreseen(self, ask: Ask) -> Duration | None:
        """Seconds of one run hang on the calls and the weights, not on what the allocator makes of them."""
        arch, offload = architecture_of(ask), offload_of(ask.placement)
        if not ask.machine.gpus or support.is_untraced(ask, arch):
            return None
        stages = stages_of(arch, ask.workload, offload)
        layout = layout_of(arch, ask.tier, offload, stages, later=ask.process.warm)  # as the estimate looks it up
        return seconds(layout, ask.tier, offload, ask.card.card, ask.card.link, process=ask.process)

    def untimed(self, ask: Ask, footprint: Footprint) -> str:
        """Work that was not traced has no operations to time."""
        assert isinstance(footprint.layout, Layout)
        untraced = footprint.layout.untraced or support.is_untraced(ask, architecture_of(ask))
        return "part of the work was not traced" if untraced else super().untimed(ask, footprint)

    def timings(self, ask: Ask, links: Calibration | None = None) -> Mapping[str, Timing]:
        """Every call by what it computes, dequantizes, launches and copies."""
        layout = self.footprint(ask).layout
        assert isinstance(layout, Layout)
        if not ask.machine.gpus or support.is_untraced(ask, architecture_of(ask)):
            return {}
        found = timing(layout, ask.tier, offload_of(ask.placement), ask.card.card, ask.card.link, links, ask.process)
        return {} if found is None else {WHOLE: found}

    def platform(self, ask: Ask) -> Support | None:
        """What PyTorch, diffusers and the card allow of the placement and the tier."""
        return support.platform(ask, architecture_of(ask), offload_of(ask.placement), lambda: self.footprint(ask))

    def stacks(self, ask: Ask) -> tuple[str, ...]:
        """PyTorch and the number formats of the components."""
        return torch_stacks(ask.tier, bfloat16=support.in_bfloat16(architecture_of(ask)))

    def holds(self, ask: Ask) -> Hashable:
        """Every step allocates what the first does, so that their number tells no memory apart."""
        return self.alike(replace(ask, workload=replace(ask.workload, steps=1)))

    def changes(self, ask: Ask, wanted: Wanted) -> Iterator[Change]:
        """VAE tiling, lighter modes, the display elsewhere, smaller pictures, smaller published tiers."""
        return offload_changes.changes(ask)

    def defaults(self, ask: Ask, wanted: Wanted) -> Iterator[Default]:
        """Tiles that nobody asked for."""
        return tiles_by_default.defaults(ask, wanted)

    def commands(self, ask: Ask) -> tuple[str, ...]:
        """The download and the Python lines of one run."""
        return commands.commands(ask)

    def details(self, ask: Ask, footprint: Footprint) -> dict[str, Any]:
        """Weights and activations of every stage."""
        assert isinstance(footprint.layout, Layout)
        return details_of(ask.tier, footprint.layout)

    def notes(self, ask: Ask, wanted: Wanted, duration: Duration | None) -> tuple[str, ...]:
        """What the modes that were typed became, and what is not calibrated."""
        return notes_of(ask, wanted, duration)

    def ask_of(self, run: Run) -> Ask | None:
        """``None`` for a record whose mode, policy or revision this release does not know."""
        cell = run.cell
        try:
            placement = recorded_placement(cell.revision or "", cell.mode or "", cell.policy)
        except InputError:
            return None
        return ask_of(run, placement, self.families)

    def host_bytes(self, run: Run) -> int | None:
        """Nothing where bitsandbytes makes the weights as they are loaded: a process then holds most while those in 16
        bits wait for it, as many as the loader reads at once."""
        denoiser = scheme(run.cell.tier.partition("+")[0])
        return None if denoiser.format == "bitsandbytes" else super().host_bytes(run)

    def rests_on(self, record: str) -> RestsOn:
        """What stands beside the constants in ``data/allocator.json``."""
        return _rests_on().get(record, NOTHING_RESTS)

    def recorded(self, placement: Placement) -> dict[str, Any]:
        """The settings that depart from diffusers' defaults are the policy."""
        return {
            "name": self.name,
            "revision": placement.revision,
            "mode": placement.mode,
            "policy": policy_of(placement),
        }

    def published(self) -> Iterator[Measured]:
        """Others' measurements whose metric is stated, of pipelines that have been traced."""
        from fitcheck.runtimes.diffusers.published import measured

        return measured()

    def figures(self) -> Iterator[Figure]:
        """Others' measurements of denoisers alone, and their seconds beside uncalibrated ones."""
        from fitcheck.runtimes.diffusers.published import figures

        return figures()


@lru_cache(maxsize=1)
def _rests_on() -> Mapping[str, RestsOn]:
    """By record the quantities that constants of the allocator rest on."""
    table = load(ROOM, "allocator")["rests_on"]
    parts = {part: {quantity: set(ids) for quantity, ids in table[part].items()} for part in ("fitted", "widens")}
    records = {one for quantities in parts.values() for ids in quantities.values() for one in ids}
    return {
        record: RestsOn(*(frozenset(name for name, ids in parts[part].items() if record in ids) for part in parts))
        for record in records
    }


def _architecture(model: Model, tier: Tier, offload: Offload | None = None) -> PipelineArchitecture:
    found = tier.architecture or model.architecture
    assert isinstance(found, PipelineArchitecture)
    return found if offload is None else _with_beside(found, offload.lora, offload.controlnet)


@lru_cache(maxsize=256)
def _with_beside(arch: PipelineArchitecture, lora: str, controlnet: bool) -> PipelineArchitecture:
    found = with_lora(arch, lora) if lora else arch
    return found.controlled() if controlnet else found


def architecture_of(ask: Ask) -> PipelineArchitecture:
    """The pipeline with what lies beside its denoisers; only asks of the family come here."""
    return _architecture(ask.model, ask.tier, offload_of(ask.placement))


RUNTIME = Diffusers()

"""One cell: footprint, seconds and judgement of a tier in a mode, and the smallest change that would flip it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from fitcheck.errors import InputError
from fitcheck.hardware.budget import budget as budget_of
from fitcheck.hardware.budget import visible_total
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Budget, Machine
from fitcheck.memory.constants import measured_capability
from fitcheck.memory.footprint import Footprint
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.estimate import estimate
from fitcheck.runtimes.sensenova.phases import Device
from fitcheck.runtimes.sensenova.seconds import Duration, seconds, waits_for_host
from fitcheck.runtimes.sensenova.streaming import MODES, Placement, upstream
from fitcheck.speed.rates import Calibration, rates_of
from fitcheck.units import GIB, Interval
from fitcheck.verdict.judge import Constraint, Judgement, Verdict, judge
from fitcheck.verdict.report import Flip

RAM_SIZES = tuple(size * GIB for size in (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512))
VRAM_SIZES = tuple(
    size * GIB for size in (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 141, 180, 192, 288)
)


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything a cell depends on; a change of mind is a ``replace`` of one field."""

    model: Model
    architecture: SenseNovaArchitecture
    tier: Tier
    placement: Placement
    workload: Workload
    machine: Machine
    budget: Budget
    gpu: int = 0
    flash_attention: bool = False
    calibration: Calibration | None = None

    @property
    def device(self) -> Device:
        """What the estimate looks at of the card: only a placement that keeps layers asks for its size, and most
        compute capabilities share their constants, so that many cards share a footprint."""
        gpu, keeps = self.machine.gpus[self.gpu], self.placement.keep_generation
        return Device(
            measured_capability(gpu.card.compute_capability),
            total=visible_total(gpu) if keeps else None,
            free=self.budget.vram.best if keeps else None,
            flash_attention=self.flash_attention,
            host_bound=host_bound(self.architecture, self.tier, self.workload, self.placement, gpu.card),
        )


# The estimator is pure, and a site asks for the same footprint on hundreds of cards.
_estimate = lru_cache(maxsize=4096)(estimate)


def host_bound(arch: SenseNovaArchitecture, tier: Tier, workload: Workload, placement: Placement, card: Card) -> bool:
    """Whether the host may take longer to issue a denoising pass than the card to run it; where rates are unknown the
    card is taken to be the slower one, which reserves more."""
    if not placement.prefetch or workload.task is Task.VQA:
        return False
    return bool(waits_for_host(arch, tier.tensors, workload, placement, card))


def footprint_of(setting: Setting) -> Footprint:
    """The estimate; where host and card share one memory, the host holds the card's part as well."""
    found = _estimate(setting.architecture, setting.tier, setting.workload, setting.placement, setting.device)
    if not setting.machine.gpus[setting.gpu].card.unified_memory:
        return found
    both = found.host.total + Interval(found.required.low, found.required.best, found.card.high)
    return replace(found, host=replace(found.host, total=both))


def judgement_of(setting: Setting) -> Judgement:
    card = setting.machine.gpus[setting.gpu].card
    return judge(footprint_of(setting), setting.budget, card, setting.placement)


def duration_of(setting: Setting) -> Duration | None:
    gpu = setting.machine.gpus[setting.gpu]
    if rates_of(gpu.card) is None:  # most cards of the database; how many layers would stay need not be asked
        return None
    return seconds(
        setting.architecture,
        setting.tier.tensors,
        setting.workload,
        setting.placement,
        gpu.card,
        gpu.link,
        kept_share=footprint_of(setting).kept_share if setting.placement.keep_generation else 0.0,
        calibration=setting.calibration,
    )


def _modes(setting: Setting) -> Iterator[tuple[str, Setting]]:
    if setting.placement.runtime != "sensenova":
        return
    order = MODES[MODES.index(setting.placement.mode) + 1 :] if setting.placement.mode in MODES else ()
    for mode in order:
        try:
            placement = upstream(mode, setting.placement.revision, setting.placement.policy)
        except InputError:
            continue  # fast does not exist in v0
        yield f"--vram_mode {mode}", replace(setting, placement=placement)


def _free_changes(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """Changes that cost nothing, smallest loss first."""
    yield from _modes(setting)
    gpu = setting.machine.gpus[setting.gpu]
    if gpu.display is not False and gpu.vram_free is None and gpu.vram_override is None and not gpu.card.unified_memory:
        gpus = tuple(
            replace(one, display=False) if index == setting.gpu else one
            for index, one in enumerate(setting.machine.gpus)
        )
        machine = replace(setting.machine, gpus=gpus)
        yield (
            "run without a display on this card",
            replace(setting, machine=machine, budget=budget_of(machine, setting.gpu)),
        )
    workload = setting.workload
    if workload.cfg > 1 and workload.task is not Task.VQA:
        yield "--cfg 1 (needs distilled weights)", replace(setting, workload=workload.with_(cfg=1.0))
    if workload.references and max(max(size) for size in workload.references) > 1024:
        smaller = tuple((min(width, 1024), min(height, 1024)) for width, height in workload.references)
        yield "reference images of 1024x1024", replace(setting, workload=workload.with_(references=smaller))
    if workload.task is not Task.VQA and workload.width * workload.height > 1024 * 1024:
        yield "--size 1024x1024", replace(setting, workload=workload.with_(width=1024, height=1024))
    current = setting.tier.tensors.nbytes
    for tier in sorted(setting.model.tiers, key=lambda tier: -tier.tensors.nbytes):
        if tier.published and tier.tensors.nbytes < current:
            yield f"tier {tier.name}", replace(setting, tier=tier)


def _bought_changes(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """More memory in the next sizes that are sold, cheapest kind first."""
    machine, gpu = setting.machine, setting.machine.gpus[setting.gpu]
    shared = gpu.card.unified_memory
    if machine.ram_total is not None:
        for size in (size for size in RAM_SIZES if size > machine.ram_total):
            gpus = tuple(replace(one, vram_total=size) if one.card.unified_memory else one for one in machine.gpus)
            larger = replace(machine, ram_total=size, ram_available=None, gpus=gpus)
            words = f"{size // GIB} GB of {'shared' if shared else 'system'} memory"
            yield words, replace(setting, machine=larger, budget=budget_of(larger, setting.gpu))
    if shared:
        return
    for size in (size for size in VRAM_SIZES if size > gpu.vram_total):
        share = size / gpu.vram_total if gpu.vram_total else 1.0
        vram = setting.budget.vram
        scaled = Interval(*(round(value * share) for value in (vram.low, vram.best, vram.high)))
        yield f"a card with {size // GIB} GB", replace(setting, budget=replace(setting.budget, vram=scaled))


def smallest_change(setting: Setting, judgement: Judgement) -> Flip | None:
    """The first single change, free ones before bought ones, that gives a better verdict; ``None`` when none does.

    Free changes that only move from ``no`` to ``tight`` count as well: the cell then runs.
    """
    if judgement.verdict is Verdict.FITS or judgement.binding in (Constraint.COMPUTE_CAPABILITY, Constraint.RUNTIME):
        return None
    if judgement.binding is Constraint.DISK:
        short = judgement.margin(Constraint.DISK)
        missing = 0 if short is None else -short.left
        return Flip(f"{-(-missing // 10**9)} GB more free disk", Verdict.FITS)
    for words, changed in (*_free_changes(setting), *_bought_changes(setting)):
        better = judgement_of(changed)
        if better.verdict.rank < judgement.verdict.rank:
            return Flip(words, better.verdict)
    return None

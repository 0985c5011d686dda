"""The check: every tier and mode of a model on a machine, judged, timed, explained and put in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fitcheck.errors import InputError
from fitcheck.hardware.budget import budget
from fitcheck.hardware.machine import Machine
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.records.evidence import Index
from fitcheck.runtimes.sensenova import commands
from fitcheck.runtimes.sensenova.streaming import MODES, NEWEST_REVISION, Placement, comfyui, upstream
from fitcheck.runtimes.sensenova.workloads import Request, workload_for
from fitcheck.verdict.cells import Setting, duration_of, footprint_of, smallest_change
from fitcheck.verdict.evidence import calibration_for, evidence_for, key_of, known_cards
from fitcheck.verdict.judge import judge
from fitcheck.verdict.report import Cell, Evidence, Report, unjudged

# Cells whose expected time lies within this factor of the fastest fitting one compete on quality instead.
NEAR = 1.15
# Times within this factor are the same: then less card memory is better.
SAME = 1.01


@dataclass(frozen=True, slots=True)
class Runtime:
    """Which program runs the model: its revision, streaming policy and, for the ComfyUI node, its prefetch counts."""

    name: str = "sensenova"
    revision: str = NEWEST_REVISION
    policy: str = "upstream"
    prefetch_counts: tuple[int, ...] = (0, 1, 2, 8)
    flash_attention: bool = False

    def placements(self, modes: Sequence[str] | None) -> tuple[Placement, ...]:
        """The placements to look at. Raises InputError for names that do not exist."""
        if self.name == "comfyui":
            return tuple(comfyui(count) for count in self.prefetch_counts)
        if self.name != "sensenova":
            raise InputError(f"--runtime: {self.name!r} does not run SenseNova-U1; choose from sensenova, comfyui.")
        if modes:
            return tuple(upstream(mode, self.revision, self.policy) for mode in modes)
        known = MODES if self.revision != "v0" else tuple(mode for mode in MODES if mode != "fast")
        return tuple(upstream(mode, self.revision, self.policy) for mode in known)


def tiers_of(model: Model, names: Sequence[str] | None) -> tuple[Tier, ...]:
    if not names:
        return model.tiers
    found = []
    for name in names:
        tier = model.tier(name)
        if tier is None:
            known = ", ".join(tier.name for tier in model.tiers)
            raise InputError(f"--tier: {model.name} has no tier {name!r}; choose from {known}.")
        found.append(tier)
    return tuple(found)


def check(
    model: Model,
    machine: Machine,
    *,
    tiers: Sequence[Tier] | None = None,
    modes: Sequence[str] | None = None,
    request: Request | None = None,
    runtime: Runtime | None = None,
    gpu: int = 0,
    index: Index | None = None,
    advise: bool = True,
) -> Report:
    """Judge every tier × mode. ``index`` holds the records that may calibrate or replace estimates; ``advise`` adds the
    smallest flipping change to each cell, which costs a few re-checks.

    Raises InputError for sizes, tasks or names that cannot be.
    """
    request, runtime = request or Request(), runtime or Runtime()
    architecture = model.architecture
    if not isinstance(architecture, SenseNovaArchitecture):
        raise InputError(
            f"model: {model.name} is not of the SenseNova-U1 family; this check does not know how to place it."
        )
    have, card = budget(machine, gpu), machine.gpus[gpu].card
    known = index if index is not None and card.slug in known_cards(index) else None
    cells = []
    for tier in tiers or model.tiers:
        workload = workload_for(model, tier, request)
        calibration, records = calibration_for(card, tier, known) if known is not None else (None, 0)
        for placement in runtime.placements(modes):
            setting = Setting(
                model, architecture, tier, placement, workload, machine, have, gpu, runtime.flash_attention, calibration
            )
            evidence = Evidence()
            if known is not None:
                evidence = evidence_for(key_of(model, tier, workload, placement), card, known, records)
            cells.append(_cell(setting, evidence, advise=advise))
    ordered = order(cells)
    return Report(model, machine, have, ordered[0].workload, tuple(ordered), _notes(model, machine, ordered))


def _cell(setting: Setting, evidence: Evidence, *, advise: bool) -> Cell:
    footprint = footprint_of(setting)
    judgement = judge(footprint, setting.budget, setting.machine.gpus[setting.gpu].card, setting.placement)
    tier, placement, workload = setting.tier, setting.placement, setting.workload
    return Cell(
        tier=tier,
        placement=placement,
        workload=workload,
        footprint=footprint,
        duration=duration_of(setting),
        judgement=judgement,
        evidence=evidence,
        flip=smallest_change(setting, judgement) if advise else None,
        commands=commands.download(setting.model, tier) + commands.run(setting.model, tier, placement, workload),
        assumptions=footprint.assumptions,
    )


def _bits(cell: Cell) -> float:
    table = cell.tier.tensors
    return 8 * table.nbytes / table.elements


def order(cells: Sequence[Cell]) -> list[Cell]:
    """Best first: by verdict, then published tiers, then time; near the fastest the better tier leads, then memory.

    Within one verdict only the head of the list trades time against quality, so that the rest reads as a ranking.
    """

    def time(cell: Cell) -> float:
        """Seconds; where they are unknown, passes of the sampler, so that fewer steps still come first."""
        if cell.duration is not None:
            return cell.duration.seconds.best
        guidance = 2 if cell.workload.cfg > 1 else 1
        return float(cell.workload.steps * guidance * cell.workload.images)

    ranked = sorted(
        cells,
        key=lambda cell: (
            cell.verdict.rank,
            not cell.tier.published,
            time(cell),
            -_bits(cell),
            cell.footprint.card.best,
        ),
    )
    if not ranked:
        raise InputError("nothing to check: no tier and mode are left; drop --tier or --mode.")
    first = ranked[0]
    rivals = [
        cell
        for cell in ranked
        if (cell.verdict, cell.tier.published) == (first.verdict, first.tier.published)
        and time(cell) <= NEAR * time(first)
    ]
    finest = max(_bits(cell) for cell in rivals)
    quickest = min(time(cell) for cell in rivals if _bits(cell) == finest)
    alike = [cell for cell in rivals if _bits(cell) == finest and time(cell) <= SAME * quickest]
    best = min(alike, key=lambda cell: (cell.footprint.card.best, time(cell)))
    return [best, *(cell for cell in ranked if cell is not best)]


def _notes(model: Model, machine: Machine, cells: Sequence[Cell]) -> tuple[str, ...]:
    notes = [*model.notes, *unjudged(machine)]
    if cells[0].duration is None:
        notes.append("Seconds are unknown because the card's matrix rate, its bandwidth or the link is not known.")
    return tuple(notes)

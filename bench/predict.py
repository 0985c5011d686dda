"""What the estimator says of a job before it runs: for the preflight, ``--dry-run`` and the table at the end.

The same way as a record of the job is read back: the machine as the program sees it, and the runtime's own footprint.
"""

from __future__ import annotations

from dataclasses import replace

from bench.engines import registry
from bench.job import Job
from bench.meters import NvmlCard
from fitcheck.errors import InputError
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import match_detected
from fitcheck.hardware.machine import Machine
from fitcheck.memory.footprint import Footprint
from fitcheck.models import catalog
from fitcheck.runtimes import registry as runtimes
from fitcheck.runtimes.base import Ask, Process
from fitcheck.runtimes.recorded import machine_with

_UNKNOWN = Card("unknown-card", "a card that is not known", "unknown", 0)


def machine_seen(card: NvmlCard | None, cap: int | None) -> Machine:
    """The machine as the measured process sees it: the cap where there is one, else what the driver reports, in bytes.

    Without a card, and for one that the database does not have, nothing is assumed of it.
    """
    if card is None:
        return machine_with(_UNKNOWN, cap)
    memory = card.memory()
    total = memory[0] if memory else None
    known = match_detected(card.name or "", total) or _UNKNOWN
    capability = card.compute_capability or known.compute_capability
    return machine_with(replace(known, compute_capability=capability), cap or total)


def ask_of(job: Job, machine: Machine, warm: bool) -> Ask | None:
    """The job as a question to its runtime; ``None`` for a scaled-down one, which no data describes."""
    tier = registry.of(job).tier(job)
    if tier is None:
        return None
    process = Process(bench=True, warm=warm)
    return Ask(catalog.get(job.model), tier, job.placement, job.workload, machine, process=process)


def predict(job: Job, machine: Machine, warm: bool) -> Footprint | None:
    """The job's footprint. ``None`` where no data describes it, and where it depends on a card that nobody knows.

    ``warm`` says that the process has made a pass before the ones that are measured.
    """
    ask = ask_of(job, machine, warm)
    if ask is None:
        return None
    try:
        return runtimes.get(job.placement.runtime).footprint(ask)
    except InputError:  # the card's memory decides what stays on it, and nobody knows how much that is
        if machine.gpus[0].vram_total:
            raise
        return None

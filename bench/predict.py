"""What the estimator says of a cell before it runs: for the preflight, ``--dry-run`` and the table at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.engines.sensenova.job import Job, architecture_of
from bench.engines.sensenova.weights_file import table_of
from bench.meters import NvmlCard
from fitcheck.memory.footprint import Footprint
from fitcheck.models import catalog
from fitcheck.runtimes.sensenova.estimate import estimate
from fitcheck.runtimes.sensenova.phases import CardView


@dataclass(frozen=True, slots=True)
class CardView:
    """What of the card the estimator asks for; ``total`` in bytes, the cap if there is one; ``None`` is unknown."""

    compute_capability: tuple[int, int] | None = None
    total: int | None = None

    @classmethod
    def of(cls, card: NvmlCard | None, cap: int | None) -> CardView:
        memory = card.memory() if card else None
        return cls(card.compute_capability if card else None, cap or (memory[0] if memory else None))


def predict(cell: Job, view: CardView, warm: bool) -> Footprint | None:
    """The cell's footprint. ``None`` for a scaled-down cell, which the estimator's data does not describe, and for a
    tier that the catalog does not have.

    ``warm`` says that the process has made a pass before the ones that are measured.
    """
    tier = catalog.get(cell.model).tier(cell.tier)
    if cell.tiny or tier is None:
        return None
    device = CardView(compute_capability=view.compute_capability, total=view.total, free=view.total, warm=warm)
    if cell.gguf is not None:
        tier = replace(tier, tensors=table_of(cell))
    return estimate(architecture_of(cell), tier, cell.workload, cell.placement, device, process="bench")

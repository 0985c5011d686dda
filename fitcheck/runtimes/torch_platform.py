"""What PyTorch asks of a card, whatever program runs on it."""

from __future__ import annotations

from typing import Any

from fitcheck.data_files import load
from fitcheck.hardware.card import Card
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.runtimes.base import Support
from fitcheck.speed.rates import emulates_bfloat16


def minimum_compute_capability() -> tuple[int, int]:
    """The oldest NVIDIA generation that PyTorch's wheels still carry kernels for."""
    major, minor = load("speed", "torch")["compute_capability"]["minimum"]
    return major, minor


def torch_support(card: Card, row: dict[str, Any], *, streams: bool) -> Support | None:
    """What stands against a program on PyTorch. ``row`` is what the runtime's ``data/support.json`` says of the vendor;
    ``streams`` whether weights travel while it runs."""
    if row["support"] == "no" or (row["support"] == "full only" and streams):
        return Support(Verdict.NO, Constraint.RUNTIME, f"{card.name}: {row['reason']}.")
    if card.vendor == "NVIDIA" and (found := _generation(card)) is not None:
        return found
    if row["support"] != "yes":
        return Support(Verdict.UNKNOWN, Constraint.RUNTIME, f"{card.name}: {row['reason']}.")
    return None


def _generation(card: Card) -> Support | None:
    if card.compute_capability is None:
        reason = f"The compute capability of {card.name} is not known."
        return Support(Verdict.UNKNOWN, Constraint.COMPUTE_CAPABILITY, reason)
    minimum = minimum_compute_capability()
    if card.compute_capability < minimum:
        have, want = (".".join(map(str, pair)) for pair in (card.compute_capability, minimum))
        reason = f"Compute capability {have}; the PyTorch wheels need {want}."
        return Support(Verdict.NO, Constraint.COMPUTE_CAPABILITY, reason)
    if emulates_bfloat16(card):
        reason = (
            "No bfloat16 units before compute capability 8.0: PyTorch emulates them slowly; "
            "--dtype float16 is untested."
        )
        return Support(Verdict.TIGHT, Constraint.DTYPE, reason)
    return None

"""What PyTorch asks of a card, whatever program runs on it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fitcheck.hardware.card import Card
from fitcheck.hardware.software import Compatibility, Setup, SoftwareRow, compatibility
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.model import Tier
from fitcheck.runtimes.base import CARD, Support
from fitcheck.speed.rates import emulates_bfloat16

# stored types and formats of weights that cards multiply as they are, by the name of what the card must have
_FORMATS = {"fp8": ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), "fp4": ("NVFP4", "MXFP4", "F4")}


def torch_stacks(tier: Tier, *, bfloat16: bool = True) -> tuple[str, ...]:
    """What a tier depends on under PyTorch, by the names of ``fitcheck.hardware.software``."""
    stored = set(tier.tensors.bytes_by_type) | {tier.format.upper()}
    formats = [name for name, types in _FORMATS.items() if stored & {*types, name.upper()}]
    return ("torch", *(["bf16"] if bfloat16 else []), *formats, "flash-attn")


def torch_support(card: Card, row: dict[str, Any], *, streams: bool, bfloat16: bool = True) -> Support | None:
    """What stands against a program on PyTorch. ``row`` is what the runtime's ``data/support.json`` says of the vendor;
    ``streams`` whether weights travel while it runs, ``bfloat16`` whether it computes in that type."""
    if row["support"] == "no" or (row["support"] == "full only" and streams):
        return Support(Verdict.NO, Constraint.RUNTIME, f"{CARD}: {row['reason']}.")
    if card.vendor == "NVIDIA" and (found := _generation(card, bfloat16)) is not None:
        return found
    if row["support"] != "yes":
        return Support(Verdict.UNKNOWN, Constraint.RUNTIME, f"{CARD}: {row['reason']}.")
    return None


def _generation(card: Card, bfloat16: bool) -> Support | None:
    if card.compute_capability is None:
        reason = f"The compute capability of {CARD} is not known."
        return Support(Verdict.UNKNOWN, Constraint.COMPUTE_CAPABILITY, reason)
    have, rows = ".".join(map(str, card.compute_capability)), _rows(card)
    wheel, multiplies = rows["PyTorch wheel"], rows["bfloat16"]
    if wheel.status is Compatibility.FAILS or (bfloat16 and multiplies.status is Compatibility.FAILS):
        why = wheel if wheel.status is Compatibility.FAILS else multiplies
        return Support(Verdict.NO, Constraint.COMPUTE_CAPABILITY, f"Compute capability {have}: {why.words}.")
    if multiplies.status is Compatibility.FAILS:
        reason = f"Compute capability {have}: {wheel.words}; no run of this in float16 on such a card is known here."
        return Support(Verdict.UNKNOWN, Constraint.COMPUTE_CAPABILITY, reason)
    if bfloat16 and emulates_bfloat16(card):
        reason = (
            "No bfloat16 units before compute capability 8.0: PyTorch emulates them slowly; "
            "--dtype float16 is untested."
        )
        return Support(Verdict.TIGHT, Constraint.DTYPE, reason)
    return None


@lru_cache(maxsize=512)
def _rows(card: Card) -> dict[str, SoftwareRow]:
    return {row.name: row for row in compatibility(card, Setup(), ("torch", "bf16"))}

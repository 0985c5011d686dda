"""MIG slices: a part of a card that is a card of its own (NVIDIA's Multi-Instance GPU user guide).

A slice named ``1g.10gb`` has one compute slice and 10 GB. Compute comes in sevenths of most cards (quarters or halves
of smaller ones), memory and its bandwidth in eighths (likewise).
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.errors import CardError
from fitcheck.hardware.card import Card, Sourced
from fitcheck.units import GIB

_PROFILE = re.compile(r"\s*\b(?:MIG\s+)?(?:\d+c\.)?(?P<profile>\dg\.\d{1,3}gb)(?:\+\w+)*", re.IGNORECASE)
_NAME_ROUNDS = 0.2  # 1g.18gb has an eighth of 141 GB
_COMPUTE = re.compile(r"(\d+)g\.")
COMPUTE_SLICES = 7
_EIGHTHS = (1, 2, 4, 8)


def named_slice(text: str) -> tuple[str, str] | None:
    """The card's name and the slice's profile in "NVIDIA A100-SXM4-80GB MIG 1g.10gb"; ``None`` without a slice."""
    found = _PROFILE.search(text)
    if found is None:
        return None
    return (text[: found.start()] + text[found.end() :]).strip(), found["profile"].lower()


def slice_by_profile(card: Card, profile: str) -> Card:
    """The slice of that profile as a card with a memory of its own, in bytes. Raises CardError for a card that takes
    no slices, and for a slice that it does not make."""
    slices = compute_slices(card)
    if slices is None:
        raise CardError(f"--gpu: {card.name} cannot be cut into MIG slices; name the card without {profile}.")
    compute, memory = (int(one) for one in re.findall(r"\d+", profile))
    parts = 8 if slices == COMPUTE_SLICES else slices
    eighths = round(memory * GIB / card.memory * parts)
    off = abs(eighths * card.memory / parts - memory * GIB)
    if not 1 <= compute <= slices or eighths not in _EIGHTHS or off > _NAME_ROUNDS * memory * GIB:
        raise CardError(f"--gpu: {card.name} has no slice {profile}; `nvidia-smi mig -lgip` lists those it has.")
    return sliced(card, profile, card.memory * eighths // parts, eighths / parts, slices)


def sliced(card: Card, profile: str, memory: int, share: float | None, slices: int = COMPUTE_SLICES) -> Card:
    """The card with ``memory`` bytes, ``share`` of the memory's bandwidth, and the profile's part of the compute out
    of ``slices``; what follows from an unknown part is unknown."""
    compute = _COMPUTE.match(profile)
    part = int(compute.group(1)) / slices if compute else None
    tensor = card.tensor_flops
    return replace(
        card,
        memory=memory,
        tensor_flops=None
        if tensor is None or part is None
        else Sourced(tensor.value * part, f"{tensor.source}; {part:.3g} of it in slice {profile}", tensor.date),
        shader_flops=None if card.shader_flops is None or part is None else card.shader_flops * part,
        memory_bandwidth=None if card.memory_bandwidth is None or share is None else card.memory_bandwidth * share,
    )


def compute_slices(card: Card) -> int | None:
    """Into how many compute slices the card can be cut; ``None`` where it cannot."""
    words = card.name.lower().split()
    for start, most in _data()["slices"].items():
        if words[: len(start.split())] == start.split():
            return int(most)
    return None


def slice_share() -> tuple[float, float, float]:
    """Low, usual and high part of a slice's nominal memory that a process is told of."""
    low, best, high = _data()["share"]
    return low, best, high


@cache
def _data() -> dict[str, Any]:
    found: dict[str, Any] = load("hardware", "mig")
    return found

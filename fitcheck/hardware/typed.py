"""A card as somebody typed it: by name, as a MIG slice, or with a memory that no such card is sold with."""

from __future__ import annotations

import re

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import CardError
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card, find_resized, meant_by
from fitcheck.hardware.slices import named_slice, slice_by_profile
from fitcheck.units import GIB, format_gib

# the computer's name before its chip's: "MacBook Pro M3 Max", "Mac mini (M4)"
_MAC = re.compile(
    r"\s*(?:apple\s+)?(?:macbook(?:\s+(?:pro|air))?|mac\s?(?:mini|studio|pro)|imac)\b[\s,(]*(?=m\d)", re.IGNORECASE
)
_LEAST, _MOST = GIB // 4, 1024 * GIB


@dataclass(frozen=True, slots=True)
class TypedCard:
    """``memory`` is a size in bytes that stood beside the name and is not the database's: the pool of a chip that
    shares it, or a rebuilt board's. ``mig`` is a slice's profile, ``note`` what to say of what was taken."""

    card: Card
    memory: int | None = None
    mig: str | None = None
    note: str | None = None


def names_a_card(text: str) -> bool:
    """Whether ``text`` means a card, or could mean several."""
    text = _MAC.sub("Apple ", text, count=1)
    slice_ = named_slice(text)
    return bool(meant_by(text if slice_ is None else slice_[0])) or find_resized(text) is not None


def typed_card(text: str) -> TypedCard:
    """What ``text`` means. Raises CardError, with candidates, where it means no card or several."""
    text = _MAC.sub("Apple ", text, count=1)
    slice_ = named_slice(text)
    if slice_ is not None and not slice_[0].strip(" -_,()[]"):
        raise CardError(f"--gpu: {text!r} names no card; write it with its slice, like 'A100 80GB MIG 1g.10gb'.")
    if slice_ is not None:
        card = slice_by_profile(find_card(slice_[0]), slice_[1])
        return TypedCard(card, mig=slice_[1])
    try:
        return TypedCard(find_card(text))
    except CardError:
        resized = find_resized(text)
        if resized is None or not _LEAST <= resized[1] <= _MOST:
            raise
    card, memory = resized
    if not card.memory:
        return TypedCard(card, memory)
    sold, said = format_gib(card.memory), format_gib(memory)
    return TypedCard(card, memory, note=f"{card.name} is sold with {sold}; the {said} beside its name were taken.")

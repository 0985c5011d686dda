"""Slots as people write them."""

from __future__ import annotations

import re

from fitcheck.errors import OptionError

_PCIE = re.compile(
    r"(?P<word>pci(?:[\s-]?e(?:xpress)?)?[\s:]*)?(?P<gen>gen(?:eration)?[\s.]*)?"
    r"(?P<generation>\d{1,2})(?P<minor>\.[01])?(?:[\s,@/]*x\s*(?P<lanes>\d{1,3})(?:\s*lanes?)?)?",
    re.ASCII,
)
_LANES = re.compile(r"x\s*(\d{1,3})|(\d{1,3})\s*lanes?", re.ASCII)


def parse_pcie(text: str) -> tuple[int | None, int | None]:
    """Generation and lanes, as slots are written: ``"4x16"``, ``"3.0x4"``, ``"gen4 x8"``, ``"PCIe 4.0 ×16"``; one of
    them alone, ``"x8"`` or ``"gen 3"``, leaves the other ``None``. Raises OptionError.
    """
    written = text.strip().lower().replace("×", "x")
    lanes = _LANES.fullmatch(written)
    if lanes is not None:
        return None, int(lanes[1] or lanes[2])
    slot = _PCIE.fullmatch(written)
    # a bare number may be either
    if slot is None or not (slot["word"] or slot["gen"] or slot["minor"] or slot["lanes"]):
        raise OptionError(f"--pcie: {text!r} is not a slot; write generation and lanes, like 4x16 or 3.0x4.")
    return int(slot["generation"]), None if slot["lanes"] is None else int(slot["lanes"])

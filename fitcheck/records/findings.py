"""What a check found, in three ranks: reject what cannot be, flag what surprises, note the rest."""

from __future__ import annotations

from enum import StrEnum

from fitcheck.dataclass_later import dataclass


class Rank(StrEnum):
    """What a finding means for its record: not accepted, kept and shown as flagged, or good to know."""

    REJECT = "reject"
    FLAG = "flag"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """``code`` is a stable short name (``peak-over-card``), ``message`` one sentence with the numbers."""

    rank: Rank
    code: str
    message: str


def reject(code: str, message: str) -> Finding:
    """A finding for which the record is not accepted."""
    return Finding(Rank.REJECT, code, message)


def flag(code: str, message: str) -> Finding:
    """A finding with which the record is kept and shown as flagged."""
    return Finding(Rank.FLAG, code, message)


def note(code: str, message: str) -> Finding:
    """A finding that changes nothing for the record."""
    return Finding(Rank.NOTE, code, message)

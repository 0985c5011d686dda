"""What a check found, in three ranks: reject what cannot be, flag what surprises, note the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Rank(StrEnum):
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
    return Finding(Rank.REJECT, code, message)


def flag(code: str, message: str) -> Finding:
    return Finding(Rank.FLAG, code, message)


def note(code: str, message: str) -> Finding:
    return Finding(Rank.NOTE, code, message)

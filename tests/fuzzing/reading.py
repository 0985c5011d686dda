"""What a reader is for the fuzzer: how an input is made and how it is read."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "models"))


import fitcheck

CAPTURES = ROOT / "tests" / "records" / "data" / "captures"
CARD = {"ram": "32GB", "disk": "500GB", "display": False}
Case = Callable[[random.Random], bytes]
Read = Callable[[bytes, Path], object]


@dataclass(frozen=True)
class Reader:
    """``room`` is the address space in bytes that reading may take beside what was loaded before."""

    name: str
    case: Case
    read: Read
    room: int = 1 << 30


def check(target: Path | str, offline: bool = True) -> None:
    """The whole walk from a file to the answer, as one of the commands would go."""
    report = fitcheck.check(str(target), "RTX 4070", ram="32GB", disk="500GB", display=False, offline=offline)
    json.dumps(report.to_json(), allow_nan=False)


class Bytes:
    """A ByteSource over bytes; beyond them up to ``size`` it reads zeros."""

    name = "hostile"

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self._data = data
        self.size: int | None = max(len(data), size or 0)

    def read(self, offset: int, length: int) -> bytes:
        held = self._data[offset : offset + length]
        missing = max(0, min(offset + length, self.size or 0) - offset - len(held))
        return held + bytes(missing)

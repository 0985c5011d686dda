"""What the comparisons of many cells share: a cell against what llama.cpp printed of it, and what is said of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

LIMIT = 0.005
Compared = tuple[float, str]


@dataclass(frozen=True)
class Cell:
    """``theirs`` is what llama.cpp printed, MiB by buffer, or how it refused; ``known`` an error that it may have."""

    name: str
    theirs: Mapping[str, float] | str
    compared: Callable[[Mapping[str, float]], Compared]
    known: float = 0.0


def worst(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Compared:
    """The worst buffer of a cell, as a share and in words."""
    off = {
        name: abs(ours.get(name, 0.0) / size - 1) for name, size in theirs.items() if size >= 1 and "output" not in name
    }
    name = max(off, key=lambda one: off[one])
    return off[name], f"{name}: {theirs[name]} MiB printed, {ours.get(name)} here"


def tell(cells: Iterable[Cell]) -> None:
    """Print each cell, and how many are within the limit."""
    shares = []
    for cell in cells:
        if isinstance(cell.theirs, str):
            print(f"--  {cell.name} refused there: {cell.theirs}", flush=True)
            continue
        share, words = cell.compared(cell.theirs)
        mark = "ok " if share <= LIMIT else "far" if share <= cell.known else "OFF"
        print(f"{mark} {cell.name} {share:.2%} {words}", flush=True)
        shares.append(share)
    within = sum(share <= LIMIT for share in shares)
    print(f"{len(shares)} cells, {within} within {LIMIT:.1%}, worst {max(shares, default=0.0):.2%}")

"""Cards beside each other: which stand next to one by memory and time or by price, and which of two is quicker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fitcheck.pages.view import RUNS


def neighbours(rows: Sequence[Mapping[str, Any]], each_side: int = 2) -> dict[str, list[Mapping[str, Any]]]:
    """By card the rows around it when the model's cards stand by memory, then time; the card itself included."""

    def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        seconds = row["seconds"]["best"] if row["seconds"] is not None else float("inf")
        return row["memory"], -seconds, row["card"]

    ordered = sorted(rows, key=key)
    return {row["card"]: _around(ordered, position, each_side) for position, row in enumerate(ordered)}


def by_price(rows: Sequence[Mapping[str, Any]], card: str, each_side: int = 3) -> list[Mapping[str, Any]]:
    """The rows around a card by launch price, of those whose price is known; the card itself included."""
    known = [row for row in rows if row["price"] is not None or row["card"] == card]
    ordered = sorted(known, key=lambda row: (row["price"] or 0, row["card"]))
    position = next((index for index, row in enumerate(ordered) if row["card"] == card), None)
    return [] if position is None else _around(ordered, position, each_side)


def _around(ordered: list[Mapping[str, Any]], position: int, each_side: int) -> list[Mapping[str, Any]]:
    first = max(0, min(position - each_side, len(ordered) - 2 * each_side - 1))
    return ordered[first : first + 2 * each_side + 1]


def quicker(row: Mapping[str, Any]) -> int | None:
    """Which of two cells is expected to be quicker by a tenth or more; ``None`` where neither is, or one runs not."""
    cells = row["cells"]
    if any(cell["verdict"] not in RUNS for cell in cells):
        return None
    name = "pace" if cells[0]["pace"] else "seconds"
    first, second = (cell[name] for cell in cells)
    if first is None or second is None:
        return None
    sign = -1 if name == "pace" else 1
    lead = sign * (first["best"] - second["best"])
    clear = abs(first["best"] - second["best"]) > 0.1 * min(first["best"], second["best"])
    return None if not clear else 0 if lead < 0 else 1

"""The runs of the packed index, of which a question reads those that it asks about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, overload

from fitcheck.records.run import CellKey, Run, TokenTest, tuples


class PackedRuns(Sequence[Run]):
    """The runs of a packed file, each read when it is asked for: a question needs those of one card and its kin."""

    def __init__(self, lines: Sequence[str]) -> None:
        """``lines`` are runs as ``pack`` writes them."""
        self._lines, self._made = lines, dict[int, Run]()
        self._by_card: dict[str, list[int]] = {}
        self._by_model: dict[str, list[int]] = {}
        for at, line in enumerate(lines):
            self._by_card.setdefault(_text_of(line, "card"), []).append(at)
            self._by_model.setdefault(_text_of(line, "model"), []).append(at)

    @property
    def cards(self) -> Iterable[str]:
        """Slugs of the cards that there are runs of."""
        return self._by_card

    def of_card(self, card: str) -> list[Run]:
        """The runs of one card."""
        return [self[at] for at in self._by_card.get(card, ())]

    def of_model(self, model: str) -> list[Run]:
        """The runs of one model."""
        return [self[at] for at in self._by_model.get(model, ())]

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> Run: ...

    @overload
    def __getitem__(self, at: slice) -> list[Run]: ...

    def __getitem__(self, at: int | slice) -> Run | list[Run]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        if at not in self._made:
            self._made[at] = row_of(json.loads(self._lines[at]))
        return self._made[at]


def _text_of(line: str, name: str) -> str:
    """The first text of that name in a line of a packed file; slugs have no sign that is written otherwise."""
    return line.partition(f'"{name}":"')[2].partition('"')[0]


def row_of(values: dict[str, Any]) -> Run:
    """A run as ``run_index.pack`` writes it."""
    cell = values.pop("cell")
    cell["sizes"] = tuple((name, tuples(value)) for name, value in cell["sizes"])
    values["tests"] = tuple(TokenTest(**test) for test in values.get("tests", ()))
    values["settings"] = tuple((name, value) for name, value in values.get("settings", ()))
    return Run(cell=CellKey(**cell), **values)

"""Ratings of models that others published, by purpose: ``data/public_scores.json``. fitcheck has no opinion of its own
which of two models is the better one."""

from __future__ import annotations

from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass


@dataclass(frozen=True, slots=True)
class Board:
    """A public leaderboard: its ``name``, address, and the day on which it read so; ``whole`` says that all of it was
    read, else its first rows."""

    name: str
    url: str
    date: str
    whole: bool

    @property
    def words(self) -> str:
        """``Arena's text leaderboard of 2026-09-30 (https://…)``."""
        return f"{self.name} of {self.date} ({self.url})"


@dataclass(frozen=True, slots=True)
class PublicScore:
    """The rating ``value``, right to ``spread`` on either side in 95 of 100 cases, under the board's own ``name`` for
    the model."""

    name: str
    value: int
    spread: int
    board: Board

    def to_json(self) -> dict[str, Any]:
        """With the board's name, address and day."""
        return {
            "value": self.value,
            "spread": self.spread,
            "name": self.name,
            "board": self.board.name,
            "source": self.board.url,
            "date": self.board.date,
        }


@cache
def board_named(name: str) -> Board:
    """The board of that key in the data file. Raises KeyError."""
    row = _boards()[name]
    return Board(row["name"], row["url"], row["date"], row["whole"])


@cache
def score_of(board: str, slug: str) -> PublicScore | None:
    """The rating of a catalog model on a board; ``None`` where it does not stand there."""
    row = _boards()[board]["scores"].get(slug)
    if row is None:
        return None
    name, value, spread = row
    return PublicScore(name, value, spread, board_named(board))


def _boards() -> dict[str, Any]:
    boards: dict[str, Any] = load("verdict", "public_scores")["boards"]
    return boards

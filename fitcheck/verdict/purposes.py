"""What people want a model for, in their words, and which catalog models and tasks that means. Data: purposes.json."""

from __future__ import annotations

from functools import cache
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.models import catalog
from fitcheck.models.families.base import Listing
from fitcheck.models.workload import Task
from fitcheck.verdict.public_scores import PublicScore, board_named, score_of


@dataclass(frozen=True, slots=True)
class Purpose:
    """``tasks`` answer it, by name; ``words`` must stand in a model's name where there are any; of the tasks in
    ``sees`` the model must take images; ``board`` is the public leaderboard by which they are ordered."""

    name: str
    makes: str
    tasks: tuple[str, ...]
    words: tuple[str, ...] = ()
    sees: tuple[str, ...] = ()
    board: str | None = None

    def task_of(self, listing: Listing) -> Task | None:
        """The task that a model is asked for this purpose; ``None`` when it does not serve it."""
        if self.words and not any(word in listing.slug.lower() for word in self.words):
            return None
        return next((task for task in listing.tasks if task in self.tasks and self._takes(task, listing)), None)

    def models(self) -> tuple[tuple[Listing, Task], ...]:
        """The catalog models that serve it, with the task each is asked."""
        return tuple((one, task) for one in catalog.listed() if (task := self.task_of(one)) is not None)

    def score(self, listing: Listing) -> PublicScore | None:
        """The model's rating for this purpose; ``None`` where no board has it."""
        return None if self.board is None else score_of(self.board, listing.slug)

    @property
    def order(self) -> str:
        """How its models are ordered, in words."""
        by_day = "newest first by the day of release, or first seen in a public list; those of unknown day last"
        if self.board is None:
            return f"{by_day}; no public score was found"
        return f"by the rating of {board_named(self.board).words}, then models it does not list, {by_day}"

    def _takes(self, task: Task, listing: Listing) -> bool:
        return task not in self.sees or listing.sees


@cache
def purposes() -> tuple[Purpose, ...]:
    """All of them, in the order in which they are shown."""
    rows = load("verdict", "purposes")["purposes"]
    return tuple(_purpose(name, row) for name, row in rows.items())


def _purpose(name: str, row: dict[str, Any]) -> Purpose:
    tasks, words, sees = (tuple(row.get(key, ())) for key in ("tasks", "words", "sees"))
    return Purpose(name, row["makes"], tasks, words, sees, row.get("board"))


def purpose_named(name: str) -> Purpose:
    """The purpose of that name. Raises OptionError naming those there are."""
    for one in purposes():
        if one.name == name.strip().lower():
            return one
    raise OptionError(f"--for: {name!r} is not known; choose from {', '.join(one.name for one in purposes())}.")

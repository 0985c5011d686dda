"""What people want a model for, in their words, and which catalog models and tasks that means. Data: purposes.json."""

from __future__ import annotations

from functools import cache

from fitcheck.data_files import load
from fitcheck.dataclass import dataclass
from fitcheck.errors import OptionError
from fitcheck.models import catalog
from fitcheck.models.families.base import Listing
from fitcheck.models.workload import Task


@dataclass(frozen=True, slots=True)
class Purpose:
    """``tasks`` answer it, by name; ``words`` must stand in a model's name where there are any; of the tasks in
    ``sees`` the model must take images."""

    name: str
    makes: str
    tasks: tuple[str, ...]
    words: tuple[str, ...] = ()
    sees: tuple[str, ...] = ()

    def task_of(self, listing: Listing) -> Task | None:
        """The task that a model is asked for this purpose; ``None`` when it does not serve it."""
        if self.words and not any(word in listing.slug.lower() for word in self.words):
            return None
        return next((task for task in listing.tasks if task in self.tasks and self._takes(task, listing)), None)

    def models(self) -> tuple[tuple[Listing, Task], ...]:
        """The catalog models that serve it, with the task each is asked."""
        return tuple((one, task) for one in catalog.listed() if (task := self.task_of(one)) is not None)

    def _takes(self, task: Task, listing: Listing) -> bool:
        return task not in self.sees or listing.sees


@cache
def purposes() -> tuple[Purpose, ...]:
    """All of them, in the order in which they are shown."""
    rows = load("verdict", "purposes")["purposes"]
    return tuple(
        Purpose(name, row["makes"], *(tuple(row.get(key, ())) for key in ("tasks", "words", "sees")))
        for name, row in rows.items()
    )


def purpose_named(name: str) -> Purpose:
    """The purpose of that name. Raises OptionError naming those there are."""
    for one in purposes():
        if one.name == name.strip().lower():
            return one
    raise OptionError(f"--for: {name!r} is not known; choose from {', '.join(one.name for one in purposes())}.")

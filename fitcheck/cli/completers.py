"""What a shell offers while a command is typed: models, cards, tiers and modes, from the names alone. A key that is
pressed may wait for a third of a second at most, so nothing here sizes or checks anything."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fitcheck.models.model import Model

# what a shell sets while a line is typed: the name that typer makes of the program's
COMPLETE = "_FITCHECK_COMPLETE"
MOST = 60
MOST_ENTRIES = 2_000
FILES = (".gguf", ".safetensors")


def line() -> list[str] | None:
    """The words of the line that a shell wants completed, the program's name left out and the last one unfinished;
    ``None`` where no shell does."""
    if COMPLETE not in os.environ:
        return None
    text = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
    return text.split()[1:] + [""] * text[-1:].isspace()


def models(incomplete: str) -> list[str]:
    """Names of the catalog; for what looks like a path the folders and model files that begin so."""
    if incomplete.startswith((".", "/", "~")):
        return _paths(incomplete)
    from fitcheck.models import catalog

    wanted = incomplete.lower()
    names = catalog.slugs()
    return _some([name for name in names if name.startswith(wanted)] or [name for name in names if wanted in name])


def cards(incomplete: str) -> list[str]:
    """Cards by their short names: the common ones, else any of the database that has the letters."""
    from fitcheck.hardware.catalog import common_cards

    wanted = incomplete.lower().replace(" ", "-")
    common = [card.slug for card in common_cards()]
    found = [name for name in common if name.startswith(wanted)] or [name for name in common if wanted in name]
    if found or len(wanted) < 2:
        return _some(found)
    from fitcheck.hardware.database import database, slug

    return _some(sorted({name for name in map(slug, database().names()) if wanted in name}))


def tiers(incomplete: str) -> list[str]:
    """Tiers of the model that was named, after the last comma; of language models' mixtures where none was."""
    from fitcheck.models.quant import BASE

    model = _named()
    names = list(BASE) if model is None else [tier.name for tier in model.tiers]
    before, comma, last = incomplete.rpartition(",")
    return _some(f"{before}{comma}{name}" for name in names if name.lower().startswith(last.lower()))


def modes(incomplete: str) -> list[str]:
    """Offload modes of the runtimes that take the model that was named, after the last comma; of all where none was."""
    from fitcheck.runtimes import registry

    model = _named()
    names = registry.names() if model is None else model.runtimes
    found = dict.fromkeys(mode for name in names for mode in registry.get(name).modes)
    before, comma, last = incomplete.rpartition(",")
    return _some(f"{before}{comma}{mode}" for mode in found if mode.startswith(last.lower()))


def tasks(incomplete: str) -> list[str]:
    """Tasks of the model that was named; all there are where none was."""
    from fitcheck.models.workload import Task

    model = _named()
    return [str(task) for task in (Task if model is None else model.tasks) if str(task).startswith(incomplete)]


def systems(incomplete: str) -> list[str]:
    """Operating systems."""
    from fitcheck.hardware.asked import SYSTEMS

    return [name for name in SYSTEMS if name.startswith(incomplete.lower())]


def purposes(incomplete: str) -> list[str]:
    """What people want a model for."""
    from fitcheck.verdict.purposes import purposes as known

    return [one.name for one in known() if one.name.startswith(incomplete.lower())]


def _named() -> Model | None:
    """The first model on the line so far; ``None`` where there is none."""
    from fitcheck.models import catalog

    return next((model for word in line() or () if (model := catalog.known(word.strip("'\""))) is not None), None)


def _paths(incomplete: str) -> list[str]:
    place = Path(incomplete).expanduser()
    folder, start = (place, "") if incomplete.endswith("/") else (place.parent, place.name)
    typed = incomplete[: len(incomplete) - len(start)]
    found = []
    with suppress(OSError, ValueError):
        for count, entry in enumerate(folder.iterdir()):
            if count >= MOST_ENTRIES:
                break
            if entry.name.startswith(start) and entry.name.isprintable():
                if entry.is_dir():
                    found.append(f"{typed}{entry.name}/")
                elif entry.name.endswith(FILES):
                    found.append(f"{typed}{entry.name}")
    return _some(sorted(found))


def _some(names: Iterable[str]) -> list[str]:
    return list(names)[:MOST]

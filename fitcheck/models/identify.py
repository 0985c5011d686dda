"""The model that lies in a file, a folder or a repository.

Reads headers alone, of a bounded number of tiers; families are asked in order whether they know what was found.
"""

from __future__ import annotations

from collections.abc import Sequence

from fitcheck.errors import FileError, InputError
from fitcheck.models.candidates import Candidate
from fitcheck.models.companions import best_projector
from fitcheck.models.families import registry
from fitcheck.models.families.base import Found, ReadTier, Recognized
from fitcheck.models.gguf import GgufHeader
from fitcheck.models.resolve import Resolved

MOST_TIERS = 40


def identify(found: Resolved, tiers: Sequence[str] = (), size: int | None = None) -> tuple[Recognized, list[str]]:
    """The model that lies there, and notes on tiers that were not read. Raises InputError when none can be read.

    A tier that cannot be read is left out with a note, unless it is the only one.
    """
    chosen, notes = _chosen(found, tiers, size)
    read, problems = _models(*_read(found, chosen))
    projector = best_projector(found.projectors) if chosen[0].format == "gguf" else None
    place = Found(
        found.name,
        tuple(read),
        found.repository,
        found.pipeline,
        found.config,
        found.projectors,
        None if projector is None else _projector(found, projector, problems),
    )
    model = next(one for family in registry.each() if (one := family.recognize(place)) is not None)
    return model, [*notes, *(f"Left out: {problem}" for problem in problems)]


def _chosen(found: Resolved, tiers: Sequence[str], size: int | None) -> tuple[list[Candidate], list[str]]:
    """The candidates to read, and what to say of those that are not read."""
    if tiers:
        return list({one.files: one for name in tiers for one in found.candidates_named(name)}.values()), []
    ready = [candidate for candidate in found.candidates if candidate.format == "gguf"]
    offered = ready or list(found.candidates)
    notes = [] if len(ready) in (0, len(found.candidates)) else ["Checkpoints beside the GGUF files are not looked at."]
    if len(offered) <= MOST_TIERS:
        return offered, notes
    # the tiers about as large as the card are those that the answer is about
    nearest = sorted(offered, key=lambda candidate: abs((candidate.disk_bytes or 0) - (size or 0)))[:MOST_TIERS]
    notes.append(f"{len(offered) - MOST_TIERS} of {len(offered)} tiers were not read; name one with --tier.")
    return [candidate for candidate in offered if candidate in nearest], notes


def _read(found: Resolved, candidates: Sequence[Candidate]) -> tuple[list[ReadTier], list[InputError]]:
    found.preload(candidates)
    read: list[ReadTier] = []
    problems: list[InputError] = []
    for candidate in candidates:
        try:
            read.append(ReadTier(candidate, found.header(candidate), found.tier(candidate)))
        except InputError as problem:
            problems.append(problem)
    if not read:
        raise problems[0]
    return read, problems


def _projector(found: Resolved, path: str, problems: list[InputError]) -> GgufHeader | None:
    """The header of a projector beside the model; ``None``, and a problem more, where it cannot be read."""
    try:
        return found.beside(path)
    except InputError as problem:
        problems.append(problem)
        return None


def _models(read: Sequence[ReadTier], problems: list[InputError]) -> tuple[list[ReadTier], list[InputError]]:
    """Without adapters, projectors and the like, which are no tier. Raises FileError when there is nothing else."""
    models = []
    for one in read:
        why = next((why for family in registry.every() if (why := family.refuses(one)) is not None), None)
        if why is None:
            models.append(one)
        else:
            problems.append(FileError(f"{one.candidate.files[0]}: {why}."))
    if not models:
        raise problems[-1]
    return models, problems

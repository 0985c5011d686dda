"""From recordings of one call at several sizes to the packed form that ``fitcheck.runtimes.diffusers.traces`` reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from bench.tracing.fitting import Inexact, PolynomialFit, Sizes, Term
from bench.tracing.recorder import ALLOCATE, ENTER, FREE, LEAVE, WORKSPACE, Recording

# a workspace is written as a leave with a number behind it
_TAGS = {ALLOCATE: 0, FREE: 1, ENTER: 2, LEAVE: 3}
_SIZED = (ALLOCATE, WORKSPACE)


class Unpackable(Exception):
    """The recordings are not one sequence of events at several sizes."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A part of a call that repeats with a size: between entries of the module ``path``, once for ``every`` of
    ``variable``, of which ``rest`` are left over, the first ``first`` times unlike the others."""

    path: str
    variable: str
    first: int = 2
    every: int = 1
    rest: int = 0


def pack_whole(
    few: Sequence[tuple[Sizes, Recording]], whole: Sequence[tuple[Sizes, Recording]], variables: Sequence[str],
    terms: Sequence[Term],
) -> dict[str, Any]:  # fmt: skip
    """The packed call of ``whole``, whose blocks are those of ``few`` repeated: polynomials are fitted on ``few``, and
    found again by their values at the sizes of ``whole``. Raises Unpackable."""
    skeleton = _skeleton(few[0][1])
    for sizes, recording in few[1:]:
        _require_same(skeleton, _skeleton(recording), sizes)
    for sizes, recording in whole[1:]:
        _require_same(_skeleton(whole[0][1]), _skeleton(recording), sizes)
    at = [next(i for i, (sizes, _) in enumerate(few) if sizes == wanted) for wanted, _ in whole]
    fit = PolynomialFit(variables, terms, [sizes for sizes, _ in few])
    table = _Table(fit)
    known = _by_ends(list(zip(*(_values(one) for _, one in few), strict=True)), at)
    columns = list(zip(*(_values(one) for _, one in whole), strict=True))
    numbers = [table.number(_found(known, column, len(few))) for column in columns]
    events, paths = _encoded(whole[0][1], numbers)
    totals = {name: [_summed(few, whole, at, table, which)] for which, name in ((1, "flops"), (2, "moved"))}
    totals["inputs"] = [table.number([one.inputs for _, one in few])]
    totals["outputs"] = _left(whole[0][1], numbers)
    totals |= _kept(whole[0][1], numbers)
    return {
        "variables": list(variables), "terms": [list(term) for term in terms], "polynomials": table.rows,
        "events": events, "paths": paths, "totals": totals, "checks": fit.checks,
        "sizes": [dict(sizes) for sizes, _ in few], "whole": [dict(sizes) for sizes, _ in whole],
    }  # fmt: skip


Columns = Mapping[tuple[int, ...], tuple[int, ...] | None]


def _by_ends(columns: Sequence[tuple[int, ...]], at: Sequence[int]) -> Columns:
    """Values at all sizes by those at the positions ``at``; ``None`` where two have the same ends."""
    found: dict[tuple[int, ...], tuple[int, ...] | None] = {}
    for column in columns:
        ends = tuple(column[i] for i in at)
        found[ends] = column if found.get(ends, column) == column else None
    return found


def _found(known: Columns, ends: tuple[int, ...], count: int) -> tuple[int, ...]:
    """A column of ``count`` sizes by its ends; what is of no block and the same at both ends hangs on the number of
    blocks alone, as Chroma's table of modulations does."""
    column = known.get(ends)
    if column is None and ends not in known and len(set(ends)) == 1:
        return (ends[0],) * count
    if column is None:
        raise Unpackable(f"{ends} is of no block, or of several")
    return column


def _summed(
    few: Sequence[tuple[Sizes, Recording]], whole: Sequence[tuple[Sizes, Recording]], at: Sequence[int], table: _Table,
    which: int,
) -> int:  # fmt: skip
    """The polynomial of all work: the sum of those of its pieces."""
    known = _by_ends(list(zip(*([row[which] for row in one.work] for _, one in few), strict=True)), at)
    ends = Counter(zip(*([row[which] for row in one.work] for _, one in whole), strict=True))
    totals = [0] * len(few)
    for one, count in ends.items():
        for position, value in enumerate(_found(known, one, len(few))):
            totals[position] += count * value
    return table.number(totals)


def _left(recording: Recording, numbers: Sequence[int]) -> list[int]:
    """Polynomials of what is alive at the end."""
    alive: dict[int, int] = {}
    left, made = iter(numbers), 0
    for kind, value in recording.events:
        if kind in _SIZED:
            number = next(left)
            if kind == ALLOCATE:
                alive[made] = number
                made += 1
        elif kind == FREE:
            del alive[value]
    return list(alive.values())


def _kept(recording: Recording, numbers: Sequence[int]) -> dict[str, list[int]]:
    """Polynomials of what is kept for later calls; nothing where nothing is."""
    kinds = (kind for kind, _ in recording.events if kind in _SIZED)
    made = [number for kind, number in zip(kinds, numbers, strict=True) if kind == ALLOCATE]
    return {"kept": [made[at] for at in recording.kept]} if recording.kept else {}


def pack(
    recordings: Sequence[tuple[Sizes, Recording]], variables: Sequence[str], terms: Sequence[Term],
    loop: Loop | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The packed call. Raises Unpackable."""
    if loop is not None:
        return _pack_loop(recordings, variables, terms, loop)
    skeleton = _skeleton(recordings[0][1])
    for sizes, recording in recordings[1:]:
        _require_same(skeleton, _skeleton(recording), sizes)
    fit = PolynomialFit(variables, terms, [sizes for sizes, _ in recordings])
    table = _Table(fit)
    columns = list(zip(*(_values(recording) for _, recording in recordings), strict=True))
    events, paths = _encoded(recordings[0][1], [table.number(column) for column in columns])
    totals = {
        name: [table.number([getattr(recording, name) for _, recording in recordings])]
        for name in ("flops", "moved", "inputs", "outputs")
    }
    return {
        "variables": list(variables), "terms": [list(term) for term in terms], "polynomials": table.rows,
        "events": events, "paths": paths, "totals": totals, "checks": fit.checks,
        "sizes": [dict(sizes) for sizes, _ in recordings],
    }  # fmt: skip


class _Table:
    """Distinct polynomials by number."""

    def __init__(self, fit: PolynomialFit) -> None:
        self._fit = fit
        self._numbers: dict[tuple[int, ...], int] = {}
        self._seen: dict[tuple[int, ...], int] = {}

    def number(self, values: Sequence[int]) -> int:
        key = tuple(values)
        if key not in self._seen:
            try:
                row = self._fit.packed(key)
            except Inexact as error:
                raise Unpackable(f"no exact polynomial: {error}") from error
            self._seen[key] = self._numbers.setdefault(row, len(self._numbers))
        return self._seen[key]

    @property
    def checks(self) -> int:
        """Values beyond those that the coefficients were solved from."""
        return self._fit.checks

    @property
    def rows(self) -> list[list[int]]:
        return [list(row) for row in self._numbers]


def _values(recording: Recording) -> list[int]:
    return [value for kind, value in recording.events if kind in _SIZED]


def _skeleton(recording: Recording) -> list[Any]:
    return [kind if kind in _SIZED else (kind, value) for kind, value in recording.events]


def _sized(kind: str, number: int) -> int:
    """The code of an allocation or of a workspace with the polynomial of that number."""
    return number * 4 + _TAGS[ALLOCATE] if kind == ALLOCATE else (number + 1) * 4 + _TAGS[LEAVE]


def _require_same(one: list[Any], other: list[Any], sizes: Sizes) -> None:
    if one == other:
        return
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    raise Unpackable(f"another sequence at {dict(sizes)} from event {at} of {len(one)}/{len(other)}: "
                     f"{one[at:at + 2]} {other[at:at + 2]}")  # fmt: skip


def _encoded(recording: Recording, numbers: Sequence[int], absolute_before: int = -1) -> tuple[list[int], list[str]]:
    """Events as integers: frees count back from the newest allocation, those of allocations up to ``absolute_before``
    from the first (below zero)."""
    paths: dict[str, int] = {}
    events: list[int] = []
    left, made = iter(numbers), 0
    for kind, value in recording.events:
        if kind in _SIZED:
            events.append(_sized(kind, next(left)))
            made += kind == ALLOCATE
        elif kind == FREE:
            back = -1 - value if value <= absolute_before else made - 1 - value
            events.append(back * 4 + _TAGS[FREE])
        else:
            events.append((paths.setdefault(value, len(paths)) if kind == ENTER else 0) * 4 + _TAGS[kind])
    return events, list(paths)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A recording's events before, in and after the repeats, allocations and workspaces by their kind, and the bytes of
    these."""

    parts: tuple[tuple[int | str, ...], ...]
    values: tuple[tuple[int, ...], ...]
    work: tuple[tuple[int, int], ...]
    paths: list[str]

    @property
    def steps(self) -> int:
        return len(self.parts) - 2


def _without_last_frees(recording: Recording, loop: Loop) -> Recording:
    """A recording without the frees, behind its last allocation, of what the repeats made: there is one for each, and
    nothing can come of them."""
    events = recording.events
    entered = next((at for at, event in enumerate(events) if event == (ENTER, loop.path)), 0)
    first = sum(kind == ALLOCATE for kind, _ in events[:entered])
    last = max((at for at, (kind, _) in enumerate(events) if kind in _SIZED), default=-1)
    return replace(recording, events=[e for at, e in enumerate(events) if at < last or e[0] != FREE or e[1] < first])


def _cut(recording: Recording, loop: Loop) -> _Cut:
    entries = [i for i, event in enumerate(recording.events) if event == (ENTER, loop.path)]
    if len(entries) < loop.first + 2:
        raise Unpackable(f"{loop.path} is entered {len(entries)} times only")
    length = entries[loop.first + 1] - entries[loop.first]
    edges = [
        0,
        *(entries[loop.first] + length * i for i in range(len(entries) - loop.first + 1)),
        len(recording.events),
    ]
    before = sum(kind == ALLOCATE for kind, _ in recording.events[: entries[0]])
    codes, paths = _encoded(recording, [0] * len(_values(recording)), before - 1)
    sizes, values, parts = _values(recording), [], []
    made = 0
    for since, until in pairwise(edges):
        kinds = [kind for kind, _ in recording.events[since:until]]
        part = tuple(k if k in _SIZED else code for k, code in zip(kinds, codes[since:until], strict=True))
        count = sum(k in _SIZED for k in kinds)
        parts.append(part)
        values.append(tuple(sizes[made : made + count]))
        made += count
    work = tuple(
        (sum(row[1] for row in recording.work if since <= row[0] < until),
         sum(row[2] for row in recording.work if since <= row[0] < until))
        for since, until in pairwise([*edges[:-1], len(recording.events) + 1])
    )  # fmt: skip
    return _Cut(tuple(parts), tuple(values), work, paths)


def _pack_loop(
    recordings: Sequence[tuple[Sizes, Recording]], variables: Sequence[str], terms: Sequence[Term], loop: Loop
) -> dict[str, Any]:
    """Repeats after the first few are one stretch of events; their bytes may depend on their number (``step``)."""
    cuts = [_cut(recording, loop) for _, recording in recordings]
    if any(len(cut.parts[-1]) != len(cuts[0].parts[-1]) for cut in cuts):
        cuts = [_cut(_without_last_frees(recording, loop), loop) for _, recording in recordings]
    for (sizes, _), cut in zip(recordings, cuts, strict=True):
        if cut.steps != sizes[loop.variable] // loop.every - loop.first:
            raise Unpackable(f"{cut.steps} repeats at {dict(sizes)}")
        for name, mine, theirs in (
            ("before", cut.parts[0], cuts[0].parts[0]), ("after", cut.parts[-1], cuts[0].parts[-1]),
            *(("in", part, cuts[0].parts[1]) for part in cut.parts[1:-1]),
        ):  # fmt: skip
            if mine != theirs:
                at = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), -1)
                raise Unpackable(f"another sequence {name} the repeats at {dict(sizes)}, event {at}")
    names = (*variables, "step")
    wide = [(*term, 0) for term in terms] + [(*term, 1) for term in terms]
    once = _Table(PolynomialFit(names, wide, [{**sizes, "step": 0} for sizes, _ in recordings]))
    points = [{**sizes, "step": loop.first + i} for (sizes, _), cut in zip(recordings, cuts, strict=True)
              for i in range(cut.steps)]  # fmt: skip
    repeated = _Table(PolynomialFit(names, wide, points))
    head = [once.number(column) for column in zip(*(cut.values[0] for cut in cuts), strict=True)]
    tail = [once.number(column) for column in zip(*(cut.values[-1] for cut in cuts), strict=True)]
    steps = [values for cut in cuts for values in cut.values[1:-1]]
    inside = [repeated.number(column) for column in zip(*steps, strict=True)]
    totals, per_step = {}, {}
    for at, name in enumerate(("flops", "moved")):
        totals[name] = [once.number([cut.work[0][at] + cut.work[-1][at] for cut in cuts])]
        per_step[name] = [repeated.number([work[at] for cut in cuts for work in cut.work[1:-1]])]
    for name in ("inputs", "outputs"):
        totals[name] = [once.number([getattr(recording, name) for _, recording in recordings])]
    shift = len(once.rows)
    events = _filled(cuts[0].parts[0], head)
    since = len(events)
    events += _filled(cuts[0].parts[1], [shift + number for number in inside])
    until = len(events)
    return {
        "variables": list(variables), "terms": [list(term) for term in wide],
        "polynomials": once.rows + repeated.rows, "events": events + _filled(cuts[0].parts[-1], tail),
        "paths": cuts[0].paths, "totals": totals,
        "repeat": {"variable": loop.variable, "first": loop.first, "from": since, "until": until,
                   **({} if loop.every == 1 else {"every": loop.every, "rest": loop.rest}),
                   "totals": {name: [shift + one for one in found] for name, found in per_step.items()}},
        "checks": min(once.checks, repeated.checks), "sizes": [dict(sizes) for sizes, _ in recordings],
    }  # fmt: skip


def _filled(part: Sequence[int | str], numbers: Sequence[int]) -> list[int]:
    """The events with the polynomials of their allocations and workspaces."""
    left = iter(numbers)
    return [_sized(code, next(left)) if isinstance(code, str) else code for code in part]

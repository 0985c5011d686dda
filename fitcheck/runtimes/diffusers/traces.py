"""What a component allocates and frees in one call, for any size: packed traces of the real modules.

``data/traces/<key>.json.gz`` holds the sequence of events of each call, and the bytes of each allocation as a
polynomial in the size variables, fitted exactly (``scripts/pack_traces.py``, which runs the modules on fake tensors).
Convolutions' workspaces are events of their own; what fused attention keeps beside its output is no part of it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

from fitcheck.data_files import load, path_of
from fitcheck.dataclass_later import dataclass
from fitcheck.memory import dequantization
from fitcheck.memory.caching_allocator import ALIGNMENT

# kinds of events, the first four as the lowest two bits of a packed one
ALLOCATE, FREE, ENTER, LEAVE, WORKSPACE = range(5)
# behind the name of a call whose attention keeps every score, as releases do that do not fuse it
PLAIN = "@plain"
# variables that a call may leave out
_DEFAULTS = {"batch": 1, "frames": 1, "text": 1, "tokens": 1, "seen": 0, "sound": 0}

# module path → ggml type and elements of the linear's weight there
Quantized = Mapping[str, tuple[str, int]]
NOTHING: Quantized = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Activations:
    """One call: most bytes alive at once of what it makes, rounded as torch's allocator rounds; its floating point
    operations; bytes that its kernels read and write; bytes of its outputs and of the inputs that it was handed;
    ``workspace`` is how far convolutions rise above that peak, copies of input and output in cuDNN's order."""

    peak: int
    flops: int
    nbytes: int
    outputs: int
    inputs: int
    workspace: int = 0


class Event(NamedTuple):
    """``ALLOCATE`` with bytes, ``WORKSPACE`` with bytes that are there for a moment, ``FREE`` with the number of the
    allocation (from 0), ``ENTER`` and ``LEAVE`` with a module's path. ``grows`` says of bytes before a loop that they
    are more the longer it is."""

    kind: int
    value: int = 0
    path: str = ""
    grows: bool = False


# repeats of a loop that a shortened call keeps at its beginning and at its end: what the result leaves in pieces as it
# grows counts, so that nothing is left out of the usual videos
_FIRST_STEPS, _LAST_STEPS = 48, 3


class Call:
    """One method of a component: ``forward``, ``decode`` or ``encode``. ``uncopied`` are parts of the paths of modules
    whose convolution copies nothing: of any picture, and of several."""

    def __init__(self, packed: Mapping[str, Any], uncopied: tuple[str, str] | None = None) -> None:
        self._uncopied = uncopied
        self.variables: tuple[str, ...] = tuple(packed["variables"])
        self._terms = [tuple(term) for term in packed["terms"]]
        self._polynomials, self._packed, self._paths = packed["polynomials"], packed["events"], packed["paths"]
        self._repeat = packed.get("repeat")
        self._totals = packed["totals"]

    def values(self, sizes: Mapping[str, int], step: int = 0) -> list[int]:
        """Bytes of every distinct allocation at these sizes. Raises KeyError for a variable without a value."""
        given = {**self._given(sizes), "step": step}
        terms = [_power(term, self.variables, given) for term in self._terms]
        return [
            sum(c * terms[i] for i, c in zip(row[1::2], row[2::2], strict=True)) // row[0] for row in self._polynomials
        ]

    def _given(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """All variables. Of a loop over several at a time the next number that was traced, which is more."""
        given = {**_DEFAULTS, **sizes}
        if self._repeat is not None and "every" in self._repeat:
            name = self._repeat["variable"]
            given[name] += (self._repeat["rest"] - given[name]) % self._repeat["every"]
        return given

    def uncopied_of(self, sizes: Mapping[str, int]) -> tuple[str, ...]:
        """Of ``uncopied`` the parts that count at these sizes."""
        return () if self._uncopied is None else self._uncopied[: 1 + (sizes.get("batch", 1) > 1)]

    def total(self, name: str, sizes: Mapping[str, int]) -> int:
        """``flops``, ``moved``, ``inputs``, ``outputs`` or ``kept`` (bytes left for later calls that are no result) of
        the whole call."""
        values = self.values(sizes)
        once: int = sum(values[i] for i in self._totals.get(name, ()))
        if self._repeat is None or name not in self._repeat["totals"]:
            return once
        chosen: list[int] = self._repeat["totals"][name]
        return once + sum(self.values(sizes, step)[i] for step in self._steps(sizes) for i in chosen)

    def repeats(self, sizes: Mapping[str, int]) -> int:
        """How often a loop runs, its first time included; 1 for a call without one."""
        return 1 if self._repeat is None else max(1, self._repeat["first"] + len(self._steps(sizes)))

    def _steps(self, sizes: Mapping[str, int]) -> range:
        """Numbers of the repeats; none for a call without a loop."""
        if self._repeat is None:
            return range(0)
        repeats = self._given(sizes)[self._repeat["variable"]] // self._repeat.get("every", 1)
        return range(self._repeat["first"], repeats)

    def _codes(
        self, sizes: Mapping[str, int], without: frozenset[int] = frozenset()
    ) -> Iterator[tuple[list[int], int, list[int]]]:
        """(packed events, where in them to begin, bytes by polynomial), a stretch at a time; of repeats ``without`` no
        events and no bytes, but the number of allocations."""
        values = self.values(sizes)
        if self._repeat is None:
            yield self._packed, 0, values
            return
        at, until = self._repeat["from"], self._repeat["until"]
        yield self._packed[:at], 0, values
        inside = self._packed[at:until]
        each = sum(code & 3 == ALLOCATE for code in inside)
        for step in self._steps(sizes):
            yield ([], each, []) if step in without else (inside, at, self.values(sizes, step))
        yield self._packed[until:], until, values

    def events(self, sizes: Mapping[str, int], without: frozenset[int] = frozenset()) -> Iterator[Event]:
        """Everything in order, but for the repeats ``without``; allocations keep their numbers."""
        made, stack = 0, []
        uncopied = self.uncopied_of(sizes)
        for codes, at, values in self._codes(sizes, without):
            if not values:
                made += at
                continue
            before = self._growing if at == 0 and self._repeat is not None else ()
            for code in codes:
                kind, value = code & 3, code >> 2
                if kind == ALLOCATE:
                    made += 1
                    yield Event(ALLOCATE, values[value], grows=value in before)
                elif kind == FREE:
                    # counted back from the newest; below zero from the first
                    yield Event(FREE, made - 1 - value if value >= 0 else -1 - value)
                elif kind == ENTER:
                    stack.append(self._paths[value])
                    yield Event(ENTER, path=stack[-1])
                elif value:  # a leave has no value of its own
                    if not any(part in stack[-1] for part in uncopied):
                        yield Event(WORKSPACE, values[value - 1], grows=value - 1 in before)
                else:
                    yield Event(LEAVE, path=stack.pop())

    @cached_property
    def _growing(self) -> frozenset[int]:
        """Numbers of the polynomials in which the variable of the loop is."""
        assert self._repeat is not None
        place = self.variables.index(self._repeat["variable"])
        return frozenset(
            number for number, row in enumerate(self._polynomials) if any(self._terms[i][place] for i in row[1::2])
        )

    def shortened(self, sizes: Mapping[str, int]) -> tuple[list[Event], int]:
        """``events`` with long runs of equal blocks cut to a few, in which the same bytes are alive, and the number of
        allocations that were left out. Numbers of allocations count what is left."""
        if self._repeat is not None:
            return self._fewer_steps(sizes)
        values, found, stack, uncopied = self.values(sizes), [], list[str](), self.uncopied_of(sizes)
        made, cuts = 0, iter(self._cuts)
        cut = next(cuts, None)
        gone: list[tuple[int, int]] = []  # (first allocation that was left out, how many)
        at, codes = 0, self._packed
        while at < len(codes):
            if cut is not None and at == cut[0]:
                at, left_out = cut[1], cut[2]
                gone.append((made, left_out))
                made, cut = made + left_out, next(cuts, None)
                continue
            kind, value = codes[at] & 3, codes[at] >> 2
            at += 1
            if kind == ALLOCATE:
                made += 1
                found.append(Event(ALLOCATE, values[value]))
            elif kind == FREE:
                number = made - 1 - value if value >= 0 else -1 - value
                found.append(Event(FREE, number - sum(count for first, count in gone if first <= number)))
            elif kind == ENTER:
                stack.append(self._paths[value])
                found.append(Event(ENTER, path=stack[-1]))
            elif value:
                if not any(part in stack[-1] for part in uncopied):
                    found.append(Event(WORKSPACE, values[value - 1]))
            else:
                found.append(Event(LEAVE, path=stack.pop()))
        return found, sum(count for _, count in gone)

    def _fewer_steps(self, sizes: Mapping[str, int]) -> tuple[list[Event], int]:
        """The first repeats and the last: a repeat leaves as many tensors as it finds, the last the largest."""
        assert self._repeat is not None
        steps = list(self._steps(sizes))
        skipped = steps[_FIRST_STEPS:-_LAST_STEPS]
        inside = self._packed[self._repeat["from"] : self._repeat["until"]]
        each = sum(code & 3 == ALLOCATE for code in inside)
        before = sum(code & 3 == ALLOCATE for code in self._packed[: self._repeat["from"]])
        first, gone = before + each * len(steps[:_FIRST_STEPS]), each * len(skipped)
        found = list(self.events(sizes, frozenset(skipped)))
        late = (event.kind == FREE and event.value >= first for event in found)
        return [Event(FREE, event.value - gone) if is_ else event for event, is_ in zip(found, late, strict=True)], gone

    @cached_property
    def _cuts(self) -> tuple[tuple[int, int, int], ...]:
        """(from, until, allocations between) of stretches that may be left out: blocks of a list from the fourth to the
        last but one, where each does what the third does and leaves as many tensors as it finds."""
        starts: dict[str, list[tuple[int, int]]] = {}
        heads = [list_of(path) for path in self._paths]
        made = 0
        for at, code in enumerate(self._packed):
            if code & 3 == ALLOCATE:
                made += 1
            elif code & 3 == ENTER and (head := heads[code >> 2]):
                starts.setdefault(head, []).append((at, made))
        return tuple(self._cut(blocks) for blocks in starts.values() if self._alike([at for at, _ in blocks]))

    @staticmethod
    def _cut(blocks: list[tuple[int, int]]) -> tuple[int, int, int]:
        return blocks[3][0], blocks[-1][0], blocks[-1][1] - blocks[3][1]

    def _alike(self, places: list[int]) -> bool:
        if len(places) < 6:
            return False
        shape = self._shape(places[2], places[3])
        kinds = [code & 3 for code in shape]
        return kinds.count(ALLOCATE) == kinds.count(FREE) and all(
            self._shape(*ends) == shape for ends in pairwise(places[3:])
        )

    def _shape(self, first: int, last: int) -> list[int]:
        """A stretch of packed events without the names of modules."""
        return [code & 3 if code & 3 == ENTER else code for code in self._packed[first:last]]


def list_of(path: str) -> str:
    """``"blocks"`` for ``"blocks.7"``; empty for what is no entry of an outermost list."""
    head, _, index = path.rpartition(".")
    return head if index.isdecimal() and not any(part.isdecimal() for part in head.split(".")) else ""


def _power(term: tuple[int, ...], variables: tuple[str, ...], given: Mapping[str, int]) -> int:
    value = 1
    for name, exponent in zip((*variables, "step"), term, strict=False):
        value *= int(given[name]) ** exponent
    return value


class Trace:
    """The calls of one component."""

    def __init__(self, key: str, packed: Mapping[str, Any]) -> None:
        self.key = key
        self.software: Mapping[str, str] = packed["software"]
        known = load("runtimes.diffusers", "workspaces")["uncopied"]
        uncopied = (known["always"], known["of_several"]) if packed.get("class") in known["classes"] else None
        self.calls = {name: Call(one, uncopied) for name, one in packed["calls"].items()}

    def call(self, name: str, sizes: Mapping[str, int]) -> Call:
        """The method as it runs for the batch of ``sizes``: several pictures at once may take other operators, and so
        may pictures handed in (``pictures``). Where only one picture was traced, bytes count once for each. Raises
        KeyError."""
        pictured = ("@pictured", "") if sizes.get("pictures") else ("",)
        batched = ("@batched", "") if sizes.get("batch", 1) > 1 else ("", "@batched")
        for variant in (one + other for one in pictured for other in batched):
            if name + variant in self.calls:
                return self.calls[name + variant]
        raise KeyError(name)

    def activations(self, call: str, sizes: Mapping[str, int], quantized: Quantized = NOTHING) -> Activations:
        """One call at these sizes (variables: ``calls[call].variables``), linears of ``quantized`` dequantized on the
        way. Raises KeyError for a call or a size that the trace does not have."""
        found = self.call(call, sizes)
        peak, highest = _peaks(found.events(sizes), quantized)
        return Activations(
            peak=peak,
            flops=found.total("flops", sizes),
            nbytes=found.total("moved", sizes),
            outputs=found.total("outputs", sizes),
            inputs=found.total("inputs", sizes),
            workspace=highest - peak,
        )


def rounded(nbytes: int) -> int:
    """Bytes that torch's allocator counts as allocated for ``nbytes``."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _peaks(events: Iterator[Event], quantized: Quantized) -> tuple[int, int]:
    """Most bytes alive without workspaces, and with them."""
    alive: list[int] = []
    live = top = highest = 0
    for event in events:
        if event.kind == ALLOCATE:
            alive.append(rounded(event.value))
            live += alive[-1]
            top = max(top, live)
        elif event.kind == FREE:
            live -= alive[event.value]
        elif event.kind == WORKSPACE:
            highest = max(highest, live + rounded(event.value))
        elif event.path in quantized:
            kind, elements = quantized[event.path]
            cost = dequantization.cost(kind)
            held = rounded(round(cost.linear_bytes * elements))
            if event.kind == ENTER:
                top = max(top, live + round(cost.peak_bytes * elements))
                live += held
            else:
                live -= held
    return top, max(top, highest)


def trace_of(key: str | None, dtype: str = "bf16") -> Trace | None:
    """The packed trace of a component of that key that computes in ``dtype``; ``None`` where there is none."""
    return None if key is None else trace(key + (".fp32" if dtype == "fp32" else ""))


@cache
def trace(key: str) -> Trace | None:
    """The packed trace of that name; ``None`` where there is none."""
    if not key or not key.replace("-", "").replace(".", "").replace("_", "").isalnum():
        return None
    file = path_of("runtimes.diffusers", f"traces/{key}.json.gz")
    if not file.is_file():
        return None
    return Trace(key, json.loads(gzip.decompress(file.read_bytes())))

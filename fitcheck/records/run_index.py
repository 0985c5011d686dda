"""The index of records that a check reads: runs and link records in short.

No pydantic and no database here, because a fit check must stay fast: it reads one index of the accepted records
(``data/results.json``, made by ``scripts/pack_results.py``) and this user's own records of the asked card.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, field, fields
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import InputError
from fitcheck.models.workload import Task
from fitcheck.records.bounded import read_bounded
from fitcheck.records.packed_runs import PackedRuns
from fitcheck.records.run import CellKey, Run, TokenTest, once, sizes_of, tuples

BENCH = "fitcheck-bench"
OUT_OF_CARD_MEMORY = "oom-gpu"
INDEX = Path(__file__).parent / "data" / "results.json"
_MOST_LOCAL = 2000
# beyond the highest number that the schema lets a meter show (10^18 FLOP/s)
_HIGHEST = float(1 << 60)
# What a block of a link record and its B/s can be; a user's own file may hold anything.
_BLOCK, _RATE = (1, 1 << 50), (1e3, 1e15)

R = TypeVar("R")
_ID = attrgetter("id")
# what stands between the runs of a packed file, a line each, and its link records
_LINKS = '"links":['
_BETWEEN = f"\n],{_LINKS}"
# (bytes of a block, B/s of its copies), by size
Blocks = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class LinkRow:
    """Rates of a card and its link from one ``link`` record: host-to-device B/s by block size from pinned and from
    pageable memory, B/s, FLOP/s by dtype, quantized B/s by storage type."""

    id: str
    card: str
    created: int
    pinned: Blocks = ()
    pageable: Blocks = ()
    device_to_host_pinned: float | None = None
    memory_rate: float | None = None
    context: int | None = None
    matmul: Mapping[str, float] = field(default_factory=dict)
    dequantization: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Index:
    """Runs and link records of any cards; ``+`` counts a record in both once."""

    rows: Sequence[Run] = ()
    links: tuple[LinkRow, ...] = ()
    # what follows from these records for a card and a model, kept by whoever works it out
    follows: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _by_card: dict[str, Sequence[Run]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _by_runtime: dict[tuple[str, str], list[Run]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _by_tier: dict[tuple[str, ...], list[Run]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _bounding: dict[tuple[str, ...], list[Run]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def _sort(self, card: str) -> Sequence[Run]:
        """The runs of a card, sorted once, so that no question walks over them again, nor over those of other cards."""
        if card not in self._by_card:
            rows = self.rows
            own = rows.of_card(card) if isinstance(rows, PackedRuns) else [row for row in rows if row.card == card]
            self._by_card[card] = own
            for row in own:
                cell = row.cell
                self._by_runtime.setdefault((card, cell.runtime), []).append(row)
                self._by_tier.setdefault((card, cell.model, cell.tier, cell.runtime), []).append(row)
                if row.outcome == OUT_OF_CARD_MEMORY or row.limited:
                    self._bounding.setdefault((card, cell.model, cell.runtime), []).append(row)
        return self._by_card[card]

    def __add__(self, other: Index) -> Index:
        """Both, a record in both counted once, and so a measurement that only somebody's handle tells apart."""
        if not other.rows and not other.links:
            same = copy(self)
            object.__setattr__(same, "follows", {})
            return same
        seen = {link.id for link in self.links}
        return Index(
            once(self.rows, other.rows),
            self.links + tuple(link for link in other.links if link.id not in seen),
        )

    def of(self, card: str) -> Index:
        """The records of one card."""
        return Index(tuple(self.runs_of(card)), self.links_of(card))

    @property
    def cards(self) -> list[str]:
        """Slugs of the cards that there are runs of, in a fixed order."""
        return sorted(self.rows.cards if isinstance(self.rows, PackedRuns) else {row.card for row in self.rows})

    def runs_of(self, card: str) -> Sequence[Run]:
        """The runs of one card."""
        return self._sort(card)

    def short_of(self, model: str) -> list[Run]:
        """The runs of a model, on any card, that ran out of card memory under a limit."""
        own = self.rows.of_model(model) if isinstance(self.rows, PackedRuns) else self.rows
        return [row for row in own if row.cell.model == model and row.ran_short]

    def links_of(self, card: str) -> tuple[LinkRow, ...]:
        """The link records of one card."""
        return tuple(link for link in self.links if link.card == card)

    def runs_in(self, card: str, runtime: str) -> Sequence[Run]:
        """The runs of one card in one runtime."""
        self._sort(card)
        return self._by_runtime.get((card, runtime), ())

    def runs_of_tier(self, card: str, model: str, tier: str, runtime: str) -> Sequence[Run]:
        """The runs of one tier of a model on one card in one runtime."""
        self._sort(card)
        return self._by_tier.get((card, model, tier, runtime), ())

    def bounding(self, card: str, model: str, runtime: str) -> Sequence[Run]:
        """The runs of a model on one card in one runtime that ran out of its memory, or ran under a limit."""
        self._sort(card)
        return self._bounding.get((card, model, runtime), ())


@cache
def accepted() -> Index:
    """The accepted records of ``results/`` as packed into this installation."""
    if not INDEX.is_file():
        return Index()
    rows, _, links = INDEX.read_text("utf-8").partition(_BETWEEN)
    runs = PackedRuns([line.removesuffix(",") for line in rows.splitlines()[1:]])
    return Index(runs, tuple(_link_of(values) for values in json.loads(f"{{{_LINKS}{links}")["links"]))


def local(card: str, root: Path | None = None) -> Index:
    """This user's own records of a card, newest first and at most 2,000. A file that cannot be read is passed over: a
    fit check is no place to complain about it, `fitcheck validate` is."""
    from fitcheck.records.places import local_root

    folder = (root or local_root()) / card
    if not folder.is_dir():
        return Index()
    return build(_documents(sorted(folder.glob("*/*.json"), key=_age)[:_MOST_LOCAL]), own=True)


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


def _documents(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            document = json.loads(read_bounded(path))
        except (InputError, ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            yield document


def build(documents: Iterable[dict[str, Any]], *, own: bool = False) -> Index:
    """The index of records given as JSON documents, this user's ``own`` or others', by ascending id: what is worked out
    of a sample of them is the same whatever order they are read in. What is neither a run on a card nor a link record
    is left out, and what is a measurement that another document states counts once."""
    rows, links = list[Run](), list[LinkRow]()
    for document in documents:
        try:
            kind = document.get("kind")
            if kind in _READERS and document.get("card"):
                rows.append(_sound(_READERS[kind](document, own)))
            elif kind == "link":
                links.append(_sound(_link(document)))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue
    return Index(once((), sorted(rows, key=_ID)), tuple(sorted(links, key=_ID)))


def _sound(row: R) -> R:
    """``row``, whose values are what their fields say. Raises ValueError when a file of unknown origin held others."""
    values_of, kinds = _checks(type(row))  # type: ignore[arg-type]
    for value, allowed in zip(values_of(row), kinds, strict=True):
        kind = type(value)
        if kind not in allowed or (kind in _NUMBERS and not 0 <= value < _HIGHEST):
            raise ValueError("a field is of another kind")
    if isinstance(row, LinkRow):
        if not (_is_rates(row.matmul) and _is_rates(row.dequantization)):
            raise ValueError("a rate is no number")
    elif isinstance(row, Run):
        _sound(row.cell)
        if not all(_is_size(value) for _, value in row.cell.sizes):
            raise ValueError("a size is no number")
        if not all(isinstance(value, _PLAIN) for _, value in row.settings):
            raise ValueError("a setting is neither text nor number")
        for test in row.tests:
            _sound(test)
    return row


@cache
def _checks(kind: type) -> tuple[Callable[[Any], tuple[Any, ...]], tuple[frozenset[type], ...]]:
    """What reads the fields that have a plain type, and the types of their values."""
    plain = {one.name: str(one.type) for one in fields(kind)}
    stated = {name: text for name, text in plain.items() if text.removesuffix(" | None") in _KINDS}
    none = {type(None)}
    kinds = (
        _KINDS[text.removesuffix(" | None")] | (none if text.endswith(" | None") else set()) for text in stated.values()
    )
    return attrgetter(*stated), tuple(kinds)


def _is_number(value: Any) -> bool:
    return type(value) in _NUMBERS and 0 <= value < _HIGHEST


def _is_size(value: Any) -> bool:
    return all(map(_is_size, value)) if isinstance(value, tuple) else _is_number(value)


def _is_rates(value: Any) -> bool:
    return all(isinstance(name, str) and _is_number(rate) for name, rate in value.items())


# what a record may leave out, beside what is None
_USUAL = {"cards": 1, "own": False, "tests": (), "settings": ()}
_PLAIN = (str, int, float, bool, type(None))
_NUMBERS = frozenset((int, float))
_KINDS: dict[str, frozenset[type]] = {"str": frozenset((str,)), "int": frozenset((int,)), "float": _NUMBERS}


def pack(index: Index) -> bytes:
    """The bytes of ``data/results.json``: the same records give the same bytes."""
    lines = [
        ",\n".join(json.dumps(_sparse(asdict(one)), separators=(",", ":")) for one in table)
        for table in (sorted(index.rows, key=_ID), sorted(index.links, key=_ID))
    ]
    return f'{{"rows":[\n{lines[0]}{_BETWEEN}\n{lines[1]}\n]}}\n'.encode()


def _sparse(values: dict[str, Any]) -> dict[str, Any]:
    """Without what every reader takes to be so."""
    return {name: value for name, value in values.items() if value is not None and _USUAL.get(name, ...) != value}


def _link_of(values: dict[str, Any]) -> LinkRow:
    return LinkRow(**values | {name: tuples(values.get(name, ())) for name in ("pinned", "pageable")})


def _row(document: dict[str, Any], own: bool) -> Run:
    from statistics import median  # of records that are read here; those of the index have theirs

    card, model, runtime = document["card"], document["model"], document["runtime"]
    protocol, memory, workload = document["protocol"], document["memory"], document["workload"]
    transfer, power = document.get("transfer", {}), document.get("power", {})
    timed = [sample for sample in document["samples"] if not sample["warmup"]]
    steps = [seconds for sample in timed for seconds in sample.get("steps", ())]
    probe = "steps_run" in protocol
    task = Task(workload["task"])
    return Run(
        id=document["id"],
        card=card["slug"],
        card_memory=card.get("memory"),
        cell=CellKey(
            model["slug"],
            model["tier"],
            task.value,
            sizes_of(workload, task),
            runtime["name"],
            runtime.get("revision"),
            runtime.get("policy"),
            runtime.get("mode"),
        ),
        weights=model["weights"],
        outcome=document["outcome"]["result"],
        created=document["created"],
        cap=protocol["cap"]["bytes"] if "cap" in protocol else None,
        samples=len(timed),
        seconds=float(median(sample["total"] for sample in timed)) if timed and not probe else None,
        step_seconds=median(steps) if steps else None,
        allocated=memory.get("allocated"),
        reserved=memory.get("reserved"),
        process=memory.get("process"),
        device=memory.get("device"),
        context=memory.get("context"),
        rss=memory.get("rss"),
        pinned=memory.get("pinned_rounded"),
        streamed=transfer.get("bytes_streamed"),
        link_rate=transfer.get("bytes_per_second"),
        joules=power.get("joules"),
        prompt_tokens=workload.get("prompt_tokens"),
        attention=runtime.get("attention"),
        compute_capability=card.get("compute_capability"),
        warm=protocol["warmup"] > 0 or protocol.get("fresh_process") is False,
        bench=document["source"]["tool"] == BENCH,
        works=(document.get("limit") or {}).get("works"),
        fails=(document.get("limit") or {}).get("fails"),
        cards=card.get("count", 1),
        before=memory.get("device_before"),
        ram=(document.get("machine") or {}).get("ram"),
        requested=document["outcome"].get("requested"),
        machine=_machine(document),
        own=own,
    )


def _token_row(document: dict[str, Any], own: bool) -> Run:
    """A run of a program that reports tokens a second. Its workload is in its tests."""
    card, model, runtime = document["card"], document["model"], document["runtime"]
    memory, tags = document.get("memory") or {}, document.get("tags") or ()
    settings = dict(document["settings"]) | ({"tags": ",".join(sorted(tags))} if tags else {})
    return Run(
        id=document["id"],
        card=card["slug"],
        card_memory=card.get("memory"),
        cell=CellKey(
            model["slug"], model["tier"], Task.CHAT.value, (), runtime["name"], runtime.get("version"), None, None
        ),
        weights=model["weights"],
        outcome=document["outcome"]["result"],
        created=document["created"],
        samples=document["protocol"].get("repeats", 0),
        process=memory.get("process"),
        device=memory.get("device"),
        rss=memory.get("rss"),
        compute_capability=card.get("compute_capability"),
        bench=False,
        cards=card.get("count", 1),
        before=memory.get("device_before"),
        ram=(document.get("machine") or {}).get("ram"),
        machine=_machine(document),
        own=own,
        tests=tuple(_test(rate) for rate in document.get("rates") or ()),
        settings=tuple(sorted(settings.items())),
    )


def _test(rate: Mapping[str, Any]) -> TokenTest:
    return TokenTest(rate["prompt_tokens"], rate["new_tokens"], rate.get("depth", 0), float(rate["mean"]))


# kind of record → what reads a run from it
_READERS: dict[str, Callable[[dict[str, Any], bool], Run]] = {"pass": _row, "llm": _token_row}


def _machine(document: Mapping[str, Any]) -> str:
    """Eight digits that tell machines apart as far as records describe them; they name nobody."""
    told = document.get("machine") or {}
    facts = document.get("submitter"), *(told.get(name) for name in ("cpu", "ram", "os", "os_version"))
    return f"{crc32(repr(facts).encode()):08x}"


def _link(document: dict[str, Any]) -> LinkRow:
    copies = document.get("copies", ())
    back = _blocks(copies, "device-to-host", pinned=True)
    return LinkRow(
        id=document["id"],
        card=document["card"]["slug"],
        created=document["created"],
        pinned=_blocks(copies, "host-to-device", pinned=True),
        pageable=_blocks(copies, "host-to-device", pinned=False),
        device_to_host_pinned=max((rate for _, rate in back), default=None),
        memory_rate=document.get("memory_bytes_per_second"),
        context=document.get("context_bytes"),
        matmul=_best(document.get("matmul", ()), "dtype", "flops"),
        dequantization=_best(document.get("dequantization", ()), "type", "bytes_per_second"),
    )


def _blocks(copies: Sequence[Mapping[str, Any]], direction: str, *, pinned: bool) -> Blocks:
    found = {
        int(copy["bytes"]): float(copy["bytes_per_second"])
        for copy in copies
        if copy["direction"] == direction and copy["pinned"] is pinned
    }
    return tuple(
        (size, rate)
        for size, rate in sorted(found.items())
        if _BLOCK[0] <= size <= _BLOCK[1] and _RATE[0] <= rate <= _RATE[1]
    )


def _best(rows: Sequence[Mapping[str, Any]], name: str, value: str) -> dict[str, float]:
    best: dict[str, float] = {}
    for row in rows:
        best[row[name]] = max(best.get(row[name], 0.0), row[value])
    return best

"""What a template needs beyond the document: where things stand in it. Everything points into the document by index."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.memory.weighing import Constraint
from fitcheck.models.workload import Task
from fitcheck.pages.flags import flags_of
from fitcheck.pages.formats import write
from fitcheck.runtimes import registry
from fitcheck.runtimes.options import usual
from fitcheck.units import format_span

# what a foreign text must not do to the page around it: change its direction, hide, control
_INVISIBLE = re.compile(r"[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
LONGEST_FACT = 80
RUNS = ("fits", "tight")
ORDER = ("fits", "tight", "unknown", "no")
# records that a page lists; the page of the card's results has all of them
MOST_RECORDS = 20
# cells from which on a table of them has no bars and folds what does not run
MANY = 20
# records of a page that are told whole; older ones stand in its table, and the JSON twin has all
MOST_WHOLE = 24
MOST_TIERS = 6


def rate_of(task: str) -> str:
    """The name of the rate that a person reads of a task, as ``time.rates`` has it."""
    return Task(task).rate


def pace(cell: Mapping[str, Any], task: str) -> Any:
    """The span of tokens a second by that rate; ``None`` where the cell has none."""
    return (cell["time"] or {}).get("rates", {}).get(rate_of(task))


def visible(text: str) -> str:
    """``text`` without control, zero-width and direction-changing characters."""
    return _INVISIBLE.sub("", text)


def matrix(report: Mapping[str, Any]) -> tuple[list[str], list[tuple[int, list[int | None]]]]:
    """Modes, and for each tier the index of a cell that names it and the cell index by mode. Smallest files first."""
    cells = report["cells"]
    modes = list(report["modes"])
    modes += sorted({cell["mode"] for cell in cells} - set(modes))
    place = {(cell["tier"], cell["mode"]): index for index, cell in enumerate(cells)}
    sizes = {cell["tier"]: cell["disk"] for cell in cells}
    rows = []
    for tier in sorted(sizes, key=lambda name: (sizes[name], name)):
        found = [place.get((tier, mode)) for mode in modes]
        rows.append((next(index for index in found if index is not None), found))
    return modes, rows


_QUANTITIES = (("card memory", "memory"), ("system memory", "host"), ("time", "seconds"))


def known(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(Name, key) of the quantities that records say something of."""
    return [(name, key) for name, key in _QUANTITIES if evidence[key]["records"]]


def siblings(report: Mapping[str, Any]) -> list[int]:
    """The cells of the tier in focus, in the order of the matrix' modes."""
    _, rows = matrix(report)
    tier = report["cells"][focus(report)]["tier"]
    return next(
        [index for index in found if index is not None]
        for named, found in rows
        if report["cells"][named]["tier"] == tier
    )


def pick(report: Mapping[str, Any], indices: Sequence[int]) -> list[Mapping[str, Any]]:
    """The report's cells at these positions, in the order of ``indices``."""
    return [report["cells"][index] for index in indices]


def focus(report: Mapping[str, Any]) -> int:
    """The cell a page speaks about, as the verdict chose it."""
    return int(report["headline"])


def folded(report: Mapping[str, Any]) -> tuple[list[tuple[int, list[int | None]]], list[int]]:
    """The rows of ``matrix`` that are shown, and a cell each of the other tiers: none where there are few cells, else
    those whose best cell comes last."""
    cells, (_, rows) = report["cells"], matrix(report)
    if len(cells) <= MANY:
        return rows, []
    best = sorted(rows, key=lambda row: leading(row[1]))[:MOST_TIERS]
    shown = [row for row in rows if row in best]
    return shown, [row[0] for row in rows if row not in best]


def modelled(cell: Mapping[str, Any]) -> bool:
    """Whether more is known of what a run takes than its weights."""
    return str(cell["binding"]) != str(Constraint.MODEL)


def leading(row: Sequence[int | None]) -> int:
    """The best cell of a tier: the first one in the report's order."""
    return min(index for index in row if index is not None)


def pictured(report: Mapping[str, Any]) -> list[int]:
    """The cells of the tier in focus whose memory is drawn: the chosen one, and where there are few cells the next one
    that runs."""
    chosen = focus(report)
    if len(report["cells"]) > MANY or report["cells"][chosen]["verdict"] not in RUNS:
        return [chosen]
    found = siblings(report)
    others = [index for index in found if index != chosen and report["cells"][index]["verdict"] != "no"]
    return [index for index in found if index in (chosen, *sorted(others)[:1])]


def rank(verdict: str) -> int:
    """The place of a verdict from best to worst, by which tables sort."""
    return ORDER.index(verdict)


def escalation(report: Mapping[str, Any]) -> list[int]:
    """What to try when card memory runs out in the best cell, each needing less of the card than the one before and all
    running on this machine: leaner modes, then smaller published files."""
    cells = report["cells"]
    best = cells[0]
    leaner: list[int] = []
    smaller: dict[str, int] = {}
    for index, cell in enumerate(cells):
        if cell["verdict"] not in RUNS:
            continue
        if cell["tier"] == best["tier"]:
            leaner.append(index)
        elif cell["published"] and cell["disk"] < best["disk"]:
            leanest = smaller.setdefault(cell["tier"], index)
            if _required(cell) < _required(cells[leanest]):
                smaller[cell["tier"]] = index
    found: list[int] = []
    floor = _required(best)
    for kind in (leaner, list(smaller.values())):
        for index in sorted(kind, key=lambda index: -_required(cells[index])):
            if _required(cells[index]) < floor:
                found.append(index)
                floor = _required(cells[index])
    return found


def _required(cell: Mapping[str, Any]) -> float:
    return float(cell["required"]["best"])


def bar(cell: Mapping[str, Any], constraint: str) -> str:
    """The colour of one resource's bar, as a verdict: its own, so that what is short stands out."""
    margin = cell["margins"].get(constraint)
    if margin is None or cell["binding"] == constraint or cell["verdict"] == "unknown":
        return str(cell["verdict"])
    return "no" if margin["left"] < 0 else "tight" if margin["worst"] < 0 else "fits"


@dataclass(frozen=True, slots=True)
class MemoryStep:
    """Amounts of system memory with one answer: indices of the first and the last; ``asked`` is among them."""

    first: int
    last: int
    asked: bool


def ladder(document: Mapping[str, Any]) -> list[MemoryStep]:
    """The amounts of system memory in steps, one for each answer to the model's first task."""
    asked, first = document["report"]["machine"]["ram"], document["report"]["workload"]["task"]
    rows = [(i, row) for i, row in enumerate(document["by_memory"]) if row["task"] == first and row["ram"] is not None]
    runs: list[list[int]] = []
    for index, row in rows:
        before = document["by_memory"][runs[-1][0]] if runs else None
        if before is not None and all(row[name] == before[name] for name in ("verdict", "tier", "mode")):
            runs[-1].append(index)
        else:
            runs.append([index])
    sizes = {index: row["ram"] for index, row in rows}
    return [MemoryStep(run[0], run[-1], any(sizes[index] == asked for index in run)) for run in runs]


def measured_memory(
    records: Sequence[Mapping[str, Any]], work: Mapping[str, Any], cell: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Memory blocks of finished records of this cell on the real card, for the dots in its picture."""
    return [
        record["memory"]
        for record in records
        if record["kind"] == "pass"
        and record["outcome"]["result"] == "ok"
        and "cap" not in record["protocol"]
        and (record["model"]["tier"], record["runtime"].get("mode"), record["runtime"].get("revision"))
        == (cell["tier"], cell["mode"], cell["revision"])
        and record["workload"]["task"] == work["task"]
        and (record["runtime"].get("policy") or cell["settings"].get("policy")) == cell["settings"].get("policy")
        and all(record["workload"].get(name) == work.get(name) for name in ("width", "height"))
        and record["workload"].get("cfg") == cell["workload"].get("cfg")
    ]


@dataclass(frozen=True, slots=True)
class Crumb:
    """One step of the way from the start page; ``address`` is ``None`` on the page itself."""

    name: str
    address: str | None


def record_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """One record in short for tables: what ran, where, how it ended, its median time, its peaks, and what surprises."""
    samples = [sample["total"] for sample in record.get("samples", ()) if not sample.get("warmup")]
    memory = record.get("memory") or {}
    model, runtime, card = record.get("model") or {}, record.get("runtime") or {}, record.get("card") or {}
    facts = {
        "id": record["id"],
        "place": place_of(record),
        "kind": record["kind"],
        "created": record["created"],
        "model": model.get("slug"),
        "card": card.get("slug"),
        "card_name": card.get("name"),
        "tier": model.get("tier"),
        "mode": runtime.get("mode"),
        "runtime": runtime.get("name"),
        "task": (record.get("workload") or {}).get("task"),
        "details": _details(record.get("workload") or {}, runtime),
        "weights": model.get("weights"),
        "outcome": record["outcome"]["result"],
        "seconds": median(samples) if samples and "steps_run" not in record["protocol"] else None,
        "samples": len(samples),
        "allocated": memory.get("allocated"),
        "device": memory.get("device"),
        "rss": memory.get("rss"),
        "cap": (record["protocol"].get("cap") or {}).get("bytes"),
        "submitter": record.get("submitter"),
        "flags": flags_of(record),
    }
    return {name: value if name == "place" else _short(value) if isinstance(value, str) else value
            for name, value in facts.items()}  # fmt: skip


def facts_of(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``record_facts`` of each."""
    return [record_facts(record) for record in records]


_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")


def place_of(record: Mapping[str, Any]) -> str:
    """Where a record stands on a site: on the page of its card, model and files, at its own anchor."""
    model, card = record.get("model") or {}, record.get("card") or {}
    parts = [card.get("slug") or "cpu", model.get("slug") or "rates", *([model["tier"]] if model.get("tier") else [])]
    return f"results/{'/'.join(_plain(str(part)) for part in parts)}/#{anchor_of(record)}"


def anchor_of(record: Mapping[str, Any]) -> str:
    """The anchor of a record on its page."""
    return f"r{record['id'][:12]}"


def _plain(part: str) -> str:
    return part if _SLUG.fullmatch(part) else f"other-{zlib.crc32(part.encode()):08x}"


def _usual_policy(runtime: Any) -> Any:
    """The policy that goes without saying; ``None`` for a runtime that this release does not know."""
    return usual(registry.options_of(runtime), "policy") if runtime in registry.names() else None


def _revision(runtime: Mapping[str, Any]) -> str:
    """The runtime's revision, with its name where it is a bare number: "diffusers 0.42.1", "pr241"."""
    revision = str(runtime.get("revision") or "")
    return f"{runtime.get('name') or ''} {revision}".strip() if revision[:1].isdigit() else revision


def _details(workload: Mapping[str, Any], runtime: Mapping[str, Any]) -> str:
    """What tells runs of one tier, mode and task apart: "2048 × 2048, 8 steps, cfg 4, policy ring, pr241"."""
    width, height = workload.get("width"), workload.get("height")
    parts = [
        f"{width} × {height}" if width and height else "",
        f"{workload['steps']} steps" if workload.get("steps") else "",
        f"{workload['images']} images" if workload.get("images") not in (None, 1) else "",
        f"cfg {workload['cfg']:g}" if isinstance(workload.get("cfg"), int | float) else "",
        f"policy {runtime['policy']}"
        if runtime.get("policy") not in (None, _usual_policy(runtime.get("name")))
        else "",
        _revision(runtime),
    ]
    return ", ".join(part for part in parts if part)


def _short(text: str) -> str:
    clean = visible(text)
    return clean if len(clean) <= LONGEST_FACT else f"{clean[: LONGEST_FACT - 1]}…"


def shared_origin(tiers: Sequence[Mapping[str, Any]]) -> tuple[str | None, str | None]:
    """The source of the tensor tables and the repository, each where it is one for all of a model's files."""
    sources = {str(tier["source"]) for tier in tiers}
    places = {tier["repository"] if tier["published"] and not tier["file"] else None for tier in tiers}
    return sources.pop() if len(sources) == 1 else None, places.pop() if len(places) == 1 else None


def between(first: int, last: int) -> str:
    """Two amounts of system memory as a range: ``"16 – 64 GB"``."""
    return format_span(write(first, "ram"), write(last, "ram"))


def runs_of(cells: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """For each cell of a row that shows something else than the one before, the index of the last one that shows the
    same; ``None`` for the others. Of what does not run the verdict alone is shown."""
    found: list[int | None] = []
    for _, alike in groupby(cells, lambda cell: cell if cell["verdict"] in RUNS else cell["verdict"]):
        count = len(list(alike))
        found += [len(found) + count - 1, *[None] * (count - 1)]
    return found


_BLOCKS = (
    ("Model", "model"),
    ("Runtime", "runtime"),
    ("Workload", "workload"),
    ("Settings", "settings"),
    ("Card", "card"),
    ("Machine", "machine"),
    ("Software", "software"),
    ("Protocol", "protocol"),
    ("Memory", "memory"),
    ("Transfer", "transfer"),
    ("Power", "power"),
    ("Smallest card", "limit"),
)
_MOST_VALUES = 12


def blocks(record: Mapping[str, Any]) -> list[Block]:
    """A record's blocks as names and written values; long lists are counted, the JSON twin has them."""
    found = []
    for title, key in _BLOCKS:
        block = record.get(key)
        if block:
            found.append((title, [(name.replace("_", " "), _written(name, value)) for name, value in block.items()]))
    return found


Block = tuple[str, list[tuple[str, str]]]


def apart(records: Sequence[Mapping[str, Any]]) -> tuple[list[Block], list[list[Block]]]:
    """The facts that all records of a page share, and of each record the rest; of one record nothing is shared."""
    each = [blocks(record) for record in records]
    if len(each) < 2:
        return [], each
    common = set.intersection(*({(title, *fact) for title, block in found for fact in block} for found in each))

    def part(found: list[Block], *, shared: bool) -> list[Block]:
        kept = [(title, [fact for fact in block if ((title, *fact) in common) is shared]) for title, block in found]
        return [(title, block) for title, block in kept if block]

    return part(each[0], shared=True), [part(found, shared=False) for found in each]


def in_line(block: Sequence[tuple[str, str]]) -> str:
    """The facts of a block one after the other."""
    return " · ".join(f"{name} {value}" for name, value in block)


_SIZES = {"allocated", "reserved", "process", "device", "device_before", "context", "rss", "pinned_requested"}
_SIZES |= {"pinned_rounded", "available_drop", "swap", "ram", "memory", "works", "fails", "bytes_streamed"}


def _written(name: str, value: Any) -> str:
    if name == "phases" and isinstance(value, list):  # what the process and the card hold then is in the JSON
        return ", ".join(f"{one.get('name')} {write(one.get('allocated'), 'gib2')}" for one in value[:_MOST_VALUES])
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name in _SIZES:
        return write(value, "gib2")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_written(key, inner)}" for key, inner in list(value.items())[:_MOST_VALUES])
    if isinstance(value, list | tuple):
        parts = [_written(name, inner) for inner in value[:_MOST_VALUES]]
        return "; ".join(parts) + (f" … {len(value)} in all" if len(value) > _MOST_VALUES else "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def anchor(metric: str) -> str:
    """A metric's place on the page of its series."""
    return re.sub(r"[^a-z0-9]+", "-", metric.lower()).strip("-") or "metric"

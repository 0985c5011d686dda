"""Checking files and whole trees of records: each alone, then against each other."""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from statistics import median

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import InputError
from fitcheck.records import checks, privacy, store
from fitcheck.records.bounded import read_bounded, walk
from fitcheck.records.bounds import Allowance
from fitcheck.records.findings import Finding, Rank, flag, note, reject
from fitcheck.records.reading import Parsed, parse
from fitcheck.records.schema import AnyRecord, PassRecord
from fitcheck.records.signature import ALLOWED_SIGNERS, SUFFIX, check_signature, check_unsigned

# files that a results tree has besides records
_FURNITURE = {"README.md", ALLOWED_SIGNERS, ".gitattributes", ".gitkeep"}
_MIN_PEERS = 5
# a value this many robust standard deviations (1.4826 × MAD) from its peers' median, and this factor off, surprises
_ROBUST_DEVIATIONS = 6.0
_LEAST_FACTOR = 1.25

# what was measured, and what it was measured on: two records that agree in all of it are one measurement, whoever
# submits it, whenever it is said to be made and whatever is said about it
_MEASURED = ("samples", "rates", "copies", "pinning", "matmul", "dequantization")
_SUBJECT = ("kind", "card", "model", "runtime", "workload", "settings", "memory", "transfer", "power", "limit")

Doubt = Callable[[PassRecord], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding and the file it is about."""

    path: Path
    finding: Finding


@dataclass(slots=True)
class ValidationReport:
    """Outcome of a validation. ``files`` counts what was looked at, ``valid`` the records that were not rejected."""

    files: int = 0
    valid: int = 0
    problems: list[Problem] = field(default_factory=list)

    def of(self, rank: Rank) -> list[Problem]:
        """The problems of one rank, in the report's order."""
        return [problem for problem in self.problems if problem.finding.rank is rank]

    @property
    def rejected(self) -> bool:
        """Whether any file is not accepted, which is when validation fails."""
        return any(problem.finding.rank is Rank.REJECT for problem in self.problems)


@dataclass(frozen=True, slots=True)
class _Peer:
    path: Path
    seconds: float | None
    allocated: int | None


@dataclass(slots=True)
class _Seen:
    """What has to be remembered of each valid record to compare it with the others; the ``records`` themselves only
    where somebody ``keeps`` them."""

    keeps: bool = False

    cells: dict[tuple[object, ...], list[_Peer]] = field(default_factory=lambda: defaultdict(list))
    measurements: dict[str | None, Path] = field(default_factory=dict)
    allowance: Allowance = field(default_factory=Allowance)
    records: list[AnyRecord] = field(default_factory=list)


def validate(paths: list[Path], now: float | None = None, doubt: Doubt | None = None) -> ValidationReport:
    """Check files and trees. ``doubt`` may compare a pass with the estimator and return flags; it is not asked about
    a record that would cost more than ``bounds`` allows."""
    return _validated(paths, now, doubt)[0]


def accepted(root: Path, now: float | None = None) -> tuple[list[AnyRecord], list[Problem]]:
    """(The records under ``root`` that may be published, why each of the other files may not), in the order of paths.

    Nothing that is rejected may be, and no measurement twice. Each file stands alone: whatever one holds, the others
    are read.
    """
    report, seen = _validated([root], now, None, keeps=True)
    left_out = [p for p in report.problems if p.finding.rank is Rank.REJECT or p.finding.code == "duplicate"]
    return seen.records, left_out


def publishable(root: Path) -> list[AnyRecord]:
    """Every record under ``root`` that may be published: none that ``validate`` rejects, no measurement twice."""
    return accepted(root)[0]


def _validated(
    paths: list[Path], now: float | None, doubt: Doubt | None, *, keeps: bool = False
) -> tuple[ValidationReport, _Seen]:
    report, seen = ValidationReport(), _Seen(keeps)
    now = time.time() if now is None else now
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            for entry in _entries(path):
                _validate_file(entry, path, now, doubt, report, seen)
        else:
            _validate_file(path, None, now, doubt, report, seen)
    _compare(seen, report)
    return report, seen


def check_record(content: bytes, now: float) -> tuple[Parsed | None, list[Finding]]:
    """The record in ``content`` and everything odd about it, its place in a tree aside."""
    try:
        parsed, found = (_known if len(content) <= _LIGHT else _examined)(content)
    except InputError as error:
        return None, [reject("unreadable", str(error).removeprefix(f"{_NAMELESS}: ").rstrip("."))]
    return parsed, [*found, *checks.check(parsed.record, now)]


# a site reads its records and then looks at their histories: what the bytes alone decide is worked out once
_LIGHT, _NAMELESS = 1 << 14, "record"


def _examined(content: bytes) -> tuple[Parsed, tuple[Finding, ...]]:
    """The record in ``content`` and what is odd about it on whatever day. Raises InputError."""
    parsed = parse(content, _NAMELESS)
    return parsed, (*_identity(parsed, content), *privacy.private_patterns(parsed.document))


_known = lru_cache(maxsize=1024)(_examined)


def _entries(root: Path) -> Iterator[Path]:
    """Every file under ``root`` that is not furniture or a signature; links too, so that they are refused."""
    for path in walk(root):
        place = path.relative_to(root).parts
        if place[0] == "schema" or (len(place) == 1 and path.name in _FURNITURE):
            continue
        if path.name.endswith(f".json{SUFFIX}") and path.with_name(path.name.removesuffix(SUFFIX)).exists():
            continue
        yield path


def _validate_file(
    path: Path, root: Path | None, now: float, doubt: Doubt | None, report: ValidationReport, seen: _Seen
) -> None:
    report.files += 1
    found: list[Finding]
    if path.suffix != ".json" or path.name.startswith("."):
        found = [reject("not-a-record", "is not a record (a .json file is expected here)")]
        report.problems += [Problem(path, finding) for finding in found]
        return
    try:
        content = read_bounded(path)
    except InputError as error:
        report.problems.append(Problem(path, reject("unreadable", str(error).removeprefix(f"{path}: ").rstrip("."))))
        return
    parsed, found = check_record(content, now)
    if parsed is not None:
        found += _place(parsed.record, path, root)
        signature = path.with_name(path.name + SUFFIX)
        signers = root / ALLOWED_SIGNERS if root is not None else None
        if os.path.lexists(signature):
            found.append(check_signature(content, signature, parsed.record.submitter, signers))
        else:
            found += check_unsigned(parsed.record.submitter, signers)
        if not any(finding.rank is Rank.REJECT for finding in found):
            report.valid += 1
            found += _remember(parsed, path, seen)
            if doubt is not None and isinstance(parsed.record, PassRecord):
                found += _doubted(parsed.record, doubt, seen.allowance)
    report.problems += [Problem(path, finding) for finding in found]


def _doubted(record: PassRecord, doubt: Doubt, allowance: Allowance) -> Iterable[Finding]:
    reason = allowance.refuse(record.workload)
    return doubt(record) if reason is None else [note("not-estimated", f"not compared with the estimate: it {reason}")]


def _identity(parsed: Parsed, content: bytes) -> list[Finding]:
    """The id is the content's, and the content is written the one canonical way."""
    document = parsed.document
    try:
        canonical = store.canonical(document)
    except (ValueError, RecursionError) as error:
        return [reject("not-canonical", f"cannot be written as canonical JSON ({error})")]
    if "id" not in document:
        return [reject("no-id", "has no id; `fitcheck submit` gives it one")]
    # no other key is called so and quotes inside strings are escaped: this is the canonical text without its id
    digest = hashlib.sha256(canonical.replace(f'"id":"{document["id"]}",'.encode(), b"", 1)).hexdigest()
    if document["id"] != digest:
        return [reject("id-mismatch", f"the id is not the content's (that would be {digest[:12]}…): it was changed")]
    if parsed.record.schema_version == document["schema_version"] and document != store.document_of(parsed.record):
        return [reject("not-canonical", "states absent values or defaults differently from how fitcheck writes them")]
    if content != canonical + b"\n":
        return [reject("not-canonical", "is not canonical JSON with one line feed; `fitcheck submit` rewrites it")]
    return []


def _place(record: AnyRecord, path: Path, root: Path | None) -> list[Finding]:
    expected = store.folder_of(record) / f"{record.id}.json"
    if root is None:
        if record.id in (None, path.stem):
            return []
        return [note("file-name", f"is stored as {expected} in a results tree")]
    if path.absolute().parts[-3:] != expected.parts:
        return [reject("misplaced", f"belongs at {expected}")]
    return []


def _remember(parsed: Parsed, path: Path, seen: _Seen) -> list[Finding]:
    record = parsed.record
    first = seen.measurements.setdefault(_measurement(parsed.document), path)
    if first != path:
        return [flag("duplicate", f"is the same measurement as {first}")]
    if seen.keeps:
        seen.records.append(record)
    if isinstance(record, PassRecord) and record.outcome.result == "ok" and record.protocol.steps_run is None:
        totals = [sample.total for sample in record.samples if not sample.warmup]
        peer = _Peer(path, median(totals) if totals else None, record.memory.allocated)
        seen.cells[_cell(record)].append(peer)
    return []


def _measurement(document: dict[str, object]) -> str:
    """What tells a measurement from others: its numbers, where it has any that no second run would repeat."""
    if not any(document.get(name) for name in _MEASURED):
        return str(document["id"])
    return store.document_id({name: document[name] for name in (*_MEASURED, *_SUBJECT) if name in document})


def _cell(record: PassRecord) -> tuple[object, ...]:
    runtime, cap = record.runtime, record.protocol.cap
    return (
        record.card.slug if record.card else store.NO_CARD,
        (cap.bytes, cap.enforced_by) if cap else None,
        (record.model.slug, record.model.tier, record.model.weights),
        (runtime.name, runtime.revision, runtime.mode, runtime.policy, runtime.prefetch),
        record.workload,
    )


def _compare(seen: _Seen, report: ValidationReport) -> None:
    """Flag what lies far from the other records of its own cell, by median and median absolute deviation."""
    for peers in seen.cells.values():
        for name, unit, scale in (("seconds", "s", 1.0), ("allocated", "GiB", 2.0**30)):
            points = [(peer.path, float(value)) for peer in peers if (value := getattr(peer, name)) is not None]
            if len(points) < _MIN_PEERS:
                continue
            middle = median(value for _, value in points)
            deviation = 1.4826 * median(abs(value - middle) for _, value in points)
            for path, value in points:
                factor = max(value, middle) / max(min(value, middle), 1e-9)
                if factor > _LEAST_FACTOR and abs(value - middle) > _ROBUST_DEVIATIONS * deviation:
                    usual = f"{len(points)} records of this cell have {middle / scale:.3g}"
                    message = f"{name} {value / scale:.3g} {unit} where {usual}"
                    report.problems.append(Problem(path, flag("outlier", message)))

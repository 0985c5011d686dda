"""Reading records for a comparison: what is flagged, doubled or no record is left out, and that is said."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import InputError, OptionError, RecordError
from fitcheck.records import store
from fitcheck.records.findings import Rank
from fitcheck.records.reading import read_bounded
from fitcheck.records.record_parts import Software
from fitcheck.records.schema import SCHEMA_VERSION, AnyRecord
from fitcheck.records.validate import check_record

# what a submitter says about a measurement, apart from the measurement itself
_SAID = ("id", "submitter", "notes", "tags")

# how a query's names are spelled in a record
_FIELDS = {
    "kind": "kind",
    "model": "model.slug",
    "tier": "model.tier",
    "weights": "model.weights",
    "card": "card.slug",
    "driver": "card.driver",
    "runtime": "runtime.name",
    "revision": "runtime.revision",
    "commit": "runtime.commit",
    "version": "runtime.version",
    "mode": "runtime.mode",
    "policy": "runtime.policy",
    "task": "workload.task",
    **{name: f"software.{name}" for name in Software.model_fields},
}


@dataclass(slots=True)
class Taken:
    """``records`` to work with, and in ``notes`` one sentence for each thing that was left out or upgraded."""

    records: list[AnyRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Intake:
    now: float
    flagged: bool
    taken: Taken = field(default_factory=Taken)
    flags: Counter[str] = field(default_factory=Counter)
    bad: dict[str, str] = field(default_factory=dict)
    doubled: int = 0
    upgraded: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    out: int = 0

    def read(self, path: Path) -> None:
        try:
            content = read_bounded(path)
        except InputError as error:
            self.bad[str(path)] = str(error).removeprefix(f"{path}: ").rstrip(".")
            return
        self.add(content, str(path))

    def add(self, content: bytes, where: str) -> None:
        try:
            parsed, findings = check_record(content, self.now)
        except InputError as error:
            self.bad[where] = str(error).removeprefix(f"{where}: ").rstrip(".")
            return
        rejected = [finding for finding in findings if finding.rank is Rank.REJECT]
        if parsed is None or rejected:
            self.bad[where] = rejected[0].message
            return
        measurement = store.document_id({k: v for k, v in parsed.document.items() if k not in _SAID})
        if measurement in self.seen:
            self.doubled += 1
            return
        self.seen.add(measurement)
        codes = {finding.code for finding in findings if finding.rank is Rank.FLAG}
        if codes and not self.flagged:
            self.flags.update(codes)
            self.out += 1
            return
        if parsed.document.get("schema_version") != SCHEMA_VERSION:
            self.upgraded[str(parsed.document.get("schema_version"))] += 1
        self.taken.records.append(parsed.record)

    def finish(self) -> Taken:
        notes = self.taken.notes
        if self.flags:
            codes = ", ".join(f"{code} {count}" for code, count in sorted(self.flags.items()))
            notes.append(f"{_count(self.out)} left out as flagged by validation ({codes}); --flagged takes them in.")
        if self.doubled:
            notes.append(f"{_count(self.doubled)} left out as the same measurement as another.")
        for version, count in sorted(self.upgraded.items()):
            notes.append(f"{_count(count)} of schema version {version} read as version {SCHEMA_VERSION}.")
        if self.bad:
            path, why = next(iter(self.bad.items()))
            notes.append(f"{_count(len(self.bad))} left out as not valid; the first is {path}: {why}.")
        return self.taken


def _count(number: int) -> str:
    return "1 record was" if number == 1 else f"{number} records were"


def read_records(paths: Iterable[Path], now: float, flagged: bool = False) -> Taken:
    """The records in files and folders. ``flagged`` takes in what validation flagged; what it rejects never counts.

    Raises InputError when a path is missing or none of the records can be used.
    """
    given, intake = list(paths), _Intake(now, flagged)
    for path in given:
        for file in _files(path):
            intake.read(file)
    taken = intake.finish()
    if not taken.records:
        names = ", ".join(str(path) for path in given) or "nothing"
        why = " ".join(taken.notes) or "There is no record file."
        raise RecordError(f"{names}: no record to work with. {why}")
    return taken


def take_documents(documents: Iterable[Mapping[str, Any]], now: float, flagged: bool = False) -> Taken:
    """The same for records that are JSON values already; with none that can be used it is empty."""
    intake = _Intake(now, flagged)
    for document in documents:
        intake.add(store.canonical(dict(document)) + b"\n", str(document.get("id", ""))[:12] or "a record")
    return intake.finish()


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        return store.record_files(path)
    if not path.exists():
        raise RecordError(f"{path}: there is no such file or folder; give records, a folder of them, or NAME=VALUE,…")
    return iter((path,))


def parse_query(text: str) -> dict[str, str]:
    """``"revision=pr241,card=h100-sxm5-80gb"`` -> names and values. Raises InputError for names that no record has."""
    wanted = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in {*_FIELDS, "id", "since", "until"}:
            known = ", ".join((*_FIELDS, "id", "since", "until"))
            raise OptionError(f"{text!r}: {name!r} is nothing to ask for; names are {known}, like revision=pr241.")
        if name in ("since", "until"):
            _day(value, name)
        wanted[name] = value
    return wanted


def select(records: Sequence[AnyRecord], query: dict[str, str]) -> list[AnyRecord]:
    """The records that ``query`` asks for. Raises InputError when there is none."""
    found = [record for record in records if all(_matches(record, name, value) for name, value in query.items())]
    if not found:
        asked = ",".join(f"{name}={value}" for name, value in query.items())
        raise RecordError(
            f"{asked}: none of {len(records)} records is so; `fitcheck results list` shows what there is."
        )
    return found


def _matches(record: AnyRecord, name: str, value: str) -> bool:
    if name == "id":
        return (record.id or "").startswith(value.lower())
    if name in ("since", "until"):
        day = datetime.datetime.fromtimestamp(record.created, datetime.UTC).date()
        return day >= _day(value, name) if name == "since" else day <= _day(value, name)
    found: object = record
    for part in _FIELDS[name].split("."):
        found = getattr(found, part, None)
    return found == value


def _day(text: str, name: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise OptionError(f"{name}={text}: is not a date; write it like 2026-05-31.") from error

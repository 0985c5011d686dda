"""What the tests of submission share: records as files, prepared for sending, and what has to come back from every
target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from record_samples import NOW

from fitcheck.records import query, store
from fitcheck.records.submit import Prepared, prepare
from fitcheck.records.targets import Payload
from fitcheck.records.validate import validate


def record_file(where: Path, record: Any) -> Path:
    file = where / f"{record.kind}-{record.created}.json"
    file.write_bytes(store.encode(record))
    return file


def prepared(where: Path, *records: Any) -> list[Prepared]:
    return [prepare(record_file(where, record), NOW, identity={}) for record in records]


def payloads(items: list[Prepared]) -> list[Payload]:
    return [payload for item in items for payload in item.payloads]


def round_trip(root: Path, sent: list[Payload]) -> None:
    """Validate clean, and query back the identical bytes."""
    report = validate([root], NOW)
    assert (report.valid, report.problems) == (len(sent), [])
    found = query.rows(query.run(query.open_records(root), "SELECT id, document FROM records"))
    assert {row["document"].encode() for row in found} == {payload.content for payload in sent}
    parquet = root.parent / "compact.parquet"
    assert query.compact([root], parquet) == len(sent)
    found = query.rows(query.run(query.open_records(parquet), "SELECT document FROM records"))
    assert {row["document"].encode() for row in found} == {payload.content for payload in sent}

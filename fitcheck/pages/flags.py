"""What validation flags about a record, for the pages that show it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fitcheck.errors import InputError


def flags_of(record: Mapping[str, Any]) -> list[str]:
    """Why the record in a JSON document surprises, one sentence each; empty for what is no record."""
    return list(_flags(json.dumps(record)))


@lru_cache(maxsize=4096)
def _flags(text: str) -> tuple[str, ...]:
    from fitcheck.records import bounds, checks  # and pydantic, which a page without records does without
    from fitcheck.records.findings import Rank
    from fitcheck.records.reading import parse
    from fitcheck.records.schema import PassRecord
    from fitcheck.verdict.expectation import doubt

    try:
        record = parse(text.encode(), "record").record
    except InputError:
        return ()
    found = checks.check(record, record.created)
    if isinstance(record, PassRecord) and bounds.beyond(record.workload) is None:
        found += doubt(record)
    return tuple(finding.message for finding in found if finding.rank is Rank.FLAG)

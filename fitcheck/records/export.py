"""The JSON Schema of records, for people who write them with other tools. ``scripts/export_schema.py`` stores it."""

from __future__ import annotations

import json

from fitcheck.records.schema import ADAPTER, SCHEMA_VERSION

FILE_NAME = f"record-v{SCHEMA_VERSION}.json"


def json_schema() -> bytes:
    """JSON Schema (draft 2020-12) of one record file."""
    schema = ADAPTER.json_schema(mode="validation")
    header = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fitcheck record",
        "description": f"One measurement, schema version {SCHEMA_VERSION}. Absent means unknown; bytes are integers, "
        "times seconds. `fitcheck validate` checks more than this: the id, the place, and what can be true.",
    }
    return json.dumps(header | schema, indent=2, ensure_ascii=False).encode() + b"\n"

"""What the estimator says of each record, kept beside the histories: to ask it anew of hundreds takes a second."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite

from fitcheck.units import Interval

SCHEMA = "fitcheck.promises/1"
_ENDS = ("low", "best", "high")
_BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

# by the id of a record, then by metric
Told = Mapping[str, Mapping[str, Interval[float]]]


def encode(told: Told, engine: str) -> bytes:
    """UTF-8 JSON, a record a line: to the last digit, so that what was kept is what would be worked out."""
    lines = [
        f"{json.dumps(name)}:{_line({metric: _ends(span) for metric, span in spans.items()})}"
        for name, spans in sorted(told.items())
        if all(isfinite(end) for span in spans.values() for end in _ends(span))
    ]
    joined = ",\n".join(lines)
    return f'{_line({"schema": SCHEMA, "engine": engine})[:-1]},"records":{{\n{joined}\n}}}}\n'.encode()


def decode(content: bytes, engine: str) -> dict[str, dict[str, Interval[float]]]:
    """What this estimator said of records; nothing where the file is of another one, or none at all."""
    try:
        data = json.loads(content)
        if data["schema"] != SCHEMA or data["engine"] != engine:
            return {}
        return {
            str(name): {str(metric): Interval(*ends) for metric, ends in spans.items()}
            for name, spans in data["records"].items()
        }
    except _BROKEN:
        return {}


def _ends(span: Interval[float]) -> list[float]:
    return [getattr(span, name) for name in _ENDS]


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

"""What the estimator says of each record, kept beside the histories: to ask it anew of hundreds takes a second."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from fitcheck.units import Interval

SCHEMA = "fitcheck.promises/3"
# letters of an id that tell records apart, as many as every other digest of a site has
_LETTERS = 24
_ENDS = ("low", "best", "high")
_BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

# by the id of a record, then by metric
Told = Mapping[str, Mapping[str, Interval[float]]]


def encode(told: Told, engine: str) -> bytes:
    """UTF-8 JSON, a record a line, the ends of a metric where its name stands in ``metrics`` and nothing where it says
    of none: to the last digit, so that what was kept is what would be worked out."""
    metrics = sorted({metric for spans in told.values() for metric in spans})
    lines = [
        f"{json.dumps(name[:_LETTERS])}:{_line(_by_metric(spans, metrics))}"
        for name, spans in sorted(told.items())
        if all(isfinite(span.high) for span in spans.values())
    ]
    head, joined = _line({"schema": SCHEMA, "engine": engine, "metrics": metrics})[:-1], ",\n".join(lines)
    return f'{head},"records":{{\n{joined}\n}}}}\n'.encode()


def decode(content: bytes, engine: str, ids: Iterable[str]) -> dict[str, dict[str, Interval[float]]]:
    """What this estimator said of the records of those ``ids``, as far as the file has them; nothing where it is of
    another estimator, or none at all."""
    try:
        data = json.loads(content)
        if data["schema"] != SCHEMA or data["engine"] != engine:
            return {}
        kept = {one: spans for one in ids if (spans := data["records"].get(one[:_LETTERS])) is not None}
        return {
            name: {
                str(metric): Interval(*map(float, ends))
                for metric, ends in zip(data["metrics"] if spans else (), spans, strict=True)
                if ends is not None
            }
            for name, spans in kept.items()
        }
    except _BROKEN:
        return {}


def _by_metric(spans: Mapping[str, Interval[float]], metrics: Sequence[str]) -> list[list[float] | None]:
    return [_ends(spans[one]) if one in spans else None for one in metrics] if spans else []


def _ends(span: Interval[float]) -> list[float]:
    """Whole numbers without a fraction, which is a third of the file."""
    ends = [getattr(span, name) for name in _ENDS]
    return [int(end) if end == int(end) else end for end in ends]


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

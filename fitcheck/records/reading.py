"""Reading a record from bytes of unknown origin: bounded size, no duplicate keys, no odd numbers."""

from __future__ import annotations

import json
import math

from pydantic import ValidationError

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import RecordError
from fitcheck.records.bounded import MAX_FILE_BYTES, read_bounded
from fitcheck.records.migrate import migrate
from fitcheck.records.schema import ADAPTER, AnyRecord

__all__ = ["MAX_FILE_BYTES", "Parsed", "describe", "parse", "parse_json", "read_bounded"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A record with the JSON document it came from (as stored, before any migration)."""

    record: AnyRecord
    document: dict[str, object]


def parse_json(content: bytes, where: str) -> object:
    """JSON values of ``content``: UTF-8, no duplicate keys, no NaN, no nesting beyond the interpreter's stack limit."""
    try:
        text = content.decode("utf-8")
        return json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse)
    except RecursionError as error:
        raise RecordError(f"{where}: is not valid JSON (it is nested deeper than any record).") from error
    except ValueError as error:
        raise RecordError(f"{where}: is not valid JSON ({str(error).partition('; use sys.')[0][:200]}).") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("an object has the same key twice")
    return document


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:24]} is too large a number")
    return value


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def parse(content: bytes, where: str) -> Parsed:
    """The record in ``content``. Raises InputError naming ``where`` and the first problems."""
    document = parse_json(content, where)
    if not isinstance(document, dict):
        raise RecordError(f"{where}: is not a record (a JSON object is expected).")
    upgraded = migrate(document, where)
    if upgraded is not document:
        content = json.dumps(upgraded).encode()
    try:
        return Parsed(ADAPTER.validate_json(content), document)
    except ValidationError as error:
        raise RecordError(f"{where}: {describe(error)}.") from error


def describe(error: ValidationError, most: int = 3) -> str:
    """The first problems of a pydantic error in one line: ``memory.device: Input should be …``."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    lines = []
    for problem in problems[:most]:
        place = ".".join(str(part)[:64] for part in problem["loc"]) or "record"
        lines.append(f"{place}: {problem['msg'][:160]}")
    more = f" (and {len(problems) - most} more)" if len(problems) > most else ""
    return "; ".join(lines).encode("ascii", "backslashreplace").decode().replace("\n", " ") + more

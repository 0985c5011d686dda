"""Old records stay readable: each schema version has one function that turns its documents into the next one's.

A stored record is never rewritten (its id is its content); it is migrated when it is read. To change the schema:
raise ``schema.SCHEMA_VERSION``, add ``_from_<old>`` to ``STEPS``, and keep a stored example of the old version in
``tests/records/data`` with the values it must have afterwards. A new optional field needs no new version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fitcheck.errors import RecordError
from fitcheck.records.schema import SCHEMA_VERSION

Document = dict[str, object]
STEPS: Mapping[int, Callable[[Document], Document]] = {}


def migrate(
    document: Document,
    where: str,
    steps: Mapping[int, Callable[[Document], Document]] = STEPS,
    newest: int = SCHEMA_VERSION,
) -> Document:
    """``document`` in the newest schema version; the same object when it already is.

    Raises InputError when its version is absent, not a whole number, or newer than this fitcheck knows.
    """
    version = document.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise RecordError(
            f"{where}: schema_version is missing or not a whole number, so this is not a fitcheck record."
        )
    if version > newest:
        raise RecordError(
            f"{where}: has schema version {version}, this fitcheck knows up to {newest}; update fitcheck."
        )
    while version < newest:
        step = steps.get(version)
        if step is None:
            raise RecordError(f"{where}: schema version {version} was never published; this is not a fitcheck record.")
        document = step(dict(document))
        version += 1
    return document

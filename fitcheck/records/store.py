"""Where records live: ``<root>/<card>/<model>/<id>.json``, one canonical JSON document each, never overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import rfc8785

from fitcheck.errors import RecordError
from fitcheck.records.bounded import read_bounded, walk
from fitcheck.records.places import local_root
from fitcheck.records.reading import parse
from fitcheck.records.schema import AnyRecord, RecordBase

R = TypeVar("R", bound=RecordBase)
_EXPONENT = re.compile(r"\de[+-]\d")
# tells this process's temporary files from those of a killed one that had the same number
_PROCESS = secrets.token_hex(4)
NO_CARD = "cpu"
_EXACT = 1 << 53


def canonical(document: dict[str, object]) -> bytes:
    """RFC 8785 canonical JSON of a record's document, whose integers the schema keeps below 2^53.

    Python's own encoder writes the same text but for numbers with an exponent or ending in ``.0`` and for keys beyond
    ASCII. Whole floats are written as the integers that they are there; only texts where the rest could matter go
    through ``rfc8785``, which is ten times slower.
    """
    text = _text(document)
    if ".0," in text or ".0}" in text or ".0]" in text:
        text = _text(_whole(document))
    if not text.isascii() or (("e-" in text or "e+" in text) and _EXPONENT.search(text)):
        return rfc8785.dumps(document)  # type: ignore[arg-type]
    return text.encode()


def _text(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _whole(value: object) -> object:
    """The same JSON value with each float that is a whole number as an integer; larger ones are written otherwise."""
    if isinstance(value, float):
        return int(value) if abs(value) < _EXACT and value.is_integer() else value
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list | tuple) else value


def document_of(record: RecordBase) -> dict[str, object]:
    """The record as JSON values; absent meters are left out, so that a later optional field changes no old id."""
    return record.model_dump(mode="json", exclude_none=True)


def document_id(document: dict[str, object]) -> str:
    """sha256 (hex) over the canonical JSON of ``document`` without its ``id``."""
    return hashlib.sha256(canonical({key: value for key, value in document.items() if key != "id"})).hexdigest()


def seal(record: R) -> R:
    """The same record with its ``id``."""
    return record.model_copy(update={"id": document_id(document_of(record))})


def encode(record: AnyRecord) -> bytes:
    """The bytes of the record's file: canonical JSON with its id, and a line feed."""
    return canonical(document_of(seal(record))) + b"\n"


def relative_path(record: AnyRecord) -> Path:
    """``<card>/<model>/<id>.json``; ``cpu`` stands for no card, the record's kind for no model."""
    return folder_of(record) / f"{seal(record).id}.json"


def folder_of(record: AnyRecord) -> Path:
    """The folder of a record below the results: card (``NO_CARD`` without one), then model, or kind without a model."""
    card = getattr(record, "card", None)
    model = getattr(record, "model", None)
    return Path(card.slug if card else NO_CARD, model.slug if model else record.kind)


def write(root: Path, record: AnyRecord) -> Path:
    """Store ``record`` under ``root`` and return its path. The same record again changes nothing.

    Raises InputError when the file is there with other content or the folder cannot be written.
    """
    return write_bytes(root, relative_path(record), encode(record))


def write_bytes(root: Path, relative: Path, content: bytes) -> Path:
    """``write`` for bytes that are a record's file (or its signature) already."""
    path = root / relative
    try:
        _create(root, path, content)
    except OSError as error:
        raise RecordError(f"{path}: the record cannot be written ({error.strerror or error}).") from error
    return path


def _create(root: Path, path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in (path.parent, path.parent.parent):
        if folder != root and folder.is_symlink():
            raise RecordError(f"{folder}: is a symbolic link; records are written to real folders only.")
    _sweep(path)
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{_PROCESS}-{threading.get_ident()}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    if path.is_symlink() or read_bounded(path) != content:
        raise RecordError(f"{path}: exists with other content; it was left as it is. Move it away and write again.")


def _publish(temporary: Path, path: Path) -> None:
    """Give the finished file its name without ever replacing one that another process made meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a filesystem without hard links (exFAT, some network shares)
        if not path.exists():
            temporary.replace(path)


def _sweep(path: Path) -> None:
    """Remove temporary files of this record that a killed process left behind."""
    import psutil

    for left in path.parent.glob(f".{path.name}.*.tmp"):
        number, token = (*left.name.split(".")[-2].split("-"), "")[:2]
        ours = number == str(os.getpid())
        writing = token == _PROCESS if ours else number.isdigit() and psutil.pid_exists(int(number))
        if not writing:
            left.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> AnyRecord:
    """The record in ``path``. Raises InputError when it is not one."""
    return parse(read_bounded(path), str(path)).record


def record_files(root: Path) -> Iterator[Path]:
    """Every record file under ``root``, folder by folder; hidden files and ``schema/`` are not records. Links are
    listed as they are, so that the validator can refuse them; folders behind links are not entered."""
    for path in walk(root):
        place = path.relative_to(root).parts
        hidden = any(part.startswith(".") for part in place)
        if path.suffix == ".json" and place[0] != "schema" and not hidden:
            yield path


__all__ = [
    "canonical",
    "document_id",
    "document_of",
    "encode",
    "local_root",
    "read",
    "record_files",
    "relative_path",
    "seal",
    "write",
    "write_bytes",
]

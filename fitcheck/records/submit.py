"""From files on this machine to what is sent: checked, cleaned of nothing silently, saved locally first."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import RecordError
from fitcheck.records import privacy, store
from fitcheck.records.fields import Handle
from fitcheck.records.findings import Finding, Rank
from fitcheck.records.reading import parse, read_bounded
from fitcheck.records.schema import AnyRecord
from fitcheck.records.signature import MAX_SIGNATURE_BYTES, SUFFIX, sign
from fitcheck.records.targets import Payload
from fitcheck.records.validate import check_record


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record ready to be sent: its payloads (the file, and its signature when one was asked for) and its findings."""

    source: Path
    record: AnyRecord
    payloads: tuple[Payload, ...]
    findings: tuple[Finding, ...]

    @property
    def rejected(self) -> bool:
        """Whether any finding bars the record from being sent."""
        return any(finding.rank is Rank.REJECT for finding in self.findings)


def prepare(
    path: Path,
    now: float,
    submitter: str | None = None,
    key: Path | None = None,
    identity: dict[str, str] | None = None,
) -> Prepared:
    """Read a record file, give it an id when it has none, and check it as the repository will.

    ``submitter`` is a public handle to store in it (a new record with a new id); ``identity`` names of this machine
    that must not be in it (``privacy.local_identity``). Raises InputError when the file is no record or was changed
    since its id was made.
    """
    original = read_bounded(path)
    record = _sealed(path, original, submitter)
    content = store.encode(record)
    parsed, findings = check_record(content, now)
    if parsed is not None:
        names = privacy.local_identity() if identity is None else identity
        findings += privacy.private_names(parsed.document, names)
    relative = store.relative_path(record).as_posix()
    payloads = [Payload(relative, content)]
    if key is not None:
        payloads.append(Payload(relative + SUFFIX, sign(content, key)))
    elif (signed := _signature_of(path)) is not None and content == original:
        payloads.append(Payload(relative + SUFFIX, signed))
    return Prepared(path, record, tuple(payloads), tuple(findings))


def _signature_of(path: Path) -> bytes | None:
    signature = path.with_name(path.name + SUFFIX)
    return read_bounded(signature, MAX_SIGNATURE_BYTES) if os.path.lexists(signature) else None


def _sealed(path: Path, content: bytes, submitter: str | None) -> AnyRecord:
    document = dict(parse(content, str(path)).document)
    stated = document.pop("id", None)
    if stated is not None and stated != store.document_id(document):
        raise RecordError(
            f"{path}: was changed after it was written (its id is not that of its content); "
            "take the field `id` out to submit it as a new record."
        )
    credited = document.get("submitter")
    if submitter is not None and submitter != credited:
        if credited is not None or _signature_of(path) is not None:
            whose = f"is credited to {credited}" if credited is not None else "is signed as nobody's"
            raise RecordError(
                f"{path}: {whose}, so --as {submitter} would put another name on a measurement; leave --as out, or "
                "measure it yourself."
            )
        document["submitter"] = _handle(submitter)
    return store.seal(parse(json.dumps(document).encode(), str(path)).record)


def _handle(text: str) -> str:
    """The handle as it is stored. Raises RecordError for what is none."""
    try:
        return TypeAdapter(Handle).validate_python(text)
    except ValidationError:
        raise RecordError(
            f"--as: {text[:60]!r} is not a handle; it has letters, digits and hyphens, 39 at most, like octocat."
        ) from None


def save_locally(prepared: Sequence[Prepared], root: Path) -> list[Path]:
    """Every payload written below ``root``: whatever happens to the submission, the measurement is kept."""
    return [
        store.write_bytes(root, Path(payload.path), payload.content) for item in prepared for payload in item.payloads
    ]

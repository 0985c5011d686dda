"""What every importer shares: what the user adds, how a card is named, and what is reported as missing."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import CardError, InputError, OptionError, RecordError
from fitcheck.hardware import catalog
from fitcheck.models.find import named
from fitcheck.models.tier_names import without_tier
from fitcheck.records.fields import clean_text, slugify
from fitcheck.records.privacy import private_patterns
from fitcheck.records.reading import describe
from fitcheck.records.schema import ADAPTER, AnyRecord, Source
from fitcheck.records.store import document_of

MAX_INPUT_BYTES = 8 << 20
# what a complete record of a kind states; whatever of it an import lacks is reported and stored as missing
_MODEL = "model.repository model.revision model.sha256 model.tensor_digest"
_HARDWARE = "card.memory card.pci_id card.driver machine.os machine.cpu machine.ram"
_WANTED = {
    "llm": f"{_MODEL} model.quant_bytes runtime.version {_HARDWARE} card.pcie_generation_max settings.gpu_layers "
    "settings.threads settings.ubatch settings.type_k settings.flash_attention rates buffers memory power",
    "pass": f"{_MODEL} model.quant_bytes runtime.revision runtime.commit runtime.mode workload.width workload.steps "
    f"workload.prompt_tokens {_HARDWARE} software.torch software.cuda memory.allocated memory.reserved memory.process "
    "memory.rss memory.pinned_rounded transfer power",
    "external": f"{_MODEL} runtime.version workload.steps {_HARDWARE} software.torch software.cuda memory.allocated "
    "memory.reserved memory.process memory.device memory.rss power",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says beyond the file. ``created`` is UTC seconds; ``file_time`` the time of the file."""

    file_time: int
    created: int | None = None
    model: str | None = None
    tier: str | None = None
    weights: Literal["real", "synthetic"] = "real"
    repository: str | None = None
    card: str | None = None
    gguf: Path | None = None
    task: str | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    cfg: float | None = None
    mode: str | None = None
    revision: str | None = None
    submitter: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """A record, the fields of a complete one that it lacks, and the tool's fields that a record has no place for."""

    record: AnyRecord
    missing: tuple[str, ...]
    unmapped: tuple[str, ...]


def need(value: str | None, option: str, why: str) -> str:
    """``value``, or an InputError that asks for ``option``."""
    if not value:
        raise OptionError(f"{option} is needed: {why}.")
    return value


def finish(document: dict[str, object], unmapped: tuple[str, ...], where: str, given: Given) -> Imported:
    """The record of ``document`` (Python values of the schema's fields), its ``source.missing`` filled in.

    A time of measurement that nobody states is that of the file, and reported as missing. Raises InputError when what
    the tool printed does not fit the schema, or holds what no record may.
    """
    created = given.created or document.get("created")
    document = {**document, "created": created or given.file_time, "submitter": given.submitter}
    try:
        record = ADAPTER.validate_python(_without_none(document), strict=False)
        missing = (() if created else ("created",)) + _missing(record)
        source = Source.model_validate({**record.source.model_dump(), "missing": missing or None})
        record = record.model_copy(update={"source": source})
    except ValidationError as error:
        raise RecordError(f"{where}: does not give a valid record ({describe(error)}).") from error
    _refuse_private(record, where)
    return Imported(record, missing, unmapped)


def _refuse_private(record: AnyRecord, where: str) -> None:
    """Raises RecordError where a text of the tool names a person or a machine: a record that holds it would be kept
    here and refused by everyone else."""
    found = private_patterns(document_of(record))
    if found:
        way = "name the card with --card" if found[0].message.startswith("card.") else "take it out of the file"
        raise RecordError(f"{where}: {found[0].message.partition(';')[0]}; {way}.")


def _without_none(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value


def _missing(record: AnyRecord) -> tuple[str, ...]:
    document = document_of(record)
    return tuple(place for place in _WANTED[record.kind].split() if not _stated(document, place, record))


def _stated(document: dict[str, object], place: str, record: AnyRecord) -> bool:
    if place.startswith("card.") and record.card is None and record.kind == "llm":
        return True  # it ran on the CPU: there is no card to state
    value: object = document
    for part in place.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value not in (None, {}, [], "unknown")


def card_info(name: str, memory: int | None = None, count: int = 1) -> dict[str, object]:
    """The card block of a driver's card name; the slug is the catalog's when it knows the card."""
    known = catalog.match_detected(name, memory)
    makers = ("nvidia", "amd", "intel", "apple")
    vendor = known.vendor if known else next((maker for maker in makers if maker in name.lower()), "unknown")
    return {
        "slug": known.slug if known else slugify(name),
        "name": safe_name(name),
        "vendor": slugify(vendor),
        "memory": memory,
        "count": count if count > 1 else 1,
    }


def card_named(text: str) -> dict[str, object]:
    """The card block of what the user typed. Raises InputError, with the candidates, for a name that fits no card or
    several; its memory stays unknown, because nobody measured it."""
    try:
        known = catalog.find_card(text)
    except InputError as error:
        raise CardError(str(error).replace("--gpu", "--card")) from error
    return {"slug": known.slug, "name": safe_name(known.name), "vendor": slugify(known.vendor), "count": 1}


def safe_name(text: str, limit: int = 128) -> str:
    """Hardware names as records allow them; odd characters become spaces."""
    return re.sub(r"[^A-Za-z0-9 ._()+@/,:&-]+", " ", clean_text(text)).strip(" ._()+@/,:&-")[:limit] or "unknown"


def model_slug(file: str) -> str:
    """``"Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf"`` -> ``"llama-3.1-8b"``: the catalog's slug of what the file's name
    says without tier and ending, so that the record speaks for that model; else a slug of that name."""
    stem = re.sub(r"(?:-\d{5}-of-\d{5})?\.(?:gguf|safetensors)$", "", file, flags=re.IGNORECASE)
    stem = without_tier(stem)
    known = named(stem)
    return slugify(stem) if known is None else known.slug


def gguf_identity(path: Path) -> dict[str, object]:
    """File name, sha256 (of a single file), tensor digest and bytes by type. Raises InputError if unreadable."""
    from fitcheck.models.gguf import read_gguf

    header = read_gguf(path)
    identity: dict[str, object] = {
        "file": path.name,
        "tensor_digest": header.tensors.digest,
        "quant_bytes": header.tensors.bytes_by_type,
    }
    if len(header.shards) == 1:  # a set of shards has no one digest; its tensor table names it
        with path.open("rb") as file:
            identity["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return identity

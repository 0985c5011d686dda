"""Estimates against published rows: what llama.cpp and its fork printed, and the sizes of published files.

Every number here is either predicted from a shape and a tier's name, or left out with a reason; nothing is fitted to
the rows. Where a row does not say which build it is and the printed numbers tell, the row is marked ``fitted``: it then
tests everything but the build.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

from fitcheck.data_files import read_text
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import InputError, RecordError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.known_models import LanguageEntry, known_language_models, language_entry
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import header_bytes, mixture_table
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.figures import Figure
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate
from fitcheck.runtimes.llamacpp.builds import FORK
from fitcheck.runtimes.llamacpp.published_rows import architecture_of, number, options_of, reading_of, table_of
from fitcheck.units import GIB, MIB


@dataclass(frozen=True, slots=True)
class PrintedFigure:
    """One published number beside ours, in bytes. ``error`` is relative, ``fitted`` marks numbers used for a choice."""

    row: str
    engine: str
    model: str
    quantity: str
    predicted: int
    published: int
    fitted: bool = False
    source: str = ""

    @property
    def error(self) -> float:
        """(predicted - published) / published."""
        return self.predicted / self.published - 1


@dataclass(frozen=True, slots=True)
class FigureSummary:
    """Absolute relative errors of one quantity for one engine."""

    engine: str
    quantity: str
    count: int
    median: float
    worst: float


def summarize(rows: Iterable[PrintedFigure]) -> list[FigureSummary]:
    """Median and worst error by engine and quantity."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row.engine, row.quantity), []).append(abs(row.error))
    return [FigureSummary(*key, len(errors), median(errors), max(errors)) for key, errors in sorted(groups.items())]


@cache
def _readings() -> dict[str, Any]:
    text = _published("llamacpp_rows.json")
    rows: dict[str, Any] = json.loads(text)["rows"]
    return rows


def _published(name: str) -> str:
    return read_text("runtimes.llamacpp", f"published/{name}")


def llamacpp_accuracy(path: Path | None = None) -> tuple[list[PrintedFigure], list[str]]:
    """(compared numbers, what was left out and why) for the published rows, or for a file of rows in the same columns.

    Rows of another file are read from their columns alone (``rows.py``). Raises InputError when it cannot be read.
    """
    if path is None:
        text, readings = _published("llamacpp.csv"), _readings()
    else:
        try:
            text, readings = path.read_text("utf-8"), {}
        except (OSError, UnicodeDecodeError) as problem:
            raise RecordError(f"{path}: the rows cannot be read ({problem}).") from problem
    found: list[PrintedFigure] = []
    skipped: list[str] = []
    for index, row in enumerate(csv.DictReader(StringIO(text))):
        try:
            rows, reasons = _compare(index, row, readings.get(str(index)) or reading_of(row))
        except (InputError, KeyError) as problem:
            skipped.append(f"row {index}: {problem}")
            continue
        found += rows
        skipped += [f"row {index}: {reason}" for reason in reasons]
    return found, skipped


def _compare(index: int, row: dict[str, str], reading: dict[str, Any]) -> tuple[list[PrintedFigure], list[str]]:
    architecture = architecture_of(row, reading)
    engine = "fork" if row["engine"] == FORK else "mainline"
    reasons = []
    tensors, exact = table_of(architecture, row, reading)
    if not exact:
        reasons.append(f"tier {row['quant'] or 'not stated'}: a publisher's own mixture, weights not compared")
    options, cards = options_of(row, reading)
    result = estimate(architecture, tensors, options, vram=[24 * GIB] * cards)
    fitted = bool(reading.get("fitted"))
    compared = [
        (quantity, predicted, published)
        for quantity, predicted, published in _quantities(row, reading, result, tensors, exact)
        if published and predicted is not None
    ]
    rows = [
        PrintedFigure(
            str(index), engine, f"{row['model']} {row['quant']}".strip(), quantity, predicted, round(published * MIB),
            fitted and quantity == "compute", row["source"],
        )
        for quantity, predicted, published in compared
    ]  # fmt: skip
    return rows, reasons


def _quantities(
    row: dict[str, str], reading: dict[str, Any], result: LlamaEstimate, tensors: TensorTable, exact: bool
) -> list[tuple[str, int, float | None]]:
    cards = sum(card.weights for card in result.cards)
    found: list[tuple[str, int, float | None]] = []
    if exact and reading.get("weights", True):
        override = "override" in row["notes"] and not reading.get("experts_on_host")
        if not override:
            found.append(("weights on cards", cards, number(row, "model_buffer_gpu_mib")))
            if row["ngl"] != "0" and _full(row):
                found.append(("weights on host", result.host.weights, number(row, "model_buffer_cpu_mib")))
        file_gib = number(row, "file_gib")
        if file_gib and len(row["file_gib"].split(".")[-1]) >= 2 and file_gib >= 5:
            found.append(("weights in file", tensors.nbytes, file_gib * 1024))
    cache_total = result.kv_cache + (result.recurrent if reading.get("cache") == "total" else 0)
    found.append(("KV cache", cache_total, number(row, "kv_mib")))
    comparable = reading.get("compute", True) and row["engine"] != FORK and "override" not in row["notes"]
    if comparable and (exact or _full(row)):
        found.append(("compute", max((c.compute for c in result.cards), default=0), number(row, "compute_gpu_mib")))
    if reading.get("experts_on_host"):
        found.append(("compute", max(c.compute for c in result.cards), number(row, "compute_gpu_mib")))
    return found


def _full(row: dict[str, str]) -> bool:
    return bool(row["ngl"]) and bool(row["n_layer"]) and int(row["ngl"]) > int(row["n_layer"])


def file_size_accuracy() -> tuple[list[PrintedFigure], list[str]]:
    """Published file sizes against those from shape and tier alone, for the language models among them."""
    found: list[PrintedFigure] = []
    skipped: list[str] = []
    for index, row in enumerate(csv.DictReader(StringIO(_published("gguf_file_sizes.csv")))):
        if not row["n_head"] or not row["n_vocab"]:
            skipped.append(f"row {index}: {row['model']}: not a language model, or its shape is not given")
            continue
        architecture = _shape_of(row)
        table = mixture_table(architecture, row["quant"])
        predicted = table.nbytes + header_bytes(architecture)
        engine = "file" if row["size_exact"] == "1" else "file, rounded"
        found.append(
            PrintedFigure(str(index), engine, f"{row['model']} {row['quant']}", "file size", predicted,
                        int(row["size_bytes"]), source=row["source"])
        )  # fmt: skip
    return found, skipped


_COLUMNS = {
    "block_count": "n_layer",
    "embedding_length": "n_embd",
    "attention.head_count": "n_head",
    "attention.head_count_kv": "n_head_kv",
    "feed_forward_length": "n_ff",
    "vocab_size": "n_vocab",
}


def _shape_of(row: dict[str, str]) -> LanguageArchitecture:
    """The row's numbers, and from the known model of that shape those that a row does not state: length of a head,
    experts, window. A shape that nobody knows has heads of width by count, as llama.cpp assumes."""
    name = row["arch"]
    metadata: dict[str, Any] = {f"{name}.{key}": int(row[column]) for key, column in _COLUMNS.items()}
    entries = map(language_entry, known_language_models())
    known = next((entry.metadata for entry in entries if _same_shape(entry, metadata)), {})
    architecture = architecture_from_gguf({**known, "general.architecture": name, **metadata})
    return replace(architecture, tied_embeddings=row["tied_embeddings"] == "1")


def _same_shape(entry: LanguageEntry, metadata: Mapping[str, Any]) -> bool:
    """Whether all numbers but the vocabulary, which tuned versions extend, are the entry's."""
    return all(entry.metadata.get(key) == value for key, value in metadata.items() if not key.endswith("vocab_size"))


_ENGINES = {"mainline": "llama.cpp", "fork": "ik_llama.cpp", "file": "GGUF", "file, rounded": "GGUF (rounded)"}


def figures() -> list[Figure]:
    """llama.cpp's printed buffers and exact GGUF file sizes beside ours, in bytes; exact figures without intervals."""
    rows = [*llamacpp_accuracy()[0], *file_size_accuracy()[0]]
    order = sorted(range(len(rows)), key=lambda at: ("file" in rows[at].engine, rows[at].engine, rows[at].quantity))
    return [
        Figure(
            source=row.source,
            name=row.model,
            quantity=f"{_ENGINES[row.engine]} {row.quantity}",
            unit="B",
            predicted=row.predicted,
            published=row.published,
        )
        for row in (rows[at] for at in order)
    ]

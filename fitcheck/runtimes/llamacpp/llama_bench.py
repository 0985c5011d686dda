"""llama-bench's output (``-o json``, ``jsonl``, ``csv``, ``md``): a record per configuration, a rate per test.

Field names are those that tools/llama-bench of ggml-org/llama.cpp prints; JSON and CSV share them, and the JSON also
has every repetition. A Markdown table shows only the columns that differ from the defaults.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from pathlib import PurePosixPath, PureWindowsPath

from fitcheck.errors import CardError, RecordError
from fitcheck.models.tier_names import base_of, publisher_of, tier_in
from fitcheck.records.fields import MAX_ITEMS
from fitcheck.records.importers.common import (
    Given,
    Imported,
    card_info,
    card_named,
    finish,
    gguf_identity,
    model_slug,
    need,
    safe_name,
)
from fitcheck.records.reading import parse_json

Row = dict[str, object]

# llama-bench's field -> (the setting in a record, how it is read)
_INTEGERS = {
    "n_gpu_layers": "gpu_layers",
    "n_cpu_moe": "cpu_moe_layers",
    "n_threads": "threads",
    "n_batch": "batch",
    "n_ubatch": "ubatch",
}
_TEXTS = {"type_k": "type_k", "type_v": "type_v", "split_mode": "split_mode"}
_TIMES = {"avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts", "test_time"}
_TEST = {"n_prompt", "n_gen", "n_depth"} | _TIMES
_READ = (
    _INTEGERS.keys()
    | _TEXTS.keys()
    | {"flash_attn", "use_mmap", "load_mode", "no_kv_offload", "backends", "build_commit", "build_number", "cpu_info"}
    | {"gpu_info", "model_filename", "model_type"}
)
# printed, and derived from others or of no use to a reader of records
_DERIVED = {"model_size", "model_n_params", "avg_ns", "stddev_ns", "samples_ns"}
_COLUMNS = {"threads": "n_threads", "ngl": "n_gpu_layers", "fa": "flash_attn", "sm": "split_mode", "mmap": "use_mmap"}
_COLUMNS |= {"backend": "backends", "model": "model_type", "n_cpu_moe": "n_cpu_moe", "ncmoe": "n_cpu_moe"}
_TEST_NAME = re.compile(r"(?:pp\s?(\d+))?\+?(?:tg\s?(\d+))?(?:\s*@\s*d(\d+))?")
_BUILD = re.compile(r"^build:\s*([0-9a-f]{7,40})\s*\((\d+)\)", re.MULTILINE)


def read(content: bytes, where: str, given: Given) -> list[Imported]:
    """The records in a llama-bench output of any of its formats. Raises InputError when it is none."""
    rows = _rows(content, where)
    if not rows:
        raise RecordError(f"{where}: holds no llama-bench result; save one with `llama-bench -m FILE -o json`.")
    groups: dict[str, list[Row]] = {}
    for row in rows:
        key = json.dumps({name: value for name, value in sorted(row.items()) if name not in _TEST})
        groups.setdefault(key, []).append(row)
    identity = gguf_identity(given.gguf) if given.gguf is not None else {}
    imported = []
    for group in groups.values():
        for start in range(0, len(group), MAX_ITEMS):
            imported.append(_record(group[start : start + MAX_ITEMS], where, given, identity))
    return imported


def _rows(content: bytes, where: str) -> list[Row]:
    text = content.decode("utf-8", "replace").lstrip("\ufeff").strip()
    if text.startswith("["):
        rows = parse_json(content, where)
    elif text.startswith("{"):
        rows = [parse_json(line.encode(), where) for line in text.splitlines() if line.strip()]
    elif text.startswith("|") or "\n|" in text:
        return _markdown(text, where)
    else:
        rows = _comma_separated(text)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "avg_ts" in row for row in rows):
        raise RecordError(f"{where}: is not llama-bench output (JSON, JSONL, CSV or its Markdown table is expected).")
    return rows


def _comma_separated(text: str) -> list[dict[str, object]]:
    """Rows by column name; none where this is no such table. Cells beyond the header's columns have no name."""
    try:
        return [{name: cell for name, cell in row.items() if name} for row in csv.DictReader(io.StringIO(text))]
    except csv.Error:
        return [{}]


def _markdown(text: str, where: str) -> list[Row]:
    """Rows of the table under JSON's field names, ``test`` and ``t/s`` taken apart."""
    lines = [line.strip().strip("|") for line in text.splitlines() if line.strip().startswith("|")]
    header = [cell.strip() for cell in lines[0].split("|")]
    if "t/s" not in header or "test" not in header:
        raise RecordError(f"{where}: the Markdown table is not llama-bench's (no columns `test` and `t/s`).")
    build = _BUILD.search(text)
    rows = []
    for line in lines[2:]:
        cells = dict(zip(header, (cell.strip() for cell in line.split("|")), strict=False))
        test = _TEST_NAME.fullmatch(cells.pop("test", ""))
        rate = re.fullmatch(r"([\d.]+)\s*±\s*([\d.]+)", cells.pop("t/s", ""))
        if test is None or rate is None:
            raise RecordError(f"{where}: the row {line.strip()[:80]!r} has no test or rate that can be read.")
        row: Row = {_COLUMNS.get(name, name): value for name, value in cells.items() if name not in ("size", "params")}
        row |= {"n_prompt": test.group(1) or 0, "n_gen": test.group(2) or 0, "n_depth": test.group(3) or 0}
        row |= {"avg_ts": rate.group(1), "stddev_ts": rate.group(2)}
        if build is not None:
            row |= {"build_commit": build.group(1), "build_number": build.group(2)}
        rows.append(row)
    return rows


def _tier(file: str, kind: str, where: str) -> str | None:
    """The quant tier by the file's name and by what llama.cpp read in it, its ``kind``. A name says more, as whose own
    mixture it is, but nothing against the file. Raises RecordError where it does."""
    told, read = tier_in(file), tier_in(kind)
    if told and read and not publisher_of(told) and base_of(told) != base_of(read):
        raise RecordError(
            f"{where}: the file is named {told}, but llama.cpp read {kind!r} in it; say which with --tier."
        )
    return told or read


def _record(rows: list[Row], where: str, given: Given, identity: Row) -> Imported:
    row = rows[0]
    file = _file_name(str(row.get("model_filename") or ""))
    kind = str(row.get("model_type") or "")
    slug = given.model or (model_slug(file) if file else None)
    tier = given.tier or _tier(file, kind, where)
    build = row.get("build_number")
    tests = [_rate(test, where) for test in rows]
    overrides = str(row.get("tensor_buft_overrides") or "none")
    document: dict[str, object] = {
        "kind": "llm",
        "created": _created(rows),
        "source": {"tool": "llama-bench", "version": f"b{build}" if build else None},
        "machine": {"os": "unknown", "cpu": safe_name(str(row["cpu_info"])) if row.get("cpu_info") else None},
        "software": {"llama_cpp": f"b{build}" if build else None},
        "tags": ("tensor-overrides",) if overrides not in ("none", "") else None,
        "model": {
            "slug": need(slug, "--model", f"{where} does not name the model's file"),
            "tier": need(tier, "--tier", f"{where} does not name the quant tier"),
            "weights": given.weights,
            "repository": given.repository,
            "file": file or None,
            **identity,
        },
        "runtime": {
            "name": "llama.cpp",
            "commit": _commit(row.get("build_commit")),
            "version": f"b{build}" if build else None,
        },
        "card": _card(row, where, given),
        "protocol": {"name": "llama-bench", "version": 0, "warmup": 1, "repeats": _repeats(rows)},
        "settings": _settings(row),
        "rates": tuple(tests),
        "outcome": {"result": "ok"},
    }
    unmapped = tuple(sorted(row.keys() - _READ - _TEST - _DERIVED))
    return finish(document, unmapped, where, given)


def _file_name(path: str) -> str:
    name = PureWindowsPath(PurePosixPath(path).name).name
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.+()-]{0,254}", name) else ""


def _commit(value: object) -> str | None:
    text = str(value or "").lower()
    return text if re.fullmatch(r"[0-9a-f]{7,40}", text) else None


def _created(rows: list[Row]) -> int | None:
    """UTC seconds of the first test; None when the format does not print the time."""
    times = []
    for row in rows:
        try:
            moment = datetime.datetime.fromisoformat(str(row.get("test_time")))
        except ValueError:
            continue
        times.append(int(moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp()))
    return min(times, default=None)


def _card(row: Row, where: str, given: Given) -> dict[str, object] | None:
    """None when it ran on the CPU."""
    names = [name.strip() for name in str(row.get("gpu_info") or "").split(",") if name.strip()]
    if given.card:
        return card_named(given.card)
    if names:
        return card_info(names[0], count=len(names))
    backend = str(row.get("backends") or "")
    if backend and backend not in ("CPU", "BLAS", "CPU,BLAS", "BLAS,CPU"):
        raise CardError(f"{where}: ran on {backend} and does not name the card; add --card, like --card 'RTX 4070'.")
    return None


def _settings(row: Row) -> dict[str, object]:
    settings: dict[str, object] = {"backend": re.sub(r"[^A-Za-z0-9 ._-]+", "+", str(row.get("backends") or "")) or None}
    for name, setting in _INTEGERS.items():
        settings[setting] = _integer(row.get(name))
    for name, setting in _TEXTS.items():
        settings[setting] = str(row[name]) if row.get(name) else None
    attention = str(row.get("flash_attn", "")).lower()
    settings["flash_attention"] = {"1": "on", "true": "on", "on": "on", "0": "off", "false": "off", "off": "off"}.get(
        attention, "auto" if attention in ("-1", "auto") else None
    )
    mode = str(row.get("load_mode") or "")
    settings["mmap"] = _truth(row.get("use_mmap")) if mode in ("", "auto") else mode.startswith("mmap")
    kept = _truth(row.get("no_kv_offload"))
    settings["kv_offload"] = None if kept is None else not kept
    return settings


def _rate(row: Row, where: str) -> dict[str, object]:
    samples = row.get("samples_ts")
    try:
        return {
            "prompt_tokens": int(str(row["n_prompt"])),
            "new_tokens": int(str(row["n_gen"])),
            "depth": int(str(row.get("n_depth") or 0)),
            "mean": float(str(row["avg_ts"])),
            "stddev": float(str(row["stddev_ts"])) if row.get("stddev_ts") not in (None, "") else None,
            "samples": tuple(float(value) for value in samples) if isinstance(samples, list) and samples else None,
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RecordError(
            f"{where}: a llama-bench row has no readable n_prompt, n_gen and avg_ts ({error})."
        ) from error


def _repeats(rows: list[Row]) -> int:
    """Runs of each test; 0 when the format does not list them."""
    return max(len(samples) if isinstance(samples := row.get("samples_ts"), list) else 0 for row in rows)


def _integer(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def _truth(value: object) -> bool | None:
    return {"1": True, "true": True, "0": False, "false": False}.get(str(value).lower())

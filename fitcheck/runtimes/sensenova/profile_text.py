"""The summary that SenseNova-U1's own ``--profile`` prints (its format: src/sensenova_u1/utils/profiler.py upstream).

It states seconds and, on CUDA, torch's peaks in GiB with two decimals. It does not state the model, the mode, the card
or the steps: those come from the user.
"""

from __future__ import annotations

import re

from fitcheck.errors import OptionError, RecordError
from fitcheck.records.importers.common import Given, Imported, card_named, finish, gguf_identity, need
from fitcheck.units import GIB

_NUMBER, _WHOLE = r"(\d{1,9}(?:\.\d{1,6})?)", r"(\d{1,7})"
_MEMORY = rf"allocated {_NUMBER} GiB, reserved {_NUMBER} GiB"
_LOAD = re.compile(rf"^\s*model load\s*:\s*{_NUMBER} s", re.MULTILINE)
_LOAD_PEAK = re.compile(rf"^\s*load peak memory\s*:\s*{_MEMORY}", re.MULTILINE)
_PEAK = re.compile(rf"^\s*generation peak mem\s*:\s*{_MEMORY}", re.MULTILINE)
_COUNT = re.compile(
    rf"^\s*generations\s*:\s*{_WHOLE} call\(s\), {_WHOLE} image\(s\) total, {_NUMBER} s wall", re.MULTILINE
)
_CALL = re.compile(rf"^\s*\[\s*\d+\] {_WHOLE}x{_WHOLE} x{_WHOLE}\s+{_NUMBER} s\b", re.MULTILINE)
_TOKENS = re.compile(rf"patch_size={_WHOLE}, avg {_WHOLE} tok/image")
_UNMAPPED = ("avg per image", "image tokens", "throughput")


def read(content: bytes, where: str, given: Given) -> list[Imported]:
    """The one record of a profile summary. Raises InputError when it is none or the user left out what it lacks."""
    text = content.decode("utf-8", "replace")
    load, count = _LOAD.search(text), _COUNT.search(text)
    if load is None or count is None:
        raise RecordError(f"{where}: is no SenseNova-U1 profile summary (it has lines `model load` and `generations`).")
    calls, images, total = int(count[1]), int(count[2]), float(count[3])
    width, height, batch, seconds = _calls(text, where, given, calls, images, total)
    peak = _peak(_PEAK, text)
    workload: dict[str, object] = {
        "task": need(given.task, "--task", "the summary does not say whether it made or edited pictures"),
        "width": width,
        "height": height,
        "batch": batch,
        "steps": given.steps,
        "cfg": given.cfg,
    }
    phases = [{"name": "load", **_peak(_LOAD_PEAK, text)}, {"name": "generate", **peak}]
    document: dict[str, object] = {
        "kind": "pass",
        "source": {"tool": "sensenova-profile"},
        "machine": {"os": "unknown"},
        "software": {},
        "tags": ("rounded-memory",) if peak else None,
        "model": {
            "slug": need(given.model, "--model", "the summary does not name the model"),
            "tier": need(given.tier, "--tier", "the summary does not name the quant tier"),
            "weights": given.weights,
            "repository": given.repository,
            **(gguf_identity(given.gguf) if given.gguf is not None else {}),
        },
        "runtime": {"name": "sensenova", "revision": given.revision, "mode": given.mode},
        "workload": workload,
        "card": card_named(need(given.card, "--card", "the summary does not name the card")),
        "protocol": {"name": "sensenova-profile", "version": 0, "warmup": 0, "repeats": calls},
        "samples": tuple({"total": value} for value in seconds),
        "memory": {**peak, "phases": tuple(phases) if peak else None},
        "load_seconds": float(load[1]),
        "outcome": {"result": "ok"},
    }
    return [finish(document, _UNMAPPED, where, given)]


def _peak(pattern: re.Pattern[str], text: str) -> dict[str, object]:
    match = pattern.search(text)
    if match is None:
        return {}
    return {"allocated": round(float(match[1]) * GIB), "reserved": round(float(match[2]) * GIB)}


def _calls(
    text: str, where: str, given: Given, calls: int, images: int, total: float
) -> tuple[int, int, int, tuple[float, ...]]:
    """(width, height, pictures a call, seconds of each call). One call alone prints no size, so the user gives it."""
    listed = [(int(w), int(h), int(batch), float(s)) for w, h, batch, s in _CALL.findall(text)]
    if listed:
        if len({row[:3] for row in listed}) > 1:
            raise RecordError(f"{where}: its calls have different sizes; profile one size at a time to import it.")
        width, height, batch, _ = listed[0]
        return width, height, batch, tuple(row[3] for row in listed)
    if given.width is None or given.height is None:
        raise OptionError(f"{where}: a summary of one call does not state the size; add --size, like --size 2048x2048.")
    tokens = _TOKENS.search(text)
    if tokens is not None:
        patch, stated = int(tokens[1]), int(tokens[2])
        if patch and (given.width // patch) * (given.height // patch) != stated:
            raise OptionError(f"{where}: --size {given.width}x{given.height} is not the size of {stated} image tokens.")
    return given.width, given.height, max(images // max(calls, 1), 1), (total / calls,) * calls if calls else ()

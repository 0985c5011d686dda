"""optimum-benchmark's ``benchmark.json`` (config and report), and its older ``benchmark_report.json`` beside a config.

Megabytes are 10^6 bytes there; ``gpu_vram_mb`` is bytes for NVIDIA cards in spite of its name (system_utils.py).
"""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from fitcheck.errors import CardError, RecordError
from fitcheck.models.tier_names import tier_in
from fitcheck.records.fields import MAX_SAMPLES, slugify
from fitcheck.records.importers.common import (
    Given,
    Imported,
    card_info,
    card_named,
    finish,
    gguf_identity,
    model_slug,
    safe_name,
)
from fitcheck.records.reading import parse_json

# the target that is timed, its first run and its parts, by what a library does: text, pictures, one forward
_TARGETS = {"generate": ("first_generate", "chat"), "call": ("first_call", "t2i"), "forward": ("first_forward", None)}
_PHASES = ("load_model", "prefill", "decode", "generate", "call", "forward")
_MEMORY = {
    "max_ram": "rss",
    "max_global_vram": "device",
    "max_process_vram": "process",
    "max_reserved": "reserved",
    "max_allocated": "allocated",
}
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_UNMAPPED = ("latency percentiles", "throughput", "efficiency", "energy", "per-token latency")


def read(content: bytes, where: str, given: Given) -> list[Imported]:
    """The one record of a benchmark. Raises InputError when it is none or nothing in it was timed."""
    data = parse_json(content, where)
    config, report = (data.get("config"), data.get("report")) if isinstance(data, dict) else (None, None)
    if not isinstance(config, dict) or not isinstance(report, dict):
        raise RecordError(f"{where}: is not optimum-benchmark's benchmark.json (keys `config` and `report` expected).")
    target = next((name for name in _TARGETS if _values(report, name)), None)
    if target is None:
        raise RecordError(f"{where}: has no latency of generate, call or forward; run the benchmark with latency=True.")
    first, task = _TARGETS[target]
    backend, environment, scenario = (_block(config, name) for name in ("backend", "environment", "scenario"))
    values = _values(report, target)
    document: dict[str, object] = {
        "kind": "external",
        "source": {"tool": "optimum-benchmark", "version": environment.get("optimum_benchmark_version")},
        "machine": _machine(environment),
        "software": _software(backend, environment),
        "tags": ("samples-cut",) if len(values) > MAX_SAMPLES - 1 else None,
        "model": _model(backend, given),
        "runtime": _runtime(backend, environment),
        "workload": _workload(given.task or task, scenario, given),
        "card": _card(backend, environment, given),
        "protocol": {
            "name": "optimum-benchmark",
            "version": 0,
            "warmup": _whole(scenario.get("warmup_runs")) or 0,
            "repeats": len(values),
            "fresh_process": _block(config, "launcher").get("name") == "process",
        },
        "samples": tuple({"total": value, "warmup": True} for value in _values(report, first)[:1])
        + tuple({"total": value} for value in values[: MAX_SAMPLES - 1]),
        "load_seconds": next(iter(_values(report, "load_model")), None),
        "memory": _memory(report),
        "outcome": {"result": "ok"},
    }
    return [finish(document, _UNMAPPED, where, given)]


def _block(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _values(report: dict[str, Any], target: str) -> list[float]:
    values = _block(_block(report, target), "latency").get("values")
    return [number for v in values if (number := _number(v)) is not None] if isinstance(values, list) else []


def _number(value: object, scale: int = 1) -> float | None:
    """``value`` times ``scale``; ``None`` for what is no finite number, which JSON can hold too."""
    try:
        number = float(value) * scale if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value)
    return None if number is None else int(number)


def _machine(environment: dict[str, Any]) -> dict[str, object]:
    system = {"linux": "linux", "windows": "windows", "darwin": "macos"}
    ram = _number(environment.get("cpu_ram_mb"), 10**6)
    cpu = str(environment.get("cpu") or "").strip()
    return {
        "os": system.get(str(environment.get("system")).lower(), "unknown"),
        "cpu": safe_name(cpu) if cpu else None,
        "logical_cores": _whole(environment.get("cpu_count")),
        "ram": None if ram is None else round(ram),
    }


def _software(backend: dict[str, Any], environment: dict[str, Any]) -> dict[str, object]:
    names = ("transformers", "diffusers", "accelerate")
    software: dict[str, object] = {name: environment.get(f"{name}_version") for name in names}
    software["python"] = environment.get("python_version")
    if backend.get("name") == "pytorch":
        software["torch"] = backend.get("version")
    return software


def _model(backend: dict[str, Any], given: Given) -> dict[str, object]:
    name = str(backend.get("model") or "")
    hub_id = name if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name, re.ASCII) else None
    last = PureWindowsPath(PurePosixPath(name).name).name
    scheme = backend.get("quantization_scheme")
    dtype = _DTYPES.get(str(backend.get("torch_dtype")))
    tier = given.tier or (str(scheme) if scheme else None) or dtype or tier_in(last) or "unknown"
    return {
        "slug": given.model or (model_slug(last) if last else "unknown"),
        "tier": tier,
        "weights": "synthetic" if backend.get("no_weights") is True else given.weights,
        "repository": given.repository or hub_id,
        **(gguf_identity(given.gguf) if given.gguf is not None else {}),
    }


def _runtime(backend: dict[str, Any], environment: dict[str, Any]) -> dict[str, object]:
    library = slugify(str(backend.get("library") or backend.get("name") or "unknown"))
    dtype = backend.get("torch_dtype")
    return {
        "name": library,
        "version": environment.get(f"{library}_version"),
        "attention": backend.get("attn_implementation"),
        "dtype": dtype if isinstance(dtype, str) and re.fullmatch(r"[A-Za-z]\w{0,31}", dtype, re.ASCII) else None,
    }


def _workload(task: str | None, scenario: dict[str, Any], given: Given) -> dict[str, object] | None:
    if task is None:
        return None
    shapes, call, generate = (_block(scenario, name) for name in ("input_shapes", "call_kwargs", "generate_kwargs"))
    workload: dict[str, object] = {"task": task, "batch": _whole(shapes.get("batch_size")) or 1}
    if task == "chat":
        workload["prompt_tokens"] = _whole(shapes.get("sequence_length"))
        workload["new_tokens"] = _whole(generate.get("max_new_tokens"))
        return workload
    for name, stated in (("width", given.width), ("height", given.height), ("steps", given.steps)):
        asked = call.get("num_inference_steps" if name == "steps" else name)
        workload[name] = stated if stated is not None else _whole(asked)
    return workload


def _card(backend: dict[str, Any], environment: dict[str, Any], given: Given) -> dict[str, object] | None:
    if given.card:
        return card_named(given.card)
    if backend.get("device") != "cuda":
        return None
    names = environment.get("gpu")
    names = names if isinstance(names, list) else [names] if isinstance(names, str) else []
    if not names:
        raise CardError("--card is needed: the benchmark ran on a GPU and does not name it.")
    total = _whole(environment.get("gpu_vram_mb"))
    memory = None if total is None else (total if total > 1 << 30 else total * 10**6) // len(names)
    used = backend.get("device_ids")
    count = len(str(used).split(",")) if used not in (None, "") else 1
    return card_info(str(names[0]), memory * count if memory is not None else None, count)


def _memory(report: dict[str, Any]) -> dict[str, object]:
    phases, peaks = [], dict.fromkeys(_MEMORY.values(), 0)
    for target in _PHASES:
        stated = _block(_block(report, target), "memory")
        scale = {"MB": 10**6, "GB": 10**9}.get(str(stated.get("unit")))
        if scale is None:
            continue
        values = {
            place: round(value)
            for name, place in _MEMORY.items()
            if (value := _number(stated.get(name), scale)) is not None
        }
        peaks |= {place: max(peaks[place], value) for place, value in values.items()}
        values.pop("rss", None)
        if values:
            phases.append({"name": slugify(target.removesuffix("_model")), **values})
    return {place: value or None for place, value in peaks.items()} | {"phases": tuple(phases) or None}

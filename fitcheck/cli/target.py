"""A check of anything that is not in the catalog: a file, a folder, a repository on the hub or a URL."""

from __future__ import annotations

import difflib
import math
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fitcheck.cli.options import LANGUAGE_OPTIONS, Question, machine_of, request_of, runtime_of, split
from fitcheck.errors import InputError

if TYPE_CHECKING:
    from fitcheck.models.resolve import Resolved
    from fitcheck.verdict.language import TextRequest
    from fitcheck.verdict.report import Report
    from fitcheck.verdict.target import Wanted

_IMAGE_OPTIONS = ("mode", "steps", "cfg", "reference", "images", "prefetch_count")
_MOST_NEIGHBOURS = 2000


def answer_target(question: Question) -> Report:
    """The report on a target; what was fetched for it is said on stderr. Raises InputError."""
    from fitcheck.models.resolve import resolve
    from fitcheck.verdict.target import check_target

    if question.gguf is not None:
        raise InputError(
            f"--gguf goes with a catalog model; to check that file itself, write `fitcheck check {question.gguf}`."
        )
    wanted = wanted_of(question)
    machine = machine_of(question)
    _refuse_what_names_nothing(question.model)
    with resolve(question.model, offline=question.offline) as found:
        try:
            report = check_target(found, machine, wanted)
        finally:
            _say_traffic(found)
    _refuse_foreign_options(question, report)
    return report


def wanted_of(question: Question) -> Wanted:
    """The question apart from model and machine. Raises InputError."""
    from dataclasses import replace

    from fitcheck.verdict.target import Wanted

    if question.runtime not in (None, "llama.cpp", "sensenova", "comfyui"):
        raise InputError(f"--runtime: {question.runtime!r} is not known; choose from llama.cpp, sensenova, comfyui.")
    image = replace(question, runtime=None) if question.runtime == "llama.cpp" else question
    return Wanted(
        task=question.task,
        tiers=tuple(split(question.tier) or ()),
        modes=tuple(split(question.mode) or ()),
        image=request_of(image),
        runtime=runtime_of(image),
        text=text_request_of(question),
    )


def text_request_of(question: Question) -> TextRequest:
    from fitcheck.memory.llamacpp import parse_build
    from fitcheck.verdict.language import TextRequest

    bandwidth = question.host_bandwidth
    if bandwidth is not None and not (math.isfinite(bandwidth) and 0.1 <= bandwidth <= 100_000):
        raise InputError(f"--host-bandwidth: {bandwidth:g} is out of range; give GB/s, like 51.2.")
    types = split(question.cache_type)
    if types is not None and len(types) > 2:
        raise InputError(f"--cache-type: {question.cache_type!r} are too many types; give one, or one each for K,V.")
    return TextRequest(
        context=question.ctx,
        gpu_layers=question.ngl,
        cpu_moe_layers=question.n_cpu_moe,
        cache_types=None if types is None else (types[0].lower(), types[-1].lower()),
        micro_batch=question.ubatch,
        sequences=question.sequences,
        build=parse_build(question.build),
        host_bandwidth=None if bandwidth is None else bandwidth * 1e9,
        prompt_tokens=question.prompt_tokens,
        new_tokens=question.new_tokens,
    )


def _refuse_what_names_nothing(target: str) -> None:
    """A word that is neither a path nor a hub name is most often a slip; say what it may have been meant to be."""
    from fitcheck.models import catalog
    from fitcheck.models.hub import parse_hub_name

    if not target.strip() or not target.isprintable() or target.startswith(("http://", "https://")):
        return
    with suppress(OSError, RuntimeError, ValueError):
        if Path(target).expanduser().exists():
            return
        is_path = target.startswith((".", "/", "~")) or "\\" in target
        if not is_path and parse_hub_name(target) is not None:
            return
        near = difflib.get_close_matches(target.lower(), catalog.slugs(), n=2, cutoff=0.5) or _files_like(target)
        meant = f"; did you mean {', '.join(near)}?" if near else "."
        raise InputError(
            f"{target!r} is neither a catalog model, nor a file or folder, nor a hub name like org/repo or "
            f"org/repo:file.gguf{meant} `fitcheck models` lists the catalog."
        )


def _files_like(target: str) -> list[str]:
    """Model files beside the place that was named, with nearly that name."""
    path = Path(target).expanduser()
    try:
        beside = [one.name for one in islice(path.parent.iterdir(), _MOST_NEIGHBOURS)]
    except OSError:
        return []
    names = [name for name in beside if name.isprintable() and name.endswith((".gguf", ".safetensors"))]
    return [str(path.parent / name) for name in difflib.get_close_matches(path.name, names, n=2, cutoff=0.6)]


def _refuse_foreign_options(question: Question, report: Report) -> None:
    """An option that the model's family does not know changed nothing: saying so is better than an answer beside it."""
    from fitcheck.models.workload import Task

    # an encoder or an architecture that is not modelled is still llama.cpp's, with its options
    is_text = Task.CHAT in report.model.tasks
    names, what = (_IMAGE_OPTIONS, "image models") if is_text else (LANGUAGE_OPTIONS, "language models")
    for name in names:
        if getattr(question, name) not in (None, []):
            raise InputError(f"--{name.replace('_', '-')} is for {what}; {report.model.name} is not one.")
    if is_text and question.runtime not in (None, "llama.cpp"):
        raise InputError(f"--runtime: {question.runtime!r} does not run {report.model.name}; choose llama.cpp.")
    if not is_text and question.runtime == "llama.cpp":
        raise InputError(f"--runtime: llama.cpp does not run {report.model.name}.")


def _say_traffic(found: Resolved) -> None:
    from fitcheck.cli.output import console

    if found.traffic is not None:
        fetched, requests = found.traffic.fetched_bytes, found.traffic.requests
        console(stderr=True).print(f"Fetched {fetched / 1e6:.2f} MB in {requests} requests.", style="dim", markup=False)

"""Options that several commands share, and how they become a machine, a request and a runtime."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from fitcheck.errors import InputError
from fitcheck.hardware.machine import Link, Machine, slot
from fitcheck.models.model import Model, Tier
from fitcheck.runtimes.sensenova.streaming import NEWEST_REVISION
from fitcheck.runtimes.sensenova.workloads import Request
from fitcheck.units import parse_memory, parse_size
from fitcheck.verdict.check import Runtime, tiers_of
from fitcheck.verdict.report import Report

# fields of a question that only llama.cpp knows
LANGUAGE_OPTIONS = ("ctx", "ngl", "n_cpu_moe", "cache_type", "ubatch", "sequences", "build", "host_bandwidth")

# names without capitals of their own: "ComfyUI" and "PR243" are what people write
_LOWER_CASE = ("task", "mode", "revision", "runtime", "policy", "attention")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """The options of one check as typed; every command that asks about a cell takes all of them."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A catalog model (`fitcheck models` lists them), a GGUF or safetensors file or folder, org/repo, "
            "org/repo:file.gguf or a URL.",
        ),
    ]
    gpu: Annotated[str | None, typer.Option("--gpu", "-g", help="Card, like 'RTX 4070'; default: this machine's.")] = (
        None
    )
    tier: Annotated[str | None, typer.Option("--tier", "-t", help="Tiers, comma separated, like Q4_K_S,Q6_K.")] = None
    mode: Annotated[
        str | None, typer.Option("--mode", "-m", help="Modes, comma separated: full,fast,balanced,low.")
    ] = None
    gguf: Annotated[Path | None, typer.Option("--gguf", help="A local GGUF file as the tier.")] = None
    task: Annotated[
        str | None,
        typer.Option("--task", help="t2i, editing, interleave or vqa; chat for language models.", show_default=False),
    ] = None
    size: Annotated[str, typer.Option("--size", help="Output size, WIDTHxHEIGHT.")] = "2048x2048"
    steps: Annotated[
        int | None, typer.Option("--steps", help="Sampling steps; default: what the tier is made for.")
    ] = None
    cfg: Annotated[float | None, typer.Option("--cfg", help="Guidance scale; 1 means none.")] = None
    reference: Annotated[
        list[str] | None, typer.Option("--reference", help="Size of an image handed in; repeatable.")
    ] = None
    images: Annotated[int | None, typer.Option("--images", help="Images made in an interleaved answer.")] = None
    prompt_tokens: Annotated[
        int | None, typer.Option("--prompt-tokens", help="Text tokens with the system message.")
    ] = None
    new_tokens: Annotated[int | None, typer.Option("--new-tokens", help="Text tokens generated.")] = None
    ram: Annotated[str | None, typer.Option("--ram", help="System memory, like 32GB.")] = None
    disk: Annotated[str | None, typer.Option("--disk", help="Free disk space, like 100GB.")] = None
    vram: Annotated[
        str | None, typer.Option("--vram", help="Usable card memory, instead of what the card implies.")
    ] = None
    display: Annotated[
        bool | None, typer.Option("--display/--headless", help="Whether a screen hangs on the card.")
    ] = None
    pcie: Annotated[
        str | None, typer.Option("--pcie", help="Slot of the card, generation x lanes, like 4x16 or 3.0x4.")
    ] = None
    ctx: Annotated[
        int | None, typer.Option("--ctx", help="Language models: tokens of context; default: 8192 or the model's own.")
    ] = None
    ngl: Annotated[int | None, typer.Option("--ngl", help="llama.cpp: layers on the card; default: what is best.")] = (
        None
    )
    n_cpu_moe: Annotated[
        int | None, typer.Option("--n-cpu-moe", help="llama.cpp: layers whose experts stay on the host.")
    ] = None
    cache_type: Annotated[
        str | None, typer.Option("--cache-type", help="llama.cpp: type of the KV cache, like q8_0 or q8_0,f16 (K,V).")
    ] = None
    ubatch: Annotated[int | None, typer.Option("--ubatch", help="llama.cpp: tokens of a micro-batch.")] = None
    sequences: Annotated[
        int | None, typer.Option("--sequences", help="llama.cpp: parallel sequences; default: the server's own.")
    ] = None
    build: Annotated[
        str | None, typer.Option("--build", help="llama.cpp build: b9272, 2026-03 or ik_llama.cpp; default: newest.")
    ] = None
    host_bandwidth: Annotated[
        float | None, typer.Option("--host-bandwidth", help="Bandwidth of system memory in GB/s.")
    ] = None
    offline: Annotated[bool, typer.Option("--offline", help="Use what was fetched before and no network.")] = False
    revision: Annotated[str, typer.Option("--revision", help="Upstream revision: v0, pr241, pr243, phase-aware.")] = (
        NEWEST_REVISION
    )
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="sensenova or comfyui; language models: llama.cpp.")
    ] = None
    prefetch_count: Annotated[
        int | None, typer.Option("--prefetch-count", help="ComfyUI node: layers swapped ahead.")
    ] = None
    policy: Annotated[str, typer.Option("--policy", help="Streaming policy: upstream or ring.")] = "upstream"
    attention: Annotated[str, typer.Option("--attention", help="sdpa or flash.")] = "sdpa"


def takes_question(command: Callable[..., None]) -> Callable[..., None]:
    """Make ``command(question, **own)`` a typer command whose options are those of ``Question`` and its own."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "question"]
    hints = get_type_hints(Question, include_extras=True)
    asked = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(Question)
    ]
    names = [field.name for field in fields(Question)]

    @wraps(command)
    def run(**values: Any) -> None:
        asked = {name: values.pop(name) for name in names}
        asked |= {name: asked[name].lower() for name in _LOWER_CASE if asked[name] is not None}
        command(Question(**asked), **values)

    parameters = [*asked, *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def split(names: str | None) -> list[str] | None:
    """Comma-separated names; ``None`` when there are none."""
    parts = [part.strip() for part in (names or "").split(",") if part.strip()]
    return parts or None


_PCIE = re.compile(
    r"(?P<word>pci(?:[\s-]?e(?:xpress)?)?[\s:]*)?(?P<gen>gen(?:eration)?[\s.]*)?"
    r"(?P<generation>\d{1,2})(?P<minor>\.[01])?(?:[\s,@/]*x\s*(?P<lanes>\d{1,3})(?:\s*lanes?)?)?",
    re.ASCII,
)
_LANES = re.compile(r"x\s*(\d{1,3})|(\d{1,3})\s*lanes?", re.ASCII)


def parse_pcie(text: str) -> tuple[int | None, int | None]:
    """Generation and lanes, as slots are written: ``"4x16"``, ``"3.0x4"``, ``"gen4 x8"``, ``"PCIe 4.0 ×16"``; one of
    them alone, ``"x8"`` or ``"gen 3"``, leaves the other ``None``. Raises InputError.
    """
    written = text.strip().lower().replace("×", "x")
    lanes = _LANES.fullmatch(written)
    if lanes is not None:
        return None, int(lanes[1] or lanes[2])
    slot = _PCIE.fullmatch(written)
    # a bare number may be either
    if slot is None or not (slot["word"] or slot["gen"] or slot["minor"] or slot["lanes"]):
        raise InputError(f"--pcie: {text!r} is not a slot; write generation and lanes, like 4x16 or 3.0x4.")
    return int(slot["generation"]), None if slot["lanes"] is None else int(slot["lanes"])


def machine_of(question: Question) -> Machine:
    """The machine that was asked about, or this one. Raises InputError when no card was named and none is found."""
    from fitcheck.hardware.catalog import find_card
    from fitcheck.hardware.machine import machine_for

    vram = parse_memory(question.vram, "--vram") if question.vram is not None else None
    generation, lanes = parse_pcie(question.pcie) if question.pcie is not None else (None, None)
    ram = parse_memory(question.ram, "--ram") if question.ram is not None else None
    disk = parse_memory(question.disk, "--disk") if question.disk is not None else None
    if question.gpu is None:
        return _detected(question, vram, ram, disk)
    return machine_for(
        find_card(question.gpu),
        ram=ram,
        disk=disk,
        display=question.display,
        vram_override=vram,
        pcie_generation=generation,
        pcie_lanes=lanes,
    )


def _detected(question: Question, vram: int | None, ram: int | None, disk: int | None) -> Machine:
    from fitcheck.hardware.detect import detect

    machine = detect()
    if not machine.gpus:
        why = f" ({machine.notes[0].rstrip('.')})" if machine.notes else ""
        raise InputError(f"no graphics card was found here{why}; name one with --gpu, like --gpu 'RTX 4070'.")
    gpu = replace(machine.gpus[0], vram_override=vram)
    if question.display is not None:  # a question about another screen: today's free memory does not answer it
        gpu = replace(gpu, display=question.display, vram_free=None)
    if question.pcie is not None:
        asked = slot(*parse_pcie(question.pcie))
        link = Link(asked.pcie_generation or gpu.link.pcie_generation, asked.pcie_lanes or gpu.link.pcie_lanes)
        gpu = replace(gpu, link=link)
    machine = replace(machine, gpus=(gpu, *machine.gpus[1:]))
    if ram is not None:
        machine = replace(machine, ram_total=ram, ram_available=None)
    if disk is not None:
        machine = replace(machine, disk_free=disk)
    return machine


def request_of(question: Question) -> Request:
    return Request(
        task=question.task or "t2i",
        size=parse_size(question.size, "--size"),
        steps=question.steps,
        cfg=question.cfg,
        references=tuple(parse_size(size, "--reference") for size in question.reference or ()),
        images=question.images,
        prompt_tokens=question.prompt_tokens,
        new_tokens=question.new_tokens,
    )


def runtime_of(question: Question) -> Runtime:
    if question.attention not in ("sdpa", "flash"):
        raise InputError(f"--attention: {question.attention!r} is not known; choose sdpa or flash.")
    counts = Runtime().prefetch_counts if question.prefetch_count is None else (question.prefetch_count,)
    return Runtime(
        question.runtime or "sensenova",
        question.revision,
        question.policy,
        counts,
        flash_attention=question.attention == "flash",
    )


def tiers_asked(model: Model, question: Question) -> tuple[Tier, ...]:
    if question.gguf is None:
        return tiers_of(model, split(question.tier))
    if not question.gguf.name:
        raise InputError(f"--gguf: {str(question.gguf)!r} is a folder; name a .gguf file.")
    from fitcheck.models.families.sensenova.local_file import tier_from_gguf

    return (tier_from_gguf(model, question.gguf),)


def answer(question: Question) -> Report:
    """The report for a question, with the records of this card that fitcheck knows."""
    from fitcheck.models import catalog

    if question.model.lower() not in catalog.slugs():
        from fitcheck.cli.target import answer_target

        return answer_target(question)
    from fitcheck.records.evidence import accepted, local
    from fitcheck.verdict.check import check

    for name in LANGUAGE_OPTIONS:
        if getattr(question, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} is for language models; {question.model} is not one.")
    model, machine = catalog.get(question.model), machine_of(question)
    return check(
        model,
        machine,
        tiers=tiers_asked(model, question),
        modes=split(question.mode),
        request=request_of(question),
        runtime=runtime_of(question),
        index=accepted() + local(machine.gpus[0].card.slug),
    )

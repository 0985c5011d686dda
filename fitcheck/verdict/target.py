"""From what was resolved to a report: a catalog model's file, a language model, or weights with bounds alone.

Reads headers alone, of a bounded number of tiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fitcheck.errors import InputError
from fitcheck.hardware.budget import budget
from fitcheck.hardware.machine import Machine
from fitcheck.models import catalog
from fitcheck.models.architectures import NotModelledError, kind_of_file
from fitcheck.models.gguf import GgufHeader
from fitcheck.models.language import LanguageArchitecture
from fitcheck.models.language_config import architecture_from_config
from fitcheck.models.language_gguf import architecture_of_header
from fitcheck.models.mixture import mixture_table
from fitcheck.models.model import Model, Tier
from fitcheck.models.sensenova import SenseNovaArchitecture, bf16, classify, is_sensenova, tensor_table
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Task, Workload
from fitcheck.units import format_gb
from fitcheck.verdict.bounds import (
    UnknownArchitecture,
    WeightsOnly,
    bound_cell,
    check_bounds,
    checkpoint_placement,
    component_bytes,
    pipeline_placements,
    spread_placement,
)
from fitcheck.verdict.check import Runtime, check
from fitcheck.verdict.language import TextRequest, check_language
from fitcheck.verdict.report import Report
from fitcheck.verdict.request import Request

if TYPE_CHECKING:
    from fitcheck.models.candidates import Candidate
    from fitcheck.models.resolve import Header, Resolved

MOST_TIERS = 40
# what a checkpoint is usually converted to, by llama.cpp's own tools
CONVERTED = ("BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M")
# a converted file holds other tensors than the checkpoint when their counts differ by more than this
SAME_WEIGHTS = 0.02


@dataclass(frozen=True, slots=True)
class Wanted:
    """The question apart from the model: sizes for either family, tiers by name, SenseNova-U1's runtime and modes."""

    task: str | None = None
    tiers: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    image: Request = field(default_factory=Request)
    runtime: Runtime = field(default_factory=Runtime)
    text: TextRequest = field(default_factory=TextRequest)


@dataclass(frozen=True)
class _Read:
    """A candidate whose header could be read."""

    candidate: Candidate
    header: Header
    tier: Tier


def check_target(found: Resolved, machine: Machine, wanted: Wanted | None = None) -> Report:
    """The report on everything that ``found`` offers, or on the tiers named. Raises InputError.

    A tier that cannot be read is left out with a note, unless it is the only one.
    """
    wanted = wanted or Wanted()
    read, notes = _read(found, _chosen(found, machine, wanted))
    read, notes = _models(read, notes)
    try:
        report = (
            _sensenova(read, machine, wanted)
            or _language(found, read, machine, wanted)
            or _checkpoint(found, read, machine, wanted)
            or _weights(found, read, machine, wanted)
        )
    except NotModelledError as problem:
        report = _weights(found, read, machine, wanted, str(problem))
    beside = found.projectors
    if beside and isinstance(report.model.architecture, LanguageArchitecture):
        notes.append(f"The projector for images or audio ({beside[0]}) is not counted.")
    return replace(report, notes=(*report.notes, *notes))


def _chosen(found: Resolved, machine: Machine, wanted: Wanted) -> tuple[list[Candidate], list[str]]:
    """The candidates to read, and what to say of those that are not read."""
    if wanted.tiers:
        return [found.candidate(name) for name in wanted.tiers], []
    ready = [candidate for candidate in found.candidates if candidate.format == "gguf"]
    offered = ready or list(found.candidates)
    notes = [] if len(ready) in (0, len(found.candidates)) else ["Checkpoints beside the GGUF files are not looked at."]
    if len(offered) <= MOST_TIERS:
        return offered, notes
    # the tiers about as large as the card are those that the answer is about
    size = budget(machine).vram.best
    nearest = sorted(offered, key=lambda candidate: abs((candidate.disk_bytes or 0) - size))[:MOST_TIERS]
    notes.append(f"{len(offered) - MOST_TIERS} of {len(offered)} tiers were not read; name one with --tier.")
    return [candidate for candidate in offered if candidate in nearest], notes


def _read(found: Resolved, chosen: tuple[list[Candidate], list[str]]) -> tuple[list[_Read], list[str]]:
    candidates, notes = chosen
    found.preload(candidates)
    read: list[_Read] = []
    problems: list[InputError] = []
    for candidate in candidates:
        try:
            read.append(_Read(candidate, found.header(candidate), found.tier(candidate)))
        except InputError as problem:
            problems.append(problem)
    if not read:
        raise problems[0]
    return read, [*notes, *(f"Left out: {problem}" for problem in problems)]


def _models(read: list[_Read], notes: list[str]) -> tuple[list[_Read], list[str]]:
    """Without adapters, projectors and the like, which are no tier. Raises InputError when there is nothing else."""
    models, others = [], []
    for one in read:
        kind = kind_of_file(one.header) if isinstance(one.header, GgufHeader) else None
        if kind is None or kind.model:
            models.append(one)
        else:
            others.append(f"{one.candidate.files[0]}: this is {kind.says}.")
    if not models:
        raise InputError(others[0])
    return models, [*notes, *(f"Left out: {other}" for other in others)]


def recognized(table: TensorTable) -> tuple[Model, TensorTable] | None:
    """The catalog model that a tensor table is of, with the table's roles and branches set; ``None`` when of none."""
    found = TensorTable(classify(tensor) for tensor in table)
    if not is_sensenova(found):
        return None
    shapes = {tensor.name: tensor.shape for tensor in found}
    for slug in catalog.slugs():
        model = catalog.get(slug)
        if isinstance(model.architecture, SenseNovaArchitecture):
            expected = tensor_table(model.architecture, bf16)
            if all(shapes.get(tensor.name) == tensor.shape for tensor in expected):
                return model, found
    return None


def _sensenova(read: Sequence[_Read], machine: Machine, wanted: Wanted) -> Report | None:
    """Files of a catalog model, whatever they are called."""
    tiers, models = [], []
    for one in read:
        known = recognized(one.tier.tensors)
        if known is not None:
            distilled = 8 if "8step" in one.candidate.files[0].lower() else None
            models.append(known[0])
            tiers.append(replace(one.tier, tensors=known[1], distilled_steps=distilled))
    if not models:
        return None
    model = models[0]
    same = [tier for tier, its in zip(tiers, models, strict=True) if its is model]
    request = wanted.image if wanted.task is None else replace(wanted.image, task=wanted.task)
    report = check(model, machine, tiers=same, modes=wanted.modes or None, request=request, runtime=wanted.runtime)
    return replace(report, notes=(f"Recognized as {model.name} by its tensors.", *report.notes))


def _language(found: Resolved, read: Sequence[_Read], machine: Machine, wanted: Wanted) -> Report | None:
    """GGUF files of language models. Raises NotModelledError when they are such that cannot be modelled."""
    shapes: dict[str, LanguageArchitecture] = {}
    tiers, name, licence, reason = [], None, None, None
    for one in read:
        if not isinstance(one.header, GgufHeader):
            continue
        try:
            shapes[one.tier.name] = architecture_of_header(one.header)
        except NotModelledError as problem:
            reason = reason or problem
            continue
        except InputError:
            continue
        tiers.append(one.tier)
        name = name or one.header.metadata.get("general.name")
        licence = licence or one.header.metadata.get("general.license")
    if not tiers and reason is not None:
        raise reason
    if not tiers:
        return None
    _only_chat(found, wanted)
    model = Model(
        slug=found.repository or found.name,
        name=_printable(name) or found.name,
        architecture=shapes[tiers[0].name],
        tiers=tuple(tiers),
        tasks=(Task.CHAT,),
        runtimes=("llama.cpp",),
        repository=found.repository,
        licence=_printable(licence) or "unknown",
    )
    return check_language(model, machine, wanted.text, architectures=shapes)


def _printable(value: object) -> str | None:
    """Text from a file as one safe line; ``None`` when it is none."""
    if not isinstance(value, str):
        return None
    return "".join(letter if letter.isprintable() else " " for letter in value[:200]).strip() or None


def _only_chat(found: Resolved, wanted: Wanted) -> None:
    if wanted.task not in (None, str(Task.CHAT)):
        raise InputError(f"--task: {wanted.task!r} is not a task of {found.name}; choose from chat.")


def _checkpoint(found: Resolved, read: Sequence[_Read], machine: Machine, wanted: Wanted) -> Report | None:
    """A safetensors language model: what llama.cpp takes once it is converted, and a bound for transformers."""
    config = None if read[0].candidate.format == "gguf" or found.pipeline else found.config()
    if config is None:
        return None
    try:
        architecture = architecture_from_config(config)
    except InputError:
        return None
    _only_chat(found, wanted)
    stored = [one.tier for one in read]
    model = Model(
        slug=found.repository or found.name,
        name=found.name,
        architecture=architecture,
        tiers=(*stored, *_converted(architecture, found.name, stored[0])),
        tasks=(Task.CHAT,),
        runtimes=("llama.cpp", "transformers"),
        repository=found.repository,
        notes=tuple(_conversion_notes(config, architecture, stored[0])),
    )
    made = model.tiers[len(stored) :]
    context = wanted.text.context_of(architecture)
    workload = wanted.text.workload(context)
    have = budget(machine)
    bounds = [
        bound_cell(tier, checkpoint_placement(tier, architecture, context), workload, machine, have) for tier in stored
    ]
    if not made:
        return Report(model, machine, have, workload, tuple(bounds), model.notes)
    report = check_language(model, machine, wanted.text, tiers=made)
    cells = sorted((*report.cells, *bounds), key=lambda cell: cell.verdict.rank)
    return replace(report, cells=tuple(cells))


def _converted(architecture: LanguageArchitecture, name: str, stored: Tier) -> list[Tier]:
    """The tiers that llama-quantize would write; none where the shapes of the architecture are not known."""
    short = name.rstrip("/").rpartition("/")[2]
    tiers = []
    for tier in CONVERTED:
        try:
            table = mixture_table(architecture, tier)
        except InputError:
            return []
        tiers.append(
            Tier(
                name=tier,
                tensors=table,
                format="gguf",
                file=f"{short}-{tier}.gguf",
                disk_bytes=table.nbytes + stored.disk_bytes,
                source="llama-quantize's rules on the shape in config.json; disk with the checkpoint it is made from",
                published=False,
            )
        )
    return tiers


def _conversion_notes(config: dict[str, object], architecture: LanguageArchitecture, stored: Tier) -> list[str]:
    notes = [
        "llama.cpp does not read safetensors: its rows assume a conversion with its own tools, sizes by their rules."
    ]
    packed = config.get("quantization_config")
    if isinstance(packed, dict):
        notes.append(
            f"The checkpoint is stored packed ({_printable(packed.get('quant_method')) or 'unknown'}); whether "
            "llama.cpp's converter takes it is not checked."
        )
        return notes
    try:
        expected = mixture_table(architecture, "BF16").elements
    except InputError as problem:
        return [*notes, f"What a conversion would give is unknown: {problem}"]
    difference = stored.tensors.elements / max(expected, 1) - 1
    if abs(difference) > SAME_WEIGHTS:
        notes.append(
            f"The checkpoint holds {stored.tensors.elements:,} parameters, the language model in config.json "
            f"{expected:,}: only the latter are converted."
        )
    return notes


def _weights(
    found: Resolved, read: Sequence[_Read], machine: Machine, wanted: Wanted, why: str | None = None
) -> Report:
    """Whatever else: pipelines by component, single files as a whole. ``why`` says why no more can be told."""
    first = read[0]
    named = (found.pipeline or {}).get("_class_name") or getattr(first.header, "architecture", None)
    kind = _printable(named) or "unknown"
    notes = [f"The run of this model ({kind}) is not modelled: only its weights are judged."]
    task = _task_of(first.header)
    placements: dict[str, Sequence[WeightsOnly]] = {}
    for one in read:
        if one.candidate.components:
            placements[one.tier.name] = pipeline_placements(one.tier, one.candidate.components)
            parts = ", ".join(f"{name} {format_gb(size)}" for name, size in component_bytes(one.tier).items())
            notes.append(f"Weights of {one.tier.name} by component: {parts}.")
        elif task is Task.CHAT:
            placements[one.tier.name] = (spread_placement(one.tier, budget(machine)),)
        else:
            placements[one.tier.name] = (checkpoint_placement(one.tier, None, 0),)
    model = Model(
        slug=found.repository or found.name,
        name=found.name,
        architecture=UnknownArchitecture(kind),
        tiers=tuple(one.tier for one in read),
        tasks=(task,),
        runtimes=(),
        repository=found.repository,
        notes=tuple(notes),
    )
    width, height = wanted.image.size
    workload = Workload(task) if task is Task.CHAT else Workload(task, width=width, height=height)
    return check_bounds(model, machine, workload, placements, why)


def _task_of(header: Header) -> Task:
    """Chat for a GGUF file that is no denoiser of images; else an image, as nothing better is known."""
    is_text = isinstance(header, GgufHeader) and kind_of_file(header).name != "image denoiser"
    return Task.CHAT if is_text else Task.T2I

"""From what was asked to the cells that will run: every tier × mode × policy × task, each once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.engines.sensenova.job import Job
from bench.engines.sensenova.weights_file import table_of, tier_of_file
from fitcheck.errors import InputError
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.streaming import NEWEST_REVISION, Stream, upstream

LARGEST_SIDE = 8192
LARGEST_COUNT = 1000
# what an answer takes when nobody says: a few sentences; an interleaved answer writes about as much around each image
DEFAULT_NEW_TOKENS = 128
DEFAULT_REFERENCE = (2048, 2048)
TINY_SIZE = (128, 128)


@dataclass(frozen=True, slots=True)
class Request:
    """The options of ``fitcheck bench run`` and ``limit``. ``None`` means the option was not given."""

    model: str
    tiers: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("full",)
    policies: tuple[str, ...] = ("upstream",)
    tasks: tuple[str, ...] = ("t2i",)
    revision: str = NEWEST_REVISION
    size: tuple[int, int] | None = None
    steps: int = 8
    cfg: float = 1.0
    references: tuple[tuple[int, int], ...] = ()
    images: int = 1
    new_tokens: int | None = None
    gguf: str | None = None
    device: str = "cuda"
    tiny: bool = False
    seed: int = 0


def cells_of(request: Request) -> tuple[Job, ...]:
    """Every cell of a request, in the order asked. Raises InputError for what does not exist or makes no sense."""
    if request.device not in ("cuda", "cpu"):
        raise InputError(f"--device: {request.device!r} is not a device of the bench; choose cuda or cpu.")
    if request.device == "cpu" and not request.tiny:
        raise InputError("--device cpu runs the scaled-down model only, add --tiny; a full model needs a GPU.")
    for option, names in (("--mode", request.modes), ("--policy", request.policies), ("--task", request.tasks)):
        if not names:
            raise InputError(f"{option}: names nothing to run; give one or more, separated by commas.")
    tiers = _tiers(request)
    workloads = [_workload(task, request) for task in request.tasks]
    cells: dict[Job, None] = {}
    for tier in tiers:
        for workload in workloads:
            for mode in request.modes:
                for policy in request.policies:
                    placement = upstream(mode, request.revision, policy)
                    if placement.stream is Stream.NOTHING:  # nothing is streamed, so every policy is the same cell
                        placement = replace(placement, policy="upstream")
                    cell = Job(
                        model=catalog.get(request.model).slug,
                        tier=tier,
                        placement=placement,
                        workload=workload,
                        device=request.device,
                        gguf=request.gguf,
                        seed=request.seed,
                        tiny=request.tiny,
                    )
                    if cell.gguf is not None:
                        table_of(cell)  # another model's file is refused here, before a process is started for it
                    cells[cell] = None
    return tuple(cells)


def label(cell: Job) -> str:
    """A cell in a few words: ``Q4_K_S low/ring t2i 2048×2048 8 steps cfg 1``."""
    work, placement = cell.workload, cell.placement
    mode = placement.mode if placement.stream is Stream.NOTHING else f"{placement.mode}/{placement.policy}"
    if placement.revision != NEWEST_REVISION:
        mode += f" ({placement.revision})"
    parts = [cell.tier, mode, work.task.value]
    if work.task is not Task.VQA:
        parts += [f"{work.width}×{work.height}", f"{work.steps} steps", f"cfg {work.cfg:g}"]
    if work.references:
        parts.append("ref " + "+".join(f"{width}×{height}" for width, height in work.references))
    if work.task is Task.INTERLEAVE:
        parts.append(f"{work.images} image(s)")
    if work.task in (Task.VQA, Task.INTERLEAVE):
        parts.append(f"{work.new_tokens} tokens")
    return ("tiny " if cell.tiny else "") + " ".join(parts)


def _tiers(request: Request) -> tuple[str, ...]:
    model = catalog.get(request.model)
    if not isinstance(model.architecture, SenseNovaArchitecture):
        raise InputError(
            f"model: the bench runs SenseNova-U1 models, and {model.slug} is of the family {model.architecture.family}."
        )
    names = request.tiers or (model.tiers[0].name,)
    if request.gguf is not None:
        if len(names) > 1:
            raise InputError("--gguf is one file, so --tier takes one name: the tier to count it as.")
        if not request.tiers and not request.tiny:
            names = (tier_of_file(request.gguf, model),)
    found = []
    for name in names:
        tier = model.tier(name)
        if tier is None:
            known = ", ".join(tier.name for tier in model.tiers)
            raise InputError(f"--tier: {model.slug} has no tier {name!r}; choose from {known}.")
        found.append(tier.name)
    return tuple(found)


def _workload(name: str, request: Request) -> Workload:
    try:
        task = Task(name)
    except ValueError:
        task = Task.CHAT
    if task is Task.CHAT:
        raise InputError(f"--task: {name!r} is not a task of SenseNova-U1; choose from t2i, editing, interleave, vqa.")
    width, height = _size("--size", request.size or (TINY_SIZE if request.tiny else (2048, 2048)))
    references = tuple(_size("--reference", size) for size in request.references)
    if task in (Task.EDITING, Task.VQA) and not references:
        references = (TINY_SIZE if request.tiny else DEFAULT_REFERENCE,)
    if task is Task.T2I:
        references = ()
    if not 0 < request.cfg <= 100:
        raise InputError(f"--cfg: {request.cfg:g} is out of range; give a guidance scale like 1 or 4.")
    new_tokens = 0
    if task in (Task.VQA, Task.INTERLEAVE):
        images = request.images if task is Task.INTERLEAVE else 1
        new_tokens = (
            DEFAULT_NEW_TOKENS * images if request.new_tokens is None else _count("--new-tokens", request.new_tokens)
        )
    return Workload(
        task,
        width=width,
        height=height,
        steps=_count("--steps", request.steps),
        cfg=request.cfg,
        references=references,
        images=_count("--images", request.images),
        new_tokens=new_tokens,
    )


def _size(option: str, size: tuple[int, int]) -> tuple[int, int]:
    if any(side <= 0 or side % 32 or side > LARGEST_SIDE for side in size):
        raise InputError(
            f"{option}: {size[0]}x{size[1]} does not work; both sides are multiples of 32 from 32 to {LARGEST_SIDE}."
        )
    return size


def _count(option: str, value: int) -> int:
    if not 1 <= value <= LARGEST_COUNT * 100:
        raise InputError(f"{option}: {value} is out of range; give at least 1.")
    return value

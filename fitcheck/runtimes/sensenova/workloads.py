"""A request as typed, made whole: defaults by task and tier, sizes checked. Raises InputError for what cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from fitcheck.errors import InputError
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload

STANDARD_STEPS, STANDARD_CFG = 50, 4.0  # upstream's defaults for undistilled weights
MAXIMUM_SIDE = 16384
MAXIMUM_STEPS = 1000
MAXIMUM_TOKENS = 262_144
DEFAULT_REFERENCE = (2048, 2048)


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asked; ``None`` takes the task's or the tier's default."""

    task: str = "t2i"
    size: tuple[int, int] = (2048, 2048)
    steps: int | None = None
    cfg: float | None = None
    references: tuple[tuple[int, int], ...] = ()
    images: int | None = None
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    batch: int = 1


def task_of(model: Model, name: str) -> Task:
    known = {str(task): task for task in model.tasks}
    if name not in known:
        raise InputError(f"--task: {name!r} is not a task of {model.name}; choose from {', '.join(known)}.")
    return known[name]


def _between(flag: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InputError(f"{flag}: {value} is out of range; give {least} to {most}.")


def check_size(flag: str, size: tuple[int, int], step: int | None = None) -> None:
    for side in size:
        if not 32 <= side <= MAXIMUM_SIDE:
            raise InputError(f"{flag}: {size[0]}x{size[1]} is out of range; sides go from 32 to {MAXIMUM_SIDE} pixels.")
        if step is not None and side % step:
            below = max(step, side // step * step)
            raise InputError(f"{flag}: {side} is not a multiple of {step}; the nearest are {below} and {below + step}.")


def workload_for(model: Model, tier: Tier, request: Request) -> Workload:
    """The workload of one tier: distilled tiers default to their few steps without guidance."""
    task = task_of(model, request.task)
    check_size("--size", request.size, 32)
    for size in request.references:
        check_size("--reference", size)
    _between("--batch", request.batch, 1, 64)
    for flag, value, least, most in (
        ("--steps", request.steps, 1, MAXIMUM_STEPS),
        ("--images", request.images, 1, 10),
        ("--prompt-tokens", request.prompt_tokens, 1, MAXIMUM_TOKENS),
        ("--new-tokens", request.new_tokens, 1, MAXIMUM_TOKENS),
    ):
        if value is not None:
            _between(flag, value, least, most)
    if request.cfg is not None and not 1 <= request.cfg <= 100:
        raise InputError(f"--cfg: {request.cfg:g} is out of range; give 1 (no guidance) to 100.")
    if len(request.references) > 16:
        raise InputError(f"--reference: {len(request.references)} images are too many; give at most 16.")
    references = request.references
    if not references and task in (Task.EDITING, Task.VQA):
        references = (DEFAULT_REFERENCE,)
    if task is Task.T2I:
        references = ()
    distilled = tier.distilled_steps
    return Workload(
        task=task,
        width=request.size[0],
        height=request.size[1],
        steps=request.steps or distilled or STANDARD_STEPS,
        cfg=request.cfg if request.cfg is not None else 1.0 if distilled else STANDARD_CFG,
        references=references,
        images=request.images or (3 if task is Task.INTERLEAVE else 1),
        prompt_tokens=request.prompt_tokens,
        new_tokens=request.new_tokens or 0,
        batch=request.batch,
    )

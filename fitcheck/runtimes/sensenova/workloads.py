"""A question about pictures made whole: defaults by task and tier, sizes checked."""

from __future__ import annotations

from fitcheck.errors import OptionError
from fitcheck.models.model import Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.options import between
from fitcheck.runtimes.sensenova.options import PictureOptions
from fitcheck.runtimes.sensenova.token_counts import tokens

STANDARD_STEPS, STANDARD_CFG = 50, 4.0  # upstream's defaults for undistilled weights
MAXIMUM_SIDE = 16384
MAXIMUM_STEPS = 1000
MAXIMUM_TOKENS = 262_144
MAXIMUM_BATCH = 64
MAXIMUM_IMAGES = 10
MAXIMUM_REFERENCES = 16
MAXIMUM_CFG = 100
DEFAULT_REFERENCE = (2048, 2048)
DEFAULT_IMAGES = 1  # upstream's newest page measures an answer with one; how many the model makes is its own choice
_STEP = 32  # pixels of one image token


def check_size(flag: str, size: tuple[int, int], step: int | None = None) -> None:
    """Raises OptionError for sides that are out of range or no multiple of ``step`` pixels."""
    for side in size:
        if not _STEP <= side <= MAXIMUM_SIDE:
            raise OptionError(
                f"{flag}: {size[0]}x{size[1]} is out of range; sides go from 32 to {MAXIMUM_SIDE} pixels."
            )
        if step is not None and side % step:
            below = max(step, side // step * step)
            raise OptionError(
                f"{flag}: {side} is not a multiple of {step}; the nearest are {below} and {below + step}."
            )


def check_options(options: PictureOptions) -> None:
    """Raises OptionError for the first value that cannot be."""
    check_size("--size", options.size, _STEP)
    for size in options.reference:
        check_size("--reference", size)
    between("batch", options.batch, 1, MAXIMUM_BATCH)
    between("steps", options.steps, 1, MAXIMUM_STEPS)
    between("images", options.images, 1, MAXIMUM_IMAGES)
    between("prompt_tokens", options.prompt_tokens, 1, MAXIMUM_TOKENS)
    between("new_tokens", options.new_tokens, 1, MAXIMUM_TOKENS)
    if options.think is not None and not isinstance(options.think, bool):
        between("think", options.think, 1, MAXIMUM_TOKENS)
    if options.cfg is not None and not 1 <= options.cfg <= MAXIMUM_CFG:
        raise OptionError(f"--cfg: {options.cfg:g} is out of range; give 1 (no guidance) to {MAXIMUM_CFG}.")
    if len(options.reference) > MAXIMUM_REFERENCES:
        raise OptionError(
            f"--reference: {len(options.reference)} images are too many; give at most {MAXIMUM_REFERENCES}."
        )
    if options.attention not in ("sdpa", "flash"):
        raise OptionError(f"--attention: {options.attention!r} is not known; choose sdpa or flash.")


def workload_for(task: Task, tier: Tier, options: PictureOptions) -> Workload:
    """The workload of one tier: distilled tiers default to their few steps without guidance."""
    references = options.reference
    if not references and task in (Task.EDITING, Task.VQA):
        references = (DEFAULT_REFERENCE,)
    if task is Task.T2I:
        references = ()
    distilled = tier.distilled_steps
    if task is Task.VQA and options.think:
        raise OptionError("--think: answers about an image are text already; it is for t2i, editing and interleave.")
    return Workload(
        task=task,
        width=options.size[0],
        height=options.size[1],
        steps=options.steps or distilled or STANDARD_STEPS,
        cfg=options.cfg if options.cfg is not None else 1.0 if distilled else STANDARD_CFG,
        references=references,
        images=options.images or (DEFAULT_IMAGES if task is Task.INTERLEAVE else 1),
        prompt_tokens=options.prompt_tokens,
        new_tokens=options.new_tokens or 0,
        batch=options.batch,
        think=thoughts(options),
        text_assumed=options.think is True or (task is Task.INTERLEAVE and options.new_tokens is None),
    )


def thoughts(options: PictureOptions) -> int | None:
    """Tokens that are thought before a picture; ``None`` where nothing is."""
    if not options.think:
        return None
    return tokens("think") if options.think is True else options.think

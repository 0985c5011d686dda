"""A question about a pipeline made whole: its own defaults, sizes and frames that it can make."""

from __future__ import annotations

from fitcheck.errors import OptionError
from fitcheck.models.families.pipeline.architecture import VAE, PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Product, Task, Workload
from fitcheck.runtimes.diffusers.offloading import AUTO, MODES, NEAREST, SLICING, TILING, WHOLE
from fitcheck.runtimes.diffusers.options import PipelineOptions
from fitcheck.runtimes.diffusers.possible_sizes import check_positions
from fitcheck.runtimes.diffusers.tiling import always_tiles
from fitcheck.runtimes.options import between

MAXIMUM_SIDE, MAXIMUM_STEPS, MAXIMUM_BATCH, MAXIMUM_FRAMES = 16384, 1000, 64, 4001
# tasks in which a pipeline is handed a picture
TAKES_IMAGES = (Task.EDITING, Task.I2V)
MAXIMUM_REFERENCES, MAXIMUM_CFG, MAXIMUM_BLOCKS = 16, 100.0, 256


def modes_of(options: PipelineOptions, usual: tuple[str, ...]) -> tuple[str, ...]:
    """diffusers' modes that were asked for, by their own or by other programs' names; ``usual`` when none was. Raises
    OptionError for a name that nobody uses. ``auto`` stands for all of them: the best that fits is recommended."""
    typed = (one for asked in options.mode or usual for one in (usual if asked == AUTO else (asked,)))
    found = []
    for name in typed:
        mode = NEAREST.get(name, name)
        if mode == "layerwise":
            raise OptionError(
                "--mode layerwise: layerwise casting is how weights are stored; ask for --tier fp8 "
                "with --mode none or model."
            )
        if mode not in MODES:
            raise OptionError(
                f"--mode: {name!r} is not an offload mode of diffusers; choose from {', '.join((*MODES, AUTO))}."
            )
        found.append(mode)
    return tuple(dict.fromkeys(found))


def check_options(options: PipelineOptions, arch: PipelineArchitecture, task: Task) -> None:
    """Raises OptionError for the first value that cannot be."""
    if options.size is not None:
        _check_size(options.size, arch.size_multiple)
        check_positions(options.size, arch)
    for width, height in options.reference:
        if not (1 <= width <= MAXIMUM_SIDE and 1 <= height <= MAXIMUM_SIDE):
            raise OptionError(f"--reference: {width}x{height} is out of range; sides go to {MAXIMUM_SIDE} pixels.")
    between("steps", options.steps, 2 if arch.schedule_ends else 1, MAXIMUM_STEPS)
    between("batch", options.batch, 1, MAXIMUM_BATCH)
    if arch.one_at_a_time and options.batch > 1:
        raise OptionError(f"--batch: {arch.pipeline} makes one result a call; leave it out.")
    between("blocks_per_group", options.blocks_per_group, 1, MAXIMUM_BLOCKS)
    if options.cfg is not None and not 0 <= options.cfg <= MAXIMUM_CFG:
        raise OptionError(f"--cfg: {options.cfg:g} is out of range; give 0 to {MAXIMUM_CFG:g}.")
    if len(options.reference) > MAXIMUM_REFERENCES:
        raise OptionError(f"--reference: give at most {MAXIMUM_REFERENCES} images.")
    if options.reference and task not in TAKES_IMAGES:
        raise OptionError(
            f"--reference: {arch.pipeline} is handed no image for {task}; leave it out, or name a --task that is."
        )
    wrong = [name for name in options.vae if name not in (TILING, SLICING, WHOLE)]
    if wrong:
        raise OptionError(f"--vae: {wrong[0]!r} is not known; choose from {TILING}, {SLICING}, {WHOLE}.")
    if WHOLE in options.vae and len(options.vae) > 1:
        raise OptionError(f"--vae: {WHOLE} is neither {TILING} nor {SLICING}; give one or the other.")
    tiled = next((one.cls for one in arch.components if one.role == VAE and always_tiles(one)), None)
    if WHOLE in options.vae and tiled is not None:
        raise OptionError(f"--vae: {tiled} decodes in tiles unless its pipeline is changed; leave {WHOLE} out.")
    _check_frames(options, arch, task)


def _check_size(size: tuple[int, int], multiple: int) -> None:
    for side in size:
        if not multiple <= side <= MAXIMUM_SIDE:
            raise OptionError(
                f"--size: {size[0]}x{size[1]} is out of range; sides go from {multiple} to {MAXIMUM_SIDE} pixels."
            )
        if side % multiple:
            below = max(multiple, side // multiple * multiple)
            raise OptionError(
                f"--size: {side} is not a multiple of {multiple}; the nearest are {below} and {below + multiple}."
            )


def _check_frames(options: PipelineOptions, arch: PipelineArchitecture, task: Task) -> None:
    if options.frames is None:
        return
    if task.produces is not Product.VIDEO:
        raise OptionError(f"--frames: {arch.pipeline} makes pictures; leave it out.")
    between("frames", options.frames, 1, MAXIMUM_FRAMES)
    least, most = arch.frame_limits
    if options.frames < least or (most is not None and options.frames > most):
        longest = "" if most is None else f" and at most {arch.frames_from(most)}"
        raise OptionError(
            f"--frames: {options.frames} is out of range; a video of this pipeline has at least "
            f"{arch.frames_from(least)} frames{longest}."
        )
    chunk, rest = (arch.vae_scale_temporal, 1) if arch.frame_chunk is None else arch.frame_chunk[:2]
    if (options.frames - rest) % chunk:
        below = max(0, (options.frames - rest) // chunk) * chunk + rest
        raise OptionError(
            f"--frames: a video of this pipeline has {chunk} times a whole number of frames and {rest} more; the "
            f"nearest to {options.frames} are {below} and {below + chunk}."
        )


def workload_for(task: Task, arch: PipelineArchitecture, tier: Tier, options: PipelineOptions) -> Workload:
    """The workload of one tier: what was not given is the pipeline's default, steps those that a tier is distilled
    to."""
    usual = arch.defaults
    width, height = options.size or (usual.width, usual.height)
    video = task.produces is Product.VIDEO
    references = (options.reference or ((width, height),)) if task in TAKES_IMAGES else ()
    distilled = tier.distilled_steps
    return Workload(
        task=task,
        width=width,
        height=height,
        steps=options.steps or distilled or usual.steps,
        cfg=_scale(options, arch, distilled=bool(distilled)),
        references=references,
        batch=options.batch,
        frames=(options.frames or usual.frames) if video else 1,
    )


def _scale(options: PipelineOptions, arch: PipelineArchitecture, *, distilled: bool) -> float:
    """The guidance scale as asked; of distilled weights the largest with which the pipeline guides nothing."""
    if options.cfg is not None:
        return options.cfg
    return arch.guided_above if distilled else arch.defaults.guidance_scale

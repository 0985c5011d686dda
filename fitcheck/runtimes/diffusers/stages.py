"""One picture or video as the calls of a pipeline's components, in order, with the sizes that each call sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from functools import cache, lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.pipeline.architecture import (
    AUDIO,
    CONNECTOR,
    DENOISER,
    IMAGE_ENCODER,
    TEXT_ENCODER,
    VAE,
    Component,
    PipelineArchitecture,
)
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.diffusers.offloading import Offload
from fitcheck.runtimes.diffusers.tiling import Stretch, Tile, always_tiles, sliced, stretches_of, tiles_of

ENCODE, DENOISE, DECODE = "encode", "denoise", "decode"
BATCHED = "batched"
# a denoiser's calls, and those after the first of one that keeps keys and values of what never changes
FORWARD, AGAIN = "forward", "again"
# a denoiser's calls that are handed what a ControlNet makes
CONTROLLED = "controlled"
# what makes sound of spectra is called as a whole
_VOCODERS = ("LTX2VocoderWithBWE",)
# methods of an autoencoder → the child that they run
CHILDREN = {"encode": "encoder", "decode": "decoder"}


@dataclass(frozen=True, slots=True)
class Stage:
    """``count`` calls of a component's method, one after the other, at ``sizes``. Where they make tiles or slices of
    one result, ``beside`` is how many times one call's result lies there already beside the last of them, and
    ``joined`` how many times it lies there once all are joined, tiles and joined pictures together; 0 where nothing is
    joined after them. ``blended`` are lines in which tiles are faded into their neighbours then. ``finished`` is how
    many times one call's result has the elements of the result of all of them, where the pipeline makes copies of it
    afterwards. ``order_known`` says that the component's modules ran in this order before."""

    phase: str
    component: Component
    call: str
    sizes: Mapping[str, int] = field(hash=False)
    count: int = 1
    beside: float = 0.0
    joined: float = 0.0
    blended: int = 0
    finished: float = 0.0
    order_known: bool = False

    @property
    def child(self) -> str:
        """The child of an autoencoder that the call runs; empty where it runs all."""
        return CHILDREN.get(self.call, "")


def is_upcast(component: Component, call: str) -> bool:
    """Whether a pipeline casts its autoencoder from 16 to 32 bit for the call."""
    return call in CHILDREN and component.dtype == "fp32" != component.stored


def is_guided(arch: PipelineArchitecture, workload: Workload) -> bool:
    """Whether each step looks at the picture without the prompt as well."""
    return arch.guidance != "none" and workload.cfg > arch.guided_above


def stages_of(arch: PipelineArchitecture, workload: Workload, offload: Offload) -> Stages:
    """Every call of one run."""
    return _stages(arch, workload, _decoding_alone(offload.tiling, offload.slicing))


@cache
def _decoding_alone(tiling: bool, slicing: bool) -> Offload:
    """What stages hang on of a mode."""
    return Offload("", tiling=tiling, slicing=slicing)


class Stages(tuple[Stage, ...]):
    """The calls of a run in order; told apart by identity, so that what follows from them is quick to look up."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


@lru_cache(maxsize=512)
def _stages(arch: PipelineArchitecture, workload: Workload, offload: Offload) -> Stages:
    """All tiers and modes with the same sizes make the same calls."""
    guided = is_guided(arch, workload)
    parts = (
        _encoding(arch, workload, offload, guided=guided),
        _denoising(arch, workload, guided),
        _decoding(arch, workload, offload),
    )
    return Stages(stage for part in parts for stage in part)


def _encoding(arch: PipelineArchitecture, workload: Workload, offload: Offload, *, guided: bool) -> Iterator[Stage]:
    """Prompt and negative prompt through every text encoder, with the pictures that a language model sees beside them;
    then the images handed in."""
    seen = _seen(arch, workload)
    for component in _encoders(arch, 2 if guided else 1):
        sizes = {"text": _text(arch, workload, component) + seen, "batch": 1, "seen": seen}
        yield Stage(ENCODE, component, FORWARD, {**sizes, "pictures": int(seen > 0)})
    for component in arch.components:
        if component.role == CONNECTOR:
            batch = 2 if guided and arch.guidance == BATCHED else 1
            yield Stage(ENCODE, component, FORWARD, {"text": _text(arch, workload, component), "batch": batch})
    if arch.guide is not None and arch.controlnet is not None and arch.controlnet.encodes:
        for component in arch.components:
            if component.role == VAE:
                sizes = _pixels(arch, workload.width, workload.height, 1, workload.batch)
                yield Stage(ENCODE, component, "encode", sizes)
    if not workload.references:
        return
    for component in arch.components:
        if component.role == IMAGE_ENCODER:
            yield Stage(ENCODE, component, FORWARD, {"batch": 1})
    for width, height in workload.references:
        for component in arch.components:
            if component.role == VAE:
                frames = workload.frames if arch.whole_video else 1
                for tile in _tiles(component, *_handed(arch, workload, width, height), offload):
                    sizes = _pixels(arch, tile.width, tile.height, frames, 1)
                    yield _of_tile(Stage(ENCODE, component, "encode", sizes), tile)


def _encoders(arch: PipelineArchitecture, prompts: int) -> Iterator[Component]:
    """The text encoders in the order in which prompts go through them."""
    encoders = [one for one in arch.components if one.role == TEXT_ENCODER]
    if arch.encoder_by_encoder:
        return (one for one in encoders for _ in range(prompts))
    return (one for _ in range(prompts) for one in encoders)


def _handed(arch: PipelineArchitecture, workload: Workload, width: int, height: int) -> tuple[int, int]:
    """Pixels of a picture handed in, as the autoencoder gets it: a video's first frame has the video's size, and so has
    what is not appended to the denoiser's sequence."""
    if workload.task is not Task.EDITING or not arch.references.appended:
        return workload.width, workload.height
    return arch.references.encoded(width, height)


def _seen(arch: PipelineArchitecture, workload: Workload) -> int:
    """Tokens of the pictures handed in among those of the prompt."""
    if workload.task is not Task.EDITING:
        return 0
    return sum(arch.references.seen(width, height) for width, height in workload.references)


def _text(arch: PipelineArchitecture, workload: Workload, component: Component) -> int:
    """Tokens that an encoder sees: the pipeline's padding or, where it does not pad, what was asked."""
    usual = component.tokens or arch.text_tokens
    return workload.prompt_tokens if workload.prompt_tokens and not arch.text_padded else usual


def _denoising(arch: PipelineArchitecture, workload: Workload, guided: bool) -> Iterator[Stage]:
    batched = guided and arch.guidance == BATCHED
    sizes = {
        **_pixels(arch, workload.width, workload.height, workload.frames, workload.batch * (2 if batched else 1)),
        "tokens": _image_tokens(arch, workload),
        "text": (arch.text_tokens if arch.text_padded else workload.prompt_tokens or arch.text_tokens)
        + _seen(arch, workload),
        "sound": arch.sound(workload.frames),
        "pictures": len(workload.references),
    }
    calls = 2 if guided and not batched else 1
    denoisers = [one for one in arch.components if one.role == DENOISER]
    called = workload.steps - (1 if arch.schedule_ends else 0)
    for component, steps in zip(denoisers, _steps(arch, called, len(denoisers)), strict=True):
        if steps and arch.keeps_prefix:
            yield from _with_prefix(arch, workload, Stage(DENOISE, component, FORWARD, sizes, calls), steps)
        elif steps and arch.guide is not None:
            yield from _guided_steps(Stage(DENOISE, component, CONTROLLED, sizes, steps * calls), arch.guide)
        elif steps:
            yield Stage(DENOISE, component, FORWARD, sizes, steps * calls)
        if steps and arch.further_calls:
            yield Stage(DENOISE, component, FORWARD, sizes | {"batch": workload.batch}, steps * arch.further_calls)


def _guided_steps(called: Stage, guide: Component) -> Iterator[Stage]:
    """A ControlNet and the denoiser behind it: the first step, for which nothing is there yet of a step before, and the
    others."""
    steps = [replace(called, count=1)]
    if called.count > 1:
        steps.append(replace(called, count=called.count - 1, order_known=True))
    for one in steps:
        yield replace(one, component=guide, call=FORWARD)
        yield one


def _with_prefix(arch: PipelineArchitecture, workload: Workload, first: Stage, steps: int) -> Iterator[Stage]:
    """The ``first`` step, which keeps keys and values of prompt and pictures (``kept`` tokens, all ``filled`` in it),
    and the others, which compute the result's tokens alone (``asked``). A language model's token of a picture stands
    for four of its latent's."""
    asked = arch.image_tokens(workload.width, workload.height, workload.frames)
    handed = first.sizes["tokens"] - asked
    kept = first.sizes["text"] - handed // 4 + handed
    sizes = {**first.sizes, "seen": _seen(arch, workload), "asked": asked, "kept": kept}
    yield replace(first, sizes={**sizes, "filled": kept})
    if steps > 1:
        yield replace(first, call=AGAIN, sizes=sizes, count=(steps - 1) * first.count, order_known=True)


def _image_tokens(arch: PipelineArchitecture, workload: Workload) -> int:
    """Tokens that the denoiser sees. Most editing pipelines append the latents of every image handed in to the
    picture's own."""
    handed = workload.references if workload.task is Task.EDITING else ()
    return arch.tokens_with(workload.width, workload.height, workload.frames, handed)


def _steps(arch: PipelineArchitecture, steps: int, denoisers: int) -> tuple[int, ...]:
    """Steps of each denoiser. Where two share them the boundary is a share of the noise schedule; without the schedule
    half of the steps each is taken, at least one, so that both are counted."""
    if arch.experts is None or denoisers == 1:
        return (steps, *([0] * (denoisers - 1)))
    first = max(1, steps // 2)
    return (first, max(1, steps - first), *([0] * (denoisers - 2)))


def _decoding(arch: PipelineArchitecture, workload: Workload, offload: Offload) -> Iterator[Stage]:
    for component in arch.components:
        if component.role == AUDIO:
            sizes = {"sound": arch.sound(workload.frames), "batch": workload.batch}
            yield Stage(DECODE, component, FORWARD if component.cls in _VOCODERS else "decode", sizes)
        if component.role != VAE:
            continue
        yield from _decoded(arch, component, workload, offload)


def _decoded(arch: PipelineArchitecture, component: Component, workload: Workload, offload: Offload) -> Iterator[Stage]:
    width, height, scale = workload.width, workload.height, arch.vae_scale_temporal
    batch = 1 if offload.slicing else workload.batch
    tiles = sliced(_tiles(component, width, height, offload), workload.batch // batch, width * height)
    for stretch in stretches_of(component, arch.latent_frames(workload.frames), scale):
        for tile in tiles:
            share = width * height / (tile.width * tile.height * stretch.decoded(scale))
            sizes = _cells(arch, tile.width, tile.height, stretch.latents, batch)
            finished = share * workload.frames if arch.finished_in else 0.0
            stage = Stage(DECODE, component, "decode", sizes, finished=finished)
            joined = stretch.joined if tile is tiles[-1] else 0
            yield _of_stretch(_of_tile(stage, tile), stretch, share, joined)


def _of_stretch(stage: Stage, stretch: Stretch, share: float, joined: int) -> Stage:
    """A tile's stage within a stretch; one whole frame of the video is ``share`` of what one call makes."""
    return replace(
        stage,
        count=stage.count * stretch.count,
        blended=stage.blended * stretch.count,
        beside=stage.beside + share * stretch.beside,
        joined=max(stage.joined + share * stretch.beside if stage.joined else 0.0, share * joined),
    )


def _tiles(component: Component, width: int, height: int, offload: Offload) -> tuple[Tile, ...]:
    tiled = offload.tiling or always_tiles(component)
    return tiles_of(component, width, height) if tiled else (Tile(width, height),)


def _of_tile(stage: Stage, tile: Tile) -> Stage:
    area = tile.width * tile.height
    return replace(stage, count=tile.count, beside=tile.beside / area, joined=tile.joined / area, blended=tile.blended)


def _pixels(arch: PipelineArchitecture, width: int, height: int, frames: int, batch: int) -> dict[str, int]:
    """The latent of a picture or video of that many pixels and frames."""
    return _cells(arch, width, height, arch.latent_frames(frames), batch)


def _cells(arch: PipelineArchitecture, width: int, height: int, latents: int, batch: int) -> dict[str, int]:
    """A latent of that many pixels and of so many frames of its own."""
    scale = arch.vae_scale_spatial
    return {"width": width // scale, "height": height // scale, "frames": latents, "batch": batch}
